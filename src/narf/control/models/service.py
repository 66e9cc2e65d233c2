"""Models: register a run's artifact, package it for serving, move aliases, say where a version comes from."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from narf.control.audit.store import record
from narf.control.data.lineage import Edge, Node, NodeKind, add_edge, model_node
from narf.control.database import Database
from narf.control.models import environment, store
from narf.control.models.registry import PACKAGED, Model, Registry, Version
from narf.control.models.store import Package, PackageState
from narf.control.workloads.service import Submission, WorkloadService
from narf.domain.access import Principal
from narf.domain.errors import BadInput, Conflict, NotAllowed, NotFound
from narf.domain.names import check_name, new_id
from narf.domain.workload import Resources, Workload, WorkloadKind
from narf.serving.package import as_json, read_manifest
from narf.serving.transfer import pack, unpack

_MODEL_FILES = (".ckpt", ".pt", ".pth", ".onnx", ".pkl", ".joblib", ".ubj")


class RunFiles(Protocol):
    """What the tracking service knows of a run's files."""

    def list_artifacts(self, run_id: str, path: str) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to package. class_name: "file.py:Class" in the run's code. inputs: artifact of the run with real inputs.
    processing: "file.py:Name" in the run's code."""

    class_name: str = ""
    inputs: str = ""
    processing: str = ""
    only: str = ""
    absolute_tolerance: float = 1e-5
    relative_tolerance: float = 1e-4


