"""Which proposer a study's sampler asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from narf.domain.errors import BadInput
from narf.tuning.pbt import PbtProposer, population_of
from narf.tuning.proposer import PRUNERS, Earlier, Proposer
from narf.tuning.space import Space, Values
from narf.tuning.study import Direction, Engine, Search

RAY_PRUNERS = ("none", "median", "asha", "hyperband")


def make_proposer(
    space: Space, direction: Direction, search: Search, initial: Sequence[Values] = (), earlier: Iterable[Earlier] = ()
) -> Proposer | PbtProposer:
    """Raises BadInput: the search cannot be made."""
    kind = PbtProposer if search.sampler == "pbt" else Proposer
    return kind(space, direction, search, initial, earlier)


def check_search(engine: Engine, search: Search, space: Space) -> None:
    """Raises BadInput for a search that cannot be made."""
    if engine is Engine.RAY and search.pruner in PRUNERS and search.pruner not in RAY_PRUNERS:
        raise BadInput(
            f"The Ray engine has no pruner {search.pruner!r}.",
            remedy=f"Choose one of {', '.join(RAY_PRUNERS)}.",
            field="pruner",
            code="bad_pruner",
        )
    if engine is Engine.RAY and search.sampler == "pbt":
        population_of(search)
        return
    make_proposer(space, Direction.MINIMIZE, search)
