"""A process that holds several small models, and which ones it is told: `python -m narf.serving.replica --hosted`.

Each model has a whole replica's application of its own below `/hosted/REVISION`, with its own queue, thread, records and counters; a
rollout of one is another beside it. The control plane is asked what to hold, so nobody else can have a model loaded here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from narf.domain.errors import NarfError
from narf.serving.application import ReplicaApplication
from narf.serving.batching import Policy
from narf.serving.http.message import Request, json_response, problem
from narf.serving.memory import resident_bytes
from narf.serving.model import ServedModel
from narf.serving.reporter import Reporter
from narf.serving.transfer import download_package

_log = logging.getLogger(__name__)
_PREFIX = b"/hosted/"
_WAIT_SECONDS = 2  # short, so that a control plane that ends is not held up by us
_EMPTY_SECONDS = 30.0  # with nothing to hold for so long, nobody needs this process
_DRAIN_SECONDS = 30.0


@dataclass(slots=True)
class _Held:
    model: ServedModel
    application: ReplicaApplication
    reporter: Reporter
    taken_bytes: int


class Hosting:
    """The application of the process, and its models as they come and go. All methods are called on the event loop.

    advertised: where others reach this process. grown: told what the models take together, whenever that changes.
    """

    def __init__(self, url: str, token: str, workload: str, policy: Policy, scratch: Path, grown: Callable[[int], None]) -> None:
        self._url, self._token, self._workload = url, token, workload
        self._policy, self._scratch, self._grown = policy, scratch, grown
        self._held: dict[str, _Held] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changing: set[str] = set()  # revisions that are being loaded or let go of
        self.is_draining = False
        self.advertised = ""

    @property
    def models(self) -> list[ServedModel]:
        return [held.model for held in list(self._held.values())]

    def revision_of(self, model: ServedModel) -> str:
        return next((revision for revision, held in list(self._held.items()) if held.model is model), "")

    def __call__(self, request: Request) -> None:
        path = request.path
        if path.startswith(_PREFIX):
            revision, slash, rest = path[len(_PREFIX) :].partition(b"/")
            held = self._held.get(revision.decode("latin-1"))
            if held is not None and not (self.is_draining and rest.endswith(b"/ready")):
                request.path = slash + rest or b"/v2"
                held.application(request)
                return
        if path in (b"/healthz", b"/v2/health/live"):
            request.reply(json_response(200, {"live": True}))
        elif path in (b"/readyz", b"/v2/health/ready"):
            request.reply(json_response(503 if self.is_draining else 200, {"ready": not self.is_draining}))
        else:
            # Not a 404: a gateway that comes too late asks another replica.
            request.reply(problem(503, "This process does not hold that model.", remedy="Try again.", code="unavailable"))

    async def follow(self, ended: Callable[[], None]) -> None:
        """Hold what the control plane says, for ever. Without it everything goes on. ended: called when there is nothing to do any more."""
        version, empty_since = "", time.monotonic()
        while True:
            try:
                value = await asyncio.to_thread(self._ask, version)
                version = str(value["version"])
                self._bring_to({str(each["revision"]): each for each in value["models"]})
            except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
                _log.warning("the control plane does not say what to hold: %s", error)
                await asyncio.sleep(0.5)
                continue
            if value["models"] or self._held:
                empty_since = time.monotonic()
            elif time.monotonic() - empty_since > _EMPTY_SECONDS:
                ended()
                return

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for held in self._held.values():
            await held.reporter.stop()
            held.model.stop()

    def _ask(self, known: str) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._url}/api/v1/replicas/{self._workload}/models?known={known}&wait={_WAIT_SECONDS}",
            headers={"authorization": f"Bearer {self._token}"},
        )
        with urllib.request.urlopen(request, timeout=_WAIT_SECONDS + 10) as answer:
            value: dict[str, Any] = json.loads(answer.read())
            return value

    def _bring_to(self, wanted: dict[str, dict[str, Any]]) -> None:
        for revision in wanted.keys() - self._held.keys() - self._changing:
            self._change(revision, self._take_in(wanted[revision]))
        for revision in wanted.keys() & self._held.keys() - self._changing:
            if wanted[revision]["state"] == "starting":  # given up and asked for again before we heard of the first
                self._held[revision].reporter.tell_again()
        for revision in self._held.keys() - wanted.keys() - self._changing:
            self._change(revision, self._let_go(revision))

    def _change(self, revision: str, work: Any) -> None:
        self._changing.add(revision)
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def done(finished: asyncio.Task[None]) -> None:
            self._tasks.discard(finished)
            self._changing.discard(revision)
            if not finished.cancelled() and finished.exception() is not None:
                _log.error("revision %s was not changed", revision, exc_info=finished.exception())

        task.add_done_callback(done)

    async def _take_in(self, asked: dict[str, Any]) -> None:
        revision = str(asked["revision"])
        try:
            model, taken = await asyncio.to_thread(self._load, asked)
        except Exception as error:  # a model's own code may raise anything while it is loaded; its neighbours go on
            _log.exception("revision %s cannot be loaded", revision)
            sentence = error.sentence if isinstance(error, NarfError) else f"{type(error).__name__}: {error}"
            await asyncio.to_thread(self._tell, {"revision": revision, "sentence": sentence[:1000]})
            return
        application = ReplicaApplication([model], revision=revision, default_timeout_seconds=float(asked["timeout_seconds"]))
        reporter = Reporter(application, revision=revision)
        self._held[revision] = _Held(model, application, reporter, taken)
        self._grown(sum(held.taken_bytes for held in self._held.values()))
        await reporter.start(f"{self.advertised}/hosted/{revision}")
        _log.info("holding %s %s (%s)", model.name, model.version, revision)

    def _load(self, asked: dict[str, Any]) -> tuple[ServedModel, int]:
        folder = Path(asked["folder"])
        if not folder.exists():  # on another machine
            folder = self._scratch / str(asked["revision"])
            if not folder.exists():
                download_package(asked["fallback"], folder, self._token)
        before = resident_bytes()
        model = ServedModel(folder, policy=self._policy, name=str(asked["name"]), version=str(asked["version"]))
        model.start()
        evidence = model.manifest.evidence
        return model, (evidence.memory_bytes if evidence else None) or max(0, resident_bytes() - before)

    async def _let_go(self, revision: str) -> None:
        """It is out of the gateways' tables already; what is under way is finished."""
        held = self._held[revision]
        held.application.is_draining = True
        until = time.monotonic() + _DRAIN_SECONDS
        while held.model.waiting and time.monotonic() < until:
            await asyncio.sleep(0.05)
        del self._held[revision]
        await held.reporter.stop()
        held.model.stop()
        self._grown(sum(held.taken_bytes for held in self._held.values()))
        _log.info("let go of %s %s (%s)", held.model.name, held.model.version, revision)

    def _tell(self, value: dict[str, Any]) -> None:
        request = urllib.request.Request(
            f"{self._url}/api/v1/replicas/{self._workload}/failed",
            data=json.dumps(value).encode(),
            headers={"content-type": "application/json", "authorization": f"Bearer {self._token}"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=10):
                return
        except (OSError, HTTPException) as error:
            _log.warning("the control plane was not told that a model cannot be loaded: %s", error)
