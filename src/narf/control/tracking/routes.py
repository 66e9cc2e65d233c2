"""HTTP of runs, their telemetry, metrics and artifacts."""

from __future__ import annotations

import mimetypes
import tempfile
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from mlflow.entities import Run
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response

from narf.control.access.caller import caller
from narf.control.access.rules import SIGNED_IN, Rule, Rules, Scope, in_project, of
from narf.control.problems import problem_of
from narf.control.tracking.gate import ARTIFACT_POLICY
from narf.control.tracking.service import RunService
from narf.domain.access import Principal, Role
from narf.domain.errors import BadInput, LimitReached
from narf.tracking.series import reduce_points, to_bytes
from narf.tracking.shipment import read_shipment
from narf.tracking.spool import OffsetMismatch, Stream
from narf.wire.page import Limit, Page, decode_cursor, encode_cursor
from narf.wire.tracking import (
    ArtifactOut,
    Comparison,
    DatasetUsed,
    Difference,
    ExperimentIn,
    ExperimentOut,
    MetricOut,
    Rerun,
    RunChange,
    RunDetail,
    RunEventOut,
    RunIn,
    RunOut,
    Shipped,
    SpoolOffset,
    SpoolOut,
)

RULES: Rules = {
    ("GET", "/api/v1/projects/{project}/experiments"): in_project(Role.VIEWER, workload_may=True),
    ("POST", "/api/v1/projects/{project}/experiments"): in_project(Role.DEVELOPER),
    ("GET", "/api/v1/projects/{project}/runs"): in_project(Role.VIEWER, workload_may=True),
    ("POST", "/api/v1/projects/{project}/runs"): in_project(Role.DEVELOPER),
    ("GET", "/api/v1/runs/{run}"): of("run", Role.VIEWER, workload_may=True),
    ("PATCH", "/api/v1/runs/{run}"): of("run", Role.DEVELOPER, workload_may=True),
    ("DELETE", "/api/v1/runs/{run}"): of("run", Role.DEVELOPER),
    ("POST", "/api/v1/runs/{run}/restore"): of("run", Role.DEVELOPER),
    ("POST", "/api/v1/runs/{run}/rerun"): of("run", Role.DEVELOPER),
    ("GET", "/api/v1/runs/{run}/history"): of("run", Role.VIEWER, workload_may=True),
    ("GET", "/api/v1/runs/{run}/metrics"): of("run", Role.VIEWER, workload_may=True),
    ("GET", "/api/v1/runs/{run}/events"): of("run", Role.VIEWER, workload_may=True),
    ("GET", "/api/v1/runs/{run}/spools"): of("run", Role.VIEWER, workload_may=True),
    ("POST", "/api/v1/runs/{run}/spools/{spool_id}/{stream}"): of("run", Role.DEVELOPER, workload_may=True),
    ("POST", "/api/v1/runs/{run}/shipments"): of("run", Role.DEVELOPER, workload_may=True),
    ("GET", "/api/v1/runs/{run}/artifacts"): of("run", Role.VIEWER, workload_may=True),
    ("GET", "/api/v1/runs/{run}/artifacts/{path:path}"): of("run", Role.VIEWER, workload_may=True),
    ("PUT", "/api/v1/runs/{run}/artifacts/{path:path}"): of("run", Role.DEVELOPER, workload_may=True),
    ("DELETE", "/api/v1/runs/{run}/artifacts/{path:path}"): of("run", Role.DEVELOPER),
    # These name runs in the query; the handlers look at each.
    ("GET", "/api/v1/metrics/series"): Rule(Scope.SIGNED_IN, workload_may=True),
    ("GET", "/api/v1/compare"): SIGNED_IN,
}
MOST_SHIPPED = 64 << 20  # bytes of one shipment, after decompression
SERIES_TYPE = "application/vnd.narf.series"
# Shown as what they are; everything else is a download. None of these runs in the page of who opens it.
_SHOWN = {"image/png", "image/jpeg", "image/gif", "image/webp", "text/plain", "application/json", "video/mp4", "audio/mpeg", "audio/wav"}


def router(runs: RunService) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["runs"])
    _add_runs(routes, runs)
    _add_metrics(routes, runs)
    _add_artifacts(routes, runs)
    return routes


