"""The spool's files: what is in them is whole, whatever happened to the process or the disk."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import threading
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narf.training.recorder import Recorder
from narf.training.spool import RECORD_BYTES, SpoolWriter, pack_point, read_events, unpack_points, verified_length

points = st.tuples(
    st.integers(0, 2**32 - 1), st.integers(-(2**63), 2**63 - 1), st.floats(0, 2e9), st.floats(allow_nan=False, allow_infinity=True)
)


def test_a_record_has_the_layout_of_the_contract():
    record = pack_point(7, -3, 1.5, 0.25)
    magic, check, key, step, when, value = struct.unpack("<HHIqdd", record)
    assert (magic, key, step, when, value) == (0x4E50, 7, -3, 1.5, 0.25)
    assert check == zlib.crc32(record[:2] + record[4:]) & 0xFFFF


@given(st.lists(points, max_size=20))
def test_what_is_packed_is_unpacked(some):
    data = b"".join(pack_point(*point) for point in some)
    assert [tuple(point) for point in unpack_points(data)] == some


@given(st.lists(points, min_size=1, max_size=8), st.data())
@settings(max_examples=200)
def test_a_damaged_tail_is_cut_at_the_last_whole_record(some, data):
    good = b"".join(pack_point(*point) for point in some)
    at = data.draw(st.integers(0, len(good) - 1))
    damage = bytearray(good)
    damage[at] ^= data.draw(st.integers(1, 255))
    length = verified_length(bytes(damage))
    assert length % RECORD_BYTES == 0
    # The check has 16 bits: one flipped byte is always found by a CRC.
    assert length == at // RECORD_BYTES * RECORD_BYTES
    assert verified_length(good[: at + 1]) == (at + 1) // RECORD_BYTES * RECORD_BYTES


def test_zeros_at_the_end_are_not_points():
    good = pack_point(1, 1, 1.0, 1.0)
    assert verified_length(good + b"\0" * 320) == RECORD_BYTES


def test_events_end_at_the_first_line_that_is_torn():
    data = b'{"type":"key","id":0,"name":"a"}\n{"type":"end"}\n{"type":"no'
    events, used = read_events(data)
    assert [event["type"] for event in events] == ["key", "end"]
    assert data[used:] == b'{"type":"no'
    assert read_events(b"[]\n" + data)[0] == []


def written(folder, kind="points"):
    return b"".join((folder / name).read_bytes() for name in sorted(os.listdir(folder)) if name.endswith(kind))


def test_nothing_is_left_by_a_process_that_logs_nothing(tmp_path):
    SpoolWriter(str(tmp_path / "spool"))
    assert not (tmp_path / "spool").exists()


def test_threads_do_not_tear_each_others_records(tmp_path):
    writer = SpoolWriter(str(tmp_path))

    def write(key):
        for step in range(500):
            assert writer.append_points(pack_point(key, step, 0.0, 1.0) * 2)

    threads = [threading.Thread(target=write, args=(key,)) for key in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = written(tmp_path)
    assert verified_length(data) == len(data) == 8 * 500 * 2 * RECORD_BYTES
    for key in range(8):
        assert [point.step for point in unpack_points(data) if point.key == key] == [step for step in range(500) for _ in "ab"]


@pytest.fixture
def small_disk():
    """Lets no file of this process grow beyond 10 records and a half, until asked to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * RECORD_BYTES + 16, hard))
    grow = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))  # noqa: E731
    yield grow
    grow()


def test_a_full_disk_delays_records_and_keeps_their_order(tmp_path, small_disk):
    writer = SpoolWriter(str(tmp_path))
    safe = [writer.append_points(pack_point(0, step, 0.0, 1.0)) for step in range(25)]
    assert safe == [True] * 10 + [False] * 15
    assert verified_length(written(tmp_path)) == len(written(tmp_path)) == 10 * RECORD_BYTES, "no half record may stand in the way"
    assert not writer.flush()
    small_disk()
    assert writer.flush()
    assert writer.append_points(pack_point(0, 25, 0.0, 1.0))
    assert [point.step for point in unpack_points(written(tmp_path))] == list(range(26))


def test_no_point_is_safe_before_the_name_of_its_metric_is(tmp_path, small_disk):
    recorder = Recorder(str(tmp_path))
    recorder.note("x" * 400)  # no room for events any more, but for points
    assert not recorder.log({"loss": 0.5}, 0)
    assert written(tmp_path) == b"", "after a kill now, a point here could not be named"
    small_disk()
    assert recorder.flush()
    assert recorder.log({"loss": 0.25}, 1)
    assert [point.step for point in unpack_points(written(tmp_path))] == [0, 1]
    assert [event["name"] for event in read_events(written(tmp_path, "events"))[0] if event["type"] == "key"] == ["loss"]


def test_a_program_that_closes_every_descriptor_goes_on_recording(tmp_path):
    writer = SpoolWriter(str(tmp_path))
    writer.append_points(pack_point(0, 0, 0.0, 1.0))
    os.close(writer._points._fd)
    assert writer.append_points(pack_point(0, 1, 0.0, 1.0))
    assert [point.step for point in unpack_points(written(tmp_path))] == [0, 1]


def test_what_does_not_fit_into_memory_either_is_refused_and_counted(tmp_path, small_disk, monkeypatch):
    monkeypatch.setattr("narf.training.spool._BACKLOG_BYTES", 4 * RECORD_BYTES)
    writer = SpoolWriter(str(tmp_path))
    for step in range(20):
        writer.append_points(pack_point(0, step, 0.0, 1.0))
    assert writer.refused == 6
    small_disk()
    writer.flush()
    assert [point.step for point in unpack_points(written(tmp_path))] == list(range(14))


def test_every_accepted_point_outlives_kill_9(tmp_path):
    program = f"""
import os, sys
sys.path.insert(0, {os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(sys.modules["narf.training.spool"].__file__))))!r})
from narf.training.recorder import Recorder
recorder = Recorder({str(tmp_path)!r})
for step in range(10**9):
    assert recorder.log({{"loss": 1.0 / (step + 1), "accuracy": 0.5}}, step)
    os.write(1, b"%d\\n" % step)
"""
    process = subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    accepted = -1
    for line in process.stdout:
        accepted = int(line)
        if accepted >= 2000:
            break
    process.kill()
    rest = process.stdout.read().split(b"\n")[:-1]
    process.wait()
    accepted = int(rest[-1]) if rest else accepted
    data = written(tmp_path)
    steps = [point.step for point in unpack_points(data) if point.key == 0]
    assert steps[: accepted + 1] == list(range(accepted + 1)), "every accepted point, once, in order"
    assert len(steps) <= accepted + 2
