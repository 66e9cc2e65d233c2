"""Choices of a parameter that is text, from what the script does with it.

{"relu": nn.ReLU, "gelu": nn.GELU}[args.activation]      if optimizer == "adam": ... elif optimizer == "sgd": ...
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from narf.training.places import places
from narf.tuning.discovery.found import FoundParameter
from narf.tuning.discovery.names import last_of
from narf.tuning.discovery.signature import constructor_of, parameters_of, type_of
from narf.tuning.discovery.source import Module, Source


def with_choices(source: Source, parameters: Iterable[FoundParameter]) -> list[FoundParameter]:
    """The parameters; those that are text, and whose text the script looks up or compares, with what it knows."""
    found = list(parameters)
    if not any(_is_text(item) for item in found):
        return found
    known, handed = _choices(source), _handed(source)
    result = []
    for item in found:
        if _is_text(item):
            names = _names_of(last_of(item.name).replace("-", "_"), handed)
            item = _chosen(item, [words for name in names for words in known.get(name, [])] or [])
            item = (
                _chosen(item, [words for text in (item.help, _comment(source, item)) for words in _told(text)]) if _is_text(item) else item
            )
        result.append(item)
    return result


def _is_text(item: FoundParameter) -> bool:
    return item.type == "str" and isinstance(item.default, str) and not item.choices


def _chosen(item: FoundParameter, tables: list[tuple[str, ...]]) -> FoundParameter:
    fitting = [table for table in tables if item.default in table and len(table) > 1]
    if not fitting:
        return item
    common = [word for word in fitting[0] if all(word in table for table in fitting)]
    if len(common) < 2:
        return item
    return replace(item, type="choice", choices=tuple(common), proposal=None, left_alone="")


_LISTED = re.compile(
    r"[\[({]\s*([^\[\](){}]+?)\s*[\])}]|([\w.-]+(?:\s*[|/]\s*[\w.-]+)+)|([\"'][\w.-]+[\"'](?:\s*(?:,|or|\||/)+\s*[\"'][\w.-]+[\"'])+)"
)


def _told(text: str) -> Iterator[tuple[str, ...]]:
    """The words in `[batch | layer | none]`, `relu | elu` or `'adam' or 'sgd'`, as help texts and comments list them."""
    for match in _LISTED.finditer(text):
        words = [word.strip(" '\"") for word in re.split(r"\s*(?:[|,/]|\bor\b)\s*", next(group for group in match.groups() if group))]
        if len(words) > 1 and all(re.fullmatch(r"[\w.-]+", word) for word in words):
            yield tuple(dict.fromkeys(words))


_TORCH = {
    "torch.optim": ("SGD", "Adam", "AdamW", "RMSprop"),
    "torch.nn": ("ReLU", "GELU", "SiLU", "ELU", "LeakyReLU", "Tanh"),
    "torch.nn.functional": ("relu", "gelu", "silu", "elu", "leaky_relu", "tanh"),
}
_TAKES = {"TransformerEncoderLayer": {"activation": ("relu", "gelu")}, "TransformerDecoderLayer": {"activation": ("relu", "gelu")}, "RNN": {"nonlinearity": ("tanh", "relu")}}  # fmt: skip


def _of_libraries(module: Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Words of torch: `getattr(torch.optim, args.optimizer)`, `nn.TransformerEncoderLayer(activation=args.act)`."""
    for call in module.calls():
        if module.dotted(call.func) == "getattr" and len(call.args) > 1 and (key := _key(call.args[1])):
            yield key, _TORCH.get(module.dotted(call.args[0]), ())
        for item in call.keywords:
            words = _TAKES.get(module.dotted(call.func).rpartition(".")[2], {}).get(item.arg or "", ())
            if words and (key := _key(item.value)):
                yield key, words


