# ruff: noqa: SIM115
"""How a process ends: exit functions, finalisers, threads, files that nobody closed."""

import atexit
import sys
import threading
import time
import weakref


class Thing:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("finalised", self.name, flush=True)


thing = Thing("global")
cycle = Thing("in a cycle")
cycle.itself = cycle
weakref.finalize(thing, print, "weak finaliser", flush=True)
unclosed = open("unclosed.txt", "w")
unclosed.write("kept " * 100)
atexit.register(print, "first registered, last run", flush=True)
atexit.register(print, "last registered, first run", flush=True)


def work():
    time.sleep(0.05)
    print("the thread has ended", flush=True)


threading.Thread(target=work).start()
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


@atexit.register
def broken():
    raise ValueError("an exit function fails")


sys.exit(3)
