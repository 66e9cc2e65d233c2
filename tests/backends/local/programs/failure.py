"""A traceback with a cause, a note and the user's lines only; and its exit code."""

import dataclasses
import inspect
import logging
import pickle
import sys
import warnings


@dataclasses.dataclass
class Point:
    x: int = 0


print(pickle.loads(pickle.dumps(Point(3))), Point.__module__, inspect.getsource(Point).count("\n"))
warnings.warn("a warning", stacklevel=1)
logging.warning("a log line")
logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
logging.info("another")
print("to stderr", file=sys.stderr)
sys.stdout.buffer.write(b"\xff\x00bytes\n")


def inner():
    raise KeyError("inner")


try:
    inner()
except KeyError as error:
    error.add_note("a note")
    raise ValueError("outer") from error
