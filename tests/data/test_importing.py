"""Files and rows on their way from a source into the object store: what arrives is whole, what fails leaves nothing."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from narf.data.importing import Cancelled, Fetched, Progress, import_files, import_rows, write_parquet
from narf.data.objects import ObjectStore
from narf.data.sources.connector import FILES, QUERIES, TABLES, Connector, Lacking, RemoteFile, RemoteStream, Selection, unreachable
from narf.domain.errors import BadInput, Conflict, Unavailable


class Shelf(Lacking):
    """A source of files in memory that can be changed; a mark is the content's. `opened` is called when a file is."""

    abilities = frozenset({FILES})
    name = "shelf"

    def __init__(self, files: dict[str, bytes], opened: Callable[[Shelf, str], None] = lambda _shelf, _path: None) -> None:
        self.files, self._opened, self.reads = files, opened, 0

    def test(self) -> str:
        return "It is there."

    def list_files(self, path: str = "") -> Iterator[RemoteFile]:
        yield from [self.stat(name) for name in self.files if name.startswith(path)]

    def stat(self, path: str) -> RemoteFile:
        return RemoteFile(path, len(self.files[path]), f'"{hash(self.files[path])}"')

    @contextmanager
    def open(self, path: str) -> Iterator[RemoteStream]:
        self.reads += 1
        content = self.files[path]
        self._opened(self, path)
        yield cast(RemoteStream, io.BytesIO(content))


class Rows(Lacking):
    abilities = frozenset({TABLES, QUERIES})
    name = "rows"

    def __init__(self, batches: Callable[[], Iterator[pa.RecordBatch]], schema: pa.Schema) -> None:
        self._batches, self._schema, self.still_reading = batches, schema, ["not closed"]

    def test(self) -> str:
        return "It is there."

    @contextmanager
    def read(self, selection: Selection) -> Iterator[pa.RecordBatchReader]:
        try:
            yield pa.RecordBatchReader.from_batches(self._schema, self._batches())
        finally:
            self.still_reading = [thread.name for thread in threading.enumerate() if thread.name == "import-reader"]


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@pytest.fixture
def fetched(tmp_path: Path) -> Fetched:
    return Fetched(tmp_path / "fetched.json")


def bring(shelf: Shelf, objects: ObjectStore, fetched: Fetched, **selection: str) -> list[str]:
    done = import_files(cast(Connector, shelf), Selection(**selection), objects, fetched, Progress())
    return [entry.path for entry in done.manifest.files]


def left_over(objects: ObjectStore) -> list[Path]:
    return list((objects.root / "incoming").iterdir()) if (objects.root / "incoming").exists() else []


def numbers(rows: int, at_once: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, rows, at_once):
        some = range(start, min(start + at_once, rows))
        yield pa.RecordBatch.from_pydict({"id": list(some), "half": [i / 2 for i in some], "word": [f"w{i % 9}" for i in some]})


SCHEMA = next(numbers(1, 1)).schema


@pytest.mark.parametrize("content", [b"longer than it was", b"shrt", b"other"], ids=["grown", "shrunk", "replaced"])
def test_a_file_that_changes_while_it_is_read_is_not_kept(objects: ObjectStore, fetched: Fetched, content: bytes) -> None:
    def change(shelf: Shelf, path: str) -> None:
        if path == "b":
            shelf.files["b"] = content

    shelf = Shelf({"a": b"first", "b": b"whole"}, change)
    with pytest.raises(BadInput, match=r"'b' of 'shelf' was changed while it was being read") as refused:
        bring(shelf, objects, fetched)
    assert "import again" in refused.value.remedy and left_over(objects) == []
    reads = shelf.reads
    assert bring(shelf, objects, fetched) == ["a", "b"] and shelf.reads == reads + 1  # "a" stayed fetched
    assert objects.get(fetched.digest_of(shelf.stat("b")) or "") == content


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "a/b"], "'a' is a file and a folder at once"),
        (["../up"], "does not lead to a file"),
        (["a//b"], "does not lead to a file"),
        (["x" * 300], "is too long"),
        (["caf\udce9.csv"], r"caf\\xe9.csv.*UTF-8"),
    ],
)
def test_names_that_a_disk_cannot_hold_are_said_with_the_source(
    objects: ObjectStore, fetched: Fetched, names: list[str], said: str
) -> None:
    with pytest.raises(BadInput, match=rf"The source 'shelf': .*{said}") as refused:
        bring(Shelf(dict.fromkeys(names, b"1")), objects, fetched)
    assert "pattern" in refused.value.remedy and list(objects.all()) == []
    assert bring(Shelf(dict.fromkeys([*names, "good.csv"], b"1")), objects, fetched, pattern="good*") == ["good.csv"]


