"""What a program prints: its metrics are read from its lines, and nothing else is."""

from __future__ import annotations

import math

import pytest

from narf.training.printed import metrics_in

SAID = {
    "Train Epoch: 1 [640/1400 (46%)]\tLoss: 0.345": [("train_loss", 0.345, 1)],
    "Test set: Average loss: 0.3512, Accuracy: 350/400 (88%)": [("test_loss", 0.3512, None), ("test_accuracy", 0.875, None)],
    "| end of epoch   3 | time:  5.20s | valid loss  5.23 | valid ppl    88.21": [("valid_loss", 5.23, 3), ("valid_ppl", 88.21, 3)],
    "Epoch 1/10, Train Loss: 0.5123, Val Loss: 0.41, Val Acc: 91.2%": [
        ("train_loss", 0.5123, 1),
        ("val_loss", 0.41, 1),
        ("val_acc", 91.2, 1),
    ],
    "\t Val. Loss: 0.667 |  Val. Acc: 59.12%": [("val_loss", 0.667, None), ("val_acc", 59.12, None)],
    "epoch 3 val_loss=1.2e-05 val_acc=.9": [("val_loss", 1.2e-05, 3), ("val_acc", 0.9, 3)],
    "[Epoch 3/10] [Batch 2/40] [D loss: 0.34] [G loss: 0.99]": [("d_loss", 0.34, 3), ("g_loss", 0.99, 3)],
    "{'eval_accuracy': 0.93, 'epoch': 2}": [("eval_accuracy", 0.93, 2)],
    '{"val_loss": 0.12, "epoch": 3}': [("val_loss", 0.12, 3)],
    "[10]\tvalidation_0-logloss:0.45321\tvalidation_1-auc:0.91": [
        ("validation_0-logloss", 0.45321, None),
        ("validation_1-auc", 0.91, None),
    ],
    "2026-11-28 10:00:00,123 INFO train: epoch 1 loss 0.5": [("train_loss", 0.5, 1)],
    "Accuracy of the network on the 10000 test images: 96 %": [("test_accuracy", 96, None)],
    "AUC on validation: 0.873": [("val_auc", 0.873, None)],
    "F1 (macro): 0.81": [("f1_macro", 0.81, None)],
    "test accuracy is 0.94": [("test_accuracy", 0.94, None)],
    "Test: epoch 0  Acc@1: 97.5": [("test_acc_1", 97.5, 0)],
    "    accuracy                           0.96       360": [("accuracy", 0.96, None)],
    "weekly-demand wape=0.3, policy loss 0.2": [("wape", 0.3, None), ("policy_loss", 0.2, None)],
    "C-index = 0.71": [("c-index", 0.71, None)],
    "\x1b[32mepoch 3\x1b[0m val_acc=\x1b[1m0.7\x1b[0m": [("val_acc", 0.7, 3)],
    "{'recall': np.float64(0.429), 'ndcg': tensor(0.5, grad_fn=<X>)}": [("recall", 0.429, None), ("ndcg", 0.5, None)],
    "10%|#   | loss=9\rEpoch 2: loss=0.5": [("loss", 0.5, 2)],
}
SILENT = [
    "",
    "learning rate: 0.001, batch size 32, 12 layers",
    "Loading 1400 samples in 3.2 seconds",
    "time: 5.2",
    "score threshold: 0.5",
    "loss weight: 0.3",
    "return 0",
    "Epoch 00012: reducing learning rate of group 0 to 1.0000e-04.",
    "epoch 3 of 10",
    "loss: unknown",
    "accuracy of three models",
    "x" * 5000 + " loss: 0.3",
]


@pytest.mark.parametrize("line", SAID)
def test_metrics_of_a_line_have_a_name_a_value_and_the_step_that_the_line_names(line):
    assert [tuple(one) for one in metrics_in(line)] == [(name, pytest.approx(value), step) for name, value, step in SAID[line]]


@pytest.mark.parametrize("line", SILENT)
def test_a_line_without_a_metric_says_none(line):
    assert metrics_in(line) == []


def test_a_loss_that_is_no_number_is_heard():
    (one,) = metrics_in("val loss: nan")
    assert one.name == "val_loss" and math.isnan(one.value)


@pytest.fixture
def run(warm, tmp_path, read_spool):
    def run(body, spool="spool", **environment):
        (tmp_path / "train.py").write_text(body)
        code, output = warm(tmp_path / "train.py", cwd=tmp_path, NARF_SPOOL=tmp_path / spool, **environment)
        assert code == 0, output
        return output, read_spool(tmp_path / spool).points

    return run


def test_a_script_without_a_logger_has_the_metrics_that_it_prints(run):
    output, points = run(
        "import logging, sys\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stderr, format='%(asctime)s %(levelname)s %(name)s.train %(message)s')\n"
        "for epoch in range(1, 4):\n"
        "    print('epoch', epoch, end=' ')\n"
        "    print(f'val loss: {1 / epoch:.2f}')\n"
        "    logging.info('acc=%.1f', epoch / 10)\n"
        "sys.stdout.write('test auc: 0.9\\n')\n"
    )
    assert "epoch 3 val loss: 0.33" in output
    assert points["val_loss"] == [(1, 1.0), (2, 0.5), (3, 0.33)]
    assert [value for _, value in points["acc"]] == [0.1, 0.2, 0.3]
    assert points["test_auc"] == [(0, 0.9)]


def test_the_step_of_a_name_only_grows(run):
    _, points = run("for epoch in (0, 1):\n    for batch in range(2):\n        print(f'epoch {epoch} train loss: {batch}')\n")
    assert points["train_loss"] == [(0, 0), (1, 1), (2, 0), (3, 1)]


def test_what_a_logger_records_by_the_same_name_is_left_to_it(run):
    _, points = run(
        "import narf\nfor epoch in range(3):\n    print(f'epoch {epoch} val_loss: 7.0 acc: {epoch}')\n    narf.log(val_loss=epoch / 2, step=epoch)\n"
    )
    assert points["val_loss"] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert points["val_acc"] == [(0, 0), (1, 1), (2, 2)]


def test_the_loss_that_is_differentiated_counts_and_not_every_hundredth_that_is_printed(run):
    _, points = run(
        "import time, torch\nw = torch.nn.Parameter(torch.ones(1))\nopt = torch.optim.SGD([w], lr=0.1)\n"
        "for step in range(6):\n    loss = (w ** 2).sum()\n    loss.backward()\n    print('loss:', step)\n    opt.step()\n    time.sleep(0.002)\n"
    )
    assert len(points["loss"]) == 6 and points["loss"][0] == (0, 1.0)


def test_the_hook_can_be_left_out_and_workers_are_not_heard(run):
    body = "import os\nprint('acc: 0.5')\nif os.fork() == 0:\n    print('auc: 0.7', flush=True)\n    os._exit(0)\nos.wait()\n"
    assert "auc" not in run(body)[1]
    assert "acc" not in run(body, spool="off", NARF_HOOKS_OFF="printed")[1]
