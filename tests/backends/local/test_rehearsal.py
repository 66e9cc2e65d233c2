"""What a rehearsal in the zygote leaves: faster forks, and nothing that a program could see."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

PROBE = textwrap.dedent("""
    import atexit, json, logging, os, signal, sys, warnings
    import numpy, torch, lightning.pytorch

    known = list(logging.root.manager.loggerDict)

    def seen():
        noted = {}
        for name, module in list(sys.modules.items()):
            registry = vars(module).get("__warningregistry__") if hasattr(module, "__dict__") else None
            keys = sorted(str(key) for key in registry if key != "version") if isinstance(registry, dict) else []
            if keys:
                noted[name] = keys
        return {
            "environment": dict(os.environ),
            "signals": [str(signal.getsignal(number)) for number in signal.valid_signals()],
            "exit functions": atexit._ncallbacks(),
            "descriptors": sorted(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "filters": [str(one) for one in warnings.filters],
            "warnings given": noted,
            "levels": {name: logging.getLogger(name).level for name in known},
            "torch threads": torch.get_num_threads(),
            "gradients": torch.is_grad_enabled(),
            "type": str(torch.get_default_dtype()),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }

    from narf.backends.local.rehearsal import rehearse
    before = seen()
    done = rehearse()
    after = seen()
    print(json.dumps([done, {name: [before[name], after[name]] for name in before if before[name] != after[name]}, after["threads"]]))
""")


def test_it_leaves_no_thread_and_no_trace() -> None:
    environment = {"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    done, changed, threads = json.loads(ended.stdout)
    assert changed == {} and done and threads == 1


def test_without_libraries_there_is_nothing_to_rehearse() -> None:
    code = "from narf.backends.local.rehearsal import rehearse; import sys; print(rehearse(), 'torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stdout.split() == ["False", "False"]
