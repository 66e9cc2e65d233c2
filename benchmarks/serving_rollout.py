"""What callers notice of a rollout, a rollback, the death of a replica, the death of the gateway, and a cold start.

    python benchmarks/serving_rollout.py [--rate 200] [--cold 5]

A platform with a home of its own and one scikit-learn model in two versions. Requests of one row leave at a fixed rate, whether or
not earlier ones are answered, through the gateway, with a token. Goals: no request fails during a rollout, nor when one of two
replicas is killed; after the gateway is killed it answers again within a second; a cold start takes a second at most.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving_many import ROW, command, platform

import narf
from narf.client.connection import Connection, connect

SMALL = {"cpu": 0.2}


@dataclass
class Seen:
    """What the callers saw. failures: (seconds after the start, what came instead of an answer). The last two: what was done to them."""

    began: float = field(default_factory=time.monotonic)
    good: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    took_seconds: float = 0.0
    killed_at: float = 0.0

    def longest_gap(self) -> float:
        """Seconds without an answer from the kill on."""
        times = [self.killed_at, *sorted(at for at in self.answered_at if at > self.killed_at)]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def __str__(self) -> str:
        ordered = sorted(self.milliseconds)
        p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
        kinds = sorted({what for _, what in self.failures})
        failed = f"{len(self.failures)} failed" + (f" ({'; '.join(kinds[:3])})" if kinds else "")
        return f"{self.good} answered, {failed}, p50 {p50:.1f} ms, p99 {p99:.1f}, longest {ordered[-1]:.0f}"


class Caller:
    """An open loop through one address."""

    def __init__(self, url: str, token: str, rate: float) -> None:
        rest, self._rate = url.removeprefix("http://"), rate
        address, _, path = rest.partition("/")
        self._host, _, port = address.partition(":")
        self._port = int(port)
        body = json.dumps({"inputs": ROW}).encode()
        self._request = (
            f"POST /{path}/predict HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call(self, seen: Seen) -> None:
        begin = time.monotonic()
        try:
            async with asyncio.timeout(20):
                reader, writer = self._kept() or await asyncio.open_connection(self._host, self._port)
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        except (OSError, EOFError, TimeoutError) as error:
            seen.failures.append((begin - seen.began, type(error).__name__))
            return
        self._idle.append((reader, writer))
        if head[9:12] != b"200":
            seen.failures.append((begin - seen.began, f"{head[9:12].decode()} {body[:120].decode()}"))
            return
        now = time.monotonic()
        seen.good += 1
        seen.milliseconds.append((now - begin) * 1e3)
        seen.answered_at.append(now)

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection from before that the other side has not closed since, as any pool of connections looks for."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and reader.exception() is None and not writer.is_closing():
                return reader, writer
        return None

    async def while_(self, doing: Callable[[Seen], Any]) -> Seen:
        """Call on while `doing`, in a thread, is done, and a second before and after."""
        seen, tasks = Seen(), set()

        async def steady() -> None:
            sent = 0
            while True:
                while sent < (time.monotonic() - seen.began) * self._rate:
                    task = asyncio.create_task(self.call(seen))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    sent += 1
                await asyncio.sleep(0.002)

        calling = asyncio.create_task(steady())
        await asyncio.sleep(1)
        await asyncio.to_thread(doing, seen)
        await asyncio.sleep(1)
        calling.cancel()
        await asyncio.gather(*tasks)
        return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--cold", type=int, default=5, help="how many cold starts")
    options = parser.parse_args()
    with platform() as (folder, home):
        for _ in range(2):
            run = command("run", "train.py", "--follow", folder=folder)["run_id"]
            command("models", "register", run, "--name", "iris", folder=folder)
        command("models", "alias", "iris", "champion", "1", folder=folder)
        with connect() as line:
            measure(line, home, options)


def measure(line: Connection, home: Path, options: argparse.Namespace) -> None:
    endpoint = narf.deploy("iris@champion", name="steady", replicas=2, resources=SMALL, connection=line)
    wait_for(lambda: line.get("/api/v1/endpoints/steady")["ready"] == 2, "two replicas")
    caller = Caller(endpoint.url, line.token, options.rate)
    print(f"{options.rate:.0f} requests a second, load of the machine {os.getloadavg()[0]:.1f}", flush=True)

    def roll(_seen: Seen) -> None:
        line.put("/api/v1/projects/default/models/iris/aliases/champion", {"version": 2})
        wait_for(lambda: serving(line) == ({2}, 2), "version 2 alone")

    def roll_back(seen: Seen) -> None:
        began = time.monotonic()
        line.post("/api/v1/endpoints/steady/rollback", {})
        wait_for(lambda: serving(line)[0] == {1}, "version 1 alone")
        seen.took_seconds = time.monotonic() - began
        wait_for(lambda: serving(line) == ({1}, 2), "both replicas of version 1")

    def lose_what_is_kept(_seen: Seen) -> None:
        """Version 2 again, and version 1 without the replica that was kept for going back to it: as it is an hour later."""
        narf.deploy("iris/2", name="steady", connection=line)
        wait_for(lambda: serving(line) == ({2}, 2), "version 2 alone")
        found = line.get("/api/v1/endpoints/steady")
        numbers = {revision["number"] for revision in found["revisions"] if revision["weight"] > 0}
        for replica in found["replicas"]:
            if replica["revision"] not in numbers and replica["state"] == "ready":
                os.kill(pid_of(home, replica["url"]), signal.SIGKILL)
        wait_for(lambda: {replica["revision"] for replica in line.get("/api/v1/endpoints/steady")["replicas"]} == numbers, "none kept")

    def kill_replicas(_seen: Seen) -> None:
        for _ in range(5):
            found = line.get("/api/v1/endpoints/steady")
            active = next(revision["number"] for revision in found["revisions"] if revision["role"] == "active")
            victim = next(r for r in found["replicas"] if r["revision"] == active and r["state"] == "ready")
            os.kill(pid_of(home, victim["url"]), signal.SIGKILL)
            wait_for(lambda gone=victim["workload_id"]: two_without(gone), "two replicas again")

    def two_without(gone: str) -> bool:
        found = line.get("/api/v1/endpoints/steady")
        return found["ready"] == 2 and gone not in {replica["workload_id"] for replica in found["replicas"]}

    def kill_gateways(count: int) -> Callable[[Seen], None]:
        def kill(seen: Seen) -> None:
            pids = [json.loads(place.read_text())["pid"] for place in gateways(home)[:count]]
            seen.killed_at = time.monotonic()
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            time.sleep(3)

        return kill

    async def all_of_them() -> None:
        print(f"rollout by alias: {await caller.while_(roll)}", flush=True)
        seen = await caller.while_(roll_back)
        print(f"rollback: {seen}; has all traffic after {seen.took_seconds:.2f} s", flush=True)
        print(f"rollout of version 2 again: {await caller.while_(lose_what_is_kept)}", flush=True)
        seen = await caller.while_(roll_back)
        print(f"rollback without a replica kept for it: {seen}; has all traffic after {seen.took_seconds:.2f} s", flush=True)
        print(f"kill -9 of one of two replicas, five times: {await caller.while_(kill_replicas)}", flush=True)
        for count in (1, len(gateways(home))):
            seen = await caller.while_(kill_gateways(count))
            print(f"kill -9 of {count} of {len(gateways(home))} gateways: no answer for {seen.longest_gap():.2f} s; {seen}", flush=True)

    asyncio.run(all_of_them())
    line.delete("/api/v1/endpoints/steady")

    cold = narf.deploy("iris/1", name="cold", replicas=(0, 1), idle_seconds=1, resources=SMALL, connection=line)
    took = []
    for _ in range(options.cold):
        wait_for(lambda: not line.get("/api/v1/endpoints/cold")["replicas"], "sleep")
        began = time.monotonic()
        cold.predict(ROW)
        took.append(time.monotonic() - began)
    print(f"cold start to the first answer: median {statistics.median(took):.2f} s, longest {max(took):.2f} of {len(took)}")


def serving(line: Connection) -> tuple[set[int], int]:
    """Versions that have traffic, and how many replicas are ready for it."""
    found = line.get("/api/v1/endpoints/steady")
    return {r["version"] for r in found["revisions"] if r["weight"] > 0}, found["ready"]


def gateways(home: Path) -> list[Path]:
    return sorted((home / "run").glob("gateway*.json"))


def pid_of(home: Path, url: str) -> int:
    for place in (home / "jobs").rglob("endpoint.json"):
        said = json.loads(place.read_text())
        if said["url"] == url:
            return int(said["pid"])
    raise SystemExit(f"no replica at {url}")


def wait_for(done: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise SystemExit(f"{what}: not there after {seconds:g} s")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
