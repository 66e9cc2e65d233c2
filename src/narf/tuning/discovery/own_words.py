"""What a script gives itself where nobody gives it arguments: a trial gives some, and must give these too.

args = sys.argv[1:] or ["fit", "--config", "config.yaml"]
if len(sys.argv) == 1:
    sys.argv += ["train"]
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from narf.tuning.discovery.source import Module, Source


def own_words(source: Source) -> tuple[str, ...]:
    """In the script's words; empty where there are none, or one of them cannot be read. Files are named from the script's folder."""
    for node in source.main.nodes:
        for given in _given(source.main, node):
            words = [_word(source, item) for item in given]
            if words and all(words):
                return tuple(words)
    return ()


def _given(module: Module, node: ast.AST) -> Iterator[list[ast.expr]]:
    match node:
        case ast.BoolOp(op=ast.Or(), values=[left, ast.List(elts=elements)]) if _is_argv(module, left):
            yield elements
        case ast.IfExp(body=left, orelse=ast.List(elts=elements)) if _is_argv(module, left):
            yield elements
        case ast.IfExp(body=ast.List(elts=elements), orelse=left) if _is_argv(module, left):
            yield elements
        case ast.If(test=test, body=body) if any(_is_argv(module, part) for part in ast.walk(test)):
            for inner in body:
                match inner:
                    case ast.AugAssign(target=place, value=ast.List(elts=elements)) if _is_argv(module, place):
                        yield elements
                    case ast.Expr(value=ast.Call(func=ast.Attribute(value=place, attr="extend"), args=[ast.List(elts=elements)])):
                        yield elements if _is_argv(module, place) else []
                    case ast.Expr(value=ast.Call(func=ast.Attribute(value=place, attr="append"), args=[element])):
                        yield [element] if _is_argv(module, place) else []


def _is_argv(module: Module, node: ast.AST) -> bool:
    """`sys.argv` or a part of it; the name is that of the whole for both."""
    return isinstance(node, ast.Attribute | ast.Subscript | ast.Name) and module.dotted(node) == "sys.argv"


def _word(source: Source, node: ast.expr) -> str:
    """A text, or the file that an expression such as `os.path.join(HERE, "conf", "base.yaml")` names; "" where neither can be told."""
    value = source.main.literal(node)
    if isinstance(value, str):
        return value
    path = "/".join(_texts(source, node))
    return path if path and (source.folder / path).is_file() else ""


def _texts(source: Source, node: ast.expr, depth: int = 3) -> Iterator[str]:
    parts = [part for part in ast.walk(node) if isinstance(part, ast.Constant | ast.Name)]
    for part in sorted(parts, key=lambda part: (part.lineno, part.col_offset)):  # as they are read
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value
        elif isinstance(part, ast.Name) and depth:
            for statement in source.main.tree.body:
                if isinstance(statement, ast.Assign) and any(isinstance(to, ast.Name) and to.id == part.id for to in statement.targets):
                    yield from _texts(source, statement.value, depth - 1)
