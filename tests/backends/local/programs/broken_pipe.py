"""SIGPIPE is ignored by Python: a write to a closed pipe is an exception."""

import asyncio
import os
import signal

reading, writing = os.pipe()
os.close(reading)
try:
    os.write(writing, b"x")
except BrokenPipeError as error:
    print("refused", error.errno)


async def main():
    process = await asyncio.create_subprocess_exec("echo", "from asyncio", stdout=asyncio.subprocess.PIPE)
    print(await process.communicate(), await asyncio.gather(asyncio.sleep(0.01, 1), asyncio.to_thread(lambda: 2)))


asyncio.run(main())
signal.signal(signal.SIGALRM, lambda *_: print("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.02)
signal.pause()
os.kill(os.getpid(), signal.SIGTERM)
