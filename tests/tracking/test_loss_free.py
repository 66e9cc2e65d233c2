"""Every point that `log` accepted arrives exactly once and in order, whatever is killed, filled up or damaged, at random."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import narf
import narf.training.shipper as shipper_module
from narf.training.shipper import Shipper

SOURCES = str(Path(narf.__file__).parents[1])
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("NARF_", "MLFLOW_"))} | {"PYTHONPATH": SOURCES}
EACH_LIFE = 1_000_000  # steps from the first of one life of a writer to the first of the next

WRITER = """
import mmap, struct, sys, time
from narf.training.recorder import Recorder
spool, name, first, marks = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
with open(marks, "r+b") as file:
    accepted = mmap.mmap(file.fileno(), 16)  # a full disk does not stop the telling
recorder = Recorder(spool)
for step in range(first, first + 900_000):
    values = {name: float(step), name + ".twice": 2.0 * step}
    if step % 50 == 0:
        values[f"{name}.new.{step}"] = 1.0  # a name that the server has to hear first
    began = time.monotonic()
    is_safe = recorder.log(values, step)
    struct.pack_into("<d", accepted, 8, max(time.monotonic() - began, struct.unpack_from("<d", accepted, 8)[0]))
    if is_safe:  # and then so is everything before it
        struct.pack_into("<q", accepted, 0, step)
    if step % 10 == 0:
        time.sleep(0.01)
