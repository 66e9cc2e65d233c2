"""Open Inference Protocol V2: requests to tensors and tensors to responses, in JSON and with the binary tensor extension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from narf.domain.errors import BadInput
from narf.serving.package import Manifest
from narf.serving.protocol.arrays import array_of, as_json_list, bad, conform, from_binary, shaped, to_binary
from narf.serving.tensors import DTYPES, Array, Tensors, TensorSpec

HEADER_LENGTH = b"inference-header-content-length"
_MOST_ELEMENTS = 1 << 31

_NOT_IN_JSON = ("NaN", "Infinity", "-Infinity")  # what Python's own json writes all the same


@dataclass(frozen=True, slots=True)
class Asked:
    """id: the caller's own. outputs: (name, binary) of those wanted, None for all, in JSON."""

    inputs: Tensors
    rows: int
    id: str | None
    outputs: tuple[tuple[str, bool], ...] | None
    binary: bool = False
    timeout_seconds: float | None = None


class Schema:
    """What a model takes, prepared for reading requests quickly."""

    def __init__(self, manifest: Manifest) -> None:
        self.inputs = {spec.name: spec for spec in manifest.caller_inputs}
        self.outputs = {spec.name: spec for spec in manifest.caller_outputs}
        self.columns = manifest.columns
        self.batchable = manifest.batchable
        missing = {feature["name"] for feature in manifest.reference.get("features", ()) if feature.get("missing", 0) > 0}
        self.allows_missing = bool(missing)


def read_request(body: bytes, headers: Mapping[bytes, bytes], schema: Schema) -> Asked:
    """The tensors of an inference request.

    Raises:
        BadInput: it is not the protocol, or not what the model takes; the sentence names the tensor.
    """
    header, tail = _split(body, headers.get(HEADER_LENGTH))
    request = parse_json(header)
    if not isinstance(request, dict):
        raise bad("The request is not a JSON object.", "", 'Send {"inputs": [{"name", "shape", "datatype", "data"}]}.')
    given = request.get("inputs")
    if not isinstance(given, list):
        raise bad('The request has no list "inputs".', "inputs", 'Send {"inputs": [{"name", "shape", "datatype", "data"}]}.')
    inputs: Tensors = {}
    position = 0
    for item in given:
        name, array, used = _read_tensor(item, schema, tail[position:])
        if name in inputs:
            raise bad(f"Tensor {name!r} is given twice.", name)
        inputs[name] = array
        position += used
    if position != len(tail):
        raise bad(f"The body has {len(tail) - position} bytes after its last tensor.", "inputs")
    parameters = request.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise bad('"parameters" is not an object.', "parameters")
    parameters = parameters or {}
    request_id = request.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise bad('"id" is not text.', "id")
    binary = parameters.get("binary_data_output") is True
    rows = check_inputs(inputs, schema)
    return Asked(inputs, rows, request_id, _wanted(request.get("outputs"), schema, binary), binary, _timeout(parameters))


def parse_json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        remedy = ""
        if error.doc[error.pos : error.pos + 9].startswith(_NOT_IN_JSON):
            remedy = "JSON has no NaN and no infinity. A model that was trained with missing values takes null in /predict, or NaN in a binary tensor."
        raise BadInput(f"The body is not JSON: {error}.", remedy=remedy, code="not_json") from None
    except RecursionError:
        raise BadInput("The body is nested too deeply.", code="not_json") from None


def check_inputs(inputs: Tensors, schema: Schema) -> int:
    """The number of rows, when `inputs` are exactly the model's tensors with the same number of rows."""
    if len(inputs) != len(schema.inputs):
        missing = [name for name in schema.inputs if name not in inputs]
        raise bad(f"Tensor {missing[0]!r} is missing.", missing[0], f"The model takes {', '.join(schema.inputs)}.")
    rows = 0
    for name, array in inputs.items():
        conform(array, schema.inputs[name], allow_missing=schema.allows_missing)
        count = len(array) if array.ndim else 1
        if rows and count != rows and schema.batchable:
            raise bad(f"Tensor {name!r} has {count} rows, another has {rows}.", name, "Every tensor needs the same number of rows.")
        rows = count
    return rows if schema.batchable else 1


def _split(body: bytes, length: bytes | None) -> tuple[bytes, memoryview]:
    if length is None:
        return body, memoryview(b"")
    if not length.isdigit() or len(length) > 12 or int(length) > len(body):
        raise bad(f"Inference-Header-Content-Length is {length[:20].decode('latin-1')!r}; the body has {len(body)} bytes.", "")
    return body[: int(length)], memoryview(body)[int(length) :]


