"""What a cluster can lose while a job runs: a node, the driver, the control plane. On a real cluster."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from narf.backends.protocol import JobPhase, Replica
from narf.backends.ray.backend import RayBackend
from narf.backends.ray.merging import MergedLog
from narf.data.objects import ObjectStore
from narf.domain.workload import EndReason, Resources
from narf.testing.backend_contract import ended, eventually, in_phase, is_running, job, output, store_snapshot
from narf.testing.ray_cluster import LocalRayCluster

TRAIN = """\
import os, sys, time
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, index):
        if "--slow" in sys.argv:
            time.sleep(0.2)
        return self.layer(batch[0]).pow(2).mean()
    def on_train_epoch_start(self):
        print("epoch", self.current_epoch, "rank", self.global_rank, "of", self.trainer.world_size, flush=True)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

folder = os.environ["NARF_CHECKPOINTS"]
trainer = pl.Trainer(
    max_epochs=40, accelerator="cpu", devices=1, num_nodes=2, strategy="ddp", logger=False, default_root_dir=folder,
    enable_progress_bar=False, callbacks=[pl.callbacks.ModelCheckpoint(dirpath=folder, save_last=True, every_n_epochs=1)],
)
last = os.path.join(folder, "last.ckpt")
data = DataLoader(TensorDataset(torch.randn(16, 4)), batch_size=4)
trainer.fit(Net(), data, ckpt_path=last if os.path.exists(last) else None)
print("finished", trainer.global_rank, flush=True)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalRayCluster]:
    cluster = LocalRayCluster(nodes=2)
    yield cluster
    cluster.close()


@pytest.fixture
def backend(tmp_path: Path, cluster: LocalRayCluster) -> Iterator[RayBackend]:
    backend = RayBackend(tmp_path, cluster.address, preload=("decimal",))
    eventually(lambda: len(backend.capacity()) == 2)
    yield backend
    backend.close()


@pytest.mark.slow
def test_the_next_driver_takes_over_what_runs(backend: RayBackend, cluster: LocalRayCluster) -> None:
    asked = job(backend, "sh", "-c", "for i in $(seq 60); do echo $i; sleep 0.5; done; exit 3")
    backend.submit(asked)
    eventually(lambda: b"2\n" in output(backend, asked.id))
    assert backend._driver is not None
    os.kill(backend._driver.pid, signal.SIGKILL)
    backend.close()
    again = RayBackend(backend.root.parents[1], cluster.address, preload=("decimal",))
    status = ended(again, asked.id)
    assert (status.reason, status.exit_code) == (EndReason.USER_ERROR, 3)
    assert output(again, asked.id).split() == [str(i).encode() for i in range(1, 61)]
    again.close()


@pytest.mark.slow
def test_ddp_goes_on_from_its_checkpoint_after_a_node_was_killed(backend: RayBackend, cluster: LocalRayCluster, tmp_path: Path) -> None:
    snapshot = store_snapshot(ObjectStore(backend.objects), {"train.py": TRAIN})
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()

    def attempt(number: int, *arguments: str) -> str:
        nodes = [Replica(node=node.name) for node in backend.capacity()]
        assert len(nodes) == 2
        asked = job(
            backend, script="train.py", arguments=arguments, snapshot=snapshot, placed=nodes, hooks=False,
            resources=Resources(cpu=1), environment={"NARF_CHECKPOINTS": str(checkpoints)},
        )  # fmt: skip
        backend.submit(asked)
        return asked.id

    first = attempt(1, "--slow")
    eventually(lambda: b"epoch 2 rank" in output(backend, first))
    programs = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and first.encode() in _environ(int(entry))]
    cluster.remove(cluster.last_node())
    status = ended(backend, first)
    assert status.reason is EndReason.NODE_LOST and status.reason.may_retry
    eventually(lambda: not any(is_running(pid) for pid in programs))
    cluster.add_node()
    eventually(lambda: len(backend.capacity()) == 2)
    second = attempt(2)
    status, text = ended(backend, second), output(backend, second).decode()
    assert status.reason is EndReason.COMPLETED, text
    assert "[0] finished 0" in text and "[1] finished 1" in text and "of 2" in text
    assert "epoch 0 " not in text  # it went on from the checkpoint


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def test_a_gangs_output_is_complete_and_unrepeated_whenever_its_driver_dies(tmp_path: Path) -> None:
    outputs = [b"".join(b"r%d line %d\n" % (rank, i) for i in range(50)) for rank in range(2)]
    (tmp_path / "log").mkdir()
    for step in range(40):
        log = MergedLog(tmp_path, 2)  # a new driver each time
        rank = step % 2
        start = log.offsets[rank]
        log.append(rank, start, outputs[rank][start : start + 37], is_last=False)
        log.close()
        if step % 5 == 0:  # torn: noted, and half written
            torn = MergedLog(tmp_path, 2)
            start = torn.offsets[rank]
            torn.append(rank, start, outputs[rank][start : start + 37])
            torn.close()
            newest = max((tmp_path / "log").iterdir())
            note = json.loads((tmp_path / "offsets.json").read_text())
            if newest.name == f"{note['before'][0]:020d}.log":
                os.truncate(newest, 3)
    log = MergedLog(tmp_path, 2)
    for rank in range(2):
        start = log.offsets[rank]
        log.append(rank, start, outputs[rank][start:], is_last=True)
    log.close()
    lines = b"".join(path.read_bytes() for path in sorted((tmp_path / "log").iterdir())).splitlines(keepends=True)
    for rank in range(2):
        label = b"[%d] " % rank
        assert b"".join(line.removeprefix(label) for line in lines if line.startswith(label)) == outputs[rank]


@pytest.mark.slow
def test_a_job_for_a_node_that_is_gone_is_lost_at_once(backend: RayBackend) -> None:
    asked = job(backend, "true", placed=[Replica(node="0" * 56)])
    backend.submit(asked)
    status = ended(backend, asked.id)
    assert status.reason is EndReason.NODE_LOST and "not in the cluster" in status.detail
    other = job(backend, "sleep", "600")
    backend.submit(other)
    in_phase(backend, other.id, JobPhase.RUNNING)
    backend.cancel(other.id, EndReason.CANCELLED)
    assert ended(backend, other.id).reason is EndReason.CANCELLED
