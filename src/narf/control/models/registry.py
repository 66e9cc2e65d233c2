"""MLflow's registry and runs, as far as models need them, in the words of this platform.

Everything goes through MLflow's own stores, in the project's workspace, so an MLflow client sees the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException

from narf.domain.errors import BadInput, Conflict, NotFound

PACKAGED = "narf.runtime"  # tag of a version: what it is served by


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    model: str
    version: int
    created_at: datetime
    description: str
    source: str
    run_id: str | None
    user: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    name: str
    created_at: datetime
    updated_at: datetime
    description: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int]
    latest: int | None = None


class Registry:
    """registry, tracking: MLflow's stores. in_project: the context in which they see that project alone."""

    def __init__(self, registry: Any, tracking: Any, in_project: Callable[[str], AbstractContextManager[None]]) -> None:
        self._registry, self._tracking, self._in_project = registry, tracking, in_project

    def models(self, project: str, *, text: str = "", limit: int = 500, token: str | None = None) -> tuple[list[Model], str | None]:
        with self._in(project, "model", text):
            pattern = text.replace("'", "").replace("%", "")
            found = self._registry.search_registered_models(f"name ILIKE '%{pattern}%'" if pattern else None, limit, ["name ASC"], token)
            return [_model(entity) for entity in found], found.token or None

    def model(self, project: str, name: str) -> Model:
        with self._in(project, "model", name):
            return _model(self._registry.get_registered_model(name))

    def versions(self, project: str, name: str) -> list[Version]:
        """Newest first."""
        self.model(project, name)
        with self._in(project, "model", name):
            found = self._registry.search_model_versions(f"name='{name}'", 500, ["version_number DESC"])
            aliases = dict(self._registry.get_registered_model(name).aliases)
        return [_version(entity, aliases) for entity in found]

    def version(self, project: str, name: str, version: int) -> Version:
        with self._in(project, "model version", f"{name}/{version}"):
            entity = self._registry.get_model_version(name, version)
            return _version(entity, dict(self._registry.get_registered_model(name).aliases))

    def by_alias(self, project: str, name: str, alias: str) -> Version:
        with self._in(project, "model alias", f"{name}@{alias}"):
            try:
                entity = self._registry.get_model_version_by_alias(name, alias)
            except MlflowException as error:
                if "alias" in str(error.message).lower():
                    raise NotFound("model alias", f"{name}@{alias}", remedy=f"Set it: narf models alias {name} {alias} VERSION") from error
                raise
            return _version(entity, dict(self._registry.get_registered_model(name).aliases))

    def aliases(self) -> dict[tuple[str, str, str], int]:
        """(project, model, alias) -> version, of all projects in one look."""
        named: dict[tuple[str, str, str], int] = self._registry.all_aliases()
        return named

    def create(
        self,
        project: str,
        name: str,
        *,
        source: str,
        run_id: str | None,
        model_id: str | None,
        user: str,
        description: str,
        tags: Mapping[str, str],
    ) -> Version:
        """A new version; the model itself, too, where there is none of that name."""
        with self._in(project, "model", name):
            try:
                self._registry.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            entities = [ModelVersionTag(key, value) for key, value in ({"narf.user": user} | dict(tags)).items()]
            return _version(
                self._registry.create_model_version(name, source, run_id, entities, None, description or None, None, model_id), {}
            )

    def describe(self, project: str, name: str, version: int | None, description: str) -> None:
        with self._in(project, "model", name):
            if version is None:
                self._registry.update_registered_model(name, description)
            else:
                self._registry.update_model_version(name, version, description)

    def tag(self, project: str, name: str, version: int | None, tags: Mapping[str, str]) -> None:
        with self._in(project, "model", name):
            for key, value in tags.items():
                if version is None:
                    self._registry.set_registered_model_tag(name, RegisteredModelTag(key, value))
                else:
                    self._registry.set_model_version_tag(name, version, ModelVersionTag(key, value))

    def set_alias(self, project: str, name: str, alias: str, version: int) -> None:
        with self._in(project, "model version", f"{name}/{version}"):
            self._registry.set_registered_model_alias(name, alias, version)

    def delete_alias(self, project: str, name: str, alias: str) -> None:
        with self._in(project, "model alias", f"{name}@{alias}"):
            self._registry.delete_registered_model_alias(name, alias)

    def delete(self, project: str, name: str, version: int | None) -> None:
        with self._in(project, "model", name):
            if version is None:
                self._registry.delete_registered_model(name)
            else:
                self._registry.delete_model_version(name, version)

    def run(self, project: str, run_id: str) -> Any:
        with self._in(project, "run", run_id):
            return self._tracking.get_run(run_id)

    def logged_models(self, project: str, run: Any) -> dict[str, str]:
        """The models that this run logged the way MLflow 3 does: name -> id, the last of a name."""
        ids = [output.model_id for output in getattr(run.outputs, "model_outputs", None) or ()]
        with self._in(project, "model", run.info.run_id):
            return {str(self._tracking.get_logged_model(model_id).name): str(model_id) for model_id in ids}

    @contextmanager
    def _in(self, project: str, kind: str, name: str) -> Iterator[None]:
        try:
            with self._in_project(project):
                yield
        except MlflowException as error:
            sentence = str(error.message)
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise NotFound(kind, name) from error
            if error.error_code == "RESOURCE_ALREADY_EXISTS":
                raise Conflict(sentence) from error
            if error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE"):
                raise BadInput(sentence, field="name") from error
            raise


def _model(entity: Any) -> Model:
    versions = [int(version.version) for version in entity.latest_versions or ()]
    return Model(
        name=entity.name,
        created_at=_time(entity.creation_timestamp),
        updated_at=_time(entity.last_updated_timestamp or entity.creation_timestamp),
        description=entity.description or "",
        tags=dict(entity.tags or {}),
        aliases={alias: int(version) for alias, version in dict(entity.aliases or {}).items()},
        latest=max(versions, default=None),
    )


def _version(entity: Any, aliases: Mapping[str, str]) -> Version:
    tags = {key: value for key, value in dict(entity.tags or {}).items() if value is not None}
    return Version(
        model=entity.name,
        version=int(entity.version),
        created_at=_time(entity.creation_timestamp),
        description=entity.description or "",
        source=entity.source or "",
        run_id=entity.run_id or None,
        user=str(entity.user_id or tags.get("narf.user", "")),
        tags=tags,
        aliases=tuple(sorted(alias for alias, version in aliases.items() if int(version) == int(entity.version))),
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1e3, UTC)
