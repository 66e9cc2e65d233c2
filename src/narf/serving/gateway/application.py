"""The gateway's data path: one request in, authorised, sent to a replica, retried where that is safe, and its answer out."""

from __future__ import annotations

import logging
import random
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable

from narf.serving.gateway.balance import choose_replica, choose_revision, failed, succeeded
from narf.serving.gateway.callers import Callers, Decision
from narf.serving.gateway.payloads import Payloads
from narf.serving.gateway.table import LATENCY_BOUNDS, Endpoint, Replica, Revision, Table
from narf.serving.gateway.upstream import Answer, Call
from narf.serving.http.message import Request, Response, json_response, problem
from narf.serving.identity import Identities

_log = logging.getLogger(__name__)
_PREFIX = b"/endpoints/"
_MOST_HELD = 500  # requests of one endpoint that wait for its first replica
_GRACE_SECONDS = 5.0  # beyond a request's own time: a replica that lives has answered by then, if only that it could not
_MOST_SECONDS = 3600.0
_TABLE_SECONDS = 5.0  # a request waits at most so long for the first table
_MOST_TRIES = 3
_AGAIN_SECONDS = 1.0  # those that failed are asked again, where no other has come instead
# What a caller may say to the model; the rest (its token above all) stays here.
_PASSED = (b"content-type", b"content-encoding", b"inference-header-content-length", b"narf-timeout-ms", b"accept")
_PREDICTS = (b"/infer", b"/invocations", b"/predict")


class GatewayApplication:
    """wake: called when an endpoint has work and no replica. show_metrics: answers /metrics."""

    def __init__(
        self,
        table: Table,
        callers: Callers,
        wake: Callable[[Endpoint], None],
        show_metrics: Callable[[Request], None],
        *,
        cold_start_seconds: float = 60.0,
    ) -> None:
        self.table, self._callers, self._wake, self._show_metrics = table, callers, wake, show_metrics
        self._cold_start_seconds = cold_start_seconds
        self._identities = Identities()
        self.payloads = Payloads()
        self._random = random.Random()
        self.is_draining = False
        self.knows_table = False
        self._sent: set[_Forward] = set()  # what a replica is to answer
        self._early: deque[tuple[float, Request]] = deque()  # what came, and when, before the first table did

    def __call__(self, request: Request) -> None:
        path = request.path
        if path.startswith(_PREFIX):
            name, slash, rest = path[len(_PREFIX) :].partition(b"/")
            endpoint = self.table.endpoints.get(name)
            if endpoint is None and not self.knows_table:
                self._hold_early(request)
                return
            if endpoint is None:
                self._authorise(request, None, lambda: request.reply(_no_endpoint(name)))
                return
            forward = _Forward(self, endpoint, request, slash + rest or b"/v2")
            if endpoint.is_public:
                forward.begin()
            else:
                self._authorise(request, endpoint, forward.begin)
        elif path in (b"/healthz", b"/v2/health/live"):
            request.reply(json_response(200, {"live": True}))
        elif path in (b"/readyz", b"/v2/health/ready"):
            ready = self.knows_table and not self.is_draining
            request.reply(json_response(200 if ready else 503, {"ready": ready}))
        elif path == b"/metrics":
            self._show_metrics(request)
        else:
            request.reply(problem(404, "There is no such address.", remedy="Endpoints are at /endpoints/NAME/.", code="not_found"))

    def _authorise(self, request: Request, endpoint: Endpoint | None, then: Callable[[], None]) -> None:
        def decided(decision: Decision) -> None:
            if decision.response is not None:
                request.reply(decision.response)
            elif not request.gone:
                then()

        header = request.headers.get(b"authorization", b"")
        self._callers.check(header, endpoint.project if endpoint else "", decided)

    # -- holding, while there is no table, or no replica

    def _hold_early(self, request: Request) -> None:
        """A gateway that has just started does not know yet what there is."""
        if len(self._early) >= _MOST_HELD:
            request.reply(_no_table())
        else:
            self._early.append((time.monotonic(), request))

    def hold(self, forward: _Forward) -> None:
        endpoint = forward.endpoint
        if endpoint.trouble:
            forward.reply(
                problem(
                    503, f"Endpoint {endpoint.name!r} cannot start: {endpoint.trouble}", code="cannot_start", headers={"retry-after": "10"}
                )
            )
        elif len(endpoint.held) >= _MOST_HELD:
            headers = {"retry-after": "2"}
            forward.reply(
                problem(
                    429,
                    f"Endpoint {endpoint.name!r} is starting and {_MOST_HELD} requests wait for it.",
                    code="limit_reached",
                    headers=headers,
                )
            )
        else:
            forward.held_at = time.monotonic()
            endpoint.held.append(forward)
            self._wake(endpoint)

    def release(self) -> None:
        """After the table changed: send on what waited for it, or for a replica."""
        while self._early:
            _, request = self._early.popleft()
            if not request.gone:
                self(request)
        for endpoint in self.table.endpoints.values():
            held = list(endpoint.held)
            endpoint.held.clear()
            for forward in held:
                if endpoint.trouble or forward.has_untried():
                    forward.send()
                else:
                    endpoint.held.append(forward)
        for endpoint in self.table.removed:
            while endpoint.held:
                endpoint.held.popleft().reply(_no_endpoint(endpoint.name.encode()))

    def expire(self, now: float) -> None:
        """Give up on what waited too long."""
        while self._early and now - self._early[0][0] >= _TABLE_SECONDS:
            self._early.popleft()[1].reply(_no_table())
        for forward in [forward for forward in self._sent if now >= forward.overdue_at]:
            forward.overdue(now)
        for endpoint in self.table.endpoints.values():
            while endpoint.held and now >= endpoint.held[0].give_up_at:
                forward = endpoint.held.popleft()
                forward.reply(
                    problem(
                        503,
                        f"Endpoint {endpoint.name!r} did not start in time.",
                        remedy="See: narf endpoints show.",
                        code="cold_start_timeout",
                    )
                )
            for forward in [forward for forward in endpoint.held if forward.may_ask_again(now)]:
                endpoint.held.remove(forward)
                forward.ask_again()

    def pick(self, endpoint: Endpoint, tried: list[Replica]) -> tuple[Revision, Replica] | None:
        """A revision by weight among those with replicas, and a replica of it."""
        draw = self._random.random
        revisions = [revision for revision in endpoint.revisions if any(replica not in tried for replica in revision.replicas)]
        if not revisions:
            return None
        if len(revisions) == 1:
            revision = revisions[0]
        else:
            index = choose_revision([revision.weight for revision in revisions], draw())
            revision = revisions[index if index is not None else 0]
        replicas = revision.replicas
        if len(replicas) == 1:
            return revision, replicas[0]
        skipped = [index for index, replica in enumerate(replicas) if replica in tried]
        chosen = choose_replica(
            [replica.in_flight for replica in replicas],
            [replica.health.ejected_until for replica in replicas],
            time.monotonic(),
            draw(),
            not_these=skipped,
        )
        return None if chosen is None else (revision, replicas[chosen])

    def sent(self, forward: _Forward) -> None:
        self._sent.add(forward)

    def answered(self, forward: _Forward) -> None:
        self._sent.discard(forward)

    def new_id(self) -> bytes:
        return self._identities.new()

    @property
    def cold_start_seconds(self) -> float:
        return self._cold_start_seconds


