"""How loaded the machine and a process tree are: from /proc, and NVIDIA's library where there is one. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time


class Vitals:
    """Samples the process `pid` with its descendants, and the machine. Rates are over the time since the last sample."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._began = time.monotonic()
        self._last = self._began
        self._cpu = 0.0
        self._io = (0, 0)
        self._network = _network()
        self._is_first = True

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def sample(self) -> dict[str, float]:
        now = time.monotonic()
        passed = max(now - self._last, 1e-3)
        values: dict[str, float] = {}
        tree = _tree(self.pid)
        cpu = sum(one[0] for one in tree)
        read, written = sum(one[2] for one in tree), sum(one[3] for one in tree)
        if not self._is_first:
            # A process that ended takes its seconds with it; the sum may shrink.
            values["system/cpu_percent"] = max(0.0, 100.0 * (cpu - self._cpu) / passed)
            values["system/disk_read_bytes_per_second"] = max(0.0, (read - self._io[0]) / passed)
            values["system/disk_written_bytes_per_second"] = max(0.0, (written - self._io[1]) / passed)
        values["system/memory_bytes"] = float(sum(one[1] for one in tree))
        used = _machine_memory_used()
        if used is not None:
            values["system/machine_memory_percent"] = used
        network = _network()
        if network is not None and self._network is not None and not self._is_first:
            values["system/network_received_bytes_per_second"] = max(0.0, (network[0] - self._network[0]) / passed)
            values["system/network_sent_bytes_per_second"] = max(0.0, (network[1] - self._network[1]) / passed)
        library = gpus()
        if library is not None:
            values.update(library.sample())
        self._cpu, self._io, self._network, self._last, self._is_first = cpu, (read, written), network, now, False
        return values


def _tree(pid: int) -> list[tuple[float, int, int, int]]:
    """(CPU seconds, resident bytes, bytes read, bytes written) of the process and its descendants."""
    found = []
    waiting = [pid]
    ticks = os.sysconf("SC_CLK_TCK")
    page = os.sysconf("SC_PAGE_SIZE")
    while waiting:
        one = waiting.pop()
        try:
            with open(f"/proc/{one}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            read = written = 0
            with contextlib.suppress(OSError), open(f"/proc/{one}/io") as file:
                io = dict(line.split(": ") for line in file.read().splitlines())
                read, written = int(io["read_bytes"]), int(io["write_bytes"])
            found.append(((int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * page, read, written))
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as file:
                    waiting += [int(child) for child in file.read().split()]
        except (OSError, ValueError, IndexError, KeyError):
            continue  # it ended while we looked, or this system has no /proc
    return found


def _machine_memory_used() -> float | None:
    try:
        with open("/proc/meminfo") as file:
            fields = {line.split(":")[0]: int(line.split()[1]) for line in file}
        return 100.0 * (1 - fields["MemAvailable"] / fields["MemTotal"])
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _network() -> tuple[int, int] | None:
    """(received, sent) bytes over all devices but the loopback."""
    try:
        with open("/proc/net/dev") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return None
    counts = [line.partition(":")[2].split() for line in lines if line.partition(":")[0].strip() != "lo"]
    return sum(int(one[0]) for one in counts), sum(int(one[8]) for one in counts)


class _Utilisation(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Gpus:
    """NVIDIA's GPUs that this process may use, through the management library of the driver. Touches no CUDA context."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        if library.nvmlInit_v2() != 0:
            raise OSError("NVML does not start")
        count = ctypes.c_uint()
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        wanted = {part.strip() for part in visible.split(",")} if visible is not None else None
        self._devices: list[tuple[int, ctypes.c_void_p]] = []
        for index in range(count.value):
            device = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
                continue
            uuid = self._text("nvmlDeviceGetUUID", device)
            if wanted is None or str(index) in wanted or any(name and uuid.startswith(name) for name in wanted):
                self._devices.append((index, device))
        buffer = ctypes.create_string_buffer(96)
        library.nvmlSystemGetDriverVersion(buffer, 96)
        self.driver = buffer.value.decode()
        self.names = [self._text("nvmlDeviceGetName", device) for _, device in self._devices]

    def sample(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for index, device in self._devices:
            name = f"system/gpu{index}"
            utilisation, memory, number = _Utilisation(), _Memory(), ctypes.c_uint()
            if self._library.nvmlDeviceGetUtilizationRates(device, ctypes.byref(utilisation)) == 0:
                values[f"{name}_percent"] = float(utilisation.gpu)
            if self._library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0:
                values[f"{name}_memory_bytes"] = float(memory.used)
            if self._library.nvmlDeviceGetPowerUsage(device, ctypes.byref(number)) == 0:
                values[f"{name}_watts"] = number.value / 1000.0
            if self._library.nvmlDeviceGetTemperature(device, 0, ctypes.byref(number)) == 0:
                values[f"{name}_celsius"] = float(number.value)
        return values

    def _text(self, call: str, device: ctypes.c_void_p) -> str:
        buffer = ctypes.create_string_buffer(96)
        getattr(self._library, call)(device, buffer, 96)
        return buffer.value.decode()


_gpus: Gpus | None = None
_looked = False


def gpus() -> Gpus | None:
    """The GPUs; None where there is no NVIDIA driver."""
    global _gpus, _looked
    if not _looked:
        _looked = True
        try:
            found = Gpus(ctypes.CDLL("libnvidia-ml.so.1"))
            _gpus = found if found.names else None
        except (OSError, AttributeError):
            _gpus = None
    return _gpus