def _add_runs(routes: APIRouter, runs: RunService) -> None:
    @routes.get("/projects/{project}/experiments", response_model=Page[ExperimentOut])
    def list_experiments(project: str) -> Page[ExperimentOut]:
        """Experiments of a project, the newest first."""
        found = runs.experiments(project)
        return Page(items=[ExperimentOut(id=one[0], name=one[1], created_at=_time(one[2]), runs=one[3]) for one in found])

    @routes.post("/projects/{project}/experiments", response_model=ExperimentOut, status_code=201)
    def create_experiment(project: str, body: ExperimentIn) -> ExperimentOut:
        """An experiment of this name; the one that there is, if there is one."""
        made = runs.tracking.experiment(project, body.name)
        return next(
            ExperimentOut(id=one[0], name=one[1], created_at=_time(one[2]), runs=one[3])
            for one in runs.experiments(project)
            if one[0] == made
        )

    @routes.get("/projects/{project}/runs", response_model=Page[RunOut])
    def list_runs(
        project: str,
        filter: str = Query("", max_length=10_000, description="MLflow's language: metrics.loss < 0.1 and params.lr = '0.01'"),
        order_by: list[str] = Query(default=[], max_length=10, description="metrics.loss ASC"),
        experiment: list[str] = Query(default=[], max_length=100, description="names of experiments"),
        deleted: bool = Query(False, description="deleted runs as well"),
        limit: int = Query(50, ge=1, le=2000),
        cursor: str = Query("", max_length=500),
    ) -> Page[RunOut]:
        """Runs of a project, the newest first unless `order_by` says otherwise."""
        page = str(decode_cursor(cursor, 1)[0]) if cursor else None
        found = runs.tracking.search(
            project, experiments=experiment, filter=filter, order_by=order_by, limit=limit, page=page, deleted=deleted
        )
        names = runs.experiment_names([run.info.experiment_id for run in found.runs])
        return Page(items=[run_out(run, project, names) for run in found.runs], next=encode_cursor(found.next) if found.next else None)

    @routes.post("/projects/{project}/runs", response_model=RunDetail, status_code=201)
    def create_run(project: str, body: RunIn, principal: Principal = Depends(caller)) -> RunDetail:
        """A run that is not scheduled by the platform: of a notebook, of a program elsewhere. It is running at once."""
        run_id = runs.tracking.create_run(
            project=project,
            experiment=body.experiment,
            name=body.name,
            user=principal.user,
            params=body.params,
            tags=body.tags,
            created_at=_milliseconds(body.created_at),
        )
        runs.tracking.start_run(run_id)
        return _detail(runs, run_id, project)

    @routes.get("/runs/{run}", response_model=RunDetail)
    def show_run(run: str) -> RunDetail:
        return _detail(runs, run)

    @routes.patch("/runs/{run}", response_model=RunDetail)
    def change_run(run: str, body: RunChange, principal: Principal = Depends(caller)) -> RunDetail:
        runs.check_may_write(principal, run)
        tags = dict(body.tags) | ({"mlflow.runName": body.name} if body.name else {})
        if tags:
            runs.tracking.set_tags(run, tags)
        if body.status in ("FINISHED", "FAILED", "KILLED"):
            runs.tracking.finish_run(run, body.status, _milliseconds(body.ended_at))
        elif body.status is not None:
            runs.tracking.start_run(run)
        return _detail(runs, run)

    @routes.delete("/runs/{run}", status_code=204)
    def delete_run(run: str) -> None:
        """Put a run away; it can be restored."""
        runs.tracking.delete_run(run)

    @routes.post("/runs/{run}/restore", response_model=RunDetail)
    def restore_run(run: str) -> RunDetail:
        runs.tracking.restore_run(run)
        return _detail(runs, run)

    @routes.post("/runs/{run}/rerun", response_model=Rerun, status_code=201)
    def rerun(run: str, principal: Principal = Depends(caller)) -> Rerun:
        """Run it again as it was: code, arguments, environment, data versions."""
        workload = runs.rerun(run, by=principal.user)
        return Rerun(workload_id=workload.id, run_id=workload.run_id or "", rerun_of=run)

    @routes.get("/compare", response_model=Comparison)
    def compare(run: list[str] = Query(min_length=2, max_length=20), principal: Principal = Depends(caller)) -> Comparison:
        """What differs between runs: code, parameters, environment, data, metrics."""
        runs.check_may_see(principal, run)
        found = runs.runs_to_compare(run)
        names = runs.experiment_names([one.info.experiment_id for one in found])
        differences = runs.compare(found)
        return Comparison(
            runs=[run_out(one, runs.project_of(one.info.run_id) or "", names) for one in found],
            same=dict(differences.same),
            **{
                section: [Difference(name=name, values=[_number(value) for value in values]) for name, values in rows.items()]
                for section, rows in differences.different.items()
            },
        )


