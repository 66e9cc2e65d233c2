"""`python -m narf.serving.replica --package FOLDER ...`: one replica, serving one model or several small ones.

It listens on a port of its own choosing where gateways reach it (`reach.py`), writes `endpoint.json` into the job's folder and tells the control plane where it
is. SIGTERM drains: ready turns false, what has begun is finished, then it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from narf.domain.errors import NarfError
from narf.serving import garbage
from narf.serving.application import ReplicaApplication
from narf.serving.batching import Policy
from narf.serving.hosting import Hosting
from narf.serving.http.message import Request
from narf.serving.http.server import HttpServer, Limits
from narf.serving.memory import Allowance, MemoryWatch, allowance, proportional_bytes, resident_bytes
from narf.serving.model import HANG_SECONDS, ServedModel, Watchdog
from narf.serving.reach import Hidden, is_loopback, own_address, url_of
from narf.serving.reporter import Reporter

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if bool(options.package) == options.hosted:
        parser.error("give --package, or --hosted")
    logging.basicConfig(level=os.environ.get("NARF_LOG_LEVEL", "INFO"), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if options.hosted:
        garbage.settle()
        sys.setswitchinterval(0.0005)
        run(_serve_hosted(options))
        return 0
    try:
        folders = [fetched(place, options.scratch, options.fallback) for place in options.package]
        policy = _policy(options)
        models = [ServedModel(folder, policy=policy, threads=options.threads) for folder in folders]
        _give_names(models, options.name)
        before = resident_bytes()
        for model in models:
            model.start()
        loaded_bytes = resident_bytes() - before
    except NarfError as error:
        print(f"narf: {error}", file=sys.stderr)  # noqa: T201 - this is a program
        return 1
    garbage.settle()
    # The loop, busy refusing, must not keep a model's thread waiting for the interpreter longer than its work takes.
    sys.setswitchinterval(0.0005)
    run(_serve(models, options, _allowance(models, loaded_bytes, options.memory_bytes)))
    return 0


def _policy(options: argparse.Namespace) -> Policy:
    return Policy(batch_rows=options.batch_rows, queue_requests=options.queue_requests)


def _allowance(models: Sequence[ServedModel], loaded_bytes: int, limit_bytes: int) -> Allowance:
    """What was measured when they were packaged counts; for one of which nothing is known, what loading took here."""
    measured = [model.manifest.evidence.memory_bytes if model.manifest.evidence else None for model in models]
    taken = sum(size for size in measured if size) if all(measured) else max(0, loaded_bytes)
    return allowance(taken, limit_bytes=limit_bytes, held_bytes=proportional_bytes() if limit_bytes else 0)


def run(coroutine: Any) -> None:
    """`asyncio.run` on uvloop, where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


async def _serve(models: Sequence[ServedModel], options: argparse.Namespace, may_grow: Allowance) -> None:
    application = ReplicaApplication(models, revision=options.revision, default_timeout_seconds=options.timeout)
    server, address = await _listen(application, options)
    reporter = Reporter(application, revision=options.revision)
    watchdog = Watchdog(lambda: models, lambda _, why: _end(reporter, 70, why, options.revision), options.timeout, options.hang_seconds)
    memory = MemoryWatch(may_grow, reporter.leave, lambda why: _end(reporter, 71, why))
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    _announce(options, address)
    await reporter.start(address)
    _log.info("serving %s at %s", ", ".join(f"{model.name} {model.version}" for model in models), _without_path(address))
    await stopping.wait()
    application.is_draining = True
    await server.drain(options.drain_seconds)
    watchdog.stop()
    memory.stop()
    await reporter.stop()
    for model in models:
        model.stop()


async def _serve_hosted(options: argparse.Namespace) -> None:
    """As `_serve`, but which models there are is said by the control plane, and changes."""
    reporter = Reporter(ReplicaApplication([]), revision="")  # of the process as a whole
    memory = MemoryWatch(allowance(0), reporter.leave, lambda why: _end(reporter, 71, why))

    def grown(taken_bytes: int) -> None:
        grows = allowance(taken_bytes)
        memory.allow(Allowance(taken_bytes + grows.replace, taken_bytes + grows.leave, taken_bytes + grows.end))

    url, token, workload = (os.environ[name] for name in ("NARF_URL", "NARF_TOKEN", "NARF_WORKLOAD_ID"))
    hosting = Hosting(url, token, workload, _policy(options), options.scratch or Path.cwd(), grown)
    server, hosting.advertised = await _listen(hosting, options)

    def hangs(model: ServedModel, why: str) -> None:
        _end(reporter, 70, why, hosting.revision_of(model))

    watchdog = Watchdog(lambda: hosting.models, hangs, options.timeout, options.hang_seconds)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    _announce(options, hosting.advertised)
    _log.info("holding what %s says, at %s", url, _without_path(hosting.advertised))
    following = asyncio.create_task(hosting.follow(stopping.set))
    await stopping.wait()
    hosting.is_draining = True
    await server.drain(options.drain_seconds)
    following.cancel()
    watchdog.stop()
    memory.stop()
    await hosting.stop()


