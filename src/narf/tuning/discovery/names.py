"""What the name of a parameter tells: whether it sets the model, or how long, where or on what the script runs."""

from __future__ import annotations

import re

from narf.tuning.discovery.found import FoundParameter, Style

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
SETS_LENGTH = "It sets how long a trial trains; give it after --."
OF_DATA = "It sets the data, not the model."
_ELSEWHERE = "It sets where or how the script runs, not the model."

# Parameters that say where, how long or on what a script runs; searching over them makes no better model.
_LENGTH = {"epoch", "epochs", "iteration", "iterations", "iters", "rounds", "episodes", "timesteps"}
_LENGTH_NAMES = {
    "steps", "max_steps", "num_steps", "n_steps", "total_steps", "train_steps", "training_steps", "max_iter", "n_iter", "num_iter",
    "niter", "niter_decay", "updates", "n_updates", "num_updates", "total_updates",
}  # fmt: skip
_UNTIL = {"warmup", "freeze", "unfreeze", "anneal", "annealing"}  # phases of a schedule, not its length
_NOT_THE_MODEL = {
    "seed", "workers", "worker", "jobs", "threads", "device", "devices", "gpu", "gpus", "cpu", "cpus", "cuda", "port", "rank", "world", "verbose", "verbosity", "debug",
    "quiet", "resume", "accel", "accelerator", "accelerators", "path", "dir", "directory", "folder", "file", "filename", "url", "host", "checkpoint", "ckpt", "checkpointing", "log",
    "logging", "logger", "save", "print", "progress", "pin", "deterministic", "benchmark", "fast", "dev", "test", "val", "validation", "valid", "eval", "split", "fold",
    "folds", "profiler", "cache", "download", "tag", "version", "project", "entity", "wandb", "tensorboard", "mlflow", "plot", "interval", "every", "frequency", "freq",
    "classes", "labels", "prefetch", "persistent", "compile", "amp", "precision", "timeout", "dry", "output", "outputs", "out", "in", "samples", "rows", "report", "reports",
    "dpi", "figure", "fig", "retries", "retry", "clients", "customers", "users", "products", "accounts", "items", "points", "odds", "loans", "applications", "applicants",
    "borrowers", "transactions", "txns", "merchants", "patients", "documents", "docs", "sentences", "images", "records", "dataset", "datasets", "track", "multicore",
    "holdout", "vocab", "env", "environment", "sos", "eos", "bos", "unk", "idx", "index", "stores", "branches", "claims", "policies", "patience", "tf32", "jit", "ddp",
    "cudnn", "backend", "chunksize", "chunk", "show", "display", "export", "upload", "force", "interactive", "smoke", "strict", "offline", "quick", "ticker", "symbol",
    "country", "region", "language", "lang", "format", "fmt", "theme", "stratify", "stratified", "cv", "assets", "stocks", "sensors", "machines", "companies", "entities",
    "subset", "limit",
}  # fmt: skip
_NAMES_LEFT_ALONE = {
    "max_steps", "num_steps", "n_steps", "max_iter", "outputs", "random_state", "local_rank", "n_classes", "num_classes", "input_dim", "output_dim", "input_size",
    "output_size", "in_features", "out_features", "in_channels", "out_channels", "num_nodes", "in_dim", "out_dim", "n_features", "num_features", "num_inputs", "num_outputs",
    "train_size", "train_fraction", "image_size", "img_size", "overwrite", "inputs", "drop_last", "n_inputs", "n_outputs", "vocab_size", "k_shot", "n_shot", "k_query",
    "n_query", "n_way", "k_way", "n_days", "num_days", "n_weeks", "n_months", "n_years", "n_hours", "num_hours", "fp16", "bf16", "apex", "target_size", "train", "training",
    "do_train", "is_train", "n_actions", "num_actions", "state_dim", "action_dim", "obs_dim", "max_time", "patience", "min_delta", "maximize", "capturable", "differentiable",
    "foreach", "fused", "decoupled_weight_decay", "n_bootstrap", "n_bootstraps", "n_repeats", "base_score", "oot_share", "holdout_share", "n", "horizon", "n_init",
    "n_restarts", "num_restarts", "n_obs", "n_train", "n_series", "n_stores", "early_stopping_rounds", "confidence", "n_permutations",
    "refit", "scoring", "load", "pdo",
}  # fmt: skip
_AT_ONCE = re.compile(
    r"(samples|images|imgs|ims|examples|items|tokens|sequences|episodes|games|rollouts)_per_(gpu|device|batch|step|update|iteration)$"
)  # a batch size
_LEARNS = re.compile(r"(learn|train|update|sync|target\w*|bagging|subsample)_(every|freq|frequency|interval)$")  # how often one learns
_LOOKS_ON = re.compile(
    r"(test|eval|valid|val)_?(batch|bs)|.*_per_class$|(train|test|holdout|calib\w*)_?(frac|fraction|share|ratio|split|pct)$"
)
_LOGARITHM = re.compile(
    r"(use_)?log(arithm)?(1p)?(_(?!(model|grad|gradient|image|metric|every|to|wandb|mlflow|file|step|freq|param|dir|level|prediction|artifact))\w+)?s?$"
)
_FREQUENCIES = re.compile(r"(min|max)_freq(uency)?$|freq(uency)?_mask")
_KEPT = {
    "dropout", "momentum", "lr", "decay", "leaf", "clip", "clipping", "smooth", "smoothing", "activation", "act", "inducing",
}  # fmt: skip  # words that outweigh those above: `out_dropout` is a rate
_KEPT_NAMES = {
    "min_samples_split", "max_samples", "min_child_samples", "log1p", "log_transform", "log_target", "gradient_clip_val", "min_samples",
}  # fmt: skip  # of trees, not of data; logarithms
_RATES = {
    "clip", "smoothing", "rate", "alpha", "beta", "gamma", "lambda", "eta", "tau", "rho", "penalty", "reg", "l1", "l2", "ratio", "weight", "temperature", "margin", "warmup",
    "noise", "eps", "epsilon", "tol", "c", "threshold", "wd", "neighbors", "neighbours", "clusters", "components", "window", "lags", "degree", "scale", "level", "strength",
    "factor", "delta",
}  # fmt: skip
_PREPARES = {"preprocess", "preprocessing", "prep", "features", "feature", "transform", "transforms"}
_TREES = {"leaf", "leaves", "shrinkage", "bins", "subsample", "colsample", "trees", "child", "booster", "boosting"}
_ABOUT_THE_RUN = {
    "checkpoint", "checkpointing", "logging", "logger", "eval", "profiler", "wandb", "mlflow", "report", "evaluation", "reporting", "metrics", "checkpoints", "callback",
    "callbacks", "tracking", "paths", "io",
}  # fmt: skip
_OF_DATA = {
    "classes", "n", "degree", "features", "dim", "size", "length", "channels", "num", "noise_level", "informative", "days", "weeks", "months", "years",
}  # fmt: skip
# Sections about where data come from.
_WORLDS = {"env", "environment", "simulator", "simulation", "world", "source", "universe", "synthetic"}
_STAYS = re.compile(
    r"\b(keep (it |this )?(at|fixed)|(do not|don't|never) (change|tune)|not (to be )?tuned|for comparisons?)\b", re.IGNORECASE
)
_CALENDAR = {7, 12, 24, 30, 52, 60, 250, 252, 260, 365, 3600, 86400}
_TIMES = {"trading", "business", "per", "year", "annual", "annualisation", "annualization"}
_SIZES = {
    "rank", "features", "dim", "size", "channels", "hidden", "units", "embd", "dims", "width", "batch", "filters", "embed", "embedding", "neurons", "model", "latent", "ff",
}  # fmt: skip
_COUNTS = {"n", "trees", "num", "layers", "layer", "depth", "blocks", "heads", "stages", "estimators", "k"}
_TRAINS, _LOOKS = {"train", "fit", "training"}, {"test", "eval", "evaluate", "predict", "infer", "val", "validate", "score"}


