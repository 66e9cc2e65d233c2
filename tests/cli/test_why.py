"""Moments as they are written for `narf why --from --to`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from narf.cli.why import moment
from narf.domain.errors import BadInput

NOW = datetime(2026, 3, 1, 11, 45, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10:00", datetime(2026, 3, 1, 10, 0, tzinfo=UTC)),
        ("23:30", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
        ("10:00:30", datetime(2026, 3, 1, 10, 0, 30, tzinfo=UTC)),
        ("2026-02-03", datetime(2026, 2, 3, tzinfo=UTC)),
        ("2026-02-03T04:05+00:00", datetime(2026, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
def test_a_moment_is_written_short(text: str, meant: datetime) -> None:
    assert moment(text, NOW) == meant


@pytest.mark.parametrize("text", ["soon", "25:00", "10", "2026-13-01"])
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match=r"Write 10:00, or 2026"):
        moment(text, NOW)
