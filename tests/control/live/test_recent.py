"""The latest events in memory, and where a reader goes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from narf.control.live.recent import Event, Recent, Start, start_of

topics = st.sampled_from(["a", "b", "c"])


@given(st.lists(topics, max_size=60), st.integers(1, 20), st.integers(0, 70), topics)
def test_what_is_reached_is_whole_and_in_order(names: list[str], limit: int, cursor: int, topic: str) -> None:
    recent = Recent(0, limit=limit)
    for number, name in enumerate(names, start=1):
        recent.add(Event(number, name, str(number)))
    assert recent.head == len(names)
    if recent.reaches(cursor):
        wanted = [number for number, name in enumerate(names, start=1) if name == topic and number > cursor]
        assert [event.cursor for event in recent.after(topic, cursor, limit=1000)] == wanted


@given(st.lists(st.integers(1, 30), max_size=60))
def test_an_event_that_comes_twice_counts_once(cursors: list[int]) -> None:
    recent = Recent(0)
    for cursor in cursors:
        recent.add(Event(cursor, "a", ""))
    seen = [event.cursor for event in recent.after("a", 0, limit=1000)]
    assert seen == sorted(set(seen))


@given(st.lists(topics, min_size=1, max_size=60), st.integers(1, 5), topics)
def test_reading_in_small_chunks_gives_the_same(names: list[str], chunk: int, topic: str) -> None:
    recent = Recent(0)
    for number, name in enumerate(names, start=1):
        recent.add(Event(number, name, ""))
    cursor, seen = 0, []
    while events := recent.after(topic, cursor, chunk):
        seen += events
        cursor = events[-1].cursor
    assert seen == recent.after(topic, 0, limit=1000)


@given(st.integers(0, 50), st.integers(0, 50), st.none() | st.integers(0, 60))
def test_a_stream_goes_on_only_where_nothing_is_missing(forgotten: int, kept: int, cursor: int | None) -> None:
    first, head = forgotten + 1, forgotten + kept
    start = start_of(cursor, first_kept=first, head=head)
    if cursor is None:
        assert start is Start.LIVE
    elif start is not Start.RESET:
        missed = range(cursor + 1, head + 1)
        assert all(first <= number <= head for number in missed)
        assert cursor <= head