def words_of(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(last_of(name))]


def last_of(name: str) -> str:
    """The last part of `model.lr`, and of `logit__C`, as scikit-learn names what is in a pipeline."""
    return name.rpartition(".")[2].rpartition("__")[2]


def sounds_like_a_setting(name: str) -> bool:
    """Whether a name is one that people give to what they tune."""
    return bool(set(words_of(name)) & (_KEPT | _SIZES | _COUNTS | _TREES | _RATES))


def is_of_trees(words: set[str], names: set[str]) -> bool:
    """Whether a script that has parameters of these names, and these words in them, boosts trees."""
    return bool(words & _TREES or "max_depth" in names) and not words & {"epoch", "epochs", "steps"}


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


def reason_to_leave(parameter: FoundParameter) -> str:
    words, last = set(words_of(parameter.name)), last_of(parameter.name).lower().replace("-", "_")
    if parameter.name.startswith(("trainer.", "hydra.")) and (last not in _KEPT_NAMES or parameter.default is None):
        return "It sets how the script runs, not the model."
    around = set(_WORDS.findall(parameter.name.rpartition(".")[0].lower()))
    if around & _ABOUT_THE_RUN or (around & {"data", "dataset", "datamodule"} and last in _OF_DATA):
        return _ELSEWHERE
    if around & _WORLDS and parameter.type in ("int", "float") and not core_of(parameter.name) and last not in ("gamma", "discount"):
        return OF_DATA
    if _STAYS.search(parameter.help):
        return "Its help says that it stays."
    if "seed" in words_of(parameter.passing.flag):
        return _ELSEWHERE
    if (
        isinstance(parameter.default, int)
        and parameter.default in _CALENDAR
        and words & _TIMES
        and parameter.style in (Style.CONSTANT, Style.TABLE)
    ):
        return "It is a number of the calendar."
    if not _AT_ONCE.search(last) and not words & _UNTIL and (words & _LENGTH or _LENGTH_NAMES & {last, "_".join(last.split("_")[-2:])}):
        return SETS_LENGTH
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
    if parameter.type == "bool" and _LOGARITHM.match(last):
        words -= {"log"}
    if parameter.type == "choice" and set(parameter.choices) & _TRAINS and set(parameter.choices) & _LOOKS:
        return _ELSEWHERE
    is_kept = bool(words & _KEPT) or last in _KEPT_NAMES or any(kept.search(last) for kept in (_LEARNS, _AT_ONCE, _FREQUENCIES))
    if parameter.type == "bool":
        words -= {"classes", "labels", "samples", "rows", "items", "points", "products", "users", "customers", "transactions", "images"}
    if (words & _NOT_THE_MODEL and not is_kept) or last in _NAMES_LEFT_ALONE or _LOOKS_ON.match(last):
        return _ELSEWHERE
    if last in ("eps", "epsilon") and isinstance(parameter.default, float) and 0 < parameter.default < 1e-4:
        return "It keeps a division from zero."
    if parameter.type == "list":
        return "It takes several values."
    if parameter.type == "str":
        return "It is text without a list of choices."
    if parameter.type == "choice" and len(set(parameter.choices)) < 2:
        return "It has a single choice."
    return ""


def is_size(words: set[str]) -> bool:
    return bool(words & _SIZES) and not words & {"layers", "layer", "depth", "blocks", "heads", "head"}
