"""Overload: ten times what a model that takes 5 ms a batch can do, open loop, for some seconds.

    python benchmarks/serving_overload.py [--seconds 30]

Prints goodput beside the peak (closed loop, no overload), the latency of what was accepted, and memory before and after.
Goals: goodput above 90 % of the peak, p99 of the accepted bounded by the deadline asked for, memory flat.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BODY = json.dumps({"inputs": [[1.0] * 64]}).encode()
DEADLINE_MS = 250
PROCESSING = "import time\ndef preprocess(inputs):\n    time.sleep(0.005)\n    return inputs\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    from dataclasses import replace

    from narf.serving.package import read_manifest, write_manifest
    from serving import make_model

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_model(folder)
        (folder / "package" / "processing.py").write_text(PROCESSING)
        write_manifest(folder / "package", replace(read_manifest(folder / "package"), processing="processing.py"))
        announce = folder / "endpoint.json"
        # One row a batch, so that capacity is known: at most 200 a second.
        arguments = [
            sys.executable,
            "-m",
            "narf.serving.replica",
            "--package",
            str(folder / "package"),
            "--announce",
            str(announce),
            "--batch-rows",
            "1",
        ]
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        try:
            while not announce.exists():
                time.sleep(0.05)
            port = int(json.loads(announce.read_text())["url"].rpartition(":")[2])
            asyncio.run(measure(port, process.pid, options.seconds))
        finally:
            process.kill()
            process.wait()


async def measure(port: int, pid: int, seconds: float) -> None:
    peak, _ = await closed_loop(port, 16, min(5.0, seconds))
    before = resident(pid)
    good, refused, latencies = await open_loop(port, 10 * peak, seconds)
    after = resident(pid)
    p50, p99 = np.percentile(latencies, [50, 99])
    print(f"peak {peak:.0f}/s; offered {10 * peak:.0f}/s for {seconds:.0f} s")
    print(f"goodput {good / seconds:.0f}/s = {good / seconds / peak:.0%} of the peak (goal: 90 %); refused {refused / seconds:.0f}/s")
    print(f"accepted: p50 {p50:.0f} ms, p99 {p99:.0f} ms (deadline {DEADLINE_MS} ms)")
    print(f"memory {before:.0f} MiB before, {after:.0f} MiB after")


REQUEST = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nnarf-timeout-ms: %d\r\ncontent-length: %d\r\n\r\n%s" % (
    DEADLINE_MS,
    len(BODY),
    BODY,
)


class Client:
    """One connection, one request at a time."""

    async def open(self, port: int) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(self) -> int:
        self.writer.write(REQUEST)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await self.reader.readexactly(length)
        return int(head[9:12])


async def closed_loop(port: int, count: int, seconds: float) -> tuple[float, list[float]]:
    until, done, latencies = time.monotonic() + seconds, 0, []

    async def run() -> None:
        nonlocal done
        client = Client()
        await client.open(port)
        while time.monotonic() < until:
            begin = time.monotonic()
            if await client.ask() == 200:
                done += 1
                latencies.append((time.monotonic() - begin) * 1e3)

    await asyncio.gather(*(run() for _ in range(count)))
    return done / seconds, latencies


async def open_loop(port: int, rate: float, seconds: float) -> tuple[int, int, list[float]]:
    """Requests leave on time, whether or not earlier ones are answered."""
    idle: list[Client] = []
    good, refused, latencies = 0, 0, []

    async def one() -> None:
        nonlocal good, refused
        client = idle.pop() if idle else Client()
        if not hasattr(client, "reader"):
            await client.open(port)
        begin = time.monotonic()
        status = await client.ask()
        idle.append(client)
        if status == 200:
            good += 1
            latencies.append((time.monotonic() - begin) * 1e3)
        else:
            assert status in (429, 504), status
            refused += 1

    begin, sent, tasks = time.monotonic(), 0, set()
    while (elapsed := time.monotonic() - begin) < seconds:
        while sent < elapsed * rate:
            task = asyncio.create_task(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    return good, refused, latencies


def resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
