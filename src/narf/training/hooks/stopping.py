"""SIGTERM: a run that can keep a checkpoint does so and exits; any other dies by the signal, as without Narf."""

from __future__ import annotations

import os

from narf.training import stop


def install() -> None:
    if os.environ.get("NARF_SPOOL") or os.environ.get("NARF_CHECKPOINTS"):
        stop.install()
