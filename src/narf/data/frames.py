"""What people hold tables in, as Arrow batches: pandas, Polars, Arrow, or columns by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from narf.domain.errors import BadInput


def batches_of(data: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema and rows of `data`. A pandas index counts as columns if it has a name, else it is left out.

    Raises:
        BadInput: it is no table, or a column holds several types.
    """
    if isinstance(data, pa.RecordBatchReader):
        return data.schema, iter(data)
    if isinstance(data, pa.RecordBatch):
        return data.schema, iter([data])
    try:
        table = _table(data)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        said = " ".join(str(part) for part in error.args).splitlines()[0][:300]
        raise BadInput(
            f"The table cannot be kept: {said}", remedy="Give each column one type, as frame.astype({...}).", field="data"
        ) from error
    return table.schema, iter(table.to_batches())


def _table(data: Any) -> pa.Table:
    if isinstance(data, pa.Table):
        return data
    module = type(data).__module__.partition(".")[0]  # neither library is loaded to ask whether it is its frame
    if module == "pandas" and hasattr(data, "columns"):
        named = [name for name in data.index.names if name is not None]
        frame = data.reset_index(level=named) if named else data
        return pa.Table.from_pandas(frame, preserve_index=False)
    if module == "polars" and type(data).__name__ in ("DataFrame", "LazyFrame"):
        frame = data.collect() if type(data).__name__ == "LazyFrame" else data
        found: pa.Table = frame.to_arrow()
        return found
    if isinstance(data, Mapping) and data:
        return pa.table(dict(data))
    raise BadInput(
        f"A {type(data).__qualname__} is no table.",
        remedy="Give a pandas or Polars frame, an Arrow table or reader, a dict of columns, or the path of a folder.",
        field="data",
    )
