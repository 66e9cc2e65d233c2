"""Static discovery: read a script without running it and list its parameters and metrics."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from narf.domain.errors import BadInput
from narf.tuning.discovery.absl import find_absl
from narf.tuning.discovery.arguments import find_arguments
from narf.tuning.discovery.commands import find_click, find_typer
from narf.tuning.discovery.config_files import find_hydra, find_omegaconf
from narf.tuning.discovery.configured import find_dataclasses, find_signature_cli
from narf.tuning.discovery.constants import find_constants, find_tables, overridden
from narf.tuning.discovery.defaults import find_defaults
from narf.tuning.discovery.environment import find_environment
from narf.tuning.discovery.found import Discovery, FoundParameter, Style
from narf.tuning.discovery.inside import find_asked, find_inside
from narf.tuning.discovery.lightning import find_constructed, find_lightning_cli
from narf.tuning.discovery.literals import find_literals
from narf.tuning.discovery.metrics import find_metrics
from narf.tuning.discovery.names import core_of, last_of
from narf.tuning.discovery.own_words import own_words
from narf.tuning.discovery.propose import propose, propose_all
from narf.tuning.discovery.read_files import find_in_files, named_files
from narf.tuning.discovery.source import Source, read_source
from narf.tuning.discovery.texts import with_choices
from narf.tuning.discovery.unroll import is_open, unrolled
from narf.tuning.discovery.uses import without_data

# These say all that a script takes: their configuration files are read by the library, and overridden on the command line.
COMPOSED = (Style.LIGHTNING_CLI, Style.JSONARGPARSE, Style.HYDRA, Style.OMEGACONF)
COMMAND_LINE = (*COMPOSED, Style.ARGPARSE, Style.CLICK, Style.TYPER, Style.ABSL)


def discover_statically(script: Path, arguments: Sequence[str] = (), also: Sequence[str] = ()) -> Discovery:
    """What the text of the script tells. `arguments`: those the user will give, which are not searched over. `also`: modules beside the
    script that it was seen to import, by whatever name.

    Raises:
        BadInput: there is no such file, or it is not Python.
    """
    source = unrolled(read_source(script, also))
    found, prefix, notes = _parameters(source, tuple(arguments))
    return Discovery(
        script=script.name,
        parameters=without_data(source, propose_all(is_fixed(parameter, arguments) for parameter in with_choices(source, found))),
        metrics=find_metrics(source),
        prefix=prefix,
        notes=notes,
        is_open=is_open(source),
    )


def _parameters(source: Source, arguments: tuple[str, ...]) -> tuple[list[FoundParameter], tuple[str, ...], tuple[str, ...]]:
    """What the command line takes comes first, then what is built in the script, then, only if there is nothing, its constants."""
    notes: tuple[str, ...] = ()
    found, prefix = find_lightning_cli(source, arguments)
    if not found:
        found, prefix = find_arguments(source, arguments)
        prefix = () if any(word in prefix for word in arguments) else prefix
    for find in (find_click, find_typer):
        if not found:
            found, prefix = find(source, arguments)
    if not found:
        found = find_absl(source) or find_signature_cli(source, arguments)
    for read in (find_hydra, find_omegaconf):
        if not found:
            found, more = read(source)
            notes += more
    if not arguments:
        prefix = own_words(source) or prefix
    known = names_of(found)
    is_complete = any(item.style in COMPOSED for item in found)
    if not is_complete:
        found = found + from_files(source.folder, named_files(source, arguments), known)
        found = found + [item for item in find_environment(source) if item.name not in known]
        known |= names_of(found)
        found = found + find_dataclasses(source, known, from_files=any(item.style is Style.CONFIG_FILE for item in found))
        known |= {item.name for item in found}
        found = found + find_constructed(source, known)
        tables = [item for item in (*find_tables(source), *find_inside(source)) if item.name not in overridden(source)]
        named = found + beside(found, [*tables, *find_constants(source)])
        named = named + beside(named, find_asked(source))
        found = named + [item for item in beside(found, find_defaults(source)) if item.name not in names_of(named)]
        # Numbers written into calls are settings only where none has a name.
        found = found + beside(found, find_literals(source), from_calls=True)
    return _once(found), prefix, notes


def beside(found: Sequence[FoundParameter], weaker: Sequence[FoundParameter], *, from_calls: bool = False) -> list[FoundParameter]:
    """Those of `weaker` that are worth listing beside what was `found`, which states its settings more plainly.

    Tables of settings are what they say. Constants, defaults and numbers in calls are the last resort: all of them where there is nothing
    else, and otherwise only what every training has and `found` does not name: a learning rate, a batch size, a dropout; of numbers in calls,
    a learning rate.
    """
    known = {name.lower() for name in names_of(found)}
    stated = [item for item in found if propose(item).proposal is not None]
    cores = {core_of(item.name) for item in stated} - {""}
    kept = []
    for item in weaker:
        last = last_of(item.name).lower()
        if item.name.lower() in known or last in known:
            continue
        core = core_of(item.name)
        is_missing = core == "learning rate" if from_calls else bool(core)
        if not stated or item.style is Style.TABLE or (is_missing and core not in cores):
            kept.append(item)
    return kept


def names_of(found: Sequence[FoundParameter]) -> set[str]:
    """What a parameter may be called elsewhere: its name, the last part of it, and its option."""
    flags = {item.passing.flag.lstrip("-").replace("-", "_") for item in found if item.passing.flag.startswith("-")}
    return flags | {name for item in found for name in (item.name, item.name.rpartition(".")[2])}


def from_files(folder: Path, files: Sequence[str], known: set[str]) -> list[FoundParameter]:
    """What stands in these configuration files and is not `known` from elsewhere: an option outweighs what a file says."""
    return [item for item in find_in_files(folder, files) if item.name not in known and item.name.rpartition(".")[2] not in known]


def _once(found: list[FoundParameter]) -> list[FoundParameter]:
    first: dict[str, FoundParameter] = {}
    for item in found:
        first.setdefault(item.name, item)
    return list(first.values())


def refuse_without_arguments(found: Discovery, arguments: Sequence[str], searched: Collection[str], script: str) -> None:
    """A script must not begin without what its command line cannot do without: positional arguments and required options that are
    not searched. Where the user gives arguments of their own, it is theirs to know.

    Raises:
        BadInput: it names what is missing.
    """
    if any(not word.startswith("-") or "=" not in word for word in arguments):
        return
    styles = (Style.ARGPARSE, Style.CLICK, Style.TYPER)
    given = {word.partition("=")[0] for word in arguments}
    missing = [
        item
        for item in found.parameters
        if item.required and item.style in styles and item.name not in searched and item.passing.flag not in given
    ]
    if missing:
        shown = ", ".join(item.passing.flag or item.name for item in missing)
        example = " ".join(f"{item.passing.flag} {item.name.upper()}".strip() for item in missing)
        raise BadInput(
            f"{script} cannot do without {shown}.",
            remedy=f"Give it after --: narf tune {script} -- {example}",
            field="arguments",
            code="missing_arguments",
        )


def is_fixed(parameter: FoundParameter, arguments: Sequence[str]) -> FoundParameter:
    """The parameter, left alone if the user's own arguments set it."""
    flags = {flag for flag in (parameter.passing.flag, parameter.passing.off_flag) if flag}
    for word in arguments:
        if word.partition("=")[0].lstrip("+") in flags:
            return replace(parameter, left_alone="Your own arguments set it.")
    return parameter
