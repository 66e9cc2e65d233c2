"""What a look into a source shows, and what it says of files that are none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from narf.data.sources.connector import FILES, TABLES, Connector, Lacking, RemoteFile, RemoteStream, Selection
from narf.data.sources.previewing import SourcePreview, preview
from narf.domain.errors import BadInput


class Dribble(io.BytesIO):
    """Gives a few bytes at a time, as a network does."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(7 if size is None or size < 0 else min(size, 7))


class Shelf(Lacking):
    """A source of files in memory, read in dribbles."""

    abilities = frozenset({FILES})
    name = "shelf"

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def test(self) -> str:
        return "It is there."

    def list_files(self, path: str = "") -> Iterator[RemoteFile]:
        yield from (RemoteFile(name, len(content)) for name, content in self._files.items() if name.startswith(path))

    def stat(self, path: str) -> RemoteFile:
        return RemoteFile(path, len(self._files[path]))

    @contextmanager
    def open(self, path: str) -> Iterator[RemoteStream]:
        yield cast(RemoteStream, Dribble(self._files[path]))


class Tables(Lacking):
    abilities = frozenset({TABLES})
    name = "tables"

    def test(self) -> str:
        return "It is there."

    def tables(self) -> list[str]:
        return ["bank.a", "bank.b"]


def parquet(rows: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(rows)), "half": [i / 2 for i in range(rows)]}), sink)
    return sink.getvalue()


def look(files: dict[str, bytes], limit: int = 3) -> SourcePreview:
    return preview(cast(Connector, Shelf(files)), Selection(), limit)


def test_a_stream_that_gives_less_than_asked_is_read_to_its_end() -> None:
    found = look({"a.parquet": parquet(1_000)}, 3)
    assert (found.total_rows, found.rows[:2], found.statistics["half"]["max"]) == (1_000, [[0, 0.0], [1, 0.5]], 499.5)
    csv = b"id,word\n" + b"".join(b"%d,w%d\n" % (i, i) for i in range(500))
    found = look({"a.csv": csv}, 3)
    assert (found.total_rows, found.rows[0], found.statistics["id"]["max"]) == (500, [0, "w0"], 499)


def test_the_head_of_a_large_csv_file_ends_at_a_line() -> None:
    csv = b"id,word\n" + b"".join(b"%d,%s\n" % (i, b"w" * 50) for i in range(40_000))
    found = look({"big.csv": csv}, 2)
    assert found.rows == [[0, "w" * 40 + "w" * 10], [1, "w" * 50]] and found.total_rows is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"", "it is empty"),
        ("a.parquet", b"PAR1 and nothing else", "damaged"),
        ("a.csv", b"x,y\n1,2\n3,4,5\n", "no regular CSV"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_named_with_its_source(name: str, content: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=rf"'{name}' of 'shelf'.*{said}"):
        look({name: content})


def test_with_no_choice_it_shows_what_there_is() -> None:
    found = look({"x.png": b"1", "sub/y.png": b"22"}, 3)
    assert found.entries == [{"path": "x.png", "size": 1}, {"path": "sub/y.png", "size": 2}] and found.columns == []
    assert [entry["path"] for entry in preview(cast(Connector, Tables()), Selection(), 3).entries] == ["bank.a", "bank.b"]
