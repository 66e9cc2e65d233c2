import atexit
import sys

atexit.register(print, "bye")
print("no newline at the end", end="")
sys.exit("a last word")
