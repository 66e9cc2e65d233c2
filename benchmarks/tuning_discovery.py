"""Discovery: precision and recall of the parameters found in the ten example scripts and in 52 other ways of writing one, read and
confirmed by a dry run.

python benchmarks/tuning_discovery.py [--static]
"""

from __future__ import annotations

import json
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
    "omegaconf_style": {"boosting.learning_rate", "boosting.rounds", "boosting.max_leaf_nodes", "boosting.l2"},
    "dataclass_style": {"bootstrap", "trees", "max_depth", "criterion"},
    "jsonargparse_style": {"C", "gamma", "kernel", "shrinking"},
    "lightning_module": {"lr", "hidden", "dropout", "batch_norm"},
    "lightning_cli": {"model.lr", "model.hidden", "model.dropout", "data.batch_size"},
    "constants": {"LEARNING_RATE", "WEIGHT_DECAY", "BATCH_SIZE"},
}
IDIOMS = Path(__file__).parents[1] / "tests" / "tuning" / "discovery" / "idioms"
PROJECTS = IDIOMS.parent / "projects"  # with modules and configuration files beside the script
IN_FOLDERS = {name: set(item["defaults"]) for name, item in json.loads((PROJECTS / "expected.json").read_text()).items()}
OTHERS = {name: set(expected) for name, expected in json.loads((IDIOMS / "expected.json").read_text()).items()}


def main() -> int:
    static_only = "--static" in sys.argv
    hits = found_count = expected_count = 0
    print(f"{'script':<24}{'expected':>9}{'found':>7}{'right':>7}{'read, ms':>10}{'dry run, s':>12}  metric")
    scripts = [(name, EXAMPLES / name / "train.py", expected) for name, expected in EXPECTED.items()]
    scripts += [(name, IDIOMS / f"{name}.py", expected) for name, expected in OTHERS.items()]
    scripts += [(name, PROJECTS / name / "train.py", expected) for name, expected in IN_FOLDERS.items()]
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