def _remarked(source: Source, module: Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name -> words of the comment beside or above a text that is bound to it."""
    lines: list[str] | None = None
    for place in places(module.tree):
        if isinstance(place.value, ast.Constant) and isinstance(place.value.value, str) and place.kind not in ("argument", "asked"):
            lines = _lines(source, module.file) if lines is None else lines
            text = _remark(lines, getattr(place.value, "lineno", 0))
            yield from ((last_of(place.names[0]), words) for words in _told(text))


def _comment(source: Source, item: FoundParameter) -> str:
    """What stands behind a `#` beside or above the text, in the script or in the configuration file."""
    lines = _lines(source, item.file)
    if item.line:
        return _remark(lines, item.line)
    found = [index for index, line in enumerate(lines, 1) if re.match(rf"\s*[\"']?{re.escape(last_of(item.name))}[\"']?\s*[:=]", line)]
    return _remark(lines, found[0]) if len(found) == 1 else ""


def _lines(source: Source, file: str) -> list[str]:
    try:
        return (source.folder / file).read_text(errors="replace").splitlines() if file else []
    except OSError:
        return []


def _remark(lines: list[str], number: int) -> str:
    if not 0 < number <= len(lines):
        return ""
    above = lines[number - 2].strip() if number > 1 else ""
    return f"{lines[number - 1].partition('#')[2]} {above if above.startswith('#') else ''}"


def _handed(source: Source) -> dict[str, set[str]]:
    """What a value is called in the functions and classes of the script's own that it is handed to: `get_norm(args.norm)` is `norm_type` there."""
    found: dict[str, set[str]] = {}
    for module in source.modules:
        for call in module.calls():
            last = module.dotted(call.func).rpartition(".")[2] if call.args or call.keywords else ""
            known = source.defined.get(last)
            if known is None and source.class_of(last) is None:
                continue
            fields = list(parameters_of(source, *known)) if known else constructor_of(source, last)
            pairs = [(item.name, node) for item, node in zip(fields, call.args, strict=False)]
            for name, node in (*pairs, *((item.arg, item.value) for item in call.keywords)):
                if name and (key := _key(node)) and key != name:
                    found.setdefault(key, set()).add(name)
    return found


def _names_of(name: str, handed: dict[str, set[str]]) -> list[str]:
    names = [name]
    for each in names:
        names += [other for other in sorted(handed.get(each, ())) if other not in names and len(names) < 8]
    return names


def _choices(source: Source) -> dict[str, list[tuple[str, ...]]]:
    """Name -> the sets of words that it is looked up in, or compared with."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for module in source.modules:
        for name, words in (*_remarked(source, module), *_of_libraries(module)):
            found.setdefault(name, []).append(words)
        for name, words in (*_looked_up(source, module), *_matched(module), *_annotated(source, module)):
            found.setdefault(name, []).append(words)
        compared: dict[str, list[str]] = {}
        for name, word in _compared(module):
            if word not in compared.setdefault(name, []):
                compared[name].append(word)
        for name, words_seen in compared.items():
            found.setdefault(name, []).append(tuple(words_seen))
    return found


def _key(node: ast.AST) -> str:
    """The name under which a text is known: `activation`, `args.activation` or `cfg["activation"]`, also lowered or stripped."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("lower", "upper", "strip"):
        node = node.func.value
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return node.slice.value
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _looked_up(source: Source, module: Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in module.nodes:
        table: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            table, key = node.value, _key(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
            table, key = node.func.value, _key(node.args[0])
        if table is not None and key:
            for words in _tables(source, table):
                yield key, words


def _tables(source: Source, node: ast.expr) -> Iterator[tuple[str, ...]]:
    """The words of a table of functions or classes, written here or bound to this name somewhere."""
    places: list[ast.AST] = [node]
    if (name := _key(node)) and isinstance(node, ast.Name | ast.Attribute):
        places = [
            statement.value
            for module in source.modules
            for statement in module.nodes
            if isinstance(statement, ast.Assign) and any(_key(target) == name for target in statement.targets)
        ]
    for place in places:
        pairs: list[tuple[object, ast.expr]] = []
        if isinstance(place, ast.Dict):
            pairs = [
                (key.value if isinstance(key, ast.Constant) else None, value) for key, value in zip(place.keys, place.values, strict=True)
            ]
        elif isinstance(place, ast.Call) and isinstance(place.func, ast.Name) and place.func.id == "dict":
            pairs = [(item.arg, item.value) for item in place.keywords]
        words = [word for word, _ in pairs if isinstance(word, str)]
        if len(words) == len(pairs) > 1 and not any(isinstance(value, ast.Constant) and value.value is not None for _, value in pairs):
            yield tuple(words)


def _compared(module: Module) -> Iterator[tuple[str, str]]:
    for node in module.nodes:
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and (name := _key(node.left)):
            value = module.literal(node.comparators[0])
            if isinstance(node.ops[0], ast.Eq | ast.NotEq) and isinstance(value, str):
                yield name, value
            elif isinstance(node.ops[0], ast.In | ast.NotIn) and isinstance(value, list):
                yield from ((name, word) for word in value if isinstance(word, str))


def _annotated(source: Source, module: Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    """`kernel: Literal["rbf", "linear"]`, `activation: Activation`: a field or argument that a text of that name becomes."""
    for node in module.nodes:
        name = node.arg if isinstance(node, ast.arg) else _key(node.target) if isinstance(node, ast.AnnAssign) else ""
        if not name:
            continue
        kind, choices, of_enum = type_of(source, module, node.annotation)  # type: ignore[attr-defined] # both have one
        words = [choice[1] if of_enum else choice for choice in choices] if kind == "choice" else []
        if len(words) > 1 and all(isinstance(word, str) for word in words):
            yield name, tuple(words)


def _matched(module: Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in module.nodes:
        if isinstance(node, ast.Match) and (name := _key(node.subject)):
            values = [
                inner.value.value
                for case in node.cases
                for inner in ast.walk(case.pattern)
                if isinstance(inner, ast.MatchValue) and isinstance(inner.value, ast.Constant)
            ]
            yield name, tuple(value for value in values if isinstance(value, str))
