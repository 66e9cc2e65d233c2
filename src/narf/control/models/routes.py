"""HTTP of the model registry."""

from __future__ import annotations

import io
from pathlib import Path as FilePath
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from narf.control.access.caller import caller
from narf.control.access.rules import Rules, in_project
from narf.control.models.registry import Model, Version
from narf.control.models.service import ModelService, Options
from narf.control.models.store import Package
from narf.domain.access import Principal, Role
from narf.domain.errors import BadInput
from narf.serving.memory import allowance
from narf.wire.models import (
    AliasIn,
    ModelChange,
    ModelDetail,
    ModelOut,
    PackageOut,
    PackagingFailure,
    PackagingIn,
    PredictFileIn,
    RegisterIn,
    VersionOut,
)
from narf.wire.page import Limit, Page
from narf.wire.workloads import Submitted

_BASE = "/api/v1/projects/{project}/models"
_VERSION = _BASE + "/{model}/versions/{version}"
RULES: Rules = {
    ("GET", _BASE): in_project(Role.VIEWER, workload_may=True),
    ("POST", _BASE): in_project(Role.DEVELOPER, workload_may=True),
    ("GET", _BASE + "/{model}"): in_project(Role.VIEWER, workload_may=True),
    ("PATCH", _BASE + "/{model}"): in_project(Role.DEVELOPER),
    ("DELETE", _BASE + "/{model}"): in_project(Role.MAINTAINER),
    ("PUT", _BASE + "/{model}/aliases/{alias}"): in_project(Role.DEVELOPER, workload_may=True),
    ("DELETE", _BASE + "/{model}/aliases/{alias}"): in_project(Role.DEVELOPER),
    ("GET", _VERSION): in_project(Role.VIEWER, workload_may=True),
    ("PATCH", _VERSION): in_project(Role.DEVELOPER),
    ("DELETE", _VERSION): in_project(Role.MAINTAINER),
    ("GET", _VERSION + "/lineage"): in_project(Role.VIEWER),
    ("POST", _VERSION + "/predict-file"): in_project(Role.DEVELOPER, workload_may=True),
    ("GET", _VERSION + "/package"): in_project(Role.VIEWER, workload_may=True),
    ("POST", _VERSION + "/package"): in_project(Role.DEVELOPER),
    ("PUT", _VERSION + "/package"): in_project(Role.DEVELOPER, workload_may=True),
    ("POST", _VERSION + "/package/failure"): in_project(Role.DEVELOPER, workload_may=True),
}
_MOST_PACKAGE = 4 << 30
_Number = Annotated[int, Path(ge=1, le=10**9)]


def router(models: ModelService, incoming: FilePath) -> APIRouter:
    """incoming: a folder for uploads while they arrive."""
    routes = APIRouter(prefix="/api/v1/projects/{project}/models", tags=["models"])
    _add_models(routes, models)
    _add_versions(routes, models)
    _add_packages(routes, models, incoming)
    return routes


def _add_models(routes: APIRouter, models: ModelService) -> None:
    @routes.get("", response_model=Page[ModelOut])
    def list_models(
        project: str, text: str = Query("", max_length=200), limit: Limit = 50, cursor: str = Query("", max_length=500)
    ) -> Page[ModelOut]:
        """Models of a project, by name."""
        found, following = models.models(project, text=text, limit=limit, token=cursor or None)
        return Page(items=[_model(model) for model in found], next=following)

    @routes.post("", response_model=VersionOut, status_code=201)
    def register(project: str, body: RegisterIn, principal: Principal = Depends(caller)) -> VersionOut:
        """A new version from a run's artifact. It is packaged for serving in the background."""
        version, package = models.register(
            project,
            body.run,
            name=body.name,
            by=principal.user,
            artifact=body.artifact,
            description=body.description,
            tags=body.tags,
            aliases=body.aliases,
            options=_options(body.packaging),
        )
        return version_out(version, package)

    @routes.get("/{model}", response_model=ModelDetail)
    def show(project: str, model: str) -> ModelDetail:
        """One model with its versions, newest first."""
        found = models.model(project, model)
        versions = [version_out(version, package) for version, package in models.versions(project, model)]
        return ModelDetail(**_model(found).model_dump(), versions=versions)

    @routes.patch("/{model}", response_model=ModelOut)
    def change(project: str, model: str, body: ModelChange, principal: Principal = Depends(caller)) -> ModelOut:
        models.change(project, model, None, description=body.description, tags=body.tags, by=principal.user)
        return _model(models.model(project, model))

    @routes.delete("/{model}", status_code=204)
    def delete(project: str, model: str, principal: Principal = Depends(caller)) -> None:
        """Delete a model with all its versions, unless an endpoint serves it."""
        models.delete(project, model, None, by=principal.user)

    @routes.put("/{model}/aliases/{alias}", response_model=ModelOut)
    def set_alias(project: str, model: str, alias: str, body: AliasIn, principal: Principal = Depends(caller)) -> ModelOut:
        """Point an alias at a version. Endpoints that follow it roll over."""
        models.set_alias(project, model, alias, body.version, by=principal.user)
        return _model(models.model(project, model))

    @routes.delete("/{model}/aliases/{alias}", status_code=204)
    def delete_alias(project: str, model: str, alias: str, principal: Principal = Depends(caller)) -> None:
        models.delete_alias(project, model, alias, by=principal.user)


