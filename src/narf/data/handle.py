"""A dataset version in a program: its files, and its table in the shapes that people work with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narf.data.folder import matches, scan
from narf.data.tabular import NoTable, Table, find_table
from narf.domain.errors import BadInput

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from narf.data.torch import NarfDataset


class Dataset:
    """What `narf.dataset("digits@v3")` gives. The files are in `folder`, read-only and shared.

    name, version: "digits", "v3" ("" where only the folder is known). id: the hash of the content. cache: where training
    layouts of this version are kept.
    """

    def __init__(self, name: str, version: str, id: str, folder: Path, cache: Path, *, pattern: str = "") -> None:
        self.name, self.version, self.id, self.folder, self._cache, self._pattern = name, version, id, folder, cache, pattern

    def __repr__(self) -> str:
        return f"<dataset {self.name}@{self.version or self.id[:12]} in {self.folder}>"

    # -- files

    @cached_property
    def paths(self) -> list[str]:
        """Of all files, relative to `folder`, in order."""
        return [found.path for found in scan(self.folder, self._pattern)]

    def only(self, pattern: str) -> Dataset:
        """The same version, only the files that match, as "train/**" or "*.csv"."""
        if not any(matches(path, pattern) for path in self.paths):
            raise BadInput(f"No file of {self.name!r} matches {pattern!r}.", remedy=f"It has {', '.join(self.paths[:5])}, ...")
        return Dataset(self.name, self.version, self.id, self.folder, self._cache, pattern=pattern)

    # -- tables

    @cached_property
    def table(self) -> Table:
        """The table that the files are.

        Raises:
            BadInput: they are none.
        """
        found = find_table(self.paths, self.folder.joinpath)
        if isinstance(found, NoTable):
            raise BadInput(f"{self.name!r} is no table. {found.why}".strip(), remedy="Read its files, or choose some with .only(PATTERN).")
        return found

    @property
    def columns(self) -> list[str]:
        return list(self.table.schema.names)

    def batches(self, columns: Sequence[str] | None = None, *, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """The rows in constant memory."""
        return self.table.batches(self._known(columns), rows=rows)

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        import pyarrow as pa

        names = self._known(columns) or self.columns
        return pa.Table.from_batches(self.table.batches(names), schema=pa.schema([self.table.schema.field(name) for name in names]))

    def pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self.arrow(columns).to_pandas()
        return frame

    def polars(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        import polars as pl

        frame = pl.from_arrow(self.arrow(columns))
        assert isinstance(frame, pl.DataFrame), "a table is a frame"
        return frame

    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection in which the table is called `data`."""
        import duckdb

        connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
        if self.table.format == "parquet":
            import pyarrow.dataset as ds

            connection.register("data", ds.dataset([str(file.place) for file in self.table.files], schema=self.table.schema))
        else:
            connection.register("data", self.arrow())
        return connection

    # -- training

    def torch(
        self,
        columns: Sequence[str] | None = None,
        *,
        target: str | Sequence[str] | None = None,
        dtype: Any = None,
        transform: Callable[..., Any] | None = None,
    ) -> NarfDataset:
        """A map-style torch dataset over a memory-mapped layout, made on first use.

        A numeric table gives a row as a tensor, or (features, target); a mixed one a dict of its columns; files give
        (bytes, path). `dtype`: of the features, as torch.float32. `transform` is called with each item's parts.
        """
        from narf.data.torch import open_dataset

        return open_dataset(self, self._known(columns), target, dtype, transform)

    def lightning(self, **choices: Any) -> Any:
        """A LightningDataModule; see `narf.data.lightning.data_module` for the choices."""
        from narf.data.lightning import data_module

        return data_module(self, **choices)

    @property
    def cache(self) -> Path:
        return self._cache / self.id

    @property
    def is_table(self) -> bool:
        return isinstance(find_table(self.paths, self.folder.joinpath), Table)

    def _known(self, columns: Sequence[str] | None) -> list[str] | None:
        if columns is None:
            return None
        if absent := [name for name in columns if name not in self.table.schema.names]:
            raise BadInput(f"{self.name!r} has no column {absent[0]!r}.", remedy=f"It has {', '.join(self.columns[:20])}.", field="columns")
        return list(columns)
