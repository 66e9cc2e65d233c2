"""JSON values to arrays of a stated datatype, strictly: nothing is rounded, wrapped, parsed from text or guessed."""

from __future__ import annotations

import binascii
from typing import Any

import numpy as np

from narf.domain.errors import BadInput
from narf.serving.tensors import DTYPES, Array, TensorSpec

_NUMBERS = {int, float}
_EXACT = {"FP16": 2**11, "FP32": 2**24}


def bad(sentence: str, field: str, remedy: str = "") -> BadInput:
    return BadInput(sentence, remedy=remedy, field=field, code="bad_tensor")


def array_of(data: Any, datatype: str, name: str) -> Array:
    """`data` (a list, nested or flat, or a scalar) as an array of `datatype`.

    Raises:
        BadInput: an element is of another type, out of the datatype's range, missing, or the nesting is uneven.
    """
    if datatype == "BYTES":
        return _text(data, name)
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise bad(f"Tensor {name!r} has datatype {str(datatype)[:20]!r}, which does not exist.", name, f"One of {', '.join(DTYPES)}.")
    if type(data) is list and data and type(data[0]) is float and dtype.kind == "f":
        try:  # the common case, fast: a flat list of numbers
            array = np.array(data)
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise bad(f"Tensor {name!r} is not an even list of numbers.", name, "Send numbers only, nested evenly.") from None
    else:
        array = _inferred(data, name)
    if array.dtype.kind == "f" and dtype.kind in "iu":
        array = _whole(data, array)
    return cast(array, datatype, name)


def cast(array: Array, datatype: str, name: str) -> Array:
    """An array of numbers in `datatype`, with the values it has.

    Raises:
        BadInput: the datatype does not hold them.
    """
    dtype = DTYPES[datatype]
    kind = array.dtype.kind
    if kind == "f" and dtype.kind == "f":
        return _narrowed(array, dtype, name)
    if array.size == 0:
        return array.astype(dtype)
    if kind == "b" and dtype.kind == "b":
        return array
    if kind in "iu" and dtype.kind == "f":
        return _narrowed(array, dtype, name)
    if kind in "iu" and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise bad(f"Tensor {name!r} has values outside {datatype} ({limits.min} to {limits.max}).", name)
        return array.astype(dtype)
    shown = {"f": "numbers with a fraction", "b": "truth values", "U": "text", "i": "whole numbers", "u": "whole numbers"}.get(
        kind, "values that are no numbers"
    )
    raise bad(f"Tensor {name!r} is {datatype}, but its data has {shown}.", name, f"Send {_wanted(datatype)}.")


def _whole(data: Any, array: Array) -> Array:
    """`array` again, exact, if its numbers are whole: NumPy makes floats of those on both sides of 2^63."""
    exact = np.array(data, dtype=object)
    if all(type(value) is int and 0 <= value < 1 << 64 for value in exact.flat):
        return exact.astype(np.uint64)
    return array


def _inferred(data: Any, name: str) -> Array:
    try:
        array = np.array(data)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise bad(
            f"The data of tensor {name!r} is nested unevenly or too deeply.", name, "Every row needs the same number of elements."
        ) from None
    if array.dtype.kind == "O":
        raise bad(f"Tensor {name!r} has elements that are missing (null), no numbers, or too large.", name)
    if array.dtype.kind in "iuf" and _has_truth(data):
        raise bad(f"Tensor {name!r} mixes truth values and numbers.", name)
    return array


def _has_truth(data: Any) -> bool:
    """Whether a bool stands among the numbers: numpy would take it for 0 or 1."""
    if type(data) is not list:
        return type(data) is bool
    if data and type(data[0]) is list:
        return any(_has_truth(item) for item in data)
    return bool in set(map(type, data))


def _narrowed(array: Array, dtype: np.dtype[Any], name: str) -> Array:
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(dtype)
    if not np.isfinite(narrow).all() and np.isfinite(array).all():
        raise bad(f"Tensor {name!r} has values too large for its datatype.", name)
    return narrow


def _text(data: Any, name: str) -> Array:
    array = np.array(data, dtype=object) if _is_even(data) else None
    if array is None:
        raise bad(f"The data of tensor {name!r} is nested unevenly or too deeply.", name)
    for item in array.flat:
        if not isinstance(item, str):
            raise bad(f"Tensor {name!r} is BYTES, but an element is {'missing' if item is None else 'no text'}.", name, "Send strings.")
    return array


