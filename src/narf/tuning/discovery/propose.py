"""A range and a scale for each parameter found, from its name, type, default and the limits it states."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace

from narf.domain.errors import BadInput
from narf.tuning.discovery.found import FoundParameter, Style
from narf.tuning.space import Condition, Kind, Parameter, Scale

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# Parameters that say where, how long or on what a script runs; searching over them makes no better model.
_LENGTH = {"epoch", "epochs", "iteration", "iterations", "iters", "rounds", "episodes", "timesteps"}
_LENGTH_NAMES = {
    "steps",
    "max_steps",
    "num_steps",
    "n_steps",
    "total_steps",
    "train_steps",
    "training_steps",
    "max_iter",
    "n_iter",
    "num_iter",
}
_NOT_THE_MODEL = {
    "seed", "workers", "worker", "jobs", "threads", "device", "devices", "gpu", "gpus", "cpu", "cpus", "cuda", "port", "rank", "world", "verbose", "verbosity",
    "debug", "quiet", "resume", "accelerator", "accelerators", "path", "dir", "directory", "folder", "file", "filename", "url", "host", "checkpoint",
    "ckpt", "checkpointing", "log", "logging", "logger", "save", "print", "progress", "pin", "deterministic", "benchmark", "fast", "dev", "test", "val", "validation", "valid", "eval",
    "split", "fold", "folds", "profiler", "cache", "download", "tag", "version", "project", "entity", "wandb", "tensorboard", "mlflow", "plot", "interval", "every", "frequency", "freq", "classes", "labels", "prefetch", "persistent", "compile", "amp", "precision", "timeout", "dry", "output", "outputs", "out", "in", "samples", "rows", "report", "reports", "dpi", "figure", "fig", "retries", "retry", "clients", "customers", "users", "products", "accounts", "items", "points", "odds", "loans", "applications", "applicants", "borrowers", "transactions", "txns", "merchants", "patients", "documents", "docs", "sentences", "images", "records", "dataset", "datasets", "track", "multicore", "load", "holdout", "vocab", "env", "environment", "sos", "eos", "bos", "unk", "idx", "index", "stores", "branches", "claims", "policies",
}  # fmt: skip
_NAMES_LEFT_ALONE = {
    "random_state", "local_rank", "n_classes", "num_classes", "input_dim", "output_dim", "input_size", "output_size", "in_features", "out_features", "in_channels",
    "out_channels", "num_nodes", "in_dim", "out_dim", "n_features", "num_features", "num_inputs", "num_outputs", "max_steps", "num_steps", "n_steps", "max_iter", "train_size",
    "train_fraction", "image_size", "img_size", "overwrite", "inputs", "outputs", "drop_last", "n_inputs", "n_outputs", "vocab_size", "k_shot", "n_shot", "k_query", "n_query", "n_way", "k_way", "n_days", "num_days", "n_weeks", "n_months", "n_years", "n_hours", "num_hours", "fp16", "bf16", "apex", "target_size", "train", "training", "do_train", "is_train", "n_actions", "num_actions", "state_dim", "action_dim", "obs_dim", "max_time", "patience", "min_delta", "maximize", "capturable", "differentiable",
    "foreach", "fused", "decoupled_weight_decay", "n_bootstrap", "n_bootstraps", "n_repeats", "base_score", "oot_share", "holdout_share", "n", "horizon",
}  # fmt: skip
_AT_ONCE = re.compile(
    r"(samples|images|imgs|ims|examples|items|tokens|sequences)_per_(gpu|device|batch|step)$"
)  # samples_per_gpu is a batch size
_LEARNS = re.compile(r"(learn|train|update|sync|target\w*)_(every|freq|frequency|interval)$")  # how often one learns from what was seen
_LOOKS_ON = re.compile(r"(test|eval|valid|val)_?(batch|bs)|.*_per_class$")
_KEPT = {
    "dropout",
    "momentum",
    "lr",
    "decay",
    "leaf",
    "clip",
    "clipping",
    "smooth",
    "smoothing",
}  # words that outweigh those above: `out_dropout` is a rate
_KEPT_NAMES = {
    "min_samples_split",
    "max_samples",
    "min_child_samples",
    "log1p",
    "log_transform",
    "log_target",
    "gradient_clip_val",
}  # of trees, not of data; logarithms
_RATES = {"rate", "alpha", "beta", "gamma", "lambda", "eta", "tau", "rho", "penalty", "reg", "l1", "l2", "ratio", "weight", "temperature", "margin", "clip", "warmup", "smoothing",
          "noise", "eps", "epsilon", "tol", "c", "threshold", "wd", "neighbors", "neighbours", "clusters", "components", "window", "lags", "degree", "scale", "level", "strength", "factor", "delta"}  # fmt: skip
_PREPARES = {"preprocess", "preprocessing", "prep", "features", "feature", "transform", "transforms"}
_TREES = {"leaf", "leaves", "shrinkage", "bins", "subsample", "colsample", "trees", "child", "booster", "boosting"}
_ABOUT_THE_RUN = {
    "eval",
    "evaluation",
    "report",
    "reporting",
    "metrics",
    "checkpoint",
    "checkpointing",
    "checkpoints",
    "callback",
    "callbacks",
    "logger",
    "logging",
    "wandb",
    "mlflow",
    "tracking",
    "paths",
    "io",
    "profiler",
}
_AT_LEAST_TWO = {"min_samples_split", "max_leaf_nodes", "num_leaves", "n_splits", "n_bins"}
_OF_DATA = {
    "features",
    "dim",
    "size",
    "length",
    "channels",
    "n",
    "num",
    "classes",
    "degree",
    "noise_level",
    "informative",
    "days",
    "weeks",
    "months",
    "years",
}
_CALENDAR = {7, 12, 24, 30, 52, 60, 250, 252, 260, 365, 3600, 86400}
_TIMES = {"trading", "business", "per", "year", "annual", "annualisation", "annualization"}
_SETS_LENGTH = "It sets how long a trial trains; give it after --."
_SIZES = {
    "hidden",
    "units",
    "embd",
    "dim",
    "dims",
    "width",
    "batch",
    "size",
    "channels",
    "filters",
    "embed",
    "embedding",
    "features",
    "neurons",
    "rank",
    "model",
    "latent",
    "ff",
}
_COUNTS = {"layers", "layer", "depth", "blocks", "heads", "num", "n", "stages", "estimators", "trees", "k"}


def propose(parameter: FoundParameter) -> FoundParameter:
    """The parameter with its `proposal`, or with the reason why there is none in `left_alone`."""
    if parameter.left_alone:
        return parameter
    if reason := _reason_to_leave(parameter):
        return replace(parameter, left_alone=reason)
    return _with_proposal(parameter)


def _with_proposal(parameter: FoundParameter) -> FoundParameter:
    try:
        proposal = _proposal(parameter)
    except (BadInput, OverflowError, ValueError):
        proposal = None
    if proposal is None:
        return replace(parameter, left_alone="No range can be guessed; give one with --param.")
    return replace(parameter, proposal=proposal)


def propose_all(parameters: Iterable[FoundParameter]) -> tuple[FoundParameter, ...]:
    """Each with its proposal. Beside the words of boosted trees, rounds and iterations are trees, which a search may count; beside
    episodes or timesteps, steps are how far one looks ahead and epochs how often one learns from what was seen; beside the ends of a
    noise schedule, timesteps are its length."""
    found = tuple(propose(parameter) for parameter in parameters)
    words = {word for parameter in found for word in words_of(parameter.name)}
    names = {last_of(parameter.name).lower() for parameter in found}

    def is_of_the_model(item: FoundParameter) -> bool:
        if item.left_alone != _SETS_LENGTH or item.type != "int":
            return False
        is_of_trees = bool(words & _TREES or "max_depth" in names) and not words & {"epoch", "epochs", "steps"}
        own, last = set(words_of(item.name)), last_of(item.name).lower()
        is_of_a_rollout = bool(words & {"episodes", "timesteps"}) and not own & {
            "episodes",
            "timesteps",
            "total",
            "max",
            "train",
            "training",
        }
        if names & {"beta_start", "beta_schedule", "noise_schedule", "beta_end"}:
            return "timesteps" in own
        return (is_of_trees and "iter" not in own) or (is_of_a_rollout and last not in ("steps", "epochs", "iterations"))

    return _grouped(_divisible(tuple(_with_proposal(replace(item, left_alone="")) if is_of_the_model(item) else item for item in found)))


def _grouped(found: tuple[FoundParameter, ...]) -> tuple[FoundParameter, ...]:
    """What stands in the chosen file of a config group, `model.width` of `model=mlp`, is there only with that choice."""
    groups = {item.name: item for item in found if item.type == "choice" and item.style is Style.HYDRA and item.proposal is not None}
    result = []
    for item in found:
        group = next((groups[name] for name in groups if item.name.startswith(f"{name}.")), None)
        if group is not None and item.proposal is not None:
            item = replace(item, proposal=replace(item.proposal, when=(Condition(group.name, (str(group.default),)),)))
        result.append(item)
    return tuple(result)


def _divisible(found: tuple[FoundParameter, ...]) -> tuple[FoundParameter, ...]:
    """The width of a transformer is a multiple of its heads: ranges under which every trial is."""
    heads = [item for item in found if {"heads", "head"} & set(words_of(item.name)) and item.type == "int" and item.proposal is not None]
    if len(heads) != 1 or not isinstance(count := heads[0].default, int) or count < 1:
        return found

    def is_width(item: FoundParameter) -> bool:
        named = {"embd", "embed", "embedding", "model"} & set(words_of(item.name)) or last_of(item.name).lower() in ("hidden_size", "dim")
        return (
            bool(named)
            and item is not heads[0]
            and item.proposal is not None
            and isinstance(item.default, int)
            and item.default % count == 0
        )

    widths = [item for item in found if is_width(item)]
    changed: dict[str, FoundParameter] = {}
    scales = {item.proposal.scale for item in [*widths, heads[0]] if item.proposal is not None}
    if scales == {Scale.POWER_OF_TWO} and widths:
        most = min(count * 4, *(int(item.default) for item in widths))  # type: ignore[arg-type] # looked at above
        changed[heads[0].name] = replace(
            heads[0], proposal=replace(heads[0].proposal, high=most) if heads[0].proposal and most > 1 else None
        )
        for item in widths:
            if item.proposal is not None and item.proposal.low is not None and item.proposal.low < most:
                changed[item.name] = replace(item, proposal=replace(item.proposal, low=most))
    elif widths:
        step = count * 2 if all(isinstance(item.default, int) and item.default % (count * 2) == 0 for item in widths) else count
        divisors = tuple(number for number in range(1, step + 1) if step % number == 0)
        if len(divisors) > 1:
            changed[heads[0].name] = replace(heads[0], proposal=Parameter(name=heads[0].name, kind=Kind.CATEGORICAL, choices=divisors))
        for item in widths:
            assert isinstance(item.default, int)
            low, high = max(1, item.default // 4 // step) * step, max(2, item.default * 4 // step) * step
            changed[item.name] = replace(item, proposal=Parameter(name=item.name, kind=Kind.INT, low=low, high=high, step=step))
    return tuple(changed.get(item.name, item) for item in found)


def words_of(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(last_of(name))]


def last_of(name: str) -> str:
    """The last part of `model.lr`, and of `logit__C`, as scikit-learn names what is in a pipeline."""
    return name.rpartition(".")[2].rpartition("__")[2]


def sounds_like_a_setting(name: str) -> bool:
    """Whether a name is one that people give to what they tune."""
    return bool(set(words_of(name)) & (_KEPT | _SIZES | _COUNTS | _TREES | _RATES))


def core_of(name: str) -> str:
    """Which of the few settings that every training has a name stands for; "" for others."""
    words, last = words_of(name), last_of(name).lower()
    joined = set(words)
    if "lr" in joined or {"learning", "rate"} <= joined or last in ("eta", "eta0", "step_size"):
        return "" if joined & {"min", "end", "final", "decay", "gamma", "scheduler", "factor", "warmup"} else "learning rate"
    if _AT_ONCE.search(last) or ("batch" in joined and not joined & {"norm", "val", "test", "eval", "batches"}) or last in ("bs", "bsz"):
        return "batch size"
    if last in ("wd", "l2") or {"weight", "decay"} <= joined:
        return "weight decay"
    if "dropout" in joined or last in ("p", "p_drop", "drop", "drop_rate"):
        return "dropout"
    return "momentum" if last == "momentum" else ""


def _reason_to_leave(parameter: FoundParameter) -> str:
    words, last = set(words_of(parameter.name)), last_of(parameter.name).lower().replace("-", "_")
    if parameter.name.startswith(("trainer.", "hydra.")) and (last not in _KEPT_NAMES or parameter.default is None):
        return "It sets how the script runs, not the model."
    around = set(_WORDS.findall(parameter.name.rpartition(".")[0].lower()))
    if around & _ABOUT_THE_RUN or (around & {"data", "dataset", "datamodule"} and last in _OF_DATA):
        return "It sets where or how the script runs, not the model."
    if (
        isinstance(parameter.default, int)
        and parameter.default in _CALENDAR
        and words & _TIMES
        and parameter.style in (Style.CONSTANT, Style.TABLE)
    ):
        return "It is a number of the calendar."
    if "warmup" not in words and (words & _LENGTH or _LENGTH_NAMES & {last, "_".join(last.split("_")[-2:])}):
        return _SETS_LENGTH
    if "per" in words:
        words -= {"device", "gpu", "cpu"}  # per_device_train_batch_size is a batch size
    if parameter.type == "bool" and set(_WORDS.findall(parameter.name.rpartition(".")[0].lower())) & _PREPARES:
        words -= {"log"}  # preprocess.log_amounts takes logarithms
    if (
        "rank" in words
        and not words & {"local", "world", "node", "global"}
        and isinstance(parameter.default, int)
        and parameter.default > 1
    ):
        words -= {"rank"}  # of a factorisation, not of a process
    is_kept = bool(_LEARNS.match(last)) or bool(words & _KEPT) or last in _KEPT_NAMES or bool(_AT_ONCE.search(last))
    if parameter.type == "bool":
        words -= {"classes", "labels", "samples", "rows", "items", "points", "products", "users", "customers", "transactions", "images"}
    if (words & _NOT_THE_MODEL and not is_kept) or last in _NAMES_LEFT_ALONE or _LOOKS_ON.match(last):
        return "It sets where or how the script runs, not the model."
    if last in ("eps", "epsilon") and isinstance(parameter.default, float) and 0 < parameter.default < 1e-4:
        return "It keeps a division from zero."
    if parameter.type == "list":
        return "It takes several values."
    if parameter.type == "str":
        return "It is text without a list of choices."
    if parameter.type == "choice" and len(set(parameter.choices)) < 2:
        return "It has a single choice."
    return ""


def _proposal(parameter: FoundParameter) -> Parameter | None:
    name, default = parameter.name, parameter.default
    if parameter.type == "bool":
        return Parameter(name=name, kind=Kind.BOOL)
    if parameter.type == "choice":
        return Parameter(name=name, kind=Kind.CATEGORICAL, choices=tuple(dict.fromkeys(parameter.choices)))
    number = default if isinstance(default, int | float) and not isinstance(default, bool) and math.isfinite(default) else None
    if parameter.type == "float":
        return _float(parameter, None if number is None else float(number))
    if parameter.type == "int":
        return _int(parameter, None if number is None else int(number))
    return None


def _float(parameter: FoundParameter, default: float | None) -> Parameter:
    words, last = words_of(parameter.name), last_of(parameter.name).lower()
    is_rate = "lr" in words or ("learning" in words and "rate" in words) or last in ("eta", "eta0", "step_size")
    is_decay = last in ("weight_decay", "wd", "l1", "l2", "reg", "lambda", "lam", "eps", "epsilon", "reg_alpha", "reg_lambda") or {
        "weight",
        "decay",
    } <= set(words)
    if "dropout" in words or "drop" in words or last == "p":
        return _range(parameter, 0.0, 0.9)
    if "momentum" in words:
        return _range(parameter, 0.0, 0.99)
    if "beta1" in last or "beta2" in last or last in ("betas", "ema", "ema_decay", "rho"):
        return _range(parameter, 0.8, 0.999) if default is None or 0.8 <= default <= 0.999 else _range(parameter, 0.0, 0.999)
    if is_rate:
        base = default if default is not None and default > 0 else 1e-3
        return _range(parameter, _round(base / 30), min(_round(base * 30), max(1.0, base)), Scale.LOG)
    if is_decay or ("decay" in words and (default is None or default < 0.5)):
        base = default if default is not None and default > 0 else 1e-4
        return _range(parameter, _round(base / 100), min(_round(base * 100), max(1.0, base)), Scale.LOG)
    if default is None:
        return _range(parameter, 0.0, 1.0)
    if last == "c" and default > 0:  # the inverse regularisation of a support vector machine or logistic regression
        return _range(parameter, _round(default / 100), _round(default * 100), Scale.LOG)
    if last in ("contamination", "nu") and default < 0.5:
        return _range(parameter, 0.001, 0.5)
    is_share = bool(set(words) & {"fraction", "share", "subsample", "colsample", "quantile"}) or last in ("max_features", "max_samples")
    if is_share and 0.2 <= default <= 1:
        return _range(parameter, min(0.05, _round(default / 2)), 0.95 if "quantile" in words and default < 1 else 1.0)
    if default < 0:
        return _range(parameter, default * 2, 0.0)
    if default == 0:
        return _range(parameter, 0.0, 1.0)
    if default <= 0.01:
        return _range(parameter, _round(default / 100), _round(default * 100), Scale.LOG)
    if default < 0.2:
        return _range(parameter, 0.0, _round(5 * default))
    if default <= 1:
        return _range(parameter, 0.0, 1.0)
    return _range(parameter, _round(default / 5), _round(default * 5), Scale.LOG)


def _int(parameter: FoundParameter, default: int | None) -> Parameter:
    words = set(words_of(parameter.name))
    is_size = bool(words & _SIZES) and not words & {"layers", "layer", "depth", "blocks", "heads", "head"}
    if is_size and (default is None or default >= 4):
        base = 32 if default is None else default
        if base & (base - 1) == 0:
            return _range(parameter, max(1, base // 4), base * 4, Scale.POWER_OF_TWO)
        return _range(parameter, max(1, base // 4), base * 4, Scale.LOG)
    if default is None:
        return _range(parameter, 1, 8)
    if default <= 0:
        return _range(parameter, default, default + 10)
    if words & {"heads", "head"} and default & (default - 1) == 0:
        return _range(parameter, 1, default * 4, Scale.POWER_OF_TWO)
    if default >= 32:
        is_power = default & (default - 1) == 0
        return _range(parameter, max(1, default // 4), default * 4, Scale.POWER_OF_TWO if is_power else Scale.LOG)
    return _range(parameter, 1, max(2 * default, default + 2))


def _range(parameter: FoundParameter, low: float, high: float, scale: Scale = Scale.LINEAR) -> Parameter:
    """The range, inside the limits that the script enforces."""
    kind = Kind.INT if parameter.type == "int" else Kind.FLOAT
    low, high = _inside(low, parameter), _inside(high, parameter)
    if kind is Kind.INT and last_of(parameter.name).lower() in _AT_LEAST_TWO:
        low, high = max(low, 2), max(high, 3)
    if scale is not Scale.LINEAR and low <= 0:
        low = min(1e-5, high / 1000) if kind is Kind.FLOAT else 1
    if scale is Scale.POWER_OF_TWO:
        low, high = 2 ** math.ceil(math.log2(low)), 2 ** math.floor(math.log2(high))
    if low >= high and parameter.least is not None and parameter.most is not None:
        low, high, scale = parameter.least, parameter.most, Scale.LINEAR
    return Parameter(name=parameter.name, kind=kind, low=low, high=high, scale=scale)


def _inside(value: float, parameter: FoundParameter) -> float:
    if parameter.least is not None:
        value = max(value, parameter.least)
    return value if parameter.most is None else min(value, parameter.most)


def _round(value: float) -> float:
    """To two significant digits: 0.0333 becomes 0.033."""
    return float(f"{value:.2g}")
