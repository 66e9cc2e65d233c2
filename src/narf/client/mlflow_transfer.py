"""Runs and models from any MLflow to the platform, and back: people can come, and people can leave.

The other side is reached by MLflow's own client with its own variables (MLFLOW_TRACKING_TOKEN and the like), ours by our API,
so the two never share a token. What was brought is tagged with where it came from: an import that was interrupted goes
on, and one that is repeated brings only what is new.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

from narf.client.connection import Connection, problem
from narf.client.runs import find_runs, read_history, upload_artifact, write_points
from narf.domain.errors import BadInput, MissingExtra, NarfError, NotFound, Unavailable

FROM_TAG, DONE_TAG = "narf.importedFrom", "narf.imported"
SENT_TAG, SENT_DONE_TAG = "narf.exportedFrom", "narf.exported"
_OWN_TAGS = ("mlflow.runName", FROM_TAG, DONE_TAG, SENT_TAG, SENT_DONE_TAG)  # of one transfer; they must not go along with another
_PAGE = 500
_BATCH = 900  # MLflow takes 1,000 at once
_GREATEST_METRIC_PAGE = 25_000


@dataclass(slots=True)
class Moved:
    """What a transfer did; `failed` maps what could not be moved to why."""

    experiments: int = 0
    runs: int = 0
    known: int = 0
    points: int = 0
    artifacts: int = 0
    models: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def import_mlflow(
    connection: Connection,
    project: str,
    source: str,
    *,
    experiments: Sequence[str] = (),
    artifacts: bool = True,
    models: bool = True,
    progress: Callable[[str], None] = lambda _text: None,
) -> Moved:
    """Bring experiments (all, or those named) with their runs from `source`, a server's address or a folder `mlruns`.

    Raises:
        NotFound: there is no MLflow at `source`, or no such experiment.
    """
    client, moved = _mlflow(source), Moved()
    brought: dict[str, str] = {}  # the run's id there -> here
    for experiment in _experiments(client, source, experiments):
        here = connection.post(f"/api/v1/projects/{project}/experiments", {"name": experiment.name})
        moved.experiments += 1
        for run in _runs(client, experiment.experiment_id):
            run_id = run.info.run_id
            try:
                brought[run_id], is_new = _bring(connection, project, here["name"], client, source, run, artifacts, moved)
            except (NarfError, OSError) as error:
                moved.failed[f"run {run_id}"] = str(error)
                continue
            moved.runs += is_new
            moved.known += not is_new
            if (moved.runs + moved.known) % 25 == 0:
                progress(f"{moved.runs + moved.known} runs, {moved.points:,} points")
    if models:
        _bring_models(connection, project, source, client, brought, moved)
    return moved


def export_mlflow(
    connection: Connection,
    project: str,
    target: str,
    *,
    runs: Sequence[str] = (),
    experiments: Sequence[str] = (),
    artifacts: bool = True,
    models: bool = True,
    progress: Callable[[str], None] = lambda _text: None,
) -> Moved:
    """Copy runs (named, of experiments, or all of the project) to `target`: a server, a database or a folder `mlruns`.

    With them go the registered models whose versions they made. What was taken there before is not taken twice.
    """
    client, moved = _mlflow(target, create=True), Moved()
    if runs:
        found = [connection.get(f"/api/v1/runs/{run}") for run in runs]
    else:
        found = find_runs(project, experiments=experiments, connection=connection)
    there: dict[str, str] = {}
    sent: dict[str, str] = {}  # the run's id here -> there
    for run in found:
        name = run["experiment"] or "Default"
        if name not in there:
            known = client.get_experiment_by_name(name)
            there[name] = known.experiment_id if known else client.create_experiment(name)
            moved.experiments += 1
        sent[run["id"]], is_new = _send(connection, client, there[name], run, artifacts, moved)
        moved.runs += is_new
        moved.known += not is_new
        if (moved.runs + moved.known) % 25 == 0:
            progress(f"{moved.runs + moved.known} of {len(found)} runs, {moved.points:,} points")
    if models:
        _send_models(connection, project, target, client, sent, moved)
    return moved


def _mlflow(address: str, *, create: bool = False) -> Any:
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise MissingExtra("Reading and writing MLflow", "server") from error
    if "://" not in address:
        folder = Path(address).expanduser().absolute()
        if folder.suffix in (".db", ".sqlite", ".sqlite3") or folder.is_file():
            address = f"sqlite:///{folder}"
        elif not folder.is_dir() and not create:
            raise NotFound("folder", address, remedy="Name a folder mlruns, a database file or a server's address.")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            address = folder.as_uri()
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow wants to be asked before it reads old folders
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for each file says nothing
    return MlflowClient(address, registry_uri=address)


def _experiments(client: Any, source: str, names: Sequence[str]) -> list[Any]:
    from mlflow.exceptions import MlflowException

    try:
        if names:
            found = [(name, client.get_experiment_by_name(name)) for name in names]
            for name, experiment in found:
                if experiment is None:
                    raise NotFound("experiment", name)
            return [experiment for _, experiment in found]
        everything, token = [], None
        while True:
            page = client.search_experiments(max_results=_PAGE, page_token=token)
            everything += page
            token = page.token
            if not token:
                return everything
    except MlflowException as error:
        raise Unavailable(f"MLflow at {source} does not answer: {error}", remedy="Check the address, and MLFLOW_TRACKING_TOKEN.") from error


def _runs(client: Any, experiment_id: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=_PAGE, page_token=token, order_by=["attributes.start_time ASC"])
        yield from page
        token = page.token
        if not token:
            return


def _bring(
    connection: Connection, project: str, experiment: str, client: Any, source: str, run: Any, artifacts: bool, moved: Moved
) -> tuple[str, bool]:
    """The id of the run here, and whether it is new."""
    info = run.info
    origin = f"{source}#{info.run_id}"[:8000]
    known = find_runs(project, filter=f"tags.`{FROM_TAG}` = '{origin.replace(chr(39), '%27')}'", deleted=True, connection=connection)
    if known and known[0]["tags"].get(DONE_TAG):
        return str(known[0]["id"]), False
    tags = {key: value for key, value in run.data.tags.items() if key not in _OWN_TAGS} | {FROM_TAG: origin.replace("'", "%27")}
    if known:
        here = str(known[0]["id"])
    else:
        body = {
            "name": info.run_name or "",
            "experiment": experiment,
            "created_at": _moment(info.start_time or 0),
            "params": run.data.params,
            "tags": dict(list(tags.items())[:500]),
        }
        here = connection.post(f"/api/v1/projects/{project}/runs", body)["id"]
    # The spool's name follows from the run: what an interrupted import has sent is not sent again.
    spool = hashlib.sha256(origin.encode()).hexdigest()[:16]
    moved.points += write_points(connection, here, _points(client, info.run_id, sorted(run.data.metrics)), spool_id=spool)
    if artifacts:
        moved.artifacts += _bring_artifacts(connection, client, info.run_id, here)
    status = info.status if info.status in ("FINISHED", "FAILED", "KILLED", "RUNNING", "SCHEDULED") else "FINISHED"
    change: dict[str, Any] = {"status": status, "tags": {DONE_TAG: "true"}}
    if info.end_time:
        change["ended_at"] = _moment(info.end_time)
    connection.patch(f"/api/v1/runs/{here}", change)
    return here, True


def _points(client: Any, run_id: str, keys: Sequence[str]) -> Iterator[tuple[str, int, float, float]]:
    for key in keys:
        for metric in client.get_metric_history(run_id, key):
            yield key, metric.step, metric.timestamp / 1000, metric.value


def _bring_artifacts(connection: Connection, client: Any, run_id: str, here: str, path: str | None = None) -> int:
    count = 0
    for one in client.list_artifacts(run_id, path):
        if one.is_dir:
            count += _bring_artifacts(connection, client, run_id, here, one.path)
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(client.download_artifacts(run_id, one.path, folder))
            with file.open("rb") as stream:
                upload_artifact(connection, here, one.path, _blocks(stream))
        count += 1
    return count


def _blocks(stream: Any) -> Iterator[bytes]:
    while block := stream.read(1 << 20):
        yield block


def _bring_models(connection: Connection, project: str, source: str, client: Any, brought: Mapping[str, str], moved: Moved) -> None:
    """Registered models whose versions come from runs that are here now, with their files, aliases and tags; what is here already stays."""
    from mlflow.exceptions import MlflowException

    try:
        models = _all_models(client)
    except MlflowException as error:
        moved.failed["models"] = str(error)
        return
    for model in models:
        versions = sorted(client.search_model_versions(f"name='{model.name}'"), key=lambda version: int(version.version))
        versions = [version for version in versions if version.run_id in brought]
        if not versions:
            continue
        tags = [{"key": key, "value": value} for key, value in (model.tags or {}).items()]
        body = {"name": model.name, "description": model.description or "", "tags": tags}
        moved.models += bool(_registry(connection, project, "registered-models/create", body, known=True))
        here = _versions_here(connection, project, model.name, FROM_TAG)
        for version in versions:
            origin = f"{source}#{version.version}"
            if origin not in here:
                run = brought[version.run_id]
                folder = f"registered/{model.name}/{version.version}"
                with tempfile.TemporaryDirectory() as local:
                    try:
                        files = list(_files(_model_files(client, source, model.name, version.version, local)))
                    except (MlflowException, OSError) as error:  # registered, but its files are gone or were never there
                        moved.failed[f"files of {model.name} {version.version}"] = str(error)[:300]
                        files = []
                    for path, file in files:
                        with file.open("rb") as stream:
                            upload_artifact(connection, run, f"{folder}/{path}", _blocks(stream))
                        moved.artifacts += 1
                tags = [{"key": key, "value": value} for key, value in {**(version.tags or {}), FROM_TAG: origin}.items()]
                uri = connection.get(f"/api/v1/runs/{run}")["artifact_uri"] + "/" + folder
                body = {"name": model.name, "source": uri, "run_id": run, "tags": tags, "description": version.description or ""}
                here[origin] = str(_registry(connection, project, "model-versions/create", body)["model_version"]["version"])
        for alias, number in (model.aliases or {}).items():
            if new := here.get(f"{source}#{number}"):
                _registry(connection, project, "registered-models/alias", {"name": model.name, "alias": alias, "version": new})


def _send_models(connection: Connection, project: str, target: str, client: Any, sent: Mapping[str, str], moved: Moved) -> None:
    """Registered models whose versions come from runs that are there now, with their files, aliases and tags."""
    from mlflow.exceptions import MlflowException

    for model in _pages(connection, project, "registered-models/search", "registered_models"):
        name = model["name"]
        query = {"filter": f"name='{name}'"}
        versions = [
            one for one in _pages(connection, project, "model-versions/search", "model_versions", query) if one.get("run_id") in sent
        ]
        if not versions:
            continue
        try:
            client.create_registered_model(name, _tags(model), model.get("description"))
            moved.models += 1
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        there = {
            version.tags[SENT_TAG]: version.version
            for version in client.search_model_versions(f"name='{name}'")
            if SENT_TAG in (version.tags or {})
        }
        for version in sorted(versions, key=lambda one: int(one["version"])):
            origin = f"{project}/{name}#{version['version']}"
            if origin not in there:
                run = sent[version["run_id"]]
                folder = f"registered/{name}/{version['version']}"
                with tempfile.TemporaryDirectory() as local:
                    try:
                        where = _registry_get(
                            connection, project, "model-versions/get-download-uri", {"name": name, "version": version["version"]}
                        )
                        moved.artifacts += _fetch_proxied(connection, project, where["artifact_uri"], Path(local))
                    except NarfError as error:  # registered, but its files are gone or were never there
                        moved.failed[f"files of {name} {version['version']}"] = str(error)
                    client.log_artifacts(run, local, folder)
                uri = f"{client.get_run(run).info.artifact_uri}/{folder}"
                made = client.create_model_version(
                    name, uri, run, {**_tags(version), SENT_TAG: origin}, description=version.get("description")
                )
                there[origin] = made.version
        for alias in model.get("aliases", []):
            if new := there.get(f"{project}/{name}#{alias['version']}"):
                client.set_registered_model_alias(name, alias["alias"], str(new))


def _all_models(client: Any) -> list[Any]:
    found, token = [], None
    while True:
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:  # a search shows no aliases of some stores; the model itself does
            return [client.get_registered_model(model.name) for model in found]


def _model_files(client: Any, source: str, name: str, version: Any, folder: str) -> Path:
    """The files of a model version, wherever that MLflow keeps them, in `folder`."""
    from mlflow.artifacts import download_artifacts

    uri = client.get_model_version_download_uri(name, version)
    return Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=client.tracking_uri))


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    if root.is_file():
        yield root.name, root
    for file in sorted(root.rglob("*")):
        if file.is_file():
            yield file.relative_to(root).as_posix(), file


def _versions_here(connection: Connection, project: str, name: str, tag: str) -> dict[str, str]:
    """The versions of a model that were brought: their origin, and their number here."""
    found = _pages(connection, project, "model-versions/search", "model_versions", {"filter": f"name='{name}'"})
    return {_tags(one)[tag]: str(one["version"]) for one in found if tag in _tags(one)}


def _tags(body: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag.get("value", "") for tag in body.get("tags", [])}


def _pages(
    connection: Connection, project: str, call: str, field: str, query: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[dict[str, Any]]:
    token = ""
    while True:
        page = _registry_get(connection, project, call, {**query, "max_results": 200, **({"page_token": token} if token else {})})
        yield from page.get(field, [])
        token = page.get("next_page_token", "")
        if not token:
            return


def _registry_get(connection: Connection, project: str, call: str, query: Mapping[str, Any]) -> dict[str, Any]:
    answer = connection.request("GET", f"/api/2.0/mlflow/{call}", params=dict(query), headers={"X-MLFLOW-WORKSPACE": project})
    if not answer.is_success:
        raise BadInput(str(answer.json().get("message", answer.text))[:500]) if answer.status_code == 400 else problem(answer)
    result: dict[str, Any] = answer.json()
    return result


def _fetch_proxied(connection: Connection, project: str, uri: str, folder: Path, below: str = "") -> int:
    """Download what lies at an `mlflow-artifacts:` address of ours into `folder`; the number of files."""
    root = urlsplit(uri).path.strip("/")
    listed = connection.request(
        "GET",
        "/api/2.0/mlflow-artifacts/artifacts",
        params={"path": f"{root}/{below}".rstrip("/")},
        headers={"X-MLFLOW-WORKSPACE": project},
    )
    if not listed.is_success:
        raise problem(listed)
    count = 0
    for one in listed.json().get("files", []):
        path = f"{below}/{one['path']}".lstrip("/")
        if one.get("is_dir"):
            count += _fetch_proxied(connection, project, uri, folder, path)
            continue
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        answer = connection.request(
            "GET", f"/api/2.0/mlflow-artifacts/artifacts/{quote(f'{root}/{path}')}", headers={"X-MLFLOW-WORKSPACE": project}
        )
        if not answer.is_success:
            raise problem(answer)
        place.write_bytes(answer.content)
        count += 1
    return count


def _registry(connection: Connection, project: str, call: str, body: dict[str, Any], *, known: bool = False) -> dict[str, Any]:
    answer = connection.request("POST", f"/api/2.0/mlflow/{call}", json=body, headers={"X-MLFLOW-WORKSPACE": project})
    if known and answer.status_code == 400 and "ALREADY_EXISTS" in answer.text:
        return {}
    if not answer.is_success:
        raise BadInput(str(answer.json().get("message", answer.text))[:500]) if answer.status_code == 400 else problem(answer)
    result: dict[str, Any] = answer.json()
    return result


def _send(
    connection: Connection, client: Any, experiment_id: str, run: Mapping[str, Any], artifacts: bool, moved: Moved
) -> tuple[str, bool]:
    """The id of the run there, and whether it is new."""
    from mlflow.entities import Metric, Param, RunTag

    for known in client.search_runs([experiment_id], f"tags.`{SENT_TAG}` = '{run['id']}'"):
        if known.data.tags.get(SENT_DONE_TAG):
            return known.info.run_id, False
        client.delete_run(known.info.run_id)  # an export that was interrupted: MLflow could not tell which points it has
    made = client.create_run(experiment_id, start_time=_since(run["created_at"]), run_name=run["name"] or None, tags={SENT_TAG: run["id"]})
    there: str = made.info.run_id
    pairs = [Param(key, value) for key, value in run["params"].items()]
    for at in range(0, len(pairs), 100):
        client.log_batch(there, params=pairs[at : at + 100])
    tags = [RunTag(key, value) for key, value in run["tags"].items() if key not in _OWN_TAGS]
    for at in range(0, len(tags), 100):
        client.log_batch(there, tags=tags[at : at + 100])
    for key in run["metrics"]:
        history = read_history(run["id"], key, connection=connection)
        rows = zip(history.steps.tolist(), history.times.tolist(), history.values.tolist(), strict=True)
        points = [Metric(key, value, round(time * 1000), step) for step, time, value in rows]
        for at in range(0, len(points), _BATCH):
            client.log_batch(there, metrics=points[at : at + _BATCH])
        moved.points += len(points)
    if artifacts:
        with tempfile.TemporaryDirectory() as folder:
            count = _fetch(connection, run["id"], Path(folder), "")
            if count:
                client.log_artifacts(there, folder)
            moved.artifacts += count
    if run["status"] in ("FINISHED", "FAILED", "KILLED"):
        client.set_terminated(there, run["status"], _since(run["ended_at"]) if run["ended_at"] else None)
    client.set_tag(there, SENT_DONE_TAG, "true")
    return there, True


def _fetch(connection: Connection, run: str, folder: Path, path: str) -> int:
    count = 0
    listed = connection.request("GET", f"/api/v1/runs/{run}/artifacts", params={"path": path})
    if not listed.is_success:
        raise problem(listed)
    for one in listed.json()["items"]:
        if one["is_folder"]:
            count += _fetch(connection, run, folder, one["path"])
            continue
        place = folder / one["path"]
        place.parent.mkdir(parents=True, exist_ok=True)
        answer = connection.request("GET", f"/api/v1/runs/{run}/artifacts/{quote(one['path'])}")
        if not answer.is_success:
            raise problem(answer)
        place.write_bytes(answer.content)
        count += 1
    return count


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def _since(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def as_dict(moved: Moved) -> dict[str, Any]:
    return asdict(moved)
