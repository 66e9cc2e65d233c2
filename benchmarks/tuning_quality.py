"""Search quality: our proposer beside Optuna alone, the same sampler and 20 seeds, on four closed-form and tabular problems.

    python benchmarks/tuning_quality.py

One after another the trials must be the same, so the quality is; two at a time is shown beside, as a study runs it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import optuna

from narf.tuning.proposer import Proposer
from narf.tuning.space import Space, read_space
from narf.tuning.study import Direction, Search, TrialState

optuna.logging.set_verbosity(optuna.logging.ERROR)
SEEDS, TRIALS = 20, 40
Values = dict[str, object]


def branin(v: Values) -> float:
    x, y = float(v["x"]), float(v["y"])
    b, c, t = 5.1 / (4 * math.pi**2), 5 / math.pi, 1 / (8 * math.pi)
    return (y - b * x * x + c * x - 6) ** 2 + 10 * (1 - t) * math.cos(x) + 10


def hartmann(v: Values) -> float:
    a = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    p = [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991], [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]  # fmt: skip
    x = [float(v[f"x{i}"]) for i in range(6)]
    return -sum(w * math.exp(-sum(a[i][j] * (x[j] - p[i][j] / 1e4) ** 2 for j in range(6))) for i, w in enumerate((1.0, 1.2, 3.0, 3.2)))


def network(v: Values) -> float:
    """A made-up validation loss with the usual shape: a valley in the rate that moves with the size, and conditional momentum."""
    rate, size = math.log10(float(v["lr"])), math.log2(float(v["size"]))
    loss = 0.3 + (rate + 2.5 + 0.1 * (size - 5)) ** 2 / 4 + (size - 6) ** 2 / 40 + (float(v["dropout"]) - 0.3) ** 2
    return loss + ((float(v["momentum"]) - 0.9) ** 2 if v["optimizer"] == "sgd" else 0.05)


_DIGITS: dict[tuple[object, ...], float] = {}


def digits(v: Values) -> float:
    """A table: the error of a k-nearest-neighbour classifier on handwritten digits, every point computed once."""
    key = (v["k"], v["p"], v["weights"])
    if key not in _DIGITS:
        from sklearn.datasets import load_digits
        from sklearn.neighbors import KNeighborsClassifier

        x, y = load_digits(return_X_y=True)
        model = KNeighborsClassifier(int(v["k"]), p=float(v["p"]), weights=str(v["weights"])).fit(x[:400], y[:400])
        _DIGITS[key] = 1 - model.score(x[400:1000], y[400:1000])
    return _DIGITS[key]


PROBLEMS: dict[str, tuple[Space, Callable[[Values], float]]] = {
    "branin": (read_space({"x": "-5.0..10.0", "y": "0.0..15.0"}), branin),
    "hartmann 6": (read_space({f"x{i}": "0.0..1.0" for i in range(6)}), hartmann),
    "network": (
        read_space({"lr": "1e-5..1.0 log", "size": "16..512 pow2", "dropout": "0.0..0.9", "optimizer": "adam, sgd", "momentum": "0.0..0.99 if optimizer=sgd"}),
        network,
    ),
    "digits table": (read_space({"k": "1..12", "p": "1.0..3.0 step 1.0", "weights": "uniform, distance"}), digits),
}  # fmt: skip


def ours(space: Space, objective: Callable[[Values], float], sampler: str, seed: int, parallel: int) -> list[float]:
    proposer = Proposer(space, Direction.MINIMIZE, Search(sampler=sampler, seed=seed))
    found: list[float] = []
    live: list[tuple[int, Values]] = []
    for number in range(TRIALS):
        live.append((number, dict(proposer.ask(number))))
        if len(live) == parallel or number == TRIALS - 1:
            for asked, values in live:
                found.append(objective(values))
                proposer.tell(asked, TrialState.SUCCEEDED, found[-1])
            live = []
    return found


def alone(space: Space, objective: Callable[[Values], float], sampler: str, seed: int) -> list[float]:
    def run(trial: optuna.Trial) -> float:
        values: Values = {}
        for p in space:
            if not p.is_active(values):
                continue
            if p.choices:
                values[p.name] = trial.suggest_categorical(p.name, p.choices)
            elif p.scale.value == "pow2":
                values[p.name] = 2 ** trial.suggest_int(p.name, int(math.log2(p.low)), int(math.log2(p.high)))
            elif p.kind.value == "int":
                values[p.name] = trial.suggest_int(p.name, int(p.low), int(p.high), log=p.scale.value == "log")
            else:
                values[p.name] = trial.suggest_float(p.name, p.low, p.high, log=p.scale.value == "log", step=p.step)
        return objective(values)

    make = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[sampler]
    study = optuna.create_study(sampler=make(seed=seed))
    study.optimize(run, n_trials=TRIALS)
    return [trial.value for trial in study.trials]


def main() -> int:
    worst = 0
    print(f"median best of {TRIALS} trials over {SEEDS} seeds; 'same' counts seeds with the very same trials")
    print(f"{'problem':<14}{'sampler':<9}{'Optuna alone':>14}{'ours':>12}{'same':>7}{'two at a time':>15}{'ms a trial':>12}")
    for name, (space, objective) in PROBLEMS.items():
        for sampler in ("tpe", "random"):
            theirs = [alone(space, objective, sampler, seed) for seed in range(SEEDS)]
            began = time.perf_counter()
            mine = [ours(space, objective, sampler, seed, 1) for seed in range(SEEDS)]
            each = (time.perf_counter() - began) / SEEDS / TRIALS * 1000
            pairs = [ours(space, objective, sampler, seed, 2) for seed in range(SEEDS)]
            same = sum(a == b for a, b in zip(theirs, mine, strict=True))
            worst = max(worst, SEEDS - same)
            best = [statistics.median(min(run) for run in runs) for runs in (theirs, mine, pairs)]
            print(f"{name:<14}{sampler:<9}{best[0]:>14.5f}{best[1]:>12.5f}{same:>4}/{SEEDS}{best[2]:>15.5f}{each:>12.2f}")
    print("never worse than Optuna alone:", "yes, the trials are the same" if worst == 0 else f"NO: {worst} seeds differ")
    return 0 if worst == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
