"""What is remembered of predictions: records to trace one by its id, minutes of traffic, and drift of inputs and outputs."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from narf.control.audit.store import record
from narf.control.database import Database
from narf.control.endpoints import store
from narf.control.endpoints.alerts import Alerts
from narf.control.endpoints.demand import DemandBoard
from narf.control.endpoints.payloads import PayloadStore
from narf.control.endpoints.plan import ReplicaState
from narf.control.endpoints.rollout import percentile
from narf.control.endpoints.service import EndpointService, speaks_for
from narf.control.endpoints.sharing import apart_until
from narf.control.endpoints.store import Baseline, Endpoint, Minute, Replica, Revision
from narf.control.models.service import ModelService
from narf.domain.access import Principal, Role
from narf.domain.errors import BadInput, NotAllowed, NotFound
from narf.serving.drift import (
    LEAST_REFERENCE_ROWS,
    LIVE_BASELINE_ROWS,
    Feature,
    merge,
    merged_summaries,
    reference_from_json,
    reference_of_summary,
    report,
)
from narf.serving.gateway.payloads import keep_policy
from narf.serving.gateway.table import LATENCY_BOUNDS
from narf.serving.identity import milliseconds_of

KEEP = timedelta(days=7)
_LEAST_ROWS = 200  # below this a shift may be chance
_QUIET = timedelta(hours=6)  # between two alerts of drift
OBJECTIVE = 0.995  # of the requests are to be answered without an error of ours or the model's
_BUDGET_MINUTES = 60
_LEAST_ERRORS = 10  # fewer use up the budget of an endpoint that is hardly called
_SLACK_MS = 600_000  # an answer may come so much later than its id was made
_MOST_RECORDS_BYTES = 64 << 20


class Watching:
    def __init__(
        self,
        database: Database,
        endpoints: EndpointService,
        models: ModelService,
        demand: DemandBoard,
        alerts: Alerts,
        payloads: PayloadStore,
        now: Callable[[], datetime],
    ) -> None:
        self._payloads = payloads
        self._database, self._endpoints, self._models = database, endpoints, models
        self._demand, self._alerts, self._now = demand, alerts, now
        self._alerted: dict[str, datetime] = {}
        self._budget_looked: dict[str, datetime] = {}
        self._budget_alerted: dict[str, datetime] = {}
        self._tidied = datetime.min.replace(tzinfo=UTC)
        self._pruned = datetime.min.replace(tzinfo=UTC)

    # -- what comes in

    def gateway_reports(self, gateway: str, reports: Mapping[str, Mapping[str, Any]]) -> bool:
        """What a gateway saw in the last second. True if somebody waits for a replica."""
        now = self._now()
        minute = now.replace(second=0, microsecond=0)
        urgent = False
        for endpoint_id, value in reports.items():
            urgent |= self._demand.report(gateway, endpoint_id, value, now)
        with_answers = {name: value["revisions"] for name, value in reports.items() if value["revisions"]}
        if with_answers:
            with self._database.write() as connection:
                store.lock_revisions(connection, [revision_id for revisions in with_answers.values() for revision_id in revisions])
                for endpoint_id, revisions in with_answers.items():
                    for revision_id, answers in revisions.items():
                        store.add_minute(connection, endpoint_id, Minute(revision_id=revision_id, minute=minute, **answers))
            for endpoint_id, revisions in with_answers.items():
                if any(answers["errors"] for answers in revisions.values()):
                    self._look_at_budget(endpoint_id, now)
        return urgent

    def _look_at_budget(self, endpoint_id: str, now: datetime) -> None:
        """Tell, once in an hour, that the errors of the last hour are more than the objective allows."""
        never = datetime.min.replace(tzinfo=UTC)
        looked, alerted = self._budget_looked.get(endpoint_id, never), self._budget_alerted.get(endpoint_id, never)
        if now - looked < timedelta(seconds=10) or now - alerted < timedelta(minutes=_BUDGET_MINUTES):
            return
        self._budget_looked[endpoint_id] = now
        seen = self.traffic(endpoint_id, minutes=_BUDGET_MINUTES)
        used = seen["error_budget"]["used"]
        if seen["errors"] < _LEAST_ERRORS or used < 1:
            return
        self._budget_alerted[endpoint_id] = now
        endpoint = self._endpoints.endpoint(endpoint_id)
        sentence = f"{seen['errors']} of {seen['requests']} requests failed in the last hour; the objective of {OBJECTIVE:.1%} allows "
        sentence += f"{seen['requests'] * (1 - OBJECTIVE):.0f}."
        with self._database.write() as connection:
            store.add_event(connection, endpoint.id, now, "error_budget", sentence, "platform")
        self._alerts.send(endpoint, "error_budget", sentence, used=used)

    def replica_report(self, workload_id: str, value: Mapping[str, Any], *, by: Principal) -> list[dict[str, Any]] | None:
        """A replica's predictions since its last report: records and sketches, or a summary where there is nothing to compare with yet.

        Returns:
            What it is to compare with from now on, once enough was seen.

        Raises:
            NotAllowed: it is another's. BadInput: the records cannot be read.
        """
        if not speaks_for(by, workload_id):
            raise NotAllowed("A replica speaks for itself only.")
        now = self._now()
        with self._database.read() as connection:
            replica = store.find_replica(connection, workload_id, value["revision"])
            revision = store.find_revision(connection, replica.revision_id) if replica else None
        if revision is None:
            raise NotFound("replica", workload_id)
        try:
            records = base64.b64decode(value["records"], validate=True)
            ids = _records(records)["ids"]
        except (binascii.Error, ValueError, KeyError, zlib.error) as error:
            raise BadInput(f"The records cannot be read: {error}.", field="records") from None
        times = [time for time in map(milliseconds_of, ids) if time is not None] or [round(now.timestamp() * 1e3)]
        hour = now.replace(minute=0, second=0, microsecond=0)
        with self._database.write() as connection:
            store.lock_revisions(connection, [revision.id])
            store.add_chunk(connection, revision.id, min(times), max(times), len(ids), records)
            known = store.find_observation(connection, revision.id, hour)
            inputs = merge(known["inputs"] if known else {}, value["inputs"])
            outputs = _merged_outputs(known["outputs"] if known else {}, value["outputs"])
            baseline = self._add_to_baseline(connection, revision, value["summary"], now) if value["summary"] else None
            rows = (known["rows"] if known else 0) + value["rows"]
            store.put_observation(connection, revision.id, hour, rows, inputs, outputs)
            if now - self._pruned > timedelta(hours=1):
                self._pruned = now
                store.prune(connection, now - KEEP)
        self._look_for_drift(revision, inputs, now)
        return baseline.features if baseline else None

    def _add_to_baseline(self, connection: Connection, revision: Revision, summary: Mapping[str, Any], now: datetime) -> Baseline:
        """The first rows of a revision without training data become what the later ones are compared with."""
        known = store.find_baseline(connection, revision.id)
        if known is not None and known.features is not None:
            return known
        together = merged_summaries(known.summary if known else {}, summary)
        rows = max((values[0] for values in together.values()), default=0)
        baseline = Baseline(revision_id=revision.id, rows=rows, summary=together, began_at=known.began_at if known else now)
        if rows >= LIVE_BASELINE_ROWS:
            made = [feature.as_json() for feature in reference_of_summary(together)]
            baseline = replace(baseline, summary={}, features=made, made_at=now)
        store.put_baseline(connection, baseline)
        return baseline

    def replica_leaves(self, workload_id: str, sentence: str, *, at_once: bool = False, cause: str = "", by: Principal) -> None:
        """A replica cannot go on for long: another is started, and it is stopped when that one answers. Safe to repeat.

        at_once: it cannot wait for that. It is out of the table now, and requests wait for the other.
        cause: the revision that it is because of, "" where that is not known: then all in a shared process are suspected.
        """
        if not speaks_for(by, workload_id):
            raise NotAllowed("A replica speaks for itself only.")
        now = self._now()
        left: list[Replica] = []
        with self._database.write() as connection:
            inside = store.replicas_in(connection, workload_id)
            if not inside:
                raise NotFound("replica", workload_id)
            for replica in inside:
                waits = replica.state.answers and not at_once
                to = ReplicaState.LEAVING if waits else ReplicaState.DRAINING
                before = {ReplicaState.STARTING, ReplicaState.READY, ReplicaState.LEAVING} - {to}
                if not store.change_replica(connection, replica, to, now, only=before):
                    continue
                left.append(replica)
                store.add_event(connection, replica.endpoint_id, now, "replica_leaves", f"Replica {workload_id}: {sentence}", "platform")
                endpoint = store.find_endpoint(connection, endpoint_id=replica.endpoint_id)
                revision = store.find_revision(connection, replica.revision_id)
                if endpoint is not None and endpoint.shared and revision is not None and cause in ("", revision.id):
                    until = apart_until(revision.apart_until, now, was_shared=replica.shared and not cause)
                    store.change_revision(connection, revision.id, apart_until=until)
        if left:
            self._endpoints.changed()
        for replica in left:
            named = self._endpoints.endpoint(replica.endpoint_id)
            self._alerts.send_seldom(named, "replica_leaves", sentence, now, workload=workload_id)

    def _look_for_drift(self, revision: Revision, inputs: Mapping[str, Any], now: datetime) -> None:
        if now - self._alerted.get(revision.endpoint_id, datetime.min.replace(tzinfo=UTC)) < _QUIET:
            return
        endpoint = self._endpoints.endpoint(revision.endpoint_id)
        reference, baseline = self._reference(endpoint, revision)
        drifted = [drift for drift in report(reference, inputs) if drift.drifted and drift.rows >= _LEAST_ROWS]
        if drifted:
            self._alerted[revision.endpoint_id] = now
            with self._database.read() as connection:  # a control plane that was started again has not told it, but may have told it before
                told = [event.at for event in store.events_of(connection, endpoint.id) if event.kind == "drift"]
            if told and now - told[0] < _QUIET:
                self._alerted[revision.endpoint_id] = told[0]
                return
            names = ", ".join(drift.name for drift in drifted[:5])
            what = "its first requests were" if baseline else "it was trained on"
            sentence = f"{len(drifted)} input features of revision {revision.number} are not what {what}: {names}."
            with self._database.write() as connection:
                store.add_event(connection, endpoint.id, now, "drift", sentence, "platform")
            self._alerts.send(endpoint, "drift", sentence, features=[drift.name for drift in drifted])

    def _reference(self, endpoint: Endpoint, revision: Revision) -> tuple[tuple[Feature, ...], Baseline | None]:
        """What inputs are compared with: the training data, or else the first requests, and what is known of those."""
        manifest = self._models.package(endpoint.project, revision.model, revision.version).manifest or {}
        if trained := reference_from_json(manifest.get("reference", {}).get("features", ())):
            return trained, None
        with self._database.read() as connection:
            baseline = store.find_baseline(connection, revision.id)
        return reference_from_json(baseline.features or ()) if baseline else (), baseline

    # -- what is asked

    def trace(self, prediction: str, *, by: Principal) -> dict[str, Any]:
        """From a prediction's id to model version, run, code and data.

        Raises:
            NotFound: it was not recorded, no longer is, or may not be seen.
        """
        milliseconds = milliseconds_of(prediction)
        missing = NotFound("prediction", prediction, remedy=f"Records arrive within seconds and are kept for {KEEP.days} days.")
        if milliseconds is None:
            raise missing
        with self._database.read() as connection:
            for revision_id, blob in store.chunks_around(connection, milliseconds):
                records = _records(blob)
                if prediction not in records["ids"]:
                    continue
                revision = store.find_revision(connection, revision_id)
                endpoint = store.find_endpoint(connection, endpoint_id=revision.endpoint_id) if revision else None
                if revision is None or endpoint is None or by.role_in(endpoint.project) is None:
                    raise missing
                return self._traced(prediction, milliseconds, records, endpoint, revision)
        if (found := self._kept_payload(prediction, by)) is not None:
            return self._traced_by_payload(prediction, milliseconds, *found)
        raise missing

    def _traced(
        self, prediction: str, milliseconds: int, records: Mapping[str, Any], endpoint: Endpoint, revision: Revision
    ) -> dict[str, Any]:
        return {
            **_record(records, records["ids"].index(prediction)),
            "at": datetime.fromtimestamp(milliseconds / 1e3, UTC).isoformat(),
            "endpoint": endpoint.name,
            "project": endpoint.project,
            "revision": revision.number,
            "payload": self._payloads.find(endpoint.id, prediction) is not None,
            "lineage": self._models.lineage(endpoint.project, revision.model, revision.version),
        }

    def _traced_by_payload(self, prediction: str, milliseconds: int, endpoint: Endpoint, item: Mapping[str, Any]) -> dict[str, Any]:
        """A request without a record: refused or failed, for then its model has not answered; or its record is still on its way."""
        revision = next((each for each in self._endpoints.revisions(endpoint.id) if each.id == item["revision"]), None)
        return {
            "id": prediction,
            "rows": None,
            "milliseconds": None,
            "input_mean": None,
            "output_mean": None,
            "status": item["status"],
            "at": datetime.fromtimestamp(milliseconds / 1e3, UTC).isoformat(),
            "endpoint": endpoint.name,
            "project": endpoint.project,
            "revision": revision.number if revision else None,
            "payload": True,
            "lineage": self._models.lineage(endpoint.project, revision.model, revision.version) if revision else {},
        }

    def payloads_arrive(self, blocks: Mapping[str, str]) -> None:
        """Packed payloads, by endpoint. Of one that is deleted, or keeps none any more, nothing is kept."""
        now = self._now()
        for endpoint_id, packed in blocks.items():
            with self._database.read() as connection:
                endpoint = store.find_endpoint(connection, endpoint_id=endpoint_id)
            if endpoint is not None and keep_policy(endpoint.keep) is not None:
                self._payloads.receive(endpoint, packed, now)

    def payload(self, prediction: str, *, by: Principal) -> dict[str, Any]:
        """What was asked and answered. `request` and `response` are base64 of the first `MOST_BYTES`; `..._bytes` is all there was.

        Raises:
            NotFound: nothing was kept of it, or it may not be seen. NotAllowed: the role does not suffice.
        """
        found = self._kept_payload(prediction, by)
        if found is None:
            raise NotFound("payload of prediction", prediction, remedy="Payloads are kept only where an endpoint's policy says so.")
        endpoint, item = found
        role = by.role_in(endpoint.project)
        if role is None or not role.includes(Role.MAINTAINER):
            raise NotAllowed("Payloads are what callers have sent: to see them needs the role maintainer.")
        with self._database.write() as connection:
            record(connection, self._now(), by.user, "read_payload", "prediction", prediction, project=endpoint.project)
        return {**item, "endpoint": endpoint.name, "project": endpoint.project}

    def _kept_payload(self, prediction: str, by: Principal) -> tuple[Endpoint, dict[str, Any]] | None:
        for endpoint_id in self._payloads.endpoints_around(prediction):
            with self._database.read() as connection:
                endpoint = store.find_endpoint(connection, endpoint_id=endpoint_id)
            if endpoint is not None and by.role_in(endpoint.project) is not None:
                item = self._payloads.find(endpoint.id, prediction)
                if item is not None:
                    return endpoint, item
        return None

    def tidy(self, now: datetime) -> None:
        """What no policy keeps any more is deleted. May be called all the time, does it every hour."""
        if not timedelta() <= now - self._tidied < timedelta(hours=1):  # nor when the clock was set back
            self._tidied = now
            self._payloads.tidy_all(now)

    def newest(self, endpoint_id: str, limit: int) -> list[dict[str, Any]]:
        """The latest predictions of an endpoint, newest first."""
        revisions = {revision.id: revision for revision in self._endpoints.revisions(endpoint_id)}
        found: list[dict[str, Any]] = []
        with self._database.read() as connection:
            chunks = store.newest_chunks(connection, list(revisions), 20)
        for revision_id, blob in chunks:
            records = _records(blob)
            for index in reversed(range(len(records["ids"]))):
                milliseconds = milliseconds_of(records["ids"][index])
                at = datetime.fromtimestamp(milliseconds / 1e3, UTC).isoformat() if milliseconds else None
                found.append({**_record(records, index), "at": at, "revision": revisions[revision_id].number})
        return sorted(found, key=lambda item: str(item["id"]), reverse=True)[:limit]

    def answered(self, endpoint_id: str) -> str:
        """A mark that is another one whenever answers were reported lately."""
        with self._database.read() as connection:
            found = store.minutes_of(connection, endpoint_id, self._now() - timedelta(minutes=2))
        return f"{found[-1].minute.isoformat()} {sum(minute.requests for minute in found)}" if found else ""

    def traffic(self, endpoint_id: str, *, minutes: int, objective: float = OBJECTIVE) -> dict[str, Any]:
        """Requests, errors and latency by minute and revision, and how much of the error budget is used."""
        since = self._now() - timedelta(minutes=minutes)
        with self._database.read() as connection:
            found = store.minutes_of(connection, endpoint_id, since)
        requests, errors = sum(m.requests for m in found), sum(m.errors for m in found)
        histogram = [sum(counts) for counts in zip(*(m.histogram for m in found), strict=True)] or [0] * (len(LATENCY_BOUNDS) + 1)
        allowed = requests * (1 - objective)
        return {
            "bounds_milliseconds": list(LATENCY_BOUNDS),
            "requests": requests,
            "errors": errors,
            "histogram": histogram,
            "percentiles": {
                name: _finite(percentile(histogram, LATENCY_BOUNDS, share)) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
            },
            "error_budget": {"objective": objective, "used": errors / allowed if allowed else 0.0},
            "minutes": [
                {
                    "minute": m.minute.isoformat(),
                    "revision": m.revision_id,
                    "requests": m.requests,
                    "errors": m.errors,
                    "rejected": m.rejected,
                    "histogram": m.histogram,
                }
                for m in found
            ],
        }

    def drift(self, endpoint_id: str, *, hours: int) -> dict[str, Any]:
        """Inputs against the training data, for each revision that answered, and what it answered."""
        endpoint = self._endpoints.endpoint(endpoint_id)
        revisions = {revision.id: revision for revision in self._endpoints.revisions(endpoint.id)}
        with self._database.read() as connection:
            rows = store.observations_of(connection, list(revisions), self._now() - timedelta(hours=hours))
        found = []
        for revision_id, revision in revisions.items():
            mine = [row for row in rows if row["revision_id"] == revision_id]
            if not mine:
                continue
            inputs: dict[str, Any] = {}
            outputs: dict[str, Any] = {}
            for row in mine:
                inputs, outputs = merge(inputs, row["inputs"]), _merged_outputs(outputs, row["outputs"])
            reference, baseline = self._reference(endpoint, revision)
            features = [
                {
                    **{
                        name: _finite(getattr(drift, name)) for name in ("psi", "ks", "missing", "expected_missing", "out_of_range", "mean")
                    },
                    "name": drift.name,
                    "rows": drift.rows,
                    "drifted": drift.drifted and drift.rows >= _LEAST_ROWS,
                }
                for drift in report(reference, inputs)
            ]
            found.append(
                {
                    "revision": revision.number,
                    "model": revision.model,
                    "version": revision.version,
                    "rows": sum(r["rows"] for r in mine),
                    "features": features,
                    "baseline": _compared_with(reference, baseline),
                    "note": "" if reference else _no_reference(revision, baseline),
                    "outputs": outputs,
                }
            )
        return {"endpoint": endpoint.name, "hours": hours, "revisions": found}


def _compared_with(reference: Sequence[Feature], baseline: Baseline | None) -> str:
    """What the figures are relative to, as a person reads it; "" where there is nothing."""
    if not reference:
        return ""
    if baseline is None:
        return "the training data"
    return f"its first {baseline.rows:,} rows of live requests, from {baseline.began_at:%Y-%m-%d %H:%M} UTC on (no training data was given)"


def _no_reference(revision: Revision, baseline: Baseline | None) -> str:
    version = f"{revision.model}/{revision.version}"
    return (
        f"{version} was packaged with fewer than {LEAST_REFERENCE_ROWS} rows of its training data. Its first {LIVE_BASELINE_ROWS:,} rows of requests "
        f"become what later ones are compared with; {baseline.rows if baseline else 0:,} have come. To compare with the training data, register a "
        f"version with it: narf models register RUN --name {revision.model} --inputs ARTIFACT"
    )


def _records(blob: bytes) -> dict[str, Any]:
    """The columns of a chunk. Unpacked to a bound only."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(blob, _MOST_RECORDS_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError("too many records in one report")
    records: dict[str, Any] = json.loads(data)
    lengths = {len(records[name]) for name in ("ids", "rows", "milliseconds", "input_means", "output_means")}
    if len(lengths) != 1 or not all(isinstance(item, str) for item in records["ids"]):
        raise ValueError("the columns differ in length")
    return records


def _record(records: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {
        "id": records["ids"][index],
        "rows": records["rows"][index],
        "milliseconds": records["milliseconds"][index],
        "input_mean": records["input_means"][index],
        "output_mean": records["output_means"][index],
    }


def _merged_outputs(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    numbers: dict[str, Sequence[float]] = dict(one.get("numbers", {}))
    for name, (count, total, squares, least, greatest) in other.get("numbers", {}).items():
        old = numbers.get(name, [0, 0.0, 0.0, least, greatest])
        numbers[name] = [old[0] + count, old[1] + total, old[2] + squares, min(old[3], least), max(old[4], greatest)]
    labels: dict[str, dict[str, int]] = {name: dict(counts) for name, counts in one.get("labels", {}).items()}
    for name, counts in other.get("labels", {}).items():
        mine = labels.setdefault(name, {})
        for label, count in counts.items():
            mine[label] = mine.get(label, 0) + count
    return {"numbers": numbers, "labels": labels}


def _finite(value: float) -> float | None:
    return value if value - value == 0 else None