def _read_tensor(item: Any, schema: Schema, tail: memoryview) -> tuple[str, Array, int]:
    if not isinstance(item, dict):
        raise bad('An element of "inputs" is not an object.', "inputs")
    name, datatype, shape = item.get("name"), item.get("datatype"), item.get("shape")
    if not isinstance(name, str):
        raise bad('A tensor has no "name".', "inputs")
    spec = schema.inputs.get(name)
    if spec is None:
        raise bad(f"The model has no input {name[:100]!r}.", name[:100], f"It takes {', '.join(schema.inputs)}.")
    if datatype != spec.datatype:
        known = f"The model takes {spec.datatype}."
        raise bad(
            f"Tensor {name!r} has datatype {str(datatype)[:20]!r}.",
            name,
            known if isinstance(datatype, str) and datatype in DTYPES else f"{known} Datatypes: {', '.join(DTYPES)}.",
        )
    if type(shape) is not list or not all(type(size) is int and 0 <= size < _MOST_ELEMENTS for size in shape):
        raise bad(f"Tensor {name!r} needs a shape of whole numbers below {_MOST_ELEMENTS:,}.", name)
    dimensions = tuple(shape)
    if not spec.accepts_shape(dimensions):
        raise bad(f"Tensor {name!r} has shape {list(dimensions)[:8]}; the model takes {list(spec.shape)} (-1: any size).", name)
    parameters = item.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None:
        if "data" in item:
            raise bad(f"Tensor {name!r} has both data and binary_data_size.", name)
        if type(size) is not int or not 0 <= size <= len(tail):
            raise bad(f"Tensor {name!r} says it has {str(size)[:20]} bytes; {len(tail)} are left in the body.", name)
        return name, from_binary(tail[:size], spec.datatype, dimensions, name), size
    if "data" not in item:
        raise bad(f"Tensor {name!r} has no data.", name)
    return name, shaped(array_of(item["data"], spec.datatype, name), dimensions, name), 0


def _wanted(outputs: Any, schema: Schema, binary: bool) -> tuple[tuple[str, bool], ...] | None:
    if not outputs:
        if outputs not in (None, []):
            raise bad('"outputs" is not a list.', "outputs")
        return None
    if not isinstance(outputs, list):
        raise bad('"outputs" is not a list.', "outputs")
    wanted = []
    for item in outputs:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or name not in schema.outputs:
            raise bad(f"The model has no output {str(name)[:100]!r}.", "outputs", f"It gives {', '.join(schema.outputs)}.")
        parameters = item.get("parameters")
        own = parameters.get("binary_data") if isinstance(parameters, dict) else None
        wanted.append((name, own if isinstance(own, bool) else binary))
    return tuple(wanted)


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    """Triton's parameter: microseconds."""
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if type(timeout) is not int or not 0 < timeout <= 3_600_000_000:
        raise bad("timeout is in microseconds, from 1 to 3600000000.", "parameters.timeout")
    return timeout / 1e6


class Writer:
    """Writes a model's responses; what never changes is prepared once."""

    def __init__(self, name: str, version: str, specs: Mapping[str, TensorSpec]) -> None:
        self._head = b'{"model_name":%s,"model_version":%s,"id":' % (orjson.dumps(name), orjson.dumps(version))
        self._specs = specs
        self._single = {
            spec.name: b'{"name":%s,"datatype":"%s","shape":[' % (orjson.dumps(spec.name), spec.datatype.encode())
            for spec in specs.values()
        }

    def write(self, outputs: Tensors, request_id: bytes) -> bytes:
        """JSON. request_id: quoted already."""
        parts = []
        for name, array in outputs.items():
            shape = ",".join(map(str, array.shape)).encode()
            start = self._single.get(name) or b'{"name":%s,"datatype":"BYTES","shape":[' % orjson.dumps(name)
            parts.append(b'%s%s],"data":%s}' % (start, shape, orjson.dumps(as_json_list(array), option=orjson.OPT_SERIALIZE_NUMPY)))
        return b'%s%s,"outputs":[%s]}' % (self._head, request_id, b",".join(parts))

    def write_binary(self, outputs: Tensors, request_id: bytes, binary: Mapping[str, bool]) -> tuple[bytes, int]:
        """The body and the length of its JSON part."""
        parts, tails = [], []
        for name, array in outputs.items():
            spec = self._specs.get(name)
            value: dict[str, Any] = {"name": name, "datatype": spec.datatype if spec else "BYTES", "shape": list(array.shape)}
            if binary.get(name):
                raw = to_binary(array)
                value["parameters"] = {"binary_data_size": len(raw)}
                tails.append(raw)
            else:
                value["data"] = as_json_list(array)
            parts.append(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
        header = b'%s%s,"outputs":[%s]}' % (self._head, request_id, b",".join(parts))
        return header + b"".join(tails), len(header)