class _Forward:
    """One request on its way through the gateway."""

    __slots__ = (
        "_call",
        "_gateway",
        "_gone_for_good",
        "_is_patient",
        "_raw",
        "_started",
        "_tried",
        "answered_by",
        "endpoint",
        "give_up_at",
        "held_at",
        "id",
        "overdue_at",
        "request",
    )

    def __init__(self, gateway: GatewayApplication, endpoint: Endpoint, request: Request, path: bytes) -> None:
        self._gateway, self.endpoint, self.request = gateway, endpoint, request
        self._call: Call | None = None
        self._tried: list[Replica] = []
        self._gone_for_good: list[Replica] = []  # nobody listens there: it does not come back at that address
        self._is_patient = False  # it has been held after a failure
        self._started = time.monotonic()
        self.give_up_at = self._started + gateway.cold_start_seconds
        self.overdue_at = self.held_at = 0.0
        self.id = gateway.new_id()
        self.answered_by = ""  # the revision
        self._raw = _request_bytes(request, path, self.id)

    def begin(self) -> None:
        endpoint = self.endpoint
        endpoint.arrived += 1
        endpoint.in_flight += 1
        endpoint.peak = max(endpoint.peak, endpoint.in_flight)
        endpoint.budget = endpoint.budget.earned()
        self.request.on_gone = self._gone
        self.send()

    def send(self) -> None:
        if self.request.gone:
            return
        picked = self._gateway.pick(self.endpoint, self._tried)
        if picked is None:
            if self._tried:
                self.reply(
                    problem(
                        502,
                        f"No replica of endpoint {self.endpoint.name!r} answers.",
                        remedy="Try again.",
                        code="no_replica",
                        headers={"retry-after": "1"},
                    )
                )
            else:
                self._gateway.hold(self)
            return
        revision, replica = picked
        self.answered_by = revision.id
        self._tried.append(replica)
        replica.in_flight += 1
        begun = time.monotonic()
        self.overdue_at = begun + _seconds_given(self.request, self.endpoint) + _GRACE_SECONDS
        self._gateway.sent(self)
        self._call = replica.upstream.send(
            b"%s %s%s" % (self.request.method, replica.prefix, self._raw), lambda answer: self._answered(revision, replica, begun, answer)
        )

    def _answered(self, revision: Revision, replica: Replica, begun: float, answer: Answer) -> None:
        replica.in_flight -= 1
        self._call = None
        self._gateway.answered(self)
        now = time.monotonic()
        # A replica that drains or still loads answers 503: another may be ready. What hangs up may have worked on the request;
        # predictions have no effects, so asking another is safe.
        unavailable = bool(answer.error) or answer.status in (502, 503)
        if answer.error:
            replica.health = failed(replica.health, now, refused=answer.refused)
            if answer.refused:
                self._gone_for_good.append(replica)
        elif answer.status < 500 or answer.status == 504:
            replica.health = succeeded(replica.health)
        else:
            replica.health = failed(replica.health, now) if answer.status == 503 else replica.health
        if unavailable and len(self._tried) < _MOST_TRIES and not self.request.gone:
            budget = self.endpoint.budget if self._is_patient else self.endpoint.budget.spent()
            if budget is not None:
                self.endpoint.budget = budget
                if self.has_untried():
                    self.send()
                else:  # its only replicas failed: their replacement is on its way
                    self._gateway.hold(self)
                return
        for traffic in (revision.traffic, revision.total):
            traffic.requests += 1
            traffic.errors += 1 if answer.error or answer.status >= 500 else 0
            traffic.rejected += 1 if answer.status == 429 else 0
            traffic.histogram[bisect_left(LATENCY_BOUNDS, (now - begun) * 1e3)] += 1
            traffic.seconds += now - begun
        if answer.error:
            self.reply(
                problem(
                    502,
                    f"A replica of endpoint {self.endpoint.name!r} {answer.error}.",
                    remedy="Try again.",
                    code="replica_lost",
                    headers={"retry-after": "1"},
                )
            )
        else:
            self.reply(Response(answer.status, answer.body, answer.content_type, answer.headers))

    def overdue(self, now: float) -> None:
        """The replica has not said a word: it hangs as a whole, or its machine is gone. Another would be too late for this caller."""
        if b'"timeout"' in self.request.body and now < self._started + _MOST_SECONDS:
            self.overdue_at = self._started + _MOST_SECONDS  # the protocol's own parameter may give it more
            return
        call, replica = self._call, self._tried[-1]
        self._call = None
        self._gateway.answered(self)
        replica.in_flight -= 1
        replica.health = failed(replica.health, now)
        if call is not None:
            call.cancel()
        for revision in self.endpoint.revisions:
            if replica in revision.replicas:
                for traffic in (revision.traffic, revision.total):
                    traffic.requests += 1
                    traffic.errors += 1
                    traffic.histogram[-1] += 1
                    traffic.seconds += now - self._started
        self.reply(
            problem(
                504,
                f"A replica of endpoint {self.endpoint.name!r} did not answer within {now - self._started:.0f} s.",
                remedy="Try again.",
                code="deadline_exceeded",
            )
        )

    def has_untried(self) -> bool:
        return any(replica not in self._tried for revision in self.endpoint.revisions for replica in revision.replicas)

    def may_ask_again(self, now: float) -> bool:
        """Whether one that failed is still there, and has had time to come to itself: one refusal is no death."""
        there = (replica for revision in self.endpoint.revisions for replica in revision.replicas)
        return now - self.held_at >= _AGAIN_SECONDS and any(each in self._tried and each not in self._gone_for_good for each in there)

    def ask_again(self) -> None:
        self._is_patient = True
        self._tried = list(self._gone_for_good)
        self.send()

    def reply(self, response: Response) -> None:
        self.endpoint.in_flight -= 1
        if b"narf-prediction" not in response.headers:
            response.headers += b"narf-prediction: %s\r\n" % self.id
        self.request.on_gone = None
        self.request.reply(response)
        keep = self.endpoint.keep
        if keep is not None and self.request.method == b"POST" and self.request.path.endswith(_PREDICTS):
            self._gateway.payloads.see(self.endpoint.id, keep, self.id, self.answered_by, self.request, response)

    def _gone(self) -> None:
        """The caller hung up: stop the work it asked for."""
        self.endpoint.in_flight -= 1
        if self._call is not None:
            self._gateway.answered(self)
            self._call.cancel()
            if self._tried:
                self._tried[-1].in_flight -= 1
        elif self in self.endpoint.held:
            self.endpoint.held.remove(self)


