"""Real inputs from a file: .npy, .npz, .json, .csv or .parquet, as named tensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from narf.domain.errors import BadInput
from narf.serving.tensors import Tensors


def read_inputs(path: Path, names: Sequence[str], columns: Sequence[str] = ()) -> Tensors:
    """The tensors in `path`. A table becomes one matrix where the model has one input, else a tensor for each column.

    Raises:
        BadInput: it cannot be read, or has not what the model asks for.
    """
    try:
        if path.suffix == ".npy":
            return {names[0] if names else "input": np.load(path, allow_pickle=False)}
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".json":
            value = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(value, dict):
                return {str(name): np.asarray(item) for name, item in value.items()}
            return {names[0] if names else "input": np.asarray(value)}
        if path.suffix in {".csv", ".parquet"}:
            return _table(path, names, columns)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path.name} cannot be read as inputs: {error}", field="inputs") from error
    raise BadInput(f"{path.name} has no form that is known.", remedy="Use .npy, .npz, .json, .csv or .parquet.", field="inputs")


def _table(path: Path, names: Sequence[str], columns: Sequence[str]) -> Tensors:
    import pandas

    frame = pandas.read_parquet(path) if path.suffix == ".parquet" else pandas.read_csv(path)
    wanted = list(columns) or (list(names) if len(names) > 1 else list(frame.columns))
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise BadInput(
            f"{path.name} has no column {missing[0]!r}.", remedy=f"The model asks for {', '.join(map(str, wanted[:20]))}.", field="inputs"
        )
    if len(names) <= 1 and (columns or not names or names[0] not in frame.columns):
        return {names[0] if names else "input": frame[wanted].to_numpy()}
    return {str(name): frame[name].to_numpy() for name in wanted}
