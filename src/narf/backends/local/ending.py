"""Why a job ended, decided from how its replicas ended and what was asked of them."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from narf.domain.workload import EndReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of one replica. `asked`: the job had been told to stop before."""

    rank: int
    exit_code: int  # negative: the number of the signal
    asked: bool = False


def conclude(
    endings: Sequence[Ended], stop: EndReason | None, detail: str = "", *, killed_by_kernel: bool = False
) -> tuple[EndReason, int | None, str]:
    """The reason, the exit code and the detail of a job whose replicas ended in this order.

    The first replica that failed decides: the others of its gang were stopped for its sake. A stop that
    came after all had ended by themselves changes nothing.

    Args:
        stop: why the job was told to stop, if it was.
        killed_by_kernel: the kernel killed processes for want of memory while the job ran.
    """
    if not endings:
        return stop or EndReason.START_FAILED, None, detail
    decisive = next((ended for ended in endings if ended.exit_code != 0), endings[-1])
    code = decisive.exit_code
    if stop is not None and any(ended.asked for ended in endings) and not (decisive.exit_code != 0 and not decisive.asked):
        return stop, code, detail
    where = f"Replica {decisive.rank} ended first." if len(endings) > 1 and code != 0 else ""
    if code == 0:
        return EndReason.COMPLETED, 0, ""
    if code == -signal.SIGKILL and killed_by_kernel:
        return EndReason.OUT_OF_MEMORY, code, f"The machine ran out of memory and its kernel killed the program. {where}".strip()
    if code < 0:
        return EndReason.KILLED_BY_SIGNAL, code, f"{_signal_name(-code)}. {where}".strip()
    return EndReason.USER_ERROR, code, where


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