def _seconds_given(request: Request, endpoint: Endpoint) -> float:
    """How long the replica may take: what the caller says, else the endpoint's time."""
    text = request.headers.get(b"narf-timeout-ms")
    return int(text) / 1e3 if text and text.isdigit() and len(text) < 9 else endpoint.timeout_seconds


def _request_bytes(request: Request, path: bytes, prediction_id: bytes) -> bytes:
    """All of it from the path on: what comes before depends on the replica."""
    query = b"?" + request.query if request.query else b""
    parts = [
        b"%s%s HTTP/1.1\r\nhost: replica\r\nnarf-prediction: %s\r\ncontent-length: %d\r\n" % (path, query, prediction_id, len(request.body))
    ]
    parts += [b"%s: %s\r\n" % (name, request.headers[name]) for name in _PASSED if name in request.headers]
    parts += [b"\r\n", request.body]
    return b"".join(parts)


def _no_table() -> Response:
    return problem(
        503,
        "The gateway has just started and was not told yet which endpoints there are.",
        remedy="Try again; if it stays so, the platform's control plane does not answer: narf status",
        code="unavailable",
        headers={"retry-after": "1"},
    )


def _no_endpoint(name: bytes) -> Response:
    return problem(
        404, f"There is no endpoint {name[:100].decode('utf-8', 'replace')!r}.", remedy="List them: narf endpoints", code="not_found"
    )
