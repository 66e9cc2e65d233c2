"""Tensors as the Open Inference Protocol names them: datatypes, shapes with free dimensions, and their numpy twins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narf.domain.errors import BadInput

Array = NDArray[Any]
Tensors = dict[str, Array]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),  # str or bytes elements
}
_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of a model: `shape` has -1 where any size will do; its first dimension is the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return DTYPES[self.datatype]

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TensorSpec:
        datatype = str(value["datatype"])
        if datatype not in DTYPES:
            raise BadInput(f"{datatype!r} is no datatype of the protocol.", remedy=f"One of {', '.join(DTYPES)}.", field="datatype")
        return cls(str(value["name"]), datatype, tuple(int(size) for size in value["shape"]))

    def accepts_shape(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.shape) and all(want in (-1, got) for want, got in zip(self.shape, shape, strict=True))


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name for a numpy dtype; text of any width is BYTES."""
    if dtype.kind in "OUST":
        return "BYTES"
    try:
        return _DATATYPES[dtype.newbyteorder("=")]
    except KeyError:
        raise BadInput(f"A tensor of {dtype} has no datatype in the Open Inference Protocol.", code="bad_datatype") from None


def spec_of(name: str, array: Array) -> TensorSpec:
    """What `array` is an example of, with a free batch dimension."""
    return TensorSpec(name, datatype_of(array.dtype), (-1, *array.shape[1:]))
