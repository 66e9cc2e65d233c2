"""Processes of the program's own: pools, queues, shared memory, subprocesses."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import shared_memory


def square(x):
    return x * x


def put(queue):
    queue.put((multiprocessing.current_process().name.split("-")[0], __name__))


if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(method, pool.map(square, range(10)))
        queue = context.Queue()
        process = context.Process(target=put, args=(queue,))
        process.start()
        print(method, queue.get()[0])
        process.join()
        print(method, process.exitcode)
    with ProcessPoolExecutor(2) as pool, ThreadPoolExecutor(4) as threads:
        print(list(pool.map(square, range(5))), list(threads.map(square, range(5))))
    block = shared_memory.SharedMemory(create=True, size=16)
    block.buf[0] = 7
    block.close()
    block.unlink()
    print(
        subprocess.run(
            [sys.executable, "-c", "import sys; print(sys.argv, 'torch' in sys.modules)", "x"], capture_output=True, text=True
        ).stdout
    )
    sys.stdout.flush()
    os.system("echo from a shell; exit 3")
    pid = os.fork()
    if pid == 0:
        print("in the fork", flush=True)
        os._exit(5)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