async def _listen(application: Callable[[Request], None], options: argparse.Namespace) -> tuple[HttpServer, str]:
    """Where others reach it is part of the answer, and nobody but them is to know."""
    host = options.host or own_address(os.environ.get("NARF_URL", ""))
    hidden = None if is_loopback(host) else Hidden(application)
    server = HttpServer(hidden or application, Limits(body_bytes=options.body_bytes))
    port = await server.listen(host, options.port)
    return server, url_of(options.advertise or host, port) + (hidden.path if hidden else "")


def _without_path(address: str) -> str:
    """For the log, which more people read."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _end(reporter: Reporter, code: int, why: str, revision: str = "") -> NoReturn:
    """Now: nothing here can be waited for. revision: which model made it necessary, where that is known."""
    _log.critical("this replica ends: %s", why)
    reporter.last_words(why, revision)
    os._exit(code)


def _announce(options: argparse.Namespace, address: str) -> None:
    """Write the address for whoever started this process, whole or not at all."""
    target = options.announce or (Path(os.environ["NARF_JOB_DIR"]) / "endpoint.json" if "NARF_JOB_DIR" in os.environ else None)
    if target is None:
        return
    temporary = target.with_suffix(".tmp")
    temporary.write_text(json.dumps({"url": address, "pid": os.getpid()}), encoding="utf-8")
    os.replace(temporary, target)


def fetched(place: str, scratch: Path | None, fallback: str = "") -> Path:
    """The package as a local folder; one with a URL is downloaded with the workload's token, as is `fallback` on another machine."""
    if "://" not in place:
        if Path(place).exists() or not fallback:
            return Path(place)
        place = fallback
    from narf.serving.transfer import download_package

    return download_package(place, (scratch or Path.cwd()) / "package", os.environ.get("NARF_TOKEN", ""))


def _give_names(models: Sequence[ServedModel], names: Sequence[str]) -> None:
    for model, name in zip(models, names, strict=False):
        model.name, _, version = name.partition("@")
        model.version = version or model.version


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m narf.serving.replica", description="Serve packaged models.")
    parser.add_argument("--package", action="append", default=[], help="package folder or URL; repeat for several models")
    parser.add_argument("--hosted", action="store_true", help="hold what the control plane says, as a shared process")
    parser.add_argument("--fallback", default="", help="URL of the package where its folder is not on this machine")
    parser.add_argument("--name", action="append", default=[], help="NAME or NAME@VERSION, one for each package, in order")
    parser.add_argument("--revision", default="", help="the endpoint's revision, for records")
    parser.add_argument("--host", default="", help="where to listen; '': where the control plane is reached from here")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--advertise", default="", help="host name that others reach this replica by")
    parser.add_argument("--announce", type=Path, help="file to write the address to")
    parser.add_argument("--scratch", type=Path, help="folder for a downloaded package")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the model; 0: by its size")
    parser.add_argument("--batch-rows", type=int, default=64)
    parser.add_argument("--queue-requests", type=int, default=1024)
    parser.add_argument("--body-bytes", type=int, default=32 << 20)
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds a request may take when it does not say")
    parser.add_argument("--hang-seconds", type=float, default=HANG_SECONDS, help="beyond a request's time, until the process ends")
    parser.add_argument("--memory-bytes", type=int, default=0, help="where its limit is, if it has one; 0: by what its models take")
    parser.add_argument("--drain-seconds", type=float, default=8.0)
    return parser


def start_in_thread(models: Sequence[ServedModel], *, limits: Limits | None = None, revision: str = "", timeout: float = 30.0) -> InThread:
    """A server in a thread of this process, for tests and notebooks; `close()` it."""
    return InThread(ReplicaApplication(models, revision=revision, default_timeout_seconds=timeout), limits)


class InThread:
    def __init__(self, application: Any, limits: Limits | None = None) -> None:
        self.server = HttpServer(application, limits)
        self.application = application
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self.port = self._loop.run_until_complete(self.server.listen("127.0.0.1", 0))
        self._started.set()
        self._loop.run_forever()
        self.server.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


if __name__ == "__main__":
    sys.exit(main())
