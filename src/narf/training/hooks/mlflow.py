"""Calls to MLflow: those to the run of this process go to its spool instead of over the network; others are made as written.

With the control plane's address as tracking server, `mlflow.log_metric` and its like return in microseconds and lose nothing when the
server is away. A script that names a tracking server of its own still reaches it, and its metrics are recorded here as well.
scikit-learn, XGBoost and LightGBM are recorded through MLflow's autologging, where MLflow is installed.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
import time
import urllib.parse
from types import ModuleType
from typing import Any

from narf.training import recorder as recorders
from narf.training.hooks import guarded, is_forwarded
from narf.training.imports import when_imported

_own: _OwnRun | None = None


class _OwnRun:
    """The MLflow run that this process is, known without asking the server."""

    def __init__(self, recorder: recorders.Recorder, run_id: str, url: str) -> None:
        self.recorder, self.run_id, self.url = recorder, run_id, url.rstrip("/")
        self.metrics: dict[str, Any] = {}
        self.fetched: Any = None
        self.started = int(time.time() * 1000)
        self.is_used = True  # the script speaks to the platform's tracking server
        self.is_begun = False  # by a `start_run` of the script's own

    def is_store(self, store: Any) -> bool:
        try:
            return str(store.get_host_creds().host).rstrip("/") == self.url
        except Exception:  # credentials of another provider may ask for what is not there
            return False

    def metric(self, metric: Any) -> None:
        self.metrics[metric.key] = metric
        timestamp = metric.timestamp / 1000 if metric.timestamp else None
        if is_forwarded():
            return
        self.recorder.log({metric.key: metric.value}, int(metric.step or 0), timestamp)

    def batch(self, metrics: Any, params: Any, tags: Any) -> None:
        grouped: dict[tuple[int, int], dict[str, Any]] = {}
        for metric in metrics:
            self.metrics[metric.key] = metric
            if is_forwarded():
                continue
            values = grouped.setdefault((int(metric.step or 0), int(metric.timestamp or 0)), {})
            if metric.key in values:
                self.recorder.log({metric.key: metric.value}, int(metric.step or 0), (metric.timestamp or 0) / 1000 or None)
            else:
                values[metric.key] = metric.value
        for (step, timestamp), values in grouped.items():
            self.recorder.log(values, step, timestamp / 1000 if timestamp else None)
        for param in params:
            self.recorder.param(param.key, param.value)
        for tag in tags:
            self.recorder.tag(tag.key, tag.value)

    def run(self, fetch: Any) -> Any:
        """The run as MLflow's object: as the server had it when it was first asked, and what was logged since."""
        from mlflow import entities
        from mlflow.tracking import fluent

        if self.fetched is None and self._is_reachable():
            try:
                self.fetched = fetch()
            except Exception:  # the server refuses or fails: the run is known well enough here
                self.fetched = None
        info, data = (self.fetched.info, self.fetched.data) if self.fetched is not None else (None, None)
        experiment_id = getattr(fluent, "_active_experiment_id", None)
        experiment_id = experiment_id or (info.experiment_id if info else None) or os.environ.get("MLFLOW_EXPERIMENT_ID") or "0"
        tags = {**(data.tags if data else {}), **self.recorder.tags}
        made = entities.RunInfo(
            run_id=self.run_id,
            experiment_id=experiment_id,
            user_id=(info.user_id if info else "") or "",
            status="RUNNING",
            start_time=(info.start_time if info else None) or self.started,
            end_time=None,
            lifecycle_stage="active",
            artifact_uri=info.artifact_uri if info else f"mlflow-artifacts:/{experiment_id}/{self.run_id}/artifacts",
            run_name=(info.run_name if info else None) or tags.get("mlflow.runName", self.run_id),
        )
        params = {**(data.params if data else {}), **self.recorder.params}
        metrics = {metric.key: metric for metric in (data._metric_objs if data else [])}
        metrics.update(self.metrics)
        return entities.Run(
            made,
            entities.RunData(
                list(metrics.values()),
                [entities.Param(key, value) for key, value in params.items()],
                [entities.RunTag(key, value) for key, value in tags.items()],
            ),
        )

    def _is_reachable(self) -> bool:
        """Whether somebody listens there: MLflow's own client would try for minutes to find out."""
        parts = urllib.parse.urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            with socket.create_connection((parts.hostname or "127.0.0.1", port), timeout=0.3):
                return True
        except OSError:
            return False


