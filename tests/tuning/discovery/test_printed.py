"""Metrics of scripts that only print: read from the texts of their calls."""

import pytest

from narf.tuning.discovery.static import discover_statically

PRINTING = {
    "print(f'epoch {epoch} val loss: {loss:.3f} acc: {100 * acc:.1f}%')": ["val_loss", "val_acc"],
    "print('\\nTest set: Average loss: {:.4f}, Accuracy: {}/{} ({:.0f}%)\\n'.format(a, b, c, d))": ["test_loss", "test_accuracy"],
    "print('valid loss %5.2f | %d%% done' % (loss, done))": ["valid_loss"],
    "print('AUC', auc(y, p))": ["auc"],
    "print({'eval_accuracy': acc, 'epoch': 1})": ["eval_accuracy"],
    "import json\nprint(json.dumps({'val_f1': f1}))": ["val_f1"],
    "import logging\nlog = logging.getLogger()\nlog.info('epoch %d rmse %.3f', epoch, rmse)": ["rmse"],
    "import click\nclick.secho(f'recall@{K}: {r}')\nK = 10": ["recall_10"],
    "for part in ('train', 'val'):\n    print(f'{part} loss: {losses[part]}')": ["val_loss", "train_loss"],
    "for name, value in {'auc': 1, 'f1': 2}.items():\n    print(f'{name}: {value}')": ["auc", "f1"],
    "print('best val_auc=', best)\nprint('val_auc=', now)": ["val_auc", "best_val_auc"],
    "print(f'recall@{k}: {r}')\nprint('learning rate', lr, 'took', seconds, 's')\nfile.info('loss 3')": [],
}


@pytest.mark.parametrize("text", PRINTING)
def test_metrics_are_found_in_what_a_script_prints(tmp_path, text):
    (tmp_path / "train.py").write_text(f"LEARNING_RATE = 0.1\n{text}\n")
    assert [metric.name for metric in discover_statically(tmp_path / "train.py").metrics] == PRINTING[text]


def test_a_script_with_a_logger_is_taken_at_its_word(tmp_path):
    (tmp_path / "train.py").write_text("LR = 0.1\nimport mlflow\nmlflow.log_metric('auc', x)\nprint('val loss:', y)\n")
    assert [metric.name for metric in discover_statically(tmp_path / "train.py").metrics] == ["auc"]
