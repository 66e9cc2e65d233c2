"""`python -m narf.serving.batch`: predict a whole file, in parts that survive a stop.

Memory is bounded by a part and a row group of the input. An attempt goes on where the last one stopped, whatever ended it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from narf.domain.errors import BadInput, NarfError
from narf.serving.package import read_manifest
from narf.serving.parts import Parts
from narf.serving.protocol.v2 import Schema, check_inputs
from narf.serving.replica import fetched
from narf.serving.rows import Rows, open_rows
from narf.serving.runtimes import Runtime, open_runtime
from narf.serving.tensors import Array, Tensors

_BATCH_ROWS = 1024
# A part ends with the first of these: a fast model writes few files, a slow one loses little.
_PART_ROWS = 262_144
_PART_SECONDS = 5.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m narf.serving.batch", description="Predict a whole file.")
    parser.add_argument("--package", required=True, help="package folder or URL")
    parser.add_argument("--fallback", default="", help="URL of the package where its folder is not on this machine")
    parser.add_argument("--input", type=Path, required=True, help=".parquet, .csv or .npy")
    parser.add_argument("--output", type=Path, required=True, help=".parquet, .csv or .npy")
    parser.add_argument("--part-rows", type=int, default=_PART_ROWS)
    parser.add_argument("--part-seconds", type=float, default=_PART_SECONDS)
    options = parser.parse_args(arguments)
    try:
        rows = predict_file(
            options.package,
            options.input,
            options.output,
            fallback=options.fallback,
            part_rows=options.part_rows,
            part_seconds=options.part_seconds,
        )
    except NarfError as error:
        print(f"narf: {error}", file=sys.stderr)  # noqa: T201 - this is a program
        return 1
    print(f"{rows} rows to {options.output}", flush=True)  # noqa: T201
    return 0


def predict_file(
    package: str, source: Path, target: Path, *, fallback: str = "", part_rows: int = _PART_ROWS, part_seconds: float = _PART_SECONDS
) -> int:
    """Predict every row of `source` into `target`; how many there were.

    Raises:
        BadInput: a file cannot be read or written, or has not what the model takes.
    """
    with tempfile.TemporaryDirectory(prefix="narf-package-") as scratch:
        folder = fetched(package, Path(scratch), fallback)
        manifest = read_manifest(folder)
        rows = open_rows(source, manifest)
        if rows.count == 0:
            raise BadInput(f"{source.name} has no rows.", field="input")
        try:
            parts = Parts(source, target, manifest)
            _predict(rows, Schema(manifest), open_runtime(folder, manifest), parts, part_rows, part_seconds)
            parts.join()
        except OSError as error:
            raise BadInput(f"{error.filename or target}: {error.strerror or error}.", field="output") from error
    return rows.count


def _predict(rows: Rows, schema: Schema, runtime: Runtime, parts: Parts, part_rows: int, part_seconds: float) -> None:
    """Each row that no part has yet."""
    step = min(_BATCH_ROWS, part_rows) if schema.batchable else 1
    position = parts.rows
    if position:
        print(f"{position} of {rows.count} rows were predicted before: going on from there", flush=True)  # noqa: T201
    began, first, part_began = time.monotonic(), position, time.monotonic()
    collected: list[Tensors] = []
    part_start = position
    while position < rows.count:
        end = min(position + step, rows.count)
        inputs = rows.tensors(position, end)
        check_inputs(inputs, schema)
        collected.append(runtime.run(inputs))
        position = end
        now = time.monotonic()
        if position - part_start >= part_rows or now - part_began >= part_seconds or position == rows.count:
            parts.add(part_start, _joined(collected, position - part_start))
            collected, part_start, part_began = [], position, now
            left = (rows.count - position) / ((position - first) / max(now - began, 1e-9))
            print(f"{position} of {rows.count} rows ({100 * position // rows.count} %), {left:.0f} s left", flush=True)  # noqa: T201


def _joined(answers: list[Tensors], count: int) -> Tensors:
    joined: dict[str, Array] = {name: np.concatenate([np.atleast_1d(a[name]) for a in answers]) for name in answers[0]}
    for name, array in joined.items():
        if len(array) != count:
            raise BadInput(f"The model answered {len(array)} values of {name!r} to {count} rows; a file needs one for each.", field="model")
    return joined


if __name__ == "__main__":
    sys.exit(main())
