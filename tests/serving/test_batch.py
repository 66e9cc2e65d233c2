"""A whole file predicted: what comes out is what the model says of each row, in order, whatever interrupts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from packages import WEIGHTS, identity, linear, with_processing

from narf.domain.errors import BadInput
from narf.serving.batch import predict_file
from narf.serving.tensors import TensorSpec

ROWS = np.random.default_rng(3).normal(size=(2500, 4)).astype(np.float32)


def parquet(place: Path, rows: np.ndarray = ROWS, *, group: int = 700, **more: object) -> Path:
    columns = {name: rows[:, index] for index, name in enumerate("abcd")} | more
    pq.write_table(pa.table(columns), place, row_group_size=group)
    return place


def read(place: Path) -> np.ndarray:
    if place.suffix == ".npy":
        return np.load(place)
    if place.suffix == ".parquet":
        return np.array(pq.read_table(place).column("y").to_pylist())
    table = pa.csv.read_csv(place)
    return np.stack([table.column(f"y_{index}").to_numpy() for index in range(3)], axis=1)


@pytest.mark.parametrize("form", [".parquet", ".csv", ".npy"])
def test_every_row_is_predicted_in_order_whatever_the_size_of_parts_and_row_groups(tmp_path, form):
    model = str(linear(tmp_path / "model"))
    source = parquet(tmp_path / "in.parquet", name=["x"] * len(ROWS))  # a column that the model does not take
    assert predict_file(model, source, tmp_path / f"out{form}", part_rows=999) == 2500
    np.testing.assert_allclose(read(tmp_path / f"out{form}"), ROWS @ WEIGHTS, rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "model", f"out{form}"]


@pytest.mark.parametrize("form", [".npy", ".csv"])
def test_arrays_and_csv_are_read_too(tmp_path, form):
    source = tmp_path / f"in{form}"
    if form == ".npy":
        np.save(source, ROWS)
    else:
        pa.csv.write_csv(pa.table({name: ROWS[:, index] for index, name in enumerate("abcd")}), source)
    predict_file(str(linear(tmp_path / "model")), source, tmp_path / "out.parquet")
    np.testing.assert_allclose(read(tmp_path / "out.parquet"), ROWS @ WEIGHTS, rtol=1e-4)


def test_a_batch_prediction_that_is_killed_goes_on_where_it_stopped(tmp_path):
    counted = tmp_path / "counted"
    code = f"import time\ndef preprocess(inputs):\n    time.sleep(0.02)\n    with open({str(counted)!r}, 'a') as file:\n"
    code += "        file.write(f\"{len(inputs['x'])}\\n\")\n    return inputs\n"
    model = with_processing(tmp_path / "model", code)
    source, target = parquet(tmp_path / "in.parquet"), tmp_path / "out.parquet"
    command = [sys.executable, "-m", "narf.serving.batch", "--package", model, "--input", source, "--output", target, "--part-rows", "100"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    said = next(line for line in first.stdout if line.startswith("800 of 2500"))
    assert said.startswith("800 of 2500 rows (32 %)")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not target.exists()
    before = sum(map(int, counted.read_text().split()))
    second = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    kept = int(second.stdout.partition(" of ")[0])
    assert kept >= 800 and "going on from there" in second.stdout.splitlines()[0]
    assert sum(map(int, counted.read_text().split())) - before == 2500 - kept
    np.testing.assert_allclose(read(target), ROWS @ WEIGHTS, rtol=1e-5)


def test_a_slow_model_writes_its_parts_by_time(tmp_path):
    model = with_processing(tmp_path / "model", "import time\ndef preprocess(inputs):\n    time.sleep(0.05)\n    return inputs\n")
    source = parquet(tmp_path / "in.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("narf.serving.parts.Parts.join", lambda _parts: None)
        predict_file(str(model), source, tmp_path / "out.parquet", part_seconds=0.01)
    assert len(list(tmp_path.glob(".out.parquet.*.parts/*.arrow"))) == 3  # 1,024 rows each


def test_another_input_is_not_mistaken_for_the_one_that_was_interrupted(tmp_path):
    model, source, target = str(linear(tmp_path / "model")), tmp_path / "in.parquet", tmp_path / "out.parquet"
    broken = ROWS.copy()
    broken[2000, 1] = np.nan
    parquet(source, broken)
    with pytest.raises(BadInput, match=r"'x' has values that are NaN"):
        predict_file(model, source, target, part_rows=1000)
    time.sleep(0.01)
    parquet(source)
    predict_file(model, source, target, part_rows=1000)
    np.testing.assert_allclose(read(target), ROWS @ WEIGHTS, rtol=1e-5)


def test_values_keep_what_they_are(tmp_path):
    specs = [TensorSpec("whole", "INT8", (-1,)), TensorSpec("text", "BYTES", (-1,)), TensorSpec("list", "FP64", (-1, 2))]
    model = str(identity(tmp_path / "model", specs))
    columns = {"whole": pa.array([1.0, -128.0, 127.0]), "text": ["a", "é", ""], "list": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    predict_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert out == {"whole_out": [1, -128, 127], "text_out": ["a", "é", ""], "list_out": [[1, 2], [3, 4], [5, 6]]}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"whole": [1.5]}, "whole numbers in column 'whole'; it has others"),
        ({"whole": [300]}, "'whole' has values outside INT8"),
        ({"whole": pa.array([None], pa.int64())}, "some are missing"),
        ({"whole": ["one"]}, "'whole' is INT8, but its data has text"),
        ({"text": [3]}, "takes text in column 'text'; it has 3"),
        ({"text": pa.array([None], pa.string())}, "takes text in column 'text'; it has None"),
        ({"list": [[1.0, 2.0, 3.0]]}, r"shape \[1, 3\]; the model takes"),
        ({"list": [[1.0, None]]}, "with missing elements"),
        ({"list": None}, "no column 'list'.* It has whole, text"),
    ],
)
def test_a_value_that_the_model_does_not_take_is_named(tmp_path, values, sentence):
    specs = [TensorSpec("whole", "INT8", (-1,)), TensorSpec("text", "BYTES", (-1,)), TensorSpec("list", "FP64", (-1, 2))]
    model = str(identity(tmp_path / "model", specs))
    columns = {"whole": [1], "text": ["a"], "list": [[1.0, 2.0]]} | values
    pq.write_table(pa.table({name: column for name, column in columns.items() if column is not None}), tmp_path / "in.parquet")
    with pytest.raises(BadInput) as refused:
        predict_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert re.search(sentence, f"{refused.value.sentence} {refused.value.remedy}")


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("none.parquet", "out.parquet", "There is no file"),
        ("in.txt", "out.parquet", "in.txt has no form that is known"),
        ("in.parquet", "out.xls", "out.xls has no form that is known"),
        ("broken.parquet", "out.parquet", "broken.parquet cannot be read"),
        ("broken.npy", "out.parquet", "broken.npy cannot be read"),
        ("empty.parquet", "out.parquet", "has no rows"),
        ("five.parquet", "out.parquet", "takes 4 numbers a row as one tensor 'x'; the file has 5 columns"),
    ],
)
def test_a_file_that_cannot_be_is_refused_with_a_reason(tmp_path, source, target, sentence):
    model = identity(tmp_path / "model", [TensorSpec("x", "FP32", (-1, 4))])
    parquet(tmp_path / "in.parquet")
    parquet(tmp_path / "five.parquet", e=ROWS[:, 0])
    parquet(tmp_path / "empty.parquet", ROWS[:0])
    for name in ("in.txt", "broken.parquet", "broken.npy"):
        (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(BadInput, match=sentence):
        predict_file(str(model), tmp_path / source, tmp_path / target)
