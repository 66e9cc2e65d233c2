"""The shipper delivers every point exactly once, whatever dies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import narf.training.shipper as shipper_module
from narf.training.recorder import Recorder
from narf.training.salvage import damage, whole_length
from narf.training.shipper import Shipper
from narf.training.spool import pack_point


def soon(seconds=20.0):
    return time.monotonic() + seconds


@pytest.fixture
def spool(tmp_path):
    return str(tmp_path / "spool")


def test_what_was_logged_arrives(control_plane, spool):
    recorder = Recorder(spool)
    recorder.param("lr", 0.1)
    for step in range(100):
        assert recorder.log({"loss": step / 10, "acc": float(step)}, step)
    recorder.artifact_bytes(b"hello", "notes/a b.txt")
    recorder.end()
    shipper = Shipper(spool, control_plane.url, "token", "r1")
    assert shipper.ship_once()
    assert shipper.is_complete
    assert not shipper.ship_once(), "nothing new"
    assert control_plane.points("r1") == {"loss": [(s, s / 10) for s in range(100)], "acc": [(s, float(s)) for s in range(100)]}
    assert control_plane.params("r1") == {"lr": "0.1"}
    assert control_plane.artifacts == {("r1", "notes/a b.txt"): b"hello"}
    assert not os.listdir(os.path.join(spool, "artifacts")), "a delivered copy is deleted"
    assert shipper.problems == []


def test_blocks_are_cut_at_whole_records(control_plane, spool, monkeypatch):
    monkeypatch.setattr(shipper_module, "BLOCK_BYTES", 32 * 7)
    recorder = Recorder(spool)
    for step in range(100):
        recorder.log({"loss": 1.0}, step)
    recorder.param("long", "x" * 2000)  # an event longer than a block
    assert Shipper(spool, control_plane.url, "", "r").ship_all(soon())
    assert control_plane.points("r") == {"loss": [(step, 1.0) for step in range(100)]}
    assert control_plane.params("r")["long"] == "x" * 2000


def test_bodies_to_another_machine_are_compressed(control_plane, spool):
    recorder = Recorder(spool)
    for step in range(1000):
        recorder.log({"loss": 1.0}, step)
    shipper = Shipper(spool, control_plane.url, "", "r")
    shipper._compresses = True
    assert shipper.ship_all(soon())
    assert len(control_plane.points("r")["loss"]) == 1000


def test_a_server_that_is_down_loses_nothing_and_blocks_nobody(control_plane, spool):
    recorder = Recorder(spool)
    shipper = Shipper(spool, control_plane.url, "", "r")
    control_plane.stop()
    for step in range(50):
        assert recorder.log({"loss": 1.0}, step)
    assert not shipper.ship_once()
    assert not shipper.ship_all(soon(0.3))
    control_plane.start()
    assert shipper.ship_all(soon())
    assert control_plane.points("r") == {"loss": [(step, 1.0) for step in range(50)]}
    assert len(shipper.problems) == 1
    assert "cannot be reached" in shipper.problems[0]


@pytest.mark.parametrize("faults", [[500, 503], [429], ["drop after storing"], ["drop after storing", 500, "drop after storing"]])
def test_faults_are_retried_without_repeating_a_point(control_plane, spool, faults):
    recorder = Recorder(spool)
    for step in range(50):
        recorder.log({"loss": float(step)}, step)
    control_plane.faults = list(faults)
    assert Shipper(spool, control_plane.url, "", "r").ship_all(soon())
    assert control_plane.points("r") == {"loss": [(step, float(step)) for step in range(50)]}


def test_a_shipper_that_forgot_everything_repeats_nothing(control_plane, spool):
    recorder = Recorder(spool)
    for step in range(50):
        recorder.log({"loss": 1.0}, step)
    assert Shipper(spool, control_plane.url, "", "r").ship_all(soon())
    os.unlink(os.path.join(spool, "shipped.json"))
    recorder.log({"loss": 1.0}, 50)
    assert Shipper(spool, control_plane.url, "", "r").ship_all(soon())
    assert control_plane.points("r") == {"loss": [(step, 1.0) for step in range(51)]}


def test_a_server_that_lost_its_tail_gets_it_again(control_plane, spool):
    recorder = Recorder(spool)
    shipper = Shipper(spool, control_plane.url, "", "r")
    for step in range(50):
        recorder.log({"loss": 1.0}, step)
    shipper.ship_all(soon())
    for (_, _, kind), content in control_plane.files.items():
        if kind == "points":  # restored from a backup
            del content[-320:]
    recorder.log({"loss": 1.0}, 50)
    assert shipper.ship_all(soon())
    assert control_plane.points("r") == {"loss": [(step, 1.0) for step in range(51)]}


def test_a_corrupt_tail_is_not_sent(control_plane, spool):
    recorder = Recorder(spool)
    for step in range(10):
        recorder.log({"loss": 1.0}, step)
    spool_id = recorder._spool.spool_id
    with open(f"{spool}/{spool_id}.points", "ab") as file:
        file.write(pack_point(0, 10, 0.0, 1.0)[:-1] + b"\xff" + pack_point(0, 11, 0.0, 1.0)[:20])
    with open(f"{spool}/{spool_id}.events", "ab") as file:
        file.write(b'{"type": "param", "na')
    assert Shipper(spool, control_plane.url, "", "r").ship_all(soon())
    assert control_plane.points("r") == {"loss": [(step, 1.0) for step in range(10)]}


@pytest.mark.parametrize("noise", [b"\xff", b"\0" * 3000, b"PN" * 40, b'{"type": "pa', b'{"type": "note"}'])
@pytest.mark.parametrize("is_forgotten", [False, True])
def test_damage_costs_no_more_than_what_it_hit(control_plane, spool, noise, is_forgotten):
    recorder = Recorder(spool)
    shipper = Shipper(spool, control_plane.url, "", "r")
    for part in range(3):
        for step in range(part * 10, part * 10 + 10):
            recorder.log({"loss": 1.0, f"only {part}": 1.0}, step)
        recorder.artifact_bytes(b"x", f"file {part}")
        for kind in ("points", "events"):
            with open(f"{spool}/{recorder._spool.spool_id}.{kind}", "ab") as file:
                file.write(noise)  # the process that writes does not notice
        if part == 1:
            shipper.ship_once()
            if is_forgotten:
                os.unlink(f"{spool}/shipped.json")
                shipper = Shipper(spool, control_plane.url, "", "r")
    assert shipper.ship_all(soon()), shipper.problems
    arrived = control_plane.points("r")
    assert arrived["loss"] == [(step, 1.0) for step in range(30)]
    assert [len(arrived[f"only {part}"]) for part in range(3)] == [10, 10, 10]
    assert sorted(path for _, path in control_plane.artifacts) == ["file 0", "file 1", "file 2"]
    assert any("is damaged at byte" in problem for problem in shipper.problems)


def test_noise_of_any_kind_hides_no_record_behind_it():
    chance = random.Random(3)
    for _ in range(2000):
        noise = chance.choice([chance.randbytes(chance.randrange(1, 90)), b"PN" * chance.randrange(1, 60), b"\0" * chance.randrange(1, 90)])
        before, behind = (b"".join(pack_point(0, step, chance.random(), 1.0) for step in range(3)) for _ in range(2))
        data, found = before + noise + behind, b""
        while data:
            good = whole_length(data, "points")
            found += data[:good]
            data = data[good or damage(data, "points") or len(data) :]
        assert found == before + behind


def test_a_record_whose_bits_were_flipped_is_passed_over(control_plane, spool):
    recorder = Recorder(spool)
    for step in range(10):
        recorder.log({"loss": 1.0}, step)
    path = f"{spool}/{recorder._spool.spool_id}.points"
    content = bytearray(Path(path).read_bytes())
    content[32 * 4 + 20] ^= 1
    Path(path).write_bytes(content)
    assert Shipper(spool, control_plane.url, "", "r").ship_all(soon())
    assert [step for step, _ in control_plane.points("r")["loss"]] == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_a_server_that_lost_the_names_hears_them_again(control_plane, spool):
    recorder = Recorder(spool)
    shipper = Shipper(spool, control_plane.url, "", "r")
    recorder.log({"loss": 1.0}, 0)
    assert shipper.ship_all(soon())
    control_plane.files.clear()  # restored from a backup
    recorder.log({"loss": 1.0}, 1)
    assert shipper.ship_all(soon())
    assert control_plane.points("r") == {"loss": [(0, 1.0), (1, 1.0)]}


def test_one_spool_that_is_refused_does_not_hold_up_the_others(control_plane, spool):
    recorders = [Recorder(spool) for _ in range(3)]
    for index, recorder in enumerate(recorders):
        recorder.log({f"m{index}": 1.0}, 0)
    control_plane.refused = min(recorder._spool.spool_id for recorder in recorders)
    shipper = Shipper(spool, control_plane.url, "", "r")
    assert not shipper.ship_all(soon(0.5))
    assert len(control_plane.points("r")) == 2
    control_plane.refused = ""
    assert shipper.ship_all(soon())
    assert len(control_plane.points("r")) == 3


def test_a_refusal_for_good_is_told_and_does_not_hold_up_the_end(control_plane, spool):
    Recorder(spool).log({"loss": 1.0}, 0)
    control_plane.faults = [403, 403]  # together, and alone
    shipper = Shipper(spool, control_plane.url, "", "r")
    assert shipper.ship_all(soon(2))
    assert any("403 a fault of the test" in problem for problem in shipper.problems)


def test_an_artifact_that_is_gone_or_refused_does_not_stop_the_others(control_plane, spool, tmp_path):
    recorder = Recorder(spool)
    recorder.artifact(str(tmp_path / "gone"), "gone", copy=False)
    recorder.artifact_bytes(b"too large", "refused")
    recorder.artifact_bytes(b"fine", "fine")
    kept = tmp_path / "kept"
    kept.write_bytes(b"kept")
    recorder.artifact(str(kept), "kept", copy=False)
    shipper = Shipper(spool, control_plane.url, "", "r")
    control_plane.faults = []
    shipper._ship_events(recorder._spool.spool_id)
    control_plane.faults = [413]
    assert shipper.ship_all(soon())
    assert control_plane.artifacts == {("r", "fine"): b"fine", ("r", "kept"): b"kept"}
    assert kept.exists()
    assert len(shipper.problems) == 2


def test_points_and_sender_and_server_killed_at_random(control_plane, spool, tmp_path):
    """Three writers, each killed with -9 after some time; senders killed all the while; the server stopped and started."""
    chance = random.Random(7)
    root = Path(shipper_module.__file__).parents[2]
    program = f"""
