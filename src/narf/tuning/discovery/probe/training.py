"""Where a script begins to train: the dry run ends there."""

# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-untyped-call,var-annotated,attr-defined,method-assign,assignment,index"
# It replaces parts of libraries that need not be installed; types would say Any everywhere.

from __future__ import annotations

import contextlib
import re
import sys
import threading

from narf.tuning.discovery.probe.found import FOUND, save, stop
from narf.tuning.discovery.probe.objects import look

_METRIC = re.compile(
    r"(loss|acc|accuracy|auc|auroc|rmse|mae|mse|mape|f1|r2|gini|reward|return|silhouette|inertia|error|brier|ndcg|precision|recall|score|likelihood|perplexity)\b[\"']?\s*[^\w\s.-]{0,2}\s*-?\d+\.\d",
    re.IGNORECASE,
)
_folder = ""


def begin_in(folder, seconds):
    """The script's own folder, whose frames and modules are looked at where it trains, or after so many seconds."""
    global _folder
    _folder = folder
    for stream in (sys.stdout, sys.stderr):
        _listen(stream)
    main = threading.get_ident()

    def late():
        look(_folder, sys._current_frames().get(main))
        save()

    timer = threading.Timer(seconds, late)
    timer.daemon = True
    timer.start()


def begins(where, trace=None):
    """Here the script trains: the end of the dry run."""
    look(_folder, sys._getframe(1), trace)
    stop(where)


def _listen(stream):
    """A script that prints one metric after another trains, with whatever library."""
    write, line, told = stream.write, [], []

    def heard(text):
        line.append(text)
        if "\n" in text:
            whole = "".join(line)
            line.clear()
            if _METRIC.search(whole):
                told.append(whole)
                look(_folder, sys._getframe(1))
                save()
                if len(told) > 1:
                    stop("printed")
        return write(text)

    with contextlib.suppress(AttributeError):
        stream.write = heard


def patch_lightning(library):
    def record(trainer, model=None, *_, **__):
        for callback in getattr(trainer, "callbacks", []):
            monitor = getattr(callback, "monitor", None)
            if isinstance(monitor, str):
                FOUND["metrics"].append({"name": monitor, "mode": str(getattr(callback, "mode", "")), "monitored": True})
        take_module(model)
        begins("Trainer.fit")

    library.Trainer.fit = record


def take_module(model):
    import inspect

    if model is None:
        return
    names = [name for name in inspect.signature(type(model).__init__).parameters if name not in ("self", "args", "kwargs")]
    FOUND["modules"][type(model).__name__] = names


def patch_torch(torch):
    def record(*_, **__):
        FOUND["metrics"].append({"name": "loss", "mode": "min", "monitored": False})
        begins("backward")

    torch.Tensor.backward = record


def patch_sklearn(base):
    original = base.BaseEstimator._validate_params

    def record(estimator, *_, **__):
        if hasattr(type(estimator), "transform") and not hasattr(type(estimator), "predict"):
            return original(estimator)  # a scaler prepares; the model comes later
        with contextlib.suppress(Exception):  # another version states its limits in another way
            take_limits(estimator)
        return begins("fit")

    base.BaseEstimator._validate_params = record


def take_limits(estimator):
    """The ends that scikit-learn states for the parameters of a model, and of the models that it consists of."""
    import numbers

    inner = [value for value in estimator.get_params().values() if hasattr(value, "_parameter_constraints")]
    for model in (estimator, *inner):
        for name, options in model._parameter_constraints.items():
            for option in options if isinstance(options, list) else ():
                if type(option).__name__ != "Interval":
                    continue
                kind = "int" if option.type is numbers.Integral else "float"
                step = 1 if kind == "int" else 1e-6
                least = None if option.left is None else option.left + (0 if option.closed in ("left", "both") else step)
                most = None if option.right is None else option.right - (0 if option.closed in ("right", "both") else step)
                FOUND["limits"].append([name, kind, least, most])


def patch_mlflow(mlflow):
    """A script that logs a metric has trained. Nothing is written to a tracking server, and none is made."""

    class Quiet:
        """Answers everything with itself."""

        def __call__(self, *_, **__):
            return self

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def __str__(self):
            return "0" * 32

    def logged(key, *_, **__):
        for name in key if isinstance(key, dict) else [key]:
            FOUND["metrics"].append({"name": str(name), "mode": "", "monitored": False})
        begins("log_metric")

    for name in ("start_run", "active_run", "end_run", "set_experiment", "create_experiment", "set_tag", "set_tags", "log_param", "log_params", "log_text", "log_dict", "log_input",
                 "autolog"):  # fmt: skip
        if hasattr(mlflow, name):
            setattr(mlflow, name, Quiet())
    mlflow.log_metric = mlflow.log_metrics = logged
