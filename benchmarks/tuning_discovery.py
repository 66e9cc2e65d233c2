"""Discovery: precision and recall of the parameters found in the ten example scripts and in sixteen other ways of writing one, read and
confirmed by a dry run.

python benchmarks/tuning_discovery.py [--static]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from narf.tuning.discovery.dry_run import confirm
from narf.tuning.discovery.static import discover_statically

EXAMPLES = Path(__file__).parents[1] / "examples" / "tuning"
EXPECTED = {
    "argparse_style": {"lr", "momentum", "hidden", "activation", "nesterov"},
    "click_style": {"alpha", "penalty", "eta0", "average"},
    "typer_style": {"neighbors", "weights", "power", "scale"},
    "hydra_style": {"model.hidden", "optimizer.lr", "optimizer.weight_decay"},
    "omegaconf_style": {"boosting.learning_rate", "boosting.max_leaf_nodes", "boosting.l2"},
    "dataclass_style": {"bootstrap", "trees", "max_depth", "criterion"},
    "jsonargparse_style": {"C", "gamma", "kernel", "shrinking"},
    "lightning_module": {"lr", "hidden", "dropout", "batch_norm"},
    "lightning_cli": {"model.lr", "model.hidden", "model.dropout", "data.batch_size"},
    "constants": {"LEARNING_RATE", "WEIGHT_DECAY", "BATCH_SIZE"},
}
IDIOMS = Path(__file__).parents[1] / "tests" / "tuning" / "discovery" / "idioms"
OTHERS = {
    "function_defaults": {"train.lr", "train.momentum", "train.batch_size"},
    "namespace": {"args.lr", "args.gamma", "args.hidden"},
    "plain_class": {"Config.lr", "Config.hidden_size", "Config.dropout"},
    "pydantic_settings": {"lr", "layers", "norm"},
    "absl_flags": {"learning_rate", "hidden_size", "optimizer", "use_bn"},
    "argparse_loop": {"lr", "momentum", "batch_size"},
    "argparse_parents": {"lr", "weight_decay", "warmup_ratio", "nesterov", "amsgrad", "dropout", "layers", "schedule"},
    "click_nested": {"lr", "weight_decay", "optimizer", "hidden", "augment"},
    "config_dict": {"config.lr", "config.batch_size", "config.dropout", "config.model.hidden", "config.model.layers"},
    "hydra_structured": {"optimizer.lr", "optimizer.momentum", "model.hidden", "model.dropout"},
    "jsonargparse_dataclass": {"optim.name", "optim.lr", "net.hidden", "net.dropout", "batch_size"},
    "lightning_subclass": {"model.width", "model.dropout", "model.lr", "model.weight_decay", "data.batch_size"},
    "main_constants": {"ALPHA", "ETA0"},
    "simple_parsing_style": {"learning_rate", "batch_size", "n_estimators", "early_stopping"},
    "typer_annotated": {"learning_rate", "activation", "dropout", "width", "use_bias"},
    "tyro_nested": {"optim.lr", "optim.weight_decay", "hidden_dim", "grad_clip", "use_ema"},
}


def main() -> int:
    static_only = "--static" in sys.argv
    hits = found_count = expected_count = 0
    print(f"{'script':<24}{'expected':>9}{'found':>7}{'right':>7}{'read, ms':>10}{'dry run, s':>12}  metric")
    scripts = [(name, EXAMPLES / name / "train.py", expected) for name, expected in EXPECTED.items()]
    scripts += [(name, IDIOMS / f"{name}.py", expected) for name, expected in OTHERS.items()]
    for name, script, expected in scripts:
        began = time.perf_counter()
        discovery = discover_statically(script)
        read = (time.perf_counter() - began) * 1000
        began = time.perf_counter()
        if not static_only:
            discovery = confirm(script, (), discovery)
        dry = time.perf_counter() - began
        found = {parameter.name for parameter in discovery.tunable}
        hits, found_count, expected_count = hits + len(found & expected), found_count + len(found), expected_count + len(expected)
        metric = discovery.metrics[0].name if discovery.metrics else "-"
        print(f"{name:<24}{len(expected):>9}{len(found):>7}{len(found & expected):>7}{read:>10.1f}{dry:>12.1f}  {metric}")
        for note in discovery.notes:
            print(f"    {note}")
    precision, recall = hits / found_count, hits / expected_count
    print(f"precision {precision:.3f}, recall {recall:.3f} (goal: 0.95 each)")
    return 0 if min(precision, recall) >= 0.95 else 1


if __name__ == "__main__":
    raise SystemExit(main())
