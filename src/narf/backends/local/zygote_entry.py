"""Starts a zygote: `python .../zygote_entry.py ROOT SOCKET ADDRESS PRELOAD`, with the interpreter of its environment.

Narf need not be installed there. It is imported from ROOT, which then leaves the path again: the libraries
must be found in this environment, not in Narf's own site-packages, and not in this file's folder.
"""

import os
import sys

try:
    # What the process was given: os.environ has an LC_CTYPE besides, where Python has replaced the C locale.
    with open("/proc/self/environ", "rb") as file:
        started_with = dict(os.fsdecode(item).split("=", 1) for item in file.read().split(b"\0") if b"=" in item)
except OSError:
    started_with = dict(os.environ)
sys.path[0] = sys.argv[1]

from narf.backends.local import zygote  # noqa: E402 - the path comes first

del sys.path[0]
sys.exit(zygote.main(sys.argv[2:], started_with))