"""


class Life:
    """One process that logs, from its start to its kill -9."""

    def __init__(self, folder: Path, spool: str, name: str, number: int) -> None:
        self.name, self.first = name, number * EACH_LIFE
        self.longest_seconds = 0.0
        path = folder / f"accepted.{name}.{number}"
        path.write_bytes(struct.pack("<qd", self.first - 1, 0.0))
        with path.open("r+b") as file:
            self._marks = mmap.mmap(file.fileno(), 16)
        command = [sys.executable, "-S", "-c", WRITER, spool, name, str(self.first), str(path)]
        self.process = subprocess.Popen(command, env=ENVIRONMENT)

    @property
    def accepted(self) -> int:
        """The last step of which `log` said that it is safe."""
        return struct.unpack_from("<q", self._marks, 0)[0]

    @property
    def longest_call_seconds(self) -> float:
        return struct.unpack_from("<d", self._marks, 8)[0]

    def fill_disk(self, spool: str, chance: random.Random) -> None:
        """From now on no file of this process can grow beyond about what it has, to the middle of a record."""
        sizes = [os.path.getsize(os.path.join(spool, file)) for file in os.listdir(spool) if file.endswith((".points", ".events"))]
        limit_file_size(self.process, chance.choice(sizes or [0]) + chance.randrange(200))


def limit_file_size(process: subprocess.Popen[bytes], size: int | None) -> None:
    """A full disk for one process: a write beyond `size` fails half-way, as on a disk without room. None: room again."""
    with contextlib.suppress(ProcessLookupError):
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


class Server:
    """The real server in a process, killed and started again on one port and one folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = str(Path(__file__).with_name("real_server.py"))
        self.process = subprocess.Popen([sys.executable, program, str(self.home), str(self.port)], env=ENVIRONMENT)

    def wait(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(self.url + "/api/v1/nothing", timeout=5)
            except urllib.error.HTTPError:
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, "the server did not start"
                time.sleep(0.05)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def damage(spool: str, chance: random.Random, kinds: tuple[str, ...] = (".points", ".events")) -> None:
    """Put noise behind what stands in one of the files. Who appends to it does not notice."""
    files = [file for file in sorted(os.listdir(spool)) if file.endswith(kinds)]
    if files:
        with open(os.path.join(spool, chance.choice(files)), "ab") as file:
            file.write(
                chance.choice([chance.randbytes(chance.randrange(1, 400)), b"\0" * chance.randrange(1, 5000), b"PN", b'{"type": "pa'])
            )


@pytest.mark.parametrize(
    ("seconds", "away_seconds"), [(4.0, 0.5), pytest.param(150.0, 60.0, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_every_accepted_point_arrives_once_and_in_order(tmp_path, seconds, away_seconds):
    seed = int(os.environ.get("NARF_TEST_SEED") or random.randrange(10**6))
    print(f"NARF_TEST_SEED={seed}")
    chance = random.Random(seed)
    spool, home = str(tmp_path / "spool"), tmp_path / "home"
    os.mkdir(spool)
    home.mkdir()
    server = Server(home)
    server.start()
    server.wait()
    run, token = (home / "run").read_text(), (home / "token").read_text()
    command = [sys.executable, shipper_module.__file__, spool, server.url, run, str(os.getpid())]
    lives: list[Life] = []
    living: list[Life | None] = [None, None, None]
    sender: subprocess.Popen[bytes] | None = None
    done = dict.fromkeys(("kill writer", "kill sender", "kill server", "full disk", "damage", "forget", "full server"), 0)
    away_until = time.monotonic() + seconds / 3  # the one long time without a server begins after a third
    was_away = False
    ends_at = time.monotonic() + seconds
    try:
        while time.monotonic() < ends_at:
            for index, life in enumerate(living):
                if life is None:
                    living[index] = life = Life(tmp_path, spool, f"m{index}", sum(one.name == f"m{index}" for one in lives))
                    lives.append(life)
            if sender is None:
                sender = subprocess.Popen(command, env=ENVIRONMENT | {"NARF_TOKEN": token}, stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0.05, 0.3))
            if server.process is None and time.monotonic() > away_until:
                server.start()
            what = chance.choices(list(done), [3, 3, 1, 3, 3, 1, 1])[0]
            if not done["kill server"] and time.monotonic() > away_until:
                what = "kill server"
            index = chance.randrange(3)
            chosen = living[index]
            assert chosen is not None
            if what == "kill writer" and chosen.accepted > chosen.first:
                chosen.process.kill()
                chosen.process.wait()
                living[index] = None
            elif what == "kill sender":
                sender.kill()
                sender.wait()
                sender = None
            elif what == "kill server" and server.process is not None:
                server.kill()
                is_long = not was_away and time.monotonic() > ends_at - seconds * 2 / 3
                was_away = was_away or is_long
                away_until = time.monotonic() + (away_seconds if is_long else 0)
            elif what == "full disk":
                chosen.fill_disk(spool, chance)
            elif what == "damage":
                damage(spool, chance)
            elif what == "forget":
                with contextlib.suppress(OSError):
                    os.truncate(os.path.join(spool, "shipped.json"), chance.choice([0, 3]))
            elif what == "full server" and server.process is not None:
                limit_file_size(server.process, (home / "mlflow.db").stat().st_size)
            else:
                continue
            done[what] += 1
            if chance.random() < 0.5:
                for one in living:
                    if one is not None:
                        limit_file_size(one.process, None)
                if server.process is not None:
                    limit_file_size(server.process, None)
        for life in living:
            if life is not None:
                life.process.kill()
                life.process.wait()
        if sender is not None:
            sender.kill()
            sender.wait()
        server.kill()
        server.start()
        server.wait()
        damage(spool, chance)
        rest = Shipper(spool, server.url, token, run)
        assert rest.ship_all(time.monotonic() + 60), rest.problems
        print(done, rest.problems)
    finally:
        for process in [*(one.process for one in lives), *([sender] if sender else [])]:
            process.kill()
            process.wait()
        server.kill()
    arrived = arrivals(home, run)
    assert sum(life.accepted + 1 - life.first for life in lives) > 100
    for life in lives:
        for name, factor in ((life.name, 1.0), (f"{life.name}.twice", 2.0)):
            points = [(step, value) for step, value in arrived[name] if life.first <= step < life.first + EACH_LIFE]
            steps = [step for step, _ in points]
            assert steps == list(range(life.first, life.first + len(steps))), f"once and in order: {name} of the life from {life.first}"
            assert life.first + len(steps) > life.accepted, f"every accepted point of {name} of the life from {life.first}"
            assert all(value == factor * step for step, value in points)
        for step in range(life.first, life.accepted + 1, 50):
            assert arrived[f"{life.name}.new.{step}"] == [(step, 1.0)]
    print("longest log call, ms:", max(life.longest_call_seconds for life in lives) * 1000)
    assert max(life.longest_call_seconds for life in lives) < 1.0, "training never waits long; a busy machine takes its share too"


def arrivals(home: Path, run: str) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each metric of the run in the order in which they arrived."""
    from sqlalchemy import create_engine, select

    from narf.tracking import metrics, tables

    engine = create_engine(f"sqlite:///{home / 'mlflow.db'}")
    with engine.connect() as connection:
        found = {}
        for series_id, key in connection.execute(
            select(tables.series.c.id, tables.series.c.key).where(tables.series.c.run_uuid == run)
        ).all():
            points = metrics.read(connection, series_id)
            found[key] = list(zip(points.steps.tolist(), points.values.tolist(), strict=True))
    engine.dispose()
    return found