def test_a_source_that_breaks_off_in_the_middle_leaves_nothing(objects: ObjectStore) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from numbers(300_000, 50_000)
        raise unreachable("rows", "the line went dead.")

    before = threading.active_count()
    with pytest.raises(Unavailable, match=r"'rows' cannot be reached: the line went dead"):
        import_rows(cast(Connector, Rows(broken, SCHEMA)), Selection(table="t"), objects, Progress())
    assert list(objects.all()) == [] and left_over(objects) == [] and threading.active_count() == before


def test_the_same_rows_give_the_same_files_however_they_come(objects: ObjectStore) -> None:
    given = [write_parquet(SCHEMA, numbers(300_000, at_once), objects, Progress()).manifest for at_once in (300_000, 7_001, 131_072)]
    assert given[0] == given[1] == given[2] and given[0].rows == 300_000
    found = pq.read_table(objects.path(given[0].files[0].sha256))
    assert found.column("id").to_pylist() == list(range(300_000))


def test_no_rows_are_a_table_with_columns(objects: ObjectStore) -> None:
    done = write_parquet(SCHEMA, iter([]), objects, Progress())
    assert done.manifest.rows == 0 and done.profile is not None and [c["name"] for c in done.profile.schema] == ["id", "half", "word"]


def test_two_columns_of_one_name_are_refused(objects: ObjectStore) -> None:
    with pytest.raises(Conflict, match="Two columns"):
        write_parquet(pa.schema([("a", pa.int64()), ("a", pa.string())]), iter([]), objects, Progress())


def test_a_cancelled_import_stops_and_keeps_nothing_half(objects: ObjectStore) -> None:
    progress = Progress()
    progress.cancelled = lambda: progress.rows > 200_000
    rows = Rows(lambda: numbers(2_000_000, 50_000), SCHEMA)
    with pytest.raises(Cancelled):
        import_rows(cast(Connector, rows), Selection(table="t"), objects, progress)
    assert rows.still_reading == []  # a driver that is closed while a thread reads from it crashes
    assert list(objects.all()) == [] and left_over(objects) == []


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, TESTS)
from test_importing import SCHEMA, Rows, Shelf, numbers
from narf.data.importing import Fetched, Progress, import_files, import_rows
from narf.data.objects import ObjectStore
from narf.data.sources.connector import Selection
from narf.domain.errors import LimitReached
root = Path(ROOT)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
what = {
    "rows": lambda: import_rows(Rows(lambda: numbers(500_000, 50_000), SCHEMA), Selection(table="t"), ObjectStore(root), Progress()),
    "files": lambda: import_files(Shelf({"a": b"x" * 3_000_000}), Selection(), ObjectStore(root), Fetched(root / "f.json"), Progress()),
}
try: what[sys.argv[1]]()
except LimitReached as error: sys.exit(str(error))
"""


@pytest.mark.parametrize("what", ["rows", "files"])
def test_a_full_disk_keeps_nothing_and_says_so(tmp_path: Path, what: str) -> None:
    """The kernel refuses to write past a limit; what happens then is what happens on a full disk."""
    program = FULL.replace("TESTS", repr(str(Path(__file__).parent))).replace("ROOT", repr(str(tmp_path / "objects")))
    done = subprocess.run([sys.executable, "-c", program, what], capture_output=True, text=True)
    assert "is full; nothing of this import was kept." in done.stderr, done.stderr
    assert left_over(ObjectStore(tmp_path / "objects")) == [] and list(ObjectStore(tmp_path / "objects").all()) == []


def test_memory_does_not_grow_with_the_rows(objects: ObjectStore) -> None:
    """What Arrow holds at most while 40 batches pass is a few of them, not all."""
    pool, most = pa.default_memory_pool(), 0
    start = pool.bytes_allocated()

    def watched() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for number in range(40):
            most = max(most, pool.bytes_allocated() - start)
            yield pa.RecordBatch.from_arrays([pa.array([float(number)] * 65_536)] * 10, names=[f"x{i}" for i in range(10)])

    schema = pa.schema([(f"x{i}", pa.float64()) for i in range(10)])
    done: Any = import_rows(cast(Connector, Rows(watched, schema)), Selection(table="t"), objects, Progress())
    assert done.manifest.rows == 40 * 65_536
    assert most < 40 * 65_536 * 8 * 10 / 3