import sys, os, time
sys.path.insert(0, {str(root)!r})
from narf.training.recorder import Recorder
recorder, name = Recorder({spool!r}), sys.argv[1]
for step in range(10**9):
    recorder.log({{name: float(step)}}, step)
    os.write(1, b"%d\\n" % step)
    if step % 20 == 0: time.sleep(0.002)
"""
    outputs = [tmp_path / f"accepted{index}" for index in range(3)]
    writers = [
        subprocess.Popen([sys.executable, "-S", "-c", program, f"m{index}"], stdout=output.open("wb"))
        for index, output in enumerate(outputs)
    ]
    sender = None
    command = [sys.executable, shipper_module.__file__, spool, control_plane.url, "r", str(os.getpid())]
    try:
        for round_ in range(8):
            if sender is None:
                sender = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0.1, 0.3))
            if chance.random() < 0.6:
                sender.send_signal(signal.SIGKILL)
                sender.wait()
                sender = None
            if chance.random() < 0.5:
                control_plane.stop()
                time.sleep(0.05)
                control_plane.start()
            if round_ in (3, 5, 7):
                writers[(round_ - 3) // 2].kill()
    finally:
        for process in [*writers, *([sender] if sender else [])]:
            process.kill()
            process.wait()
    assert Shipper(spool, control_plane.url, "", "r").ship_all(soon())
    assert control_plane.early_points == 0
    arrived = control_plane.points("r")
    for index, output in enumerate(outputs):
        accepted = int(output.read_bytes().split(b"\n")[-2])
        steps = [step for step, value in arrived[f"m{index}"] if value == float(step)]
        assert steps[: accepted + 1] == list(range(accepted + 1))
        assert accepted + 1 <= len(steps) <= accepted + 2, "the one more may have been written but not yet told"


def test_what_a_short_program_leaves_goes_in_one_request(control_plane, spool):
    recorder = Recorder(spool)
    recorder.log({"loss": 1.0}, 0)
    recorder.artifact_bytes(b"hello", "notes/a.txt")
    recorder.artifact_bytes(b"", "notes/empty.txt")
    recorder.end()
    shipper = Shipper(spool, control_plane.url, "", "r")
    assert shipper.ship_all(soon())
    assert control_plane.requests == [("POST", "/api/v1/runs/r/shipments")]
    assert control_plane.artifacts == {("r", "notes/a.txt"): b"hello", ("r", "notes/empty.txt"): b""}
    assert not os.listdir(os.path.join(spool, "artifacts"))
    again = Shipper(spool, control_plane.url, "", "r")
    assert again.ship_all(soon()) and len(control_plane.requests) == 1, "what was sent together is remembered"


def test_a_large_artifact_goes_alone_and_those_after_it_in_their_order(control_plane, spool):
    recorder = Recorder(spool)
    recorder.log({"loss": 1.0}, 0)
    for name, size in (("first", 10), ("large", 200_000), ("last", 10)):
        recorder.artifact_bytes(name[:1].encode() * size, name)
    assert Shipper(spool, control_plane.url, "", "r").ship_all(soon())
    assert [path for _, path in control_plane.requests] == [
        "/api/v1/runs/r/shipments",
        "/api/v1/runs/r/artifacts/large",
        "/api/v1/runs/r/artifacts/last",
    ]
    assert control_plane.artifacts["r", "large"] == b"l" * 200_000


def test_a_server_that_knows_no_shipments_gets_the_files_one_by_one(control_plane, spool):
    recorder = Recorder(spool)
    recorder.log({"loss": 1.0}, 0)
    recorder.artifact_bytes(b"hello", "a.txt")
    control_plane.faults = [404]
    shipper = Shipper(spool, control_plane.url, "", "r")
    assert shipper.ship_all(soon()) and shipper.problems == []
    assert control_plane.points("r") == {"loss": [(0, 1.0)]} and control_plane.artifacts == {("r", "a.txt"): b"hello"}


def test_a_shipment_whose_answer_was_lost_is_stored_once(control_plane, spool):
    recorder = Recorder(spool)
    recorder.log({"loss": 1.0}, 0)
    control_plane.faults = ["drop after storing"]
    assert Shipper(spool, control_plane.url, "", "r").ship_all(soon())
    assert control_plane.points("r") == {"loss": [(0, 1.0)]}
