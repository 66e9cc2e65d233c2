"""What this machine can give: processors, memory and GPUs, inside the limits of its container."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from narf.backends.protocol import Node

_SIMULATED_GPU_BYTES = 80 << 30


def this_machine(simulate_gpus: int = 0) -> Node:
    """This machine as a node. Simulated GPUs stand in for real ones: programs do not see either kind then."""
    flavor, sizes = ("simulated", [_SIMULATED_GPU_BYTES] * simulate_gpus) if simulate_gpus else _nvidia_gpus()
    return Node(
        name=platform.node() or "localhost",
        cpu=_processors(),
        memory_bytes=_memory_bytes(),
        gpus=len(sizes),
        gpu_memory_bytes=min(sizes, default=0),
        flavor=flavor,
        simulated_gpus=simulate_gpus > 0,
    )


def usable_cores() -> tuple[int, ...]:
    """The CPUs that this process may use; () where the system does not say."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def choose_cores(cpu: float, cores: Sequence[int], load: Mapping[int, float]) -> tuple[int, ...]:
    """The least loaded of `cores` for a replica that asks for `cpu`; () when it may use all of them.

    Args:
        load: how much of each core has been promised already.
    """
    count = math.ceil(cpu)
    if count >= len(cores):
        return ()
    return tuple(sorted(sorted(cores, key=lambda core: (load.get(core, 0.0), core))[:count]))


def _processors() -> float:
    count = float(len(usable_cores()) or os.cpu_count() or 1)
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        count = min(count, int(quota[0]) / int(quota[1]))
    return count


def _memory_bytes() -> int:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(path)
        if limit.isdigit():
            size = min(size, int(limit))
    return size


def _nvidia_gpus() -> tuple[str, list[int]]:
    """The model of the GPUs and the memory of each; nothing without NVIDIA's driver."""
    try:
        import pynvml
    except ImportError:
        return "", []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return "", []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        names = {str(pynvml.nvmlDeviceGetName(handle)) for handle in handles}
        sizes = [int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles]
    except pynvml.NVMLError:
        return "", []
    finally:
        pynvml.nvmlShutdown()
    return (names.pop().lower().replace(" ", "-") if len(names) == 1 else "mixed" if names else ""), sizes


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
