# ruff: noqa: SIM115
"""Files that nobody closes: Python flushes them when it ends."""

file = open("global.txt", "w")
file.write("kept")
held = {"file": open("held.txt", "w")}
held["file"].write("kept too")
