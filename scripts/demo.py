"""`make demo`: from data to a served model, by the commands that anybody would type, on real data.

The data are the handwritten digits that scikit-learn ships (UCI, Alpaydin and Kaynak, CC BY 4.0).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "digits"
FOLDER = Path(os.environ.get("NARF_HOME") or Path.home() / ".narf").expanduser() / "demo"
ROWS = 200


@dataclass
class Demo:
    """Runs commands and remembers how long each took."""

    times: list[tuple[str, float]] = field(default_factory=list)

    def narf(self, title: str, *arguments: str, show: bool = False) -> Any:
        """One command; its answer as JSON, or with `show` its output passed on while it runs."""
        print(f"\n\033[1m{title}\033[0m\n  $ narf {shlex.join(arguments)}", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", "narf.cli", *_with_json(arguments, show)]
        done = subprocess.run(command, cwd=EXAMPLE, stdout=None if show else subprocess.PIPE, stderr=None, text=True, check=False)
        took = time.monotonic() - began
        if done.returncode != 0:
            print(f"\nThe demo stops here: that command ended with {done.returncode}.", file=sys.stderr)
            sys.exit(done.returncode)
        self.times.append((title, took))
        print(f"  \033[2m{took:.1f} s\033[0m", flush=True)
        return None if show else json.loads(done.stdout)


def main() -> None:
    began = time.monotonic()
    demo = Demo()
    url = demo.narf("Start the platform", "up")["url"]

    pixels, labels = write_data(FOLDER / "digits")
    version = demo.narf("Add the dataset", "data", "add", "digits", str(FOLDER / "digits"), "--tag", "approved")
    print(f"  digits@v{version['number']}" if "number" in version else f"  {version['id'][:12]}")

    run = demo.narf(
        "Train: an unchanged script",
        "run",
        "train.py",
        "--data",
        "digits@approved",
        "--follow",
        "--name",
        "first try",
        "--",
        "--epochs",
        "8",
    )
    first = accuracy_of(run["run_id"])
    print(f"  validation accuracy {first:.4f}")

    study = demo.narf(
        "Tune it: its parameters are found, eight trials",
        *("tune", "train.py", "--data", "digits@approved", "--metric", "val_acc", "--maximize", "--trials", "8", "--parallel", "2"),
        *("--param", "lr=3e-4..3e-2 log", "--param", "hidden=64, 128, 256", "--only", "--seed", "1", "--", "--epochs", "8"),
    )
    best = ask("tune", "--best", study["name"])["trial"]
    chosen = ", ".join(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in best["values"].items())
    print(f"  best trial {best['value']:.4f} with {chosen}")

    model = demo.narf("Register the best", "models", "register", best["run_id"], "--name", "digits", "--alias", "champion")
    print(f"  digits version {model['version']}, packaged for {model['package']['runtime']}")

    endpoint = demo.narf("Deploy it", "deploy", "digits@champion", "--replicas", "1..2")
    rows = FOLDER / "rows.json"
    rows.write_text(json.dumps({"inputs": (pixels[:ROWS] / 16.0).tolist()}))
    answer = demo.narf("Send it predictions", "predict", endpoint.get("name", "digits"), "--input", str(rows))
    right = accuracy(answer, labels[:ROWS])
    print(f"  {right * 100:.1f} % of {ROWS} images are recognised")
    if right < 0.9:
        sys.exit("The predictions are worse than the model's validation: something is wrong.")

    print("\n\033[1mWhat ran\033[0m")
    for title, seconds in demo.times:
        print(f"  {seconds:6.1f} s  {title}")
    print(f"  {time.monotonic() - began:6.1f} s  in all")
    print(f"\n  accuracy   first try {first:.4f}   best of the search {best['value']:.4f}   through the endpoint {right:.4f}")
    link = ask("open")["url"]
    print(f"\nNarf is running at {url}. Open it, signed in (works once): {link}")
    print("Stop it with: make down")


def write_data(folder: Path) -> tuple[Any, Any]:
    """Digits as one Parquet table in `folder`; pixels (1797, 64), 0 to 16, and labels (1797,)."""
    import pandas
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    table = pandas.DataFrame(digits.data.astype("uint8"), columns=[f"pixel_{i}" for i in range(64)]).assign(label=digits.target)
    table.to_parquet(folder / "digits.parquet", index=False)
    return digits.data, digits.target


def ask(*arguments: str) -> Any:
    """What a command answers in JSON, without a word about it."""
    done = subprocess.run([sys.executable, "-m", "narf.cli", *arguments, "--json"], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def accuracy_of(run_id: str) -> float:
    return next(float(found["last"]) for found in ask("run-show", run_id)["metrics"] if found["key"] == "val_acc")


def accuracy(answer: Any, labels: Any) -> float:
    """Share of rows whose largest score is at their label."""
    import numpy as np

    (scores,) = answer["outputs"].values()
    return float((np.array(scores).argmax(axis=1) == labels).mean())


def _with_json(arguments: tuple[str, ...], show: bool) -> list[str]:
    """--json before what belongs to the script."""
    if show:
        return list(arguments)
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return [*arguments[:at], "--json", *arguments[at:]]


if __name__ == "__main__":
    main()
