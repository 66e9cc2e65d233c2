"""`narf.dataset` in training: every layout gives what the files hold, in an order that survives a kill, also in workers."""

from __future__ import annotations

import multiprocessing
import os
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from narf.data.handle import Dataset
from narf.data.sdk import dataset
from narf.data.torch import FileDataset, Loader, MixedDataset, RowDataset
from narf.domain.errors import BadInput

ROWS = 500


def handle(folder: Path) -> Dataset:
    return Dataset("things", "v1", "0" * 64, folder, folder.parent / "cache")


@pytest.fixture
def numeric(tmp_path: Path) -> Dataset:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    table = pa.table({f"x{i}": rng.random(ROWS) for i in range(6)} | {"label": rng.integers(0, 10, ROWS)})
    pq.write_table(table.slice(0, 200), tmp_path / "in" / "a.parquet")
    pq.write_table(table.slice(200), tmp_path / "in" / "b.parquet")
    return handle(tmp_path / "in")


@pytest.fixture
def mixed(tmp_path: Path) -> Dataset:
    (tmp_path / "mixed").mkdir()
    frame = pd.DataFrame({"id": range(ROWS), "amount": np.arange(ROWS) / 4, "name": [f"n{i}" if i % 5 else None for i in range(ROWS)]})
    frame.to_csv(tmp_path / "mixed" / "t.csv", index=False)
    return Dataset("mixed", "v1", "1" * 64, tmp_path / "mixed", tmp_path / "cache")


@pytest.fixture
def files(tmp_path: Path) -> Dataset:
    for number in range(40):
        path = tmp_path / "in" / f"class{number % 2}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * (number * 7))
    return handle(tmp_path / "in")


def test_a_table_comes_as_arrow_pandas_polars_and_duckdb(numeric: Dataset, mixed: Dataset) -> None:
    for data in (numeric, mixed):
        arrow = data.arrow()
        assert arrow.num_rows == ROWS and data.pandas().shape == (ROWS, len(data.columns)) == data.polars().shape
        assert sum(batch.num_rows for batch in data.batches(rows=64)) == ROWS
        (count,) = data.duckdb().execute("SELECT count(*) FROM data").fetchall()[0]
        assert count == ROWS
    assert numeric.arrow(["label"]).column_names == ["label"]
    with pytest.raises(BadInput, match="no column 'none'"):
        numeric.arrow(["none"])


def test_a_numeric_table_is_a_memory_map_that_holds_its_rows(numeric: Dataset) -> None:
    data = numeric.torch(target="label", dtype=torch.float32)
    assert isinstance(data, RowDataset) and len(data) == ROWS
    frame = numeric.pandas()
    x, y = data.take([3, 499, 0])
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    np.testing.assert_allclose(x.numpy(), frame.iloc[[3, 499, 0], :6].to_numpy(np.float32))
    assert y.tolist() == frame.label.iloc[[3, 499, 0]].tolist()
    assert torch.equal(data[-1][0], data[ROWS - 1][0]) and data[7][1] == frame.label[7]
    with pytest.raises(IndexError):
        data[ROWS]


