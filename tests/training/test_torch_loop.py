"""Plain PyTorch: a loop is recorded as it stands, and resumes with two lines."""

from __future__ import annotations

import time

import pytest

LOOP = """
import os, signal, sys
import torch
torch.manual_seed(4)
model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
data = torch.utils.data.TensorDataset(torch.randn(20, 3), torch.randn(20, 1))
"""

PLAIN = (
    LOOP
    + """
for step in range(12):
    loss = torch.nn.functional.mse_loss(model(data.tensors[0]), data.tensors[1])
    optimizer.zero_grad()
    loss.backward()
    if step == 6:
        optimizer.param_groups[0]["lr"] = 0.01
    optimizer.step()
    print("LOSS", loss.item())
    import time; time.sleep(0.002)
    if OWN:
        import narf; narf.log(loss=-1.0)
"""
)

RESUMED = (
    LOOP
    + """
import narf
loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True, num_workers=int(sys.argv[2]))
kept = narf.checkpoint(model, optimizer)
step = kept.get("step", 0)
for epoch in kept.epochs(4):
    for x, y in kept.batches(loader):
        loss = torch.nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        narf.log({"mine": loss.item()}, step=step)
        if os.environ["NARF_ATTEMPT"] == "1" and step == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGTERM)
        step += 1
        kept["step"] = step
print("WEIGHTS", [p.detach().tolist() for p in model.parameters()], torch.rand(2).tolist(), step)
"""
)


@pytest.fixture
def run(warm, tmp_path, read_spool):
    def run(body, *arguments, spool="spool", **environment):
        (tmp_path / "loop.py").write_text(body)
        code, output = warm(tmp_path / "loop.py", *arguments, cwd=tmp_path, NARF_SPOOL=tmp_path / spool, **environment)
        return code, output, read_spool(tmp_path / spool)

    return run


def test_loss_and_learning_rate_of_a_plain_loop_are_recorded(run):
    code, output, spool = run("OWN = False" + PLAIN)
    assert code == 0, output
    losses = [float(line.split()[1]) for line in output.splitlines() if line.startswith("LOSS")]
    assert spool.points["loss"] == [(step, pytest.approx(loss)) for step, loss in enumerate(losses)]
    assert spool.points["lr"] == [(0, 0.1), (6, 0.01)]


def test_a_loss_that_the_script_records_itself_is_left_to_it(run):
    code, output, spool = run("OWN = True" + PLAIN)
    assert code == 0, output
    assert spool.points["loss"] == [(step, -1.0) for step in range(12)]


def test_a_scaled_loss_is_recorded_unscaled(run):
    code, output, spool = run(
        LOOP + "scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)\nimport time\nfor step in range(3):\n"
        "    loss = model(data.tensors[0]).square().mean()\n    print('LOSS', loss.item())\n    optimizer.zero_grad()\n"
        "    scaler.scale(loss).backward()\n    scaler.step(optimizer)\n    scaler.update()\n    time.sleep(0.002)\n"
    )
    assert code == 0, output
    losses = [float(line.split()[1]) for line in output.splitlines() if line.startswith("LOSS")]
    assert [value for _, value in spool.points["loss"]] == pytest.approx(losses)


@pytest.mark.parametrize("stop", [2, 4, 11, 19])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_loop_with_narf_checkpoint_resumes_bit_for_bit(run, stop, workers):
    if workers and stop != 11:
        pytest.skip("one place is enough with workers")
    _, undisturbed, whole = run(RESUMED, -1, workers, spool="whole", NARF_CHECKPOINTS="kept-whole", NARF_ATTEMPT="1")
    code, output, first = run(RESUMED, stop, workers, spool="one", NARF_CHECKPOINTS="kept", NARF_ATTEMPT="1")
    assert code in (143, -15), output
    assert time.time() - 300 < float(first.named("tag")["narf.checkpointed_at"]) <= time.time()
    code, output, second = run(RESUMED, stop, workers, spool="two", NARF_CHECKPOINTS="kept", NARF_ATTEMPT="2")
    assert code == 0, output
    assert output.splitlines()[-1].startswith("WEIGHTS")
    assert output.splitlines()[-1] == undisturbed.splitlines()[-1]
    assert first.points["mine"] + second.points.get("mine", []) == whole.points["mine"]


def test_the_wrong_number_of_objects_is_said_in_a_sentence(tmp_path):
    import torch

    import narf

    path = str(tmp_path / "kept.ckpt")
    narf.checkpoint(torch.nn.Linear(1, 1), path=path).save()
    with pytest.raises(ValueError, match=r"holds 1 objects, narf\.checkpoint was given 2"):
        narf.checkpoint(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), path=path)