def install() -> None:
    global _own
    recorder = recorders.current()
    run_id = os.environ.get("MLFLOW_RUN_ID") or os.environ.get("NARF_RUN_ID")
    if recorder is None:
        return
    url = os.environ.get("MLFLOW_TRACKING_URI") or os.environ.get("NARF_URL") or ""
    _own = _OwnRun(recorder, run_id or "", url)
    when_imported("mlflow.store.tracking.rest_store", _patch_store)
    when_imported("mlflow.tracking._tracking_service.client", _patch_client)
    when_imported("mlflow.tracking._tracking_service.utils", _patch_addresses)
    when_imported("mlflow.tracking.fluent", _patch_fluent)
    when_imported("mlflow.models.model", _patch_model)
    when_imported("sklearn.base", _patch_sklearn)
    for lightning in ("lightning.pytorch", "pytorch_lightning"):
        when_imported(f"{lightning}.loggers.mlflow", _patch_lightning_logger)
    for library in ("xgboost", "lightgbm"):
        when_imported(library, functools.partial(_autolog_library, library))


# -- the store that speaks to the control plane -----------------------------------------------------------------------------------


def _patch_addresses(module: ModuleType) -> None:
    """A script that goes to a tracking server of its own must not look there for the platform's run and experiment."""
    addresses: Any = module
    original = addresses.set_tracking_uri
    ours = {name: os.environ[name] for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID") if os.environ.get(name)}

    @functools.wraps(original)
    def set_tracking_uri(uri: Any) -> Any:
        result = original(uri)
        if _own is not None:
            _own.is_used = str(uri).rstrip("/") == _own.url
            for name, value in ours.items():
                if _own.is_used:
                    os.environ.setdefault(name, value)
                else:
                    os.environ.pop(name, None)
        return result

    addresses.set_tracking_uri = set_tracking_uri


def _patch_fluent(module: ModuleType) -> None:
    """What is logged while no run is active goes to ours, also after autologging has ended its share of it: MLflow takes
    MLFLOW_RUN_ID once, and would open another run the second time."""
    fluent: Any = module
    original = fluent._get_or_start_run

    @functools.wraps(original)
    def get_or_start_run() -> Any:
        if _own is not None and _own.run_id and _own.is_used and fluent.active_run() is None:
            os.environ["MLFLOW_RUN_ID"] = _own.run_id
        return original()

    fluent._get_or_start_run = get_or_start_run
    start = fluent.start_run

    @functools.wraps(start)
    def start_run(run_id: Any = None, *arguments: Any, **named: Any) -> Any:
        # Autologging opens a run for every fit, and with it uses MLFLOW_RUN_ID up. Of the script's own calls the first is ours;
        # more of them may well be several runs.
        is_of_autologging = "mlflow.autologging" in (named.get("tags") or {})
        if run_id is None and _own is not None and _own.run_id and _own.is_used and fluent.active_run() is None:
            if is_of_autologging or not _own.is_begun:
                os.environ["MLFLOW_RUN_ID"] = _own.run_id
            _own.is_begun = _own.is_begun or not is_of_autologging
        return start(run_id, *arguments, **named)

    fluent.start_run = start_run
    package = sys.modules.get("mlflow")
    if getattr(package, "start_run", None) is start:  # loaded before the fork
        package.start_run = start_run  # type: ignore[union-attr]


def _patch_model(module: ModuleType) -> None:
    """A model that is logged while no run is active belongs to ours: MLflow would log it as nobody's."""
    model: Any = module.Model
    original = model.log.__func__

    @functools.wraps(original)
    def log(cls: Any, *arguments: Any, **named: Any) -> Any:
        from mlflow.tracking import fluent

        if _own is not None and _own.run_id and _own.is_used and named.get("run_id") is None and fluent.active_run() is None:
            named["run_id"] = _own.run_id
        return original(cls, *arguments, **named)

    model.log = classmethod(log)


def _patch_store(module: ModuleType) -> None:
    store: Any = module.RestStore

    def instead(name: str, act: Any) -> None:
        """For our run, `act(own, arguments...)` instead of the call."""
        original = getattr(store, name)

        @functools.wraps(original)
        def call(self: Any, run_id: Any, *arguments: Any, **named: Any) -> Any:
            own = _own
            if own is None or run_id != own.run_id or not own.is_store(self):
                return original(self, run_id, *arguments, **named)
            return act(own, functools.partial(original, self, run_id), *arguments, **named)

        setattr(store, name, call)

    instead("log_metric", lambda own, _, metric: own.metric(metric))
    instead("log_param", lambda own, _, param: own.recorder.param(param.key, param.value))
    instead("set_tag", lambda own, _, tag: own.recorder.tag(tag.key, tag.value))
    instead("log_batch", lambda own, _, metrics=(), params=(), tags=(): own.batch(metrics, params, tags))
    instead("get_run", lambda own, original: own.run(original))
    # Whether the run is running, and how it ended, is for the control plane to say.
    instead("update_run_info", lambda own, original, *_, **__: own.run(lambda: store_get(original)).info)


def store_get(update: Any) -> Any:
    """The run from the server, given its bound `update_run_info`."""
    store, run_id = update.args
    return type(store).get_run.__wrapped__(store, run_id)


# -- the client: artifacts of our run, and runs on other servers ------------------------------------------------------------------


def _patch_client(module: ModuleType) -> None:
    client: Any = module.TrackingServiceClient

    def artifacts(name: str, take: Any) -> None:
        original = getattr(client, name)

        @functools.wraps(original)
        def call(self: Any, run_id: Any, local: Any, artifact_path: Any = None, *arguments: Any, **named: Any) -> Any:
            own = _own
            if own is not None and run_id == own.run_id and own.is_store(self.store):
                return take(own.recorder, os.fspath(local), artifact_path or "")
            if own is not None and not own.is_store(self.store):
                take(own.recorder, os.fspath(local), artifact_path or "")
            return original(self, run_id, local, artifact_path, *arguments, **named)

        setattr(client, name, call)

    artifacts("log_artifact", _take_artifact)
    artifacts("log_artifacts", _take_artifacts)

    def also(name: str, act: Any) -> None:
        """For a run on another server: the call, and `act`."""
        original = getattr(client, name)

        @functools.wraps(original)
        def call(self: Any, run_id: Any, *arguments: Any, **named: Any) -> Any:
            result = original(self, run_id, *arguments, **named)
            if _own is not None and not _own.is_store(self.store):
                act(_own, *arguments, **named)
            return result

        setattr(client, name, call)

    also("log_metric", _also_metric)
    also("log_param", guarded("mlflow")(lambda own, key, value, *_, **__: own.recorder.param(key, value)))
    also("set_tag", _also_tag)
    also("log_batch", _also_batch)


@guarded("mlflow")
def _also_metric(own: _OwnRun, key: str, value: Any, timestamp: Any = None, step: Any = None, *_: Any, **__: Any) -> None:
    if not is_forwarded():
        own.recorder.log({key: value}, int(step or 0), timestamp / 1000 if timestamp else None)


@guarded("mlflow")
def _also_tag(own: _OwnRun, key: str, value: Any, *_: Any, **__: Any) -> None:
    if not key.startswith("mlflow."):  # theirs tell of their run: its source, its user
        own.recorder.tag(key, value)


@guarded("mlflow")
def _also_batch(own: _OwnRun, metrics: Any = (), params: Any = (), tags: Any = (), *_: Any, **__: Any) -> None:
    own.batch(metrics, params, [tag for tag in tags if not tag.key.startswith("mlflow.")])


@guarded("mlflow")
def _take_artifact(recorder: recorders.Recorder, path: str, folder: str) -> None:
    if os.path.isdir(path):
        return _take_artifacts(recorder, path, "/".join(part for part in (folder, os.path.basename(path)) if part))
    recorder.artifact(path, "/".join(part for part in (folder, os.path.basename(path)) if part))


@guarded("mlflow")
def _take_artifacts(recorder: recorders.Recorder, path: str, folder: str) -> None:
    for parent, _, files in os.walk(path):
        for file in files:
            whole = os.path.join(parent, file)
            recorder.artifact(whole, "/".join(part for part in (folder, os.path.relpath(whole, path)) if part))


def _patch_lightning_logger(module: ModuleType) -> None:
    """Lightning's logger makes a run of its own unless it is given one; where the server is ours, it is given ours."""
    logger: Any = module.MLFlowLogger
    original = logger.__init__

    @functools.wraps(original)
    def init(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        own = _own
        if own is not None and own.run_id and self._run_id is None and str(self._tracking_uri).rstrip("/") == own.url:
            self._run_id = own.run_id

    logger.__init__ = init


# -- autologging ----------------------------------------------------------------------------------------------------------------------


def _patch_sklearn(module: ModuleType) -> None:
    """Switch MLflow's autologging on at the first fit of an estimator: importing scikit-learn, say for its data, is no reason to."""
    estimator: Any = module.BaseEstimator
    original = estimator.__dict__.get("__init_subclass__")
    switch = _Switch("sklearn")

    def wrap(cls: Any) -> None:
        fit = cls.__dict__.get("fit")
        if fit is None or not callable(fit) or hasattr(fit, "_narf"):
            return

        @functools.wraps(fit)
        def watched(self: Any, *arguments: Any, **named: Any) -> Any:
            if switch.is_on or not switch.turn():
                return fit(self, *arguments, **named)
            return type(self).fit(self, *arguments, **named)  # by way of what MLflow has put around it

        watched._narf = True  # type: ignore[attr-defined]
        cls.fit = watched

    def init_subclass(cls: Any, /, **named: Any) -> None:
        if original is not None:
            original.__get__(None, cls)(**named)
        else:
            super(estimator, cls).__init_subclass__(**named)
        wrap(cls)

    estimator.__init_subclass__ = classmethod(init_subclass)
    waiting = list(estimator.__subclasses__())
    while waiting:  # loaded before the fork
        cls = waiting.pop()
        wrap(cls)
        waiting += cls.__subclasses__()


class _Switch:
    """Turns the autologging of one library on, once."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.is_on = False

    def turn(self) -> bool:
        """Whether it was turned on now."""
        if self.is_on:
            return False
        self.is_on = True
        return bool(_autolog(self.library))


def _autolog_library(library: str, module: ModuleType) -> None:
    _autolog(library)


@guarded("mlflow")
def _autolog(library: str) -> bool:
    import importlib
    import importlib.util

    if _own is None or not _own.run_id or not _own.url or importlib.util.find_spec("mlflow") is None:
        return False
    if os.environ.get("NARF_AUTOLOG", "1") == "0":
        return False
    flavor = importlib.import_module(f"mlflow.{library}")
    # Models are left to the script: saving one takes seconds and needs the server.
    flavor.autolog(log_models=os.environ.get("NARF_AUTOLOG_MODELS") == "1", log_datasets=False, silent=True, exclusive=False)
    return True
