"""MLflow's `/invocations` and the plain `{"inputs": ...}`: tables and arrays to the model's tensors."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from narf.serving.protocol.arrays import array_of, bad
from narf.serving.protocol.v2 import Schema, check_inputs, parse_json
from narf.serving.tensors import Array, Tensors, TensorSpec

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def read_invocation(body: bytes, content_type: bytes, schema: Schema) -> tuple[Tensors, int]:
    """The tensors, and how many rows they have.

    Raises:
        BadInput: the body has none of the known forms, or not the model's columns or tensors.
    """
    if content_type.startswith(b"text/csv"):
        inputs = _from_table(*_csv(body), schema, text=True)
        return inputs, check_inputs(inputs, schema)
    request = parse_json(body)
    if not isinstance(request, dict):
        raise bad("The body is not a JSON object.", "", f"Use one of {', '.join(_FORMS)}.")
    forms = [form for form in _FORMS if form in request]
    if len(forms) != 1:
        raise bad("The body has none, or more than one, of the known forms.", "", f"Use one of {', '.join(_FORMS)}.")
    value = request[forms[0]]
    if forms[0] == "dataframe_split":
        inputs = _from_split(value, schema)
    elif forms[0] == "dataframe_records" or (forms[0] == "instances" and isinstance(value, list) and value and isinstance(value[0], dict)):
        inputs = _from_records(value, schema)
    else:
        inputs = _from_tensors(value, schema)
    return inputs, check_inputs(inputs, schema)


def predictions(outputs: Tensors) -> Any:
    """What MLflow answers: the values of the one output, or of each by name. Probabilities beside labels are left out."""
    if "output" in outputs:
        return outputs["output"].tolist()
    if len(outputs) == 1:
        return next(iter(outputs.values())).tolist()
    return {name: array.tolist() for name, array in outputs.items()}


def _from_tensors(value: Any, schema: Schema) -> Tensors:
    if isinstance(value, dict):
        unknown = [name for name in value if name not in schema.inputs]
        if unknown and schema.columns:
            return _from_table(
                list(value),
                list(map(list, zip(*value.values(), strict=False))) if all(isinstance(v, list) for v in value.values()) else [],
                schema,
            )
        if unknown:
            raise bad(f"The model has no input {unknown[0][:100]!r}.", unknown[0][:100], f"It takes {', '.join(schema.inputs)}.")
        return {name: _with_rows(array_of(item, schema.inputs[name].datatype, name), schema.inputs[name]) for name, item in value.items()}
    if len(schema.inputs) != 1:
        if schema.columns and isinstance(value, list):
            return _from_table(list(schema.columns), value, schema)
        raise bad("The model has several inputs: name each.", "inputs", f'Send {{"inputs": {{...}}}} with {", ".join(schema.inputs)}.')
    ((name, spec),) = schema.inputs.items()
    return {name: _with_rows(array_of(value, spec.datatype, name), spec)}


def _with_rows(array: Array, spec: TensorSpec) -> Array:
    """A single row without its batch dimension gets one; a column of numbers may be written flat."""
    if array.ndim == len(spec.shape) - 1 and spec.accepts_shape((1, *array.shape)):
        return array[np.newaxis]
    if array.ndim == 1 and spec.shape == (-1, 1):
        return array[:, np.newaxis]
    return array


def _from_split(value: Any, schema: Schema) -> Tensors:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise bad("dataframe_split needs columns and data.", "dataframe_split")
    columns = value.get("columns")
    if columns is None:
        columns = list(schema.columns) or list(schema.inputs)
    if not isinstance(columns, list):
        raise bad("columns is not a list.", "dataframe_split.columns")
    return _from_table([str(name) for name in columns], value["data"], schema)


def _from_records(value: Any, schema: Schema) -> Tensors:
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        raise bad("Records are a list of objects, one a row.", "dataframe_records")
    columns = list(value[0])
    for row in value:
        if row.keys() != value[0].keys():
            raise bad("The records have different columns.", "dataframe_records")
    return _from_table(columns, [list(row.values()) for row in value], schema)


def _from_table(columns: Sequence[str], rows: Any, schema: Schema, *, text: bool = False) -> Tensors:
    if not rows or not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        raise bad(f"Every row needs {len(columns)} values, and there must be one.", "data")
    position = {name: index for index, name in enumerate(columns)}
    if len(schema.inputs) == 1:
        ((name, spec),) = schema.inputs.items()
        if name not in position or len(spec.shape) != 1:
            wanted = schema.columns or tuple(columns)
            order = _order(position, wanted)
            matrix = [[row[index] for index in order] for row in rows]
            return {name: _column(matrix, spec, name, schema, text)}
    _order(position, tuple(schema.inputs))
    unknown = [name for name in columns if name not in schema.inputs]
    if unknown:
        raise bad(f"The model has no column {unknown[0][:100]!r}.", unknown[0][:100], f"It takes {', '.join(schema.inputs)}.")
    tensors = {}
    for name, spec in schema.inputs.items():
        values = [row[position[name]] for row in rows]
        tensors[name] = _with_rows(_column(values, spec, name, schema, text), spec)
    return tensors


def _order(position: dict[str, int], wanted: Sequence[str]) -> list[int]:
    missing = [name for name in wanted if name not in position]
    if missing:
        raise bad(f"Column {missing[0]!r} is missing.", missing[0], f"The model takes {', '.join(wanted[:20])}.")
    return [position[name] for name in wanted]


def _column(values: list[Any], spec: TensorSpec, name: str, schema: Schema, text: bool) -> Array:
    if text and spec.datatype != "BYTES":
        values = _numbers(values, name)
    if schema.allows_missing and spec.dtype.kind == "f":
        values = _filled(values)
    return array_of(values, spec.datatype, name)


def _filled(values: list[Any]) -> list[Any]:
    return [_filled(item) if isinstance(item, list) else float("nan") if item is None else item for item in values]


def _numbers(values: list[Any], name: str) -> list[Any]:
    def number(text: Any) -> Any:
        if isinstance(text, list):
            return [number(item) for item in text]
        try:
            return int(text) if text.lstrip("+-").isdigit() else float(text)
        except ValueError:
            raise bad(f"{text[:40]!r} in column {name!r} is no number.", name) from None

    return [number(item) for item in values]


def _csv(body: bytes) -> tuple[list[str], list[list[str]]]:
    try:
        table = list(csv.reader(io.StringIO(body.decode())))
    except (UnicodeDecodeError, csv.Error) as error:
        raise bad(f"The body is no CSV: {error}.", "") from None
    if len(table) < 2:
        raise bad("The CSV needs a header line and a row.", "")
    return table[0], table[1:]
