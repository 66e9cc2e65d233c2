"""Tables in files: schemas, rows and statistics, against pandas' answers."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from narf.data.adding import add_folder
from narf.data.manifest import Manifest, Profile
from narf.data.objects import ObjectStore
from narf.data.profiling import profile
from narf.data.statistics import statistics_of
from narf.data.tabular import Table, find_table
from narf.domain.errors import BadInput


def profiled(folder: Path) -> tuple[Manifest, Profile]:
    objects = ObjectStore(folder.parent / "objects")
    return profile(add_folder(folder, objects), objects)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_csv_files_of_one_schema_are_a_table_beside_its_readme(folder: Path) -> None:
    (folder / "train.csv").write_text("x,y,label\n1,0.5,cat\n2,,dog\n")
    (folder / "test.csv").write_text("x,y,label\n2.5,1,cat\n")
    (folder / "README.md").write_text("hello")
    manifest, found = profiled(folder)
    assert (found.kind, found.format, manifest.rows) == ("table", "csv", 3)
    assert [(c["name"], c["type"]) for c in found.schema] == [("x", "double"), ("y", "double"), ("label", "string")]
    columns = found.statistics["columns"]
    assert (columns["y"]["nulls"], columns["x"]["max"], columns["label"]["distinct"]) == (1, 2.5, 2)
    assert {e.path: e.rows for e in manifest.files} == {"README.md": None, "test.csv": 1, "train.csv": 2}


def test_a_csv_column_that_becomes_text_after_a_million_rows_is_text(folder: Path) -> None:
    (folder / "a.csv").write_text("x,y\n" + "1,1\n" * 1_500_000 + "1.5,one\n")
    manifest, found = profiled(folder)
    assert [c["type"] for c in found.schema] == ["double", "string"] and manifest.rows == 1_500_001


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"a.csv": "x\n1\n", "b.csv": "y\n1\n"}, "other columns"),
        ({"a.csv": "x,x\n1,2\n"}, "one name"),
        ({"a.csv": "x\n1\n", "b.png": "..."}, "neither"),
        ({"a.csv": "x,y\n1,2\n1,2,3\n"}, "regular CSV"),
        ({"a.csv": ""}, "empty"),
    ],
)
def test_what_is_no_table_says_why(folder: Path, files: dict[str, str], why: str) -> None:
    for name, content in files.items():
        (folder / name).write_text(content)
    _, found = profiled(folder)
    assert found.kind == "files" and why in found.statistics["note"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 not really PAR1"])
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_an_empty_or_broken_file_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(BadInput, match=f"'{name}' cannot be read as") as refused:
        profiled(folder)
    assert refused.value.code == "bad_file" and ("empty" in refused.value.sentence) == (content == b"")


def test_parquet_of_two_schemas_is_no_table(folder: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), folder / "a.parquet")
    pq.write_table(pa.table({"x": ["1"]}), folder / "b.parquet")
    _, found = profiled(folder)
    assert "different types" in found.statistics["note"]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv"])
def test_batches_of_every_format_are_the_rows_that_were_written(tmp_path: Path, kind: str) -> None:
    table = pa.table({"x": list(range(1000)), "y": [float(i) / 3 for i in range(1000)], "s": [f"é{i}" for i in range(1000)]})
    place = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(table, place, row_group_size=300)
    elif kind == "arrow":
        with pa.OSFile(str(place), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=300)
    else:
        table.to_pandas().to_csv(place, index=False)
    found = find_table([place.name], tmp_path.joinpath)
    assert isinstance(found, Table)
    batches = list(found.batches(["s", "x"], rows=128))
    assert max(b.num_rows for b in batches) <= 128
    assert pa.Table.from_batches(batches).equals(table.select(["s", "x"]))


def test_statistics_agree_with_pandas_however_the_batches_are_cut() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": rng.normal(1e6, 1, 5000),
            "b": rng.integers(-5, 5, 5000),
            "c": rng.choice(["x", "y", None], 5000),
            "d": rng.random(5000) < 0.3,
        }
    )
    table = pa.Table.from_pandas(frame)
    rows, found = statistics_of(table.schema, table.to_batches(max_chunksize=611))
    assert rows == 5000
    assert found["a"]["mean"] == pytest.approx(frame.a.mean(), rel=1e-12)
    assert found["a"]["std"] == pytest.approx(frame.a.std(ddof=0), rel=1e-9)
    assert (found["b"]["min"], found["b"]["max"], found["b"]["distinct"]) == (-5, 4, 10)
    assert found["c"]["nulls"] == frame.c.isna().sum()
    assert dict(found["c"]["top"]) == frame.c.value_counts().to_dict()
    assert sum(found["a"]["histogram"]["counts"]) == 5000


def test_decimals_have_the_statistics_of_numbers() -> None:
    values = pa.array([Decimal(1), Decimal(2), None, Decimal(6)], pa.decimal128(12, 2))
    schema = pa.schema([("amount", values.type)])
    _, found = statistics_of(schema, [pa.RecordBatch.from_arrays([values], schema=schema)])
    amount = found["amount"]
    assert (amount["kind"], amount["min"], amount["max"], amount["mean"], amount["nulls"]) == ("number", 1.0, 6.0, 3.0, 1)
    assert amount["distinct"] == 3 and sum(amount["histogram"]["counts"]) == 3


def test_nan_and_infinity_do_not_spoil_statistics_or_json() -> None:
    table = pa.table(
        {"x": [1.0, float("nan"), None, float("inf")], "n": pa.nulls(4), "l": [[1], [2], None, []], "b": [b"\xff", b"", None, b"a"]}
    )
    _, found = statistics_of(table.schema, table.to_batches())
    json.dumps(found, allow_nan=False)
    assert (found["x"]["nans"], found["x"]["nulls"], found["x"]["max"], found["n"]["nulls"]) == (1, 1, "inf", 4)