def _add_metrics(routes: APIRouter, runs: RunService) -> None:
    @routes.get("/runs/{run}/metrics", response_model=Page[MetricOut])
    def list_metrics(run: str) -> Page[MetricOut]:
        """Every metric of a run, without its points."""
        return Page(
            items=[
                MetricOut(
                    key=one.key,
                    count=one.count,
                    last=_number(one.last),
                    last_step=one.last_step,
                    last_time=_time(one.last_time),
                    min=one.least,
                    max=one.greatest,
                    first_step=one.first_step,
                )
                for one in runs.tracking.metrics(run)
            ]
        )

    @routes.get("/metrics/series", response_class=Response, responses={200: {"content": {SERIES_TYPE: {}}}})
    def series(
        run: list[str] = Query(min_length=1, max_length=200),
        key: list[str] = Query(min_length=1, max_length=200),
        buckets: int = Query(2000, ge=1, le=1_000_000),
        from_step: int | None = None,
        to_step: int | None = None,
        principal: Principal = Depends(caller),
    ) -> Response:
        """Charts of metrics: the least and greatest value of each bucket, or every point where there are fewer than buckets."""
        runs.check_may_see(principal, run)
        found = runs.series(run, key, buckets=buckets, from_step=_step(from_step), to_step=_step(to_step))
        return Response(to_bytes(found), media_type=SERIES_TYPE)

    @routes.get("/runs/{run}/history", response_class=Response, responses={200: {"content": {SERIES_TYPE: {}}}})
    def history(run: str, key: str = Query(min_length=1, max_length=250)) -> Response:
        """Every point of one metric, in order of step."""
        points = runs.tracking.history(run, key)
        return Response(to_bytes([(run, key, reduce_points(points, len(points)))]), media_type=SERIES_TYPE)

    @routes.get("/runs/{run}/events", response_model=Page[RunEventOut])
    def list_events(run: str, limit: Limit = 500) -> Page[RunEventOut]:
        """Phases, notes and metrics that are text."""
        found = runs.tracking.events(run, limit=limit)
        return Page(items=[RunEventOut(time=_time(one.time), type=one.type, name=one.name, text=one.text) for one in found])

    @routes.get("/runs/{run}/spools", response_model=Page[SpoolOut])
    def list_spools(run: str) -> Page[SpoolOut]:
        """How much of each spool is stored."""
        return Page(
            items=[SpoolOut(spool=spool, stream=stream, offset=offset) for (spool, stream), offset in runs.tracking.offsets(run).items()]
        )

    @routes.post("/runs/{run}/spools/{spool_id}/{stream}", response_model=SpoolOffset)
    async def ship(
        run: str,
        spool_id: str,
        stream: Stream,
        request: Request,
        offset: int = Query(ge=0, le=1 << 60),
        principal: Principal = Depends(caller),
    ) -> Any:
        """Send the bytes of a spool from `offset` on. The answer says what is stored for good, and from where to go on."""
        data = await _shipped(request)

        def take() -> int:
            runs.check_may_write(principal, run)
            return runs.ingest(run, spool_id, stream, offset, data)

        try:
            return SpoolOffset(offset=await to_thread.run_sync(take))
        except OffsetMismatch as error:
            status, body = problem_of(error)
            return JSONResponse({**body, "offset": error.offset}, status, media_type="application/problem+json")

    @routes.post("/runs/{run}/shipments", response_model=Shipped)
    async def ship_all(run: str, request: Request, principal: Principal = Depends(caller)) -> Any:
        """What is new in spools, and small artifacts, in one request: a line of JSON that lists the parts, then their bytes.

        All parts of spools are stored, or none. If it is refused, send the parts one by one to hear of each."""
        data = await _shipped(request)

        def take() -> list[int]:
            runs.check_may_write(principal, run)
            return runs.take_shipment(run, read_shipment(data))

        try:
            return Shipped(offsets=await to_thread.run_sync(take))
        except OffsetMismatch as error:
            status, body = problem_of(error)
            return JSONResponse(body, status, media_type="application/problem+json")