class ModelService:
    """`folder` holds the packages; `url` is where workloads reach the platform. `changed` is called when a package is done."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        runs: RunFiles,
        workloads: WorkloadService,
        folder: Path,
        url: str,
        now: Callable[[], datetime],
    ) -> None:
        self._database, self.registry, self._runs, self._workloads = database, registry, runs, workloads
        self._folder, self._url, self._now = folder, url, now
        self.changed: Callable[[], None] = lambda: None
        self.in_use: Callable[[str, str, int | None], list[str]] = lambda _project, _model, _version: []

    # -- register and package

    def register(
        self,
        project: str,
        run_id: str,
        *,
        name: str,
        by: str,
        artifact: str = "",
        description: str = "",
        tags: Mapping[str, str] | None = None,
        aliases: Sequence[str] = (),
        options: Options | None = None,
    ) -> tuple[Version, Package]:
        """Make a version of model `name` from a run's artifact, and begin to package it.

        Raises:
            NotFound: no such run or artifact. BadInput: the run has several models, or none.
        """
        check_name(name, kind="model")
        for alias in aliases:
            check_alias(alias)
        run = self.registry.run(project, run_id)
        source, model_id = self._source(project, run, artifact)
        version = self.registry.create(
            project, name, source=source, run_id=run_id, model_id=model_id, user=by, description=description, tags=tags or {}
        )
        for alias in aliases:
            self.registry.set_alias(project, name, alias, version.version)
        package = self.package_again(project, name, version.version, by=by, options=options)
        return self.registry.version(project, name, version.version), package

    def package_again(self, project: str, name: str, version: int, *, by: str, options: Options | None = None) -> Package:
        """Begin to package a version, in the place of what was packaged before."""
        known = self.registry.version(project, name, version)
        if names := self.in_use(project, name, version):
            raise Conflict(
                f"Version {version} of {name!r} serves endpoint {names[0]!r}; its package stays.", remedy="Register a new version."
            )
        package_id, now = new_id("pkg"), self._now()
        workload = self._submit(project, known, package_id, by, options or Options())
        package = Package(
            id=package_id,
            project=project,
            model=name,
            version=version,
            state=PackageState.PACKAGING,
            workload_id=workload.id,
            created_by=by,
            created_at=now,
        )
        with self._database.write() as connection:
            store.put(connection, package)
            if known.run_id:
                made = Edge(
                    project=project,
                    source=Node(NodeKind.RUN, known.run_id),
                    target=model_node(project, name, version),
                    relation="registered",
                )
                add_edge(connection, made, now)
            record(connection, now, by, "register", "model", f"{name}/{version}", project=project)
        return package

    def receive(self, project: str, name: str, version: int, stream: BinaryIO, *, by: Principal) -> Package:
        """The package, sent by its workload. Sent twice, it is kept once."""
        package = self._awaited(project, name, version, by)
        folder = self._folder / package.id
        shutil.rmtree(folder, ignore_errors=True)
        unpack(stream, folder)
        manifest = read_manifest(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        with self._database.write() as connection:
            store.finish(connection, package.id, PackageState.READY, manifest=as_json(manifest), size_bytes=size, ended_at=self._now())
        self.registry.tag(project, name, version, {PACKAGED: manifest.runtime})
        self.changed()
        return self.package(project, name, version)

    def failed(self, project: str, name: str, version: int, error: str, *, by: Principal) -> None:
        package = self._awaited(project, name, version, by)
        self._fail(package, error)

    def _awaited(self, project: str, name: str, version: int, by: Principal) -> Package:
        package = self.package(project, name, version)
        if by.workload_id != package.workload_id if by.workload_id is not None else not by.is_admin:
            raise NotAllowed("A package is sent by the workload that makes it.", remedy="Package it again: narf models package")
        if package.state is not PackageState.PACKAGING:
            raise Conflict(f"Version {version} of {name!r} is {package.state} already.", code="not_awaited")
        return package

    def _fail(self, package: Package, error: str) -> None:
        with self._database.write() as connection:
            store.finish(connection, package.id, PackageState.FAILED, error=error[:4000], ended_at=self._now())
        self.changed()

    def watch(self) -> bool:
        """Packages whose workload ended without sending one have failed. True if there was one."""
        with self._database.read() as connection:
            open_packages = store.in_state(connection, PackageState.PACKAGING)
        found = False
        for package in open_packages:
            workload = self._workloads.workload(package.workload_id) if package.workload_id else None
            if workload is not None and workload.state.is_finished:
                self._fail(package, f"{workload.sentence()} See: narf logs {workload.id}")
                found = True
        return found

    def _submit(self, project: str, version: Version, package_id: str, by: str, options: Options) -> Workload:
        trained = self._workloads.of_run(version.run_id) if version.run_id else None
        base = f"{self._url}/api/v1/projects/{project}/models/{version.model}/versions/{version.version}/package"
        command = [version.source, "--out", "../package", "--name", version.model]
        command += ["--version", str(version.version), "--upload", base]
        snapshot = trained.program.snapshot if trained is not None else None
        if trained is not None and snapshot and trained.program.script and not options.class_name:
            command += ["--script", trained.program.script, *(f"--argument={argument}" for argument in trained.program.arguments)]
        if snapshot:
            command += ["--code", "."]
        for flag, value in (("--class", options.class_name), ("--processing", options.processing), ("--only", options.only)):
            command += [flag, value] if value else []
        if options.inputs:
            command += ["--inputs-artifact", f"runs:/{version.run_id}/{options.inputs}"]
        command += ["--absolute-tolerance", str(options.absolute_tolerance), "--relative-tolerance", str(options.relative_tolerance)]
        return self._workloads.submit(
            Submission(
                project=project,
                owner=by,
                name=f"package {version.model}/{version.version}",
                kind=WorkloadKind.DATA,
                program=environment.of_workload(trained).program("package", tuple(command), code=snapshot),
                resources=Resources(cpu=1.0),
                with_run=False,
                labels=(("narf.package", package_id),),
            )
        )

    def _source(self, project: str, run: Any, artifact: str) -> tuple[str, str | None]:
        """The URI of the model, and its id where MLflow 3 logged it."""
        run_id = run.info.run_id
        logged = self.registry.logged_models(project, run)
        if artifact in logged:
            return f"models:/{logged[artifact]}", logged[artifact]
        if artifact:
            parent, _, leaf = artifact.strip("/").rpartition("/")
            if leaf not in {item.path.rsplit("/", 1)[-1] for item in self._runs.list_artifacts(run_id, parent)}:
                raise NotFound(
                    "artifact", artifact, remedy=f"The run has: {', '.join(self._candidates(run_id) + list(logged)) or 'no models'}."
                )
            return f"runs:/{run_id}/{artifact.strip('/')}", None
        found = self._candidates(run_id)
        if len(logged) == 1:
            (model_id,) = logged.values()
            return f"models:/{model_id}", model_id
        if not logged and len(found) == 1:
            return f"runs:/{run_id}/{found[0]}", None
        if not logged and not found:
            raise BadInput(
                f"Run {run_id} has no model among its artifacts.",
                remedy="Save one in it, or name the file: RUN:ARTIFACT",
                field="artifact",
                code="no_model",
            )
        names = [*logged, *found]
        raise BadInput(
            f"Run {run_id} has several models: {', '.join(names[:10])}.", remedy=f"Name one: {run_id}:{names[0]}", field="artifact"
        )

    def _candidates(self, run_id: str) -> list[str]:
        """Model files and MLflow model folders of a run, three levels down at most. Of a checkpoint folder, the best or last."""
        found: list[str] = []
        folders = [("", 0)]
        while folders:
            folder, depth = folders.pop()
            items = self._runs.list_artifacts(run_id, folder)
            names = {item.path.rsplit("/", 1)[-1]: item for item in items}
            if "MLmodel" in names:
                found.append(folder)
                continue
            files = [item.path for item in items if not item.is_folder and item.path.endswith(_MODEL_FILES)]
            checkpoints = [path for path in files if path.endswith(".ckpt")]
            found += [path for path in files if path not in checkpoints] + _preferred(checkpoints)
            if depth < 3:
                folders += [(item.path, depth + 1) for item in items if item.is_folder]
        if found and all(path.endswith(".ckpt") for path in found):  # of one training: the best of them is meant
            return _preferred(found)
        return sorted(found)

    # -- look

    def models(self, project: str, *, text: str = "", limit: int = 50, token: str | None = None) -> tuple[list[Model], str | None]:
        return self.registry.models(project, text=text, limit=limit, token=token)

    def model(self, project: str, name: str) -> Model:
        return self.registry.model(project, name)

    def versions(self, project: str, name: str) -> list[tuple[Version, Package | None]]:
        versions = self.registry.versions(project, name)
        with self._database.read() as connection:
            known = {package.version: package for package in store.of_model(connection, project, name)}
        return [(version, known.get(version.version)) for version in versions]

    def version(self, project: str, name: str, version: int) -> tuple[Version, Package | None]:
        found = self.registry.version(project, name, version)
        with self._database.read() as connection:
            return found, store.find(connection, project, name, version)

    def package(self, project: str, name: str, version: int) -> Package:
        with self._database.read() as connection:
            package = store.find(connection, project, name, version)
        if package is None:
            raise NotFound("package of model version", f"{name}/{version}", remedy=f"Make it: narf models package {name}/{version}")
        return package

    def environment_of(self, package: Package) -> environment.Environment:
        """Where this package is served: where it was made, if it needs that. The registry is not asked, which others can change."""
        try:
            made_by = self._workloads.workload(package.workload_id or "")
        except NotFound:
            made_by = None
        return environment.to_serve(made_by, dict(package.manifest or {}))

    def predict_file(self, project: str, name: str, version: int, *, source: str, target: str, cpu: float, by: str) -> Workload:
        """Predict every row of a file, in a workload. Both are paths on a disk that it reaches.

        Raises:
            Conflict: the version is not packaged.
        """
        package = self.package(project, name, version)
        if package.state is not PackageState.READY:
            raise Conflict(
                f"{name}/{version} is not packaged: {package.error or package.state}.", remedy=f"narf models package {name}/{version}"
            )
        for path, field in ((source, "input"), (target, "output")):
            if not Path(path).is_absolute() or "\0" in path:
                raise BadInput(f"{path[:200]!r} is no absolute path.", field=field)
        url = self.package_url(project, name, version)
        arguments = ("--package", str(self.folder_of(package)), "--fallback", url, "--input", source, "--output", target)
        return self._workloads.submit(
            Submission(
                project=project,
                owner=by,
                name=f"predict {name}/{version}",
                kind=WorkloadKind.BATCH_PREDICTION,
                program=self.environment_of(package).program("predict", arguments),
                resources=Resources(cpu=cpu),
                with_run=False,
            )
        )

    def package_url(self, project: str, name: str, version: int) -> str:
        """Where a workload on another machine gets the package from."""
        return f"{self._url}/api/v1/projects/{project}/models/{name}/versions/{version}/package"

    def folder_of(self, package: Package) -> Path:
        return self._folder / package.id

    def packed(self, project: str, name: str, version: int) -> bytes:
        package = self.package(project, name, version)
        if package.state is not PackageState.READY:
            raise Conflict(f"Version {version} of {name!r} is not packaged: {package.error or package.state}.")
        buffer = io.BytesIO()
        pack(self.folder_of(package), buffer)
        return buffer.getvalue()

    def resolve(self, project: str, reference: str) -> tuple[str, int, str]:
        """(model, version, alias) of "digits@champion", "digits/3" or "digits" (its newest); alias "" where none was named."""
        match = re.fullmatch(r"([^@/]+)(?:@([^@/]+)|/(\d{1,9}))?", reference)
        if match is None:
            raise BadInput(f"{reference[:100]!r} names no model version.", remedy="Write MODEL@ALIAS or MODEL/VERSION.", field="model")
        name, alias, version = match.groups()
        if alias:
            return name, self.registry.by_alias(project, name, alias).version, alias
        if version:
            return name, self.registry.version(project, name, int(version)).version, ""
        latest = self.registry.model(project, name).latest
        if latest is None:
            raise NotFound("version of model", name, remedy="Register one: narf models register RUN --name " + name)
        return name, latest, ""

    def lineage(self, project: str, name: str, version: int) -> dict[str, Any]:
        """Where a version comes from: run, code and data."""
        found = self.registry.version(project, name, version)
        lineage: dict[str, Any] = {"model": name, "version": version, "source": found.source, "run": found.run_id}
        if found.run_id:
            try:
                run = self.registry.run(project, found.run_id)
            except NotFound:
                return lineage
            tags = run.data.tags
            lineage["run_name"] = run.info.run_name
            lineage["code"] = {key.removeprefix("narf.code."): value for key, value in tags.items() if key.startswith("narf.code.")}
            lineage["snapshot"] = tags.get("narf.snapshot")
            lineage["workload"] = tags.get("narf.workload")
            lineage["parameters"] = dict(run.data.params)
            workload = self._workloads.of_run(found.run_id)
            inputs = [item.dataset.name + "@" + item.dataset.digest for item in getattr(run.inputs, "dataset_inputs", None) or ()]
            lineage["data"] = sorted({*(workload.program.data if workload else ()), *inputs})
        return lineage

    # -- change

    def set_alias(self, project: str, name: str, alias: str, version: int, *, by: str) -> None:
        check_alias(alias)
        self.registry.set_alias(project, name, alias, version)
        with self._database.write() as connection:
            record(connection, self._now(), by, "set_alias", "model", f"{name}@{alias} = {version}", project=project)
        self.changed()

    def delete_alias(self, project: str, name: str, alias: str, *, by: str) -> None:
        self.registry.model(project, name)
        self.registry.delete_alias(project, name, alias)
        with self._database.write() as connection:
            record(connection, self._now(), by, "delete_alias", "model", f"{name}@{alias}", project=project)

    def change(self, project: str, name: str, version: int | None, *, description: str | None, tags: Mapping[str, str], by: str) -> None:
        self.registry.model(project, name) if version is None else self.registry.version(project, name, version)
        if description is not None:
            self.registry.describe(project, name, version, description)
        self.registry.tag(project, name, version, tags)
        with self._database.write() as connection:
            record(connection, self._now(), by, "change", "model", name if version is None else f"{name}/{version}", project=project)

    def delete(self, project: str, name: str, version: int | None, *, by: str) -> None:
        """Raises Conflict: an endpoint serves it."""
        if names := self.in_use(project, name, version):
            raise Conflict(f"{name!r} serves endpoint {names[0]!r}.", remedy=f"Delete the endpoint first: narf endpoints delete {names[0]}")
        self.registry.delete(project, name, version)
        with self._database.write() as connection:
            record(connection, self._now(), by, "delete", "model", name if version is None else f"{name}/{version}", project=project)


class PackagingReconciler:
    """Notices packagings whose workload ended without a package."""

    name = "packaging"

    def __init__(self, models: ModelService) -> None:
        self._models = models

    def pass_once(self, now: datetime) -> bool:
        self._models.watch()
        return False

    def next_look_seconds(self) -> float:
        return 5.0


def check_alias(alias: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,99}", alias) or re.fullmatch(r"v\d+|latest", alias, re.IGNORECASE):
        raise BadInput(
            f"{alias[:60]!r} cannot be an alias.",
            remedy="Begin with a letter, then letters, digits, _ and -; 'latest' and 'v1' are taken.",
            field="alias",
        )
    return alias


def _preferred(checkpoints: Sequence[str]) -> list[str]:
    """One checkpoint of those that lie together: the best, else the last, else the newest by name."""
    for word in ("best", "last"):
        chosen = [path for path in checkpoints if word in path.rsplit("/", 1)[-1]]
        if chosen:
            return [sorted(chosen)[-1]]
    return sorted(checkpoints)[-1:]
