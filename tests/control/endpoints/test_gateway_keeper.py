"""The gateways of a machine as real processes: they share a port, and are replaced and found again. No control plane is needed."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from narf.control.endpoints.gateway import GatewayKeeper

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def keeper(tmp_path):
    """`keeper(count)` keeps so many in the same folder; the one before lets go without ending any."""
    kept = []

    def start(count: int, port: int = 0, folder: Path = tmp_path, control: str = NOBODY) -> GatewayKeeper:
        made = GatewayKeeper(folder, folder / "gateway.log", "127.0.0.1", port, control, lambda: "token", count=count, end_seconds=2)
        kept.append(made)
        made.start()
        eventually(lambda: len(announced(folder)) == count)
        return made

    yield start
    for one in kept:
        one.stop()


def announced(folder: Path) -> dict[str, int]:
    found = {}
    for place in folder.glob("gateway*.json"):
        try:
            said = json.loads(place.read_text())
        except (FileNotFoundError, ValueError):
            continue
        found[place.name] = said["pid"]
    return found


def lives(url: str) -> bool:
    """Asked on a connection of its own."""
    try:
        with urllib.request.urlopen(url + "/healthz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def eventually(check, seconds=20):
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_there(pid: int) -> bool:
    """Not ended, or not yet to the point that its sockets are closed."""
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            return True
        return len(os.listdir(f"/proc/{pid}/task")) > 1  # its other threads still hold the sockets
    except OSError:
        return False


def test_a_gateway_that_is_killed_is_replaced_while_the_other_answers_on_the_same_port(keeper, tmp_path):
    kept = keeper(2)
    address, before = kept.address, announced(tmp_path)
    assert len(set(before.values())) == 2
    for name in ("gateway.json", "gateway-2.json"):
        victim = announced(tmp_path)[name]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda gone=victim: not is_there(gone))
        answers = []
        until = time.monotonic() + 20
        while announced(tmp_path).get(name, victim) == victim and time.monotonic() < until:
            answers.append(lives(address))
        assert answers and all(answers)
        assert kept.address == address
    assert not set(before.values()) & set(announced(tmp_path).values())


def test_a_keeper_that_comes_back_finds_its_gateways_and_ends_those_that_are_too_many(keeper, tmp_path):
    first = keeper(2)
    before = announced(tmp_path)
    first._stopping.set()  # as if it had been killed: nothing is ended
    first._thread.join(5)
    second = keeper(1)
    eventually(lambda: not is_there(before["gateway-2.json"]))
    assert announced(tmp_path) == {"gateway.json": before["gateway.json"]} and lives(second.address)


def test_the_gateways_have_the_port_that_was_asked_for(keeper):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert keeper(2, port=port).address == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("hangs", [False, True])
def test_what_the_keeper_before_has_left_is_ended_and_its_port_taken_over(keeper, tmp_path, hangs):
    """One of a control plane at another address goes as soon as it can; one that hangs is killed."""
    first = keeper(1)
    address, old = first.address, announced(tmp_path)["gateway.json"]
    first._stopping.set()
    first._thread.join(5)
    if hangs:
        os.kill(old, signal.SIGSTOP)
    second = keeper(1, control=NOBODY if hangs else "http://127.0.0.1:10")
    eventually(lambda: announced(tmp_path).get("gateway.json", old) != old)
    assert not is_there(old) and second.address == address and lives(address)


def test_a_keeper_that_stops_waits_for_the_gateways_that_it_found(keeper, tmp_path):
    first = keeper(1)
    first._stopping.set()
    first._thread.join(5)
    second = keeper(1)
    eventually(lambda: second._slots[0].adopted is not None)
    (pid,) = announced(tmp_path).values()
    os.kill(pid, signal.SIGSTOP)
    second.stop()
    assert not announced(tmp_path)
    eventually(lambda: not is_there(pid))  # it was killed; the kernel closes what each of its threads had open


def test_gateways_do_not_share_the_port_of_another_platform(keeper, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    theirs = keeper(1, folder=other).address
    ours = keeper(2, port=int(theirs.rpartition(":")[2])).address
    assert ours != theirs and lives(ours) and lives(theirs)


def test_the_gateways_end_with_their_keeper(keeper, tmp_path):
    kept = keeper(2)
    pids = announced(tmp_path).values()
    kept.stop()
    assert not any(map(is_there, pids)) and not announced(tmp_path) and kept.address == ""