def _add_artifacts(routes: APIRouter, runs: RunService) -> None:
    @routes.get("/runs/{run}/artifacts", response_model=Page[ArtifactOut])
    def list_artifacts(run: str, path: str = Query("", max_length=1000)) -> Page[ArtifactOut]:
        """Files and folders directly in a folder of a run's artifacts."""
        found = runs.list_artifacts(run, path.strip("/"))
        return Page(items=[ArtifactOut(path=one.path, is_folder=one.is_folder, size=one.size) for one in found])

    @routes.get("/runs/{run}/artifacts/{path:path}", response_class=FileResponse)
    def download(run: str, path: str) -> Response:
        """The file. Only harmless kinds are shown in the browser, and those in a sandbox."""
        opened = runs.open_artifact(run, path)
        file = opened.__enter__()
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        shown = kind in _SHOWN
        name = quote(path.rsplit("/", 1)[-1])
        headers = {
            "Content-Disposition": f"{'inline' if shown else 'attachment'}; filename*=UTF-8''{name}",
            "Content-Security-Policy": ARTIFACT_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-cache",
        }
        return FileResponse(
            file,
            media_type=kind if shown else "application/octet-stream",
            headers=headers,
            background=BackgroundTask(opened.__exit__, None, None, None),
        )

    @routes.put("/runs/{run}/artifacts/{path:path}", status_code=204)
    async def upload(run: str, path: str, request: Request, principal: Principal = Depends(caller)) -> None:
        """Store a file among the run's artifacts, replacing what was there."""
        await to_thread.run_sync(runs.check_may_write, principal, run)
        with tempfile.SpooledTemporaryFile(max_size=1 << 20) as file:
            async for block in request.stream():
                file.write(block)
            file.seek(0)
            await to_thread.run_sync(runs.put_artifact, run, path, file)

    @routes.delete("/runs/{run}/artifacts/{path:path}", status_code=204)
    def delete(run: str, path: str) -> None:
        runs.delete_artifact(run, path)


def run_out(run: Run, project: str, names: dict[str, str]) -> RunOut:
    return RunOut(**_fields(run, project, names))


def _detail(runs: RunService, run_id: str, project: str | None = None) -> RunDetail:
    run = runs.tracking.run(run_id)
    names = runs.experiment_names([run.info.experiment_id])
    used = run.inputs.dataset_inputs if run.inputs else ()
    return RunDetail(
        **_fields(run, project or runs.project_of(run_id) or "", names),
        datasets=[
            DatasetUsed(
                name=one.dataset.name,
                digest=one.dataset.digest,
                context=next((tag.value for tag in one.tags if tag.key == "mlflow.data.context"), ""),
            )
            for one in used
        ],
        models=[one.model_id for one in (run.outputs.model_outputs if run.outputs else ())],
        artifact_uri=run.info.artifact_uri,
    )


def _fields(run: Run, project: str, names: dict[str, str]) -> dict[str, Any]:
    info, tags = run.info, dict(run.data.tags)
    return {
        "id": info.run_id,
        "name": info.run_name or tags.get("mlflow.runName", ""),
        "project": project,
        "experiment": names.get(info.experiment_id, ""),
        "status": info.status,
        "user": tags.get("mlflow.user") or info.user_id or "",
        "created_at": _time(info.start_time or 0),
        "ended_at": _time(info.end_time) if info.end_time else None,
        "deleted": info.lifecycle_stage == "deleted",
        "workload": tags.get("narf.workload"),
        "params": run.data.params,
        "metrics": {key: _number(value) for key, value in run.data.metrics.items()},
        "tags": tags,
    }


def _number(value: Any) -> Any:
    """JSON has no NaN and no infinities; they are words. MLflow's greatest float stands for infinity."""
    if not isinstance(value, float):
        return value
    if value != value:
        return "NaN"
    if abs(value) >= 1.7976931348623157e308:
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _time(milliseconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _step(step: int | None) -> int | None:
    return None if step is None else max(-(1 << 63), min((1 << 63) - 1, step))


async def _received(request: Request) -> AsyncIterator[bytes]:
    """The body, piece by piece. A sender that is gone before its end gets an answer that nobody hears, and is no mistake of ours."""
    try:
        async for block in request.stream():
            yield block
    except ClientDisconnect:
        raise BadInput("The sender was gone before the end of the body.", code="cut_off") from None


async def _shipped(request: Request) -> bytes:
    """The body, decompressed if it is gzip; never more than `MOST_SHIPPED`."""
    encoding = request.headers.get("content-encoding", "").lower()
    if encoding not in ("", "identity", "gzip"):
        raise BadInput(f"The encoding {encoding[:40]!r} is not read.", remedy="Send gzip or plain bytes.")
    inflate = zlib.decompressobj(31) if encoding == "gzip" else None
    parts, size = [], 0
    async for block in _received(request):
        if inflate is not None:
            try:
                block = inflate.decompress(block, MOST_SHIPPED - size + 1)
            except zlib.error:
                raise BadInput("The body is not gzip.", code="bad_gzip") from None
        parts.append(block)
        size += len(block)
        if size > MOST_SHIPPED:
            raise LimitReached(f"A shipment has at most {MOST_SHIPPED >> 20} MiB.", remedy="Send it in parts.")
    if inflate is not None and not inflate.eof and size:
        raise BadInput("The body ends in the middle of its gzip stream.", code="bad_gzip")
    return b"".join(parts)
