"""`python -m narf.serving.gateway`: one gateway process.

NARF_URL is the control plane, NARF_TOKEN the gateway's own token. It announces its address in a file, so that port 0 can be used.
Several may share one port of a machine (--reuse-port), or stand on several machines behind a balancer: none knows more than another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from narf.serving import garbage
from narf.serving.gateway.application import GatewayApplication
from narf.serving.gateway.callers import Callers
from narf.serving.gateway.control import ControlLine
from narf.serving.gateway.siblings import Siblings
from narf.serving.gateway.table import Table
from narf.serving.http.message import Request
from narf.serving.http.server import HttpServer, Limits
from narf.serving.reach import url_of

_log = logging.getLogger(__name__)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m narf.serving.gateway", description="The address of all endpoints.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8322)
    parser.add_argument("--announce", type=Path, help="file to write the address to")
    parser.add_argument("--body-bytes", type=int, default=32 << 20)
    parser.add_argument("--cold-start-seconds", type=float, default=60.0)
    parser.add_argument("--drain-seconds", type=float, default=10.0)
    parser.add_argument("--reuse-port", action="store_true", help="several gateways on one port of this machine")
    parser.add_argument("--slot", default="1", help="what the metrics of this one are labelled with, among those of this machine")
    options = parser.parse_args()
    logging.basicConfig(level=os.environ.get("NARF_LOG_LEVEL", "INFO"), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if not os.environ.get("NARF_URL", "").startswith("http://"):
        parser.error("NARF_URL is to be the control plane's own address, http://HOST:PORT")
    garbage.settle()
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(options))
    else:
        uvloop.run(_serve(options))
    return 0


async def _serve(options: argparse.Namespace) -> None:
    tasks: set[asyncio.Task[Any]] = set()

    def start(work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    table = Table()
    gateway_id = f"gw-{secrets.token_hex(6)}"

    def changed() -> None:
        application.knows_table = True
        application.release()

    line = ControlLine(os.environ["NARF_URL"], os.environ.get("NARF_TOKEN", ""), gateway_id, table, changed)
    siblings = Siblings(table, options.slot, options.announce)

    def show_metrics(request: Request) -> None:
        start(siblings.answer_metrics(request))

    callers = Callers(line.ask_caller, start)
    application = GatewayApplication(table, callers, line.wake, show_metrics, cold_start_seconds=options.cold_start_seconds)
    server = HttpServer(application, Limits(body_bytes=options.body_bytes))
    port = await server.listen(options.host, options.port, reuse_port=options.reuse_port)
    own = HttpServer(siblings.own)
    _announce(options, port, await own.listen("127.0.0.1", 0))
    _log.info("gateway %s at http://%s:%d", gateway_id, options.host, port)
    start(line.follow())
    start(line.report())
    start(line.keep(application.payloads))
    start(_expire(application))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()
    application.is_draining = True
    await server.drain(options.drain_seconds)
    own.close()
    for task in tasks:
        task.cancel()


async def _expire(application: GatewayApplication) -> None:
    while True:
        await asyncio.sleep(0.25)
        application.expire(time.monotonic())


def _announce(options: argparse.Namespace, port: int, own_port: int) -> None:
    if options.announce is None:
        return
    temporary = options.announce.with_suffix(".tmp")
    said = {
        "url": url_of(options.host, port),
        "pid": os.getpid(),
        "control": os.environ["NARF_URL"],
        "slot": options.slot,
        "own": f"http://127.0.0.1:{own_port}",
    }
    temporary.write_text(json.dumps(said), encoding="utf-8")
    os.replace(temporary, options.announce)


if __name__ == "__main__":
    sys.exit(main())
