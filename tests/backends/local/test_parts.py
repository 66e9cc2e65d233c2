"""The pure parts of the local backend: the log, the end of a job, the choice of cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narf.backends.local import shipping
from narf.backends.local.backend import gpu_environment, rendezvous_environment
from narf.backends.local.ending import Ended, conclude
from narf.backends.local.folder import JobFolder
from narf.backends.local.log import LogWriter, log_end, read_log
from narf.backends.local.machine import choose_cores
from narf.backends.protocol import Node
from narf.domain.workload import EndReason
from narf.testing.backend_contract import eventually


@given(pieces=st.lists(st.binary(max_size=40), max_size=40), head=st.integers(0, 60), tail=st.integers(1, 60), chunk=st.integers(1, 30))
def test_every_byte_that_is_kept_is_read_at_its_offset(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], head: int, tail: int, chunk: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    writer = LogWriter(folder, head_bytes=head, tail_bytes=tail, segment_bytes=10)
    whole = b"".join(pieces)
    for piece in pieces:
        writer.write(piece)
    writer.close()
    assert writer.offset == len(whole)
    kept, offset = 0, 0
    while True:
        start, data = read_log(folder, offset, chunk)
        if not data:
            break
        assert start >= offset and data == whole[start : start + len(data)]
        kept, offset = kept + len(data), start + len(data)
    assert offset == len(whole) == log_end(folder)
    assert whole[: min(head, len(whole))] == read_all(folder, 0, min(head, len(whole)))
    assert kept >= min(len(whole), tail)
    assert kept <= head + 10 + tail + 20 + 10


def read_all(folder: Path, start: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        at, more = read_log(folder, start + len(data), size - len(data))
        assert at == start + len(data) and more
        data += more
    return data


def test_output_goes_on_after_the_disk_was_full(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, head_bytes=100, tail_bytes=100, segment_bytes=10)
    writer.write(b"0123456789")
    full = tmp_path / f"{10:020d}.log"
    full.symlink_to("/dev/full")  # a disk without room, by the kernel itself
    writer.write(b"lost")
    assert writer.lost_bytes == 4 and not os.path.lexists(full)
    writer.write(b"kept")
    writer.close()
    assert read_log(tmp_path, 0, 100) == (0, b"0123456789")
    assert read_log(tmp_path, 10, 100) == (14, b"kept")


@pytest.mark.parametrize(
    ("endings", "stop", "reason", "code"),
    [
        ([Ended(rank=0, exit_code=0)], None, EndReason.COMPLETED, 0),
        ([Ended(rank=0, exit_code=2)], None, EndReason.USER_ERROR, 2),
        ([Ended(rank=0, exit_code=-11)], None, EndReason.KILLED_BY_SIGNAL, -11),
        ([Ended(rank=0, exit_code=-15, asked=True)], EndReason.CANCELLED, EndReason.CANCELLED, -15),
        ([Ended(rank=0, exit_code=0, asked=True)], EndReason.PREEMPTED, EndReason.PREEMPTED, 0),
        # The request came when all had ended already, or when one had failed by itself.
        ([Ended(rank=0, exit_code=0)], EndReason.CANCELLED, EndReason.COMPLETED, 0),
        ([Ended(rank=1, exit_code=3), Ended(rank=0, exit_code=-15, asked=True)], EndReason.CANCELLED, EndReason.USER_ERROR, 3),
        # The others of a gang were stopped for the sake of the first that failed.
        ([Ended(rank=1, exit_code=3), Ended(rank=0, exit_code=-15)], None, EndReason.USER_ERROR, 3),
        ([Ended(rank=0, exit_code=0), Ended(rank=1, exit_code=0)], None, EndReason.COMPLETED, 0),
        ([], None, EndReason.START_FAILED, None),
    ],
)
def test_the_end_of_a_job_has_one_reason(endings: list[Ended], stop: EndReason | None, reason: EndReason, code: int | None) -> None:
    assert conclude(endings, stop)[:2] == (reason, code)


def test_a_kill_by_the_kernel_is_for_want_of_memory() -> None:
    killed = [Ended(rank=0, exit_code=-9)]
    assert conclude(killed, None, killed_by_kernel=True)[0] is EndReason.OUT_OF_MEMORY
    assert conclude(killed, None)[0] is EndReason.KILLED_BY_SIGNAL


@given(
    cpu=st.floats(0.01, 64),
    cores=st.lists(st.integers(0, 63), unique=True, min_size=1),
    load=st.dictionaries(st.integers(0, 63), st.floats(0, 4)),
)
def test_cores_are_the_least_loaded_and_enough(cpu: float, cores: list[int], load: dict[int, float]) -> None:
    chosen = choose_cores(cpu, cores, load)
    if not chosen:
        assert cpu > len(cores) - 1
        return
    assert set(chosen) < set(cores) and cpu <= len(chosen) < cpu + 1
    assert max(load.get(core, 0.0) for core in chosen) <= min(load.get(core, 0.0) for core in set(cores) - set(chosen))


def test_a_program_sees_only_the_gpus_it_was_given() -> None:
    real = Node(name="n", cpu=1, memory_bytes=1, gpus=8)
    assert gpu_environment(real, (2, 5), 1)["CUDA_VISIBLE_DEVICES"] == "2,5"
    assert gpu_environment(real, (), 0)["CUDA_VISIBLE_DEVICES"] == ""
    simulated = Node(name="n", cpu=1, memory_bytes=1, gpus=8, simulated_gpus=True)
    assert gpu_environment(simulated, (1,), 0.5) == {"NARF_SIMULATED_GPUS": "1", "NARF_GPU_FRACTION": "0.5"}
    assert gpu_environment(Node(name="n", cpu=1, memory_bytes=1, gpus=0), (), 0) == {}


def test_a_replica_of_several_gpus_starts_its_own_processes() -> None:
    assert rendezvous_environment(0, 1, 8) == {}
    assert rendezvous_environment(1, 2, 1)["LOCAL_RANK"] == "0"
    assert "LOCAL_RANK" not in rendezvous_environment(1, 2, 4)


def test_a_shipper_ships_when_it_is_told_to_hurry_and_the_rest_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Recorder:
        def __init__(self, *_: str) -> None: ...

        def ship_once(self) -> bool:
            done.append("some")
            return True

        def ship_all(self, _deadline: float) -> bool:
            done.append("all")
            return True

    monkeypatch.setattr("narf.training.shipper.Shipper", Recorder)
    monkeypatch.setattr(shipping, "_PERIOD_SECONDS", 60.0)
    (tmp_path / "job").mkdir()
    folder = JobFolder(tmp_path / "job")
    running = shipping.start(folder, "run", {"NARF_URL": "http://127.0.0.1:1"})
    assert running is not None and not shipping.is_shipped(folder.path)
    running.hurry()
    eventually(lambda: done == ["some"])
    running.finish()
    assert done == ["some", "all"] and shipping.is_shipped(folder.path)


def test_what_is_left_at_the_end_is_shipped_to_where_the_server_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went away and came back at another address while the supervisor tried."""
    tried: list[str] = []
    place = tmp_path / "run" / "server.json"
    place.parent.mkdir()
    place.write_text('{"url": "http://old"}')

    class Server:
        def __init__(self, _spool: str, url: str, *_: str) -> None:
            self.url = url

        def ship_once(self) -> bool:
            return False

        def ship_all(self, _deadline: float) -> bool:
            tried.append(self.url)
            place.write_text('{"url": "http://new"}')
            return self.url == "http://new"

    monkeypatch.setattr("narf.training.shipper.Shipper", Server)
    (tmp_path / "jobs" / "a.1").mkdir(parents=True)
    folder = JobFolder(tmp_path / "jobs" / "a.1")
    running = shipping.start(folder, "run", {"NARF_URL": "http://given"})
    assert running is not None
    running.finish()
    assert tried == ["http://old", "http://new"] and shipping.is_shipped(folder.path)