def test_integers_beyond_a_float_and_nulls_are_not_bent(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": [2**60 + 1, 2**60 + 3], "x": [0.5, 1.5]}), tmp_path / "in" / "a.parquet")
    data = handle(tmp_path / "in").torch()
    assert isinstance(data, MixedDataset) and data.take([1])["id"].tolist() == [2**60 + 3]


def test_decimals_come_as_doubles(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    amounts = pa.array([Decimal("1.50"), None, Decimal("-2.25")], pa.decimal128(12, 2))
    pq.write_table(pa.table({"amount": amounts, "x": [1.0, 2.0, 3.0]}), tmp_path / "in" / "a.parquet")
    rows = handle(tmp_path / "in").torch()
    assert isinstance(rows, RowDataset) and rows.take([0, 2]).tolist() == [[1.5, 1.0], [-2.25, 3.0]] and rows[1][0].isnan()
    pq.write_table(pa.table({"amount": amounts.drop_null(), "s": ["a", "b"]}), tmp_path / "in" / "a.parquet")
    mixed = Dataset("money", "v1", "2" * 64, tmp_path / "in", tmp_path / "cache2").torch()
    assert isinstance(mixed, MixedDataset) and mixed.take([1])["amount"].tolist() == [-2.25]


def test_a_mixed_table_gives_its_columns(mixed: Dataset) -> None:
    data = mixed.torch()
    assert isinstance(data, MixedDataset)
    batch = data.take([10, 4])
    assert batch["id"].tolist() == [10, 4] and batch["amount"].tolist() == [2.5, 1.0] and batch["name"] == ["", "n4"]
    assert data[11] == {"id": 11, "amount": 2.75, "name": "n11"}


def test_files_come_from_an_archive(files: Dataset) -> None:
    data = files.torch(transform=lambda content, path: (len(content), path.split("/")[0]))
    assert isinstance(data, FileDataset) and len(data) == 40
    assert data[0] == (0, "class0") and {data.paths[i]: data[i][0] for i in range(40)} == {
        path: (files.folder / path).stat().st_size for path in files.paths
    }
    with pytest.raises(BadInput, match="has no columns"):
        files.torch(target="label")
    with pytest.raises(BadInput, match="is no table"):
        files.arrow()
    assert len(files.only("class1/*").torch()) == 20


@pytest.mark.parametrize("workers", [0, 2])
def test_it_works_with_torchs_own_loader(numeric: Dataset, workers: int) -> None:
    loader = DataLoader(numeric.torch(target="label"), batch_size=64, num_workers=workers)
    assert sum(len(y) for _, y in loader) == ROWS


def labels(loader: Loader) -> list[list[float]]:
    return [batch[0][:, 0].tolist() for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_where_it_was_killed(numeric: Dataset, workers: int) -> None:
    data = numeric.torch(target="label")
    whole = data.loader(32, seed=3)
    expected = [labels(whole), labels(whole)]
    assert expected[0] != expected[1] and sorted(chain(*expected[0])) == sorted(chain(*expected[1]))
    killed = data.loader(32, seed=3, workers=workers)
    seen, state = [], {}
    for _epoch in range(2):
        for batch in killed:
            seen.append(batch[0][:, 0].tolist())
            if len(seen) == len(expected[0]) + 5:
                state = killed.state_dict()
                break
    again = data.loader(32, seed=99, workers=2 - workers)
    again.load_state_dict(state)
    assert seen + labels(again) == expected[0] + expected[1]


def test_ranks_see_different_samples(numeric: Dataset) -> None:
    data = numeric.torch()
    parts = [np.concatenate([batch[:, 0].numpy() for batch in data.loader(16, rank=rank, world=4)]) for rank in range(4)]
    assert {len(part) for part in parts} == {125} and len(set(np.concatenate(parts).tolist())) == ROWS


def _sum_in_child(data: Any, queue: Any) -> None:
    queue.put(float(data.take(list(range(len(data)))).sum()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_dataset_that_was_read_can_go_to_another_process(numeric: Dataset, method: str) -> None:
    data = numeric.torch()
    here = float(data.take(list(range(ROWS))).sum())
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_sum_in_child, args=(data, queue))
    child.start()
    assert queue.get(timeout=60) == here
    child.join()


def test_lightning_trains_and_resumes_on_the_batches_it_had_not_seen(numeric: Dataset, tmp_path: Path) -> None:
    pl = pytest.importorskip("lightning.pytorch")

    class Model(pl.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(6, 10), []

        def training_step(self, batch: Any, _index: int) -> Any:
            self.seen.append(batch[0][:, 0].tolist())
            return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        def on_train_batch_end(self, *_arguments: Any) -> None:
            if len(self.seen) == 11:
                self.trainer.save_checkpoint(tmp_path / "eleven.ckpt")

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.01)

    def fit(checkpoint: Path | None = None) -> list[list[float]]:
        model = Model()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = pl.Trainer(max_epochs=2, accelerator="cpu", **quiet)
        trainer.fit(model, numeric.lightning(target="label", dtype=torch.float32, batch_size=50, split=(0.8,)), ckpt_path=checkpoint)
        return model.seen

    whole = fit()
    assert len(whole) == 16 and whole[:8] != whole[8:]
    assert fit(tmp_path / "eleven.ckpt") == whole[11:]


def test_a_job_finds_the_version_it_was_given_and_notes_that_it_read_it(
    numeric: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "folders" / "ab" / ("c" * 62)
    place.parent.mkdir(parents=True)
    os.rename(numeric.folder, place)
    (tmp_path / "spool").mkdir()
    monkeypatch.setenv("NARF_DATA_THINGS", str(place))
    monkeypatch.setenv("NARF_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("NARF_CACHE", str(tmp_path / "cache"))
    found = dataset("things")
    assert found.id == "ab" + "c" * 62 and len(found.arrow()) == ROWS
    (events,) = (tmp_path / "spool").glob("*.events")
    assert '"narf.data.things"' in events.read_text() and found.id in events.read_text()
