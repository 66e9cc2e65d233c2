"""`narf.image`, `narf.figure`, `narf.table`: what is better looked at than plotted. Each becomes an artifact."""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from narf.training import recorder as recorders
from narf.training.recorder import clean_name
from narf.training.sdk import no_run


def image(name: str, picture: Any, *, step: int | None = None) -> bool:
    """Record a picture: an array or tensor of (height, width), (height, width, 1|3|4) or (1|3|4, height, width), floats from 0 to 1
    or bytes; a PIL image; a matplotlib figure; or the path of a file."""
    recorder = recorders.current()
    if recorder is None:
        return no_run()
    if isinstance(picture, str):
        return recorder.artifact(picture, _path("images", name, step, picture.rpartition(".")[2] or "png"))
    try:
        if hasattr(picture, "savefig"):
            return figure(name, picture, step=step)
        if hasattr(picture, "save") and hasattr(picture, "mode"):
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG")
            content = buffer.getvalue()
        else:
            content = png(picture)
    except Exception as error:  # whatever the object does: a picture must not end a training
        recorder.report(f"image {name}", f"narf: the image {name!r} was not recorded: {error}")
        return False
    return recorder.artifact_bytes(content, _path("images", name, step, "png"))


def figure(name: str, drawing: Any, *, step: int | None = None) -> bool:
    """Record a matplotlib figure as PNG, or a plotly one as JSON."""
    recorder = recorders.current()
    if recorder is None:
        return no_run()
    try:
        if hasattr(drawing, "to_json") and not hasattr(drawing, "savefig"):
            return recorder.artifact_bytes(drawing.to_json().encode(), _path("figures", name, step, "plotly.json"))
        buffer = io.BytesIO()
        drawing.savefig(buffer, format="png", bbox_inches="tight")
    except Exception as error:
        recorder.report(f"figure {name}", f"narf: the figure {name!r} was not recorded: {error}")
        return False
    return recorder.artifact_bytes(buffer.getvalue(), _path("figures", name, step, "png"))


def table(name: str, rows: Any, columns: Sequence[str] | None = None, *, step: int | None = None) -> bool:
    """Record a table: a data frame, a mapping of columns, a list of mappings, or rows with `columns`."""
    recorder = recorders.current()
    if recorder is None:
        return no_run()
    try:
        names, data = _columns_and_rows(rows, columns)
        content = json.dumps({"columns": names, "data": data}, default=_plain, allow_nan=True).encode()
    except Exception as error:
        recorder.report(f"table {name}", f"narf: the table {name!r} was not recorded: {error}")
        return False
    return recorder.artifact_bytes(content, _path("tables", name, step, "json"))


def png(picture: Any) -> bytes:
    """An array of pixels as a PNG file, without any imaging library."""
    numpy = sys.modules.get("numpy") or __import__("numpy")
    if hasattr(picture, "detach"):
        picture = picture.detach().cpu().numpy()
    array = numpy.asarray(picture)
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(f"an image has shape (height, width[, 1, 3 or 4]), not {tuple(numpy.shape(picture))}")
    if array.dtype != numpy.uint8:
        # Whole numbers are already from 0 to 255; fractions and truths from 0 to 1.
        scale = 1.0 if array.dtype.kind in "iu" else 255.0
        array = numpy.clip(numpy.nan_to_num(array.astype("float64")) * scale, 0, 255).round().astype(numpy.uint8)
    height, width, channels = array.shape
    lines = numpy.zeros((height, width * channels + 1), dtype=numpy.uint8)
    lines[:, 1:] = array.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _columns_and_rows(rows: Any, columns: Sequence[str] | None) -> tuple[list[str], list[list[Any]]]:
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        return [str(column) for column in rows.columns], rows.values.tolist()
    if hasattr(rows, "rows") and hasattr(rows, "columns"):  # polars
        return list(rows.columns), [list(row) for row in rows.rows()]
    if isinstance(rows, Mapping):
        names = [str(name) for name in rows]
        return names, [list(row) for row in zip(*rows.values())]
    found = list(rows)
    if found and isinstance(found[0], Mapping):
        names = list(dict.fromkeys(str(name) for row in found for name in row))
        return names, [[row.get(name) for name in names] for row in found]
    width = max((len(row) for row in found), default=0)
    return [str(name) for name in columns or range(width)], [list(row) for row in found]


def _plain(value: Any) -> Any:
    for way in ("item", "tolist", "isoformat"):
        if hasattr(value, way):
            return getattr(value, way)()
    return str(value)


def _path(kind: str, name: str, step: int | None, extension: str) -> str:
    return f"{kind}/{clean_name(name)}{'' if step is None else f'/{step}'}.{extension}"