def _is_even(data: Any, depth: int = 0) -> bool:
    if depth > 16:
        return False
    if type(data) is not list:
        return True
    if not data or type(data[0]) is not list:
        return not any(type(item) is list for item in data)
    lengths = {len(item) if type(item) is list else -1 for item in data}
    return len(lengths) == 1 and -1 not in lengths and all(_is_even(item, depth + 1) for item in data)


def _wanted(datatype: str) -> str:
    return {"B": "true and false"}.get(datatype[:1], "whole numbers" if "INT" in datatype else "numbers")


def shaped(array: Array, shape: tuple[int, ...], name: str) -> Array:
    """`array` in `shape`: flat, as the protocol writes it, or nested that way already."""
    if array.shape == shape:
        return array
    size = 1
    for length in shape:
        size *= length
    if array.size != size or (array.ndim > 1 and array.shape != shape):
        raise bad(f"Tensor {name!r} has {array.size} elements in shape {list(array.shape)}, which is not {list(shape)}.", name)
    return array.reshape(shape)


def conform(array: Array, spec: TensorSpec, *, allow_missing: bool) -> Array:
    """`array`, if it is what the model asks for.

    Raises:
        BadInput: another shape, or numbers that are NaN or infinite where the model was never shown any.
    """
    if not spec.accepts_shape(array.shape):
        raise bad(f"Tensor {spec.name!r} has shape {list(array.shape)}; the model takes {list(spec.shape)} (-1: any size).", spec.name)
    if array.shape[:1] == (0,):
        raise bad(f"Tensor {spec.name!r} has no rows.", spec.name, "Send at least one.")
    if array.dtype.kind == "f" and not allow_missing and not np.isfinite(array).all():
        raise bad(
            f"Tensor {spec.name!r} has values that are NaN or infinite; the model was trained without.",
            spec.name,
            "Fill in what is missing.",
        )
    return array


def from_binary(raw: memoryview, datatype: str, shape: tuple[int, ...], name: str) -> Array:
    """A tensor of the binary extension: little-endian numbers, or elements with their length in four bytes before them."""
    size = 1
    for length in shape:
        size *= length
    if datatype == "BYTES":
        return np.array(_elements(raw, size, name), dtype=object).reshape(shape)
    dtype = DTYPES[datatype]
    if len(raw) != size * dtype.itemsize:
        raise bad(f"Tensor {name!r} has {len(raw)} bytes; {list(shape)} of {datatype} are {size * dtype.itemsize}.", name)
    if dtype.kind == "b":
        bits = np.frombuffer(raw, np.uint8)
        if bits.size and bits.max() > 1:
            raise bad(f"Tensor {name!r} has bytes that are neither 0 nor 1.", name)
        return bits.astype(np.bool_).reshape(shape)
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def _elements(raw: memoryview, count: int, name: str) -> list[bytes]:
    found, position = [], 0
    for _ in range(count):
        length = int.from_bytes(raw[position : position + 4], "little")
        position += 4
        if position > len(raw) or position + length > len(raw):
            raise bad(f"Tensor {name!r} ends before its last element.", name)
        found.append(bytes(raw[position : position + length]))
        position += length
    if position != len(raw):
        raise bad(f"Tensor {name!r} has {len(raw) - position} bytes too many.", name)
    return found


def to_binary(array: Array) -> bytes:
    if array.dtype.kind in "OUS":
        items = [item if isinstance(item, bytes) else str(item).encode() for item in array.flat]
        return b"".join(len(item).to_bytes(4, "little") + item for item in items)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def as_json_list(array: Array) -> Any:
    """What orjson can write: text as str (bytes that are no UTF-8 as hex), numbers as they are."""
    if array.dtype.kind in "OUS":
        return [_shown(item) for item in array.ravel()]
    return np.ascontiguousarray(array.ravel())


def _shown(item: object) -> object:
    if isinstance(item, bytes):
        try:
            return item.decode()
        except UnicodeDecodeError:
            return binascii.hexlify(item).decode()
    return item if isinstance(item, (str, int, float, bool)) or item is None else str(item)