def _add_versions(routes: APIRouter, models: ModelService) -> None:
    @routes.get("/{model}/versions/{version}", response_model=VersionOut)
    def show_version(project: str, model: str, version: _Number) -> VersionOut:
        return version_out(*models.version(project, model, version))

    @routes.patch("/{model}/versions/{version}", response_model=VersionOut)
    def change_version(project: str, model: str, version: _Number, body: ModelChange, principal: Principal = Depends(caller)) -> VersionOut:
        models.change(project, model, version, description=body.description, tags=body.tags, by=principal.user)
        return version_out(*models.version(project, model, version))

    @routes.delete("/{model}/versions/{version}", status_code=204)
    def delete_version(project: str, model: str, version: _Number, principal: Principal = Depends(caller)) -> None:
        models.delete(project, model, version, by=principal.user)

    @routes.get("/{model}/versions/{version}/lineage")
    def lineage(project: str, model: str, version: _Number) -> dict[str, object]:
        """Run, code and data that a version comes from."""
        return models.lineage(project, model, version)

    @routes.post("/{model}/versions/{version}/predict-file", response_model=Submitted, status_code=201)
    def predict_file(project: str, model: str, version: _Number, body: PredictFileIn, principal: Principal = Depends(caller)) -> Submitted:
        """Predict every row of a file, in a workload."""
        workload = models.predict_file(project, model, version, source=body.input, target=body.output, cpu=body.cpu, by=principal.user)
        return Submitted(id=workload.id, workload_id=workload.id, run_id=None, state=workload.state, name=workload.name)


def _add_packages(routes: APIRouter, models: ModelService, incoming: FilePath) -> None:
    @routes.get("/{model}/versions/{version}/package")
    def download(project: str, model: str, version: _Number) -> Response:
        """The serving package, as a tar."""
        return Response(models.packed(project, model, version), media_type="application/x-tar")

    @routes.post("/{model}/versions/{version}/package", response_model=VersionOut, status_code=202)
    def package_again(project: str, model: str, version: _Number, body: PackagingIn, principal: Principal = Depends(caller)) -> VersionOut:
        """Package it again, with other options."""
        models.package_again(project, model, version, by=principal.user, options=_options(body))
        return version_out(*models.version(project, model, version))

    @routes.put("/{model}/versions/{version}/package", response_model=VersionOut)
    async def receive(project: str, model: str, version: _Number, request: Request, principal: Principal = Depends(caller)) -> VersionOut:
        """The finished package, sent by the workload that made it."""
        incoming.mkdir(parents=True, exist_ok=True)
        size = 0
        with await to_thread.run_sync(lambda: _scratch(incoming)) as file:
            async for block in request.stream():
                size += len(block)
                if size > _MOST_PACKAGE:
                    raise BadInput(f"A package of more than {_MOST_PACKAGE >> 30} GiB is not taken.", code="too_large")
                file.write(block)
            file.seek(0)
            await to_thread.run_sync(lambda: models.receive(project, model, version, file, by=principal))
        return await to_thread.run_sync(lambda: version_out(*models.version(project, model, version)))

    @routes.post("/{model}/versions/{version}/package/failure", status_code=204)
    def failed(project: str, model: str, version: _Number, body: PackagingFailure, principal: Principal = Depends(caller)) -> None:
        """Why no package could be made, said by the workload that tried."""
        models.failed(project, model, version, body.error, by=principal)


def _scratch(folder: FilePath) -> io.BufferedRandom:
    import tempfile

    return tempfile.TemporaryFile(dir=folder)


def _options(body: PackagingIn) -> Options:
    return Options(**body.model_dump())


def _model(model: Model) -> ModelOut:
    return ModelOut(
        id=model.name,
        name=model.name,
        created_at=model.created_at,
        updated_at=model.updated_at,
        description=model.description,
        tags=dict(model.tags),
        aliases=dict(model.aliases),
        latest=model.latest,
    )


def version_out(version: Version, package: Package | None) -> VersionOut:
    return VersionOut(
        id=f"{version.model}/{version.version}",
        model=version.model,
        version=version.version,
        created_at=version.created_at,
        created_by=version.user,
        description=version.description,
        tags=dict(version.tags),
        aliases=list(version.aliases),
        run_id=version.run_id,
        source=version.source,
        package=None if package is None else _package(package),
    )


def _package(package: Package) -> PackageOut:
    manifest = package.manifest or {}
    signature = {"inputs": manifest["inputs"], "outputs": manifest["outputs"], "columns": manifest["columns"]} if manifest else None
    if manifest and manifest.get("public_inputs"):
        signature = {"inputs": manifest["public_inputs"], "outputs": manifest["public_outputs"] or manifest["outputs"], "columns": []}
    evidence = manifest.get("evidence")
    if evidence and evidence.get("memory_bytes"):
        evidence = evidence | {"growth_allowed_bytes": allowance(evidence["memory_bytes"]).replace}
    return PackageOut(
        id=package.id,
        state=package.state,
        workload_id=package.workload_id,
        error=package.error,
        runtime=manifest.get("runtime"),
        size_bytes=package.size_bytes,
        created_at=package.created_at,
        ended_at=package.ended_at,
        signature=signature,
        evidence=evidence,
    )
