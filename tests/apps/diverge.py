"""Import different things on different ranks, at different times.

Usage: mpiexec -n N python3 diverge.py

No two ranks of this program run the same sequence of imports:

- rank 0 alone imports a large package;
- odd ranks import some modules in the opposite order of even ranks;
- the last rank alone imports a module that nobody else imports;
- on every rank two threads import different packages at once;
- one rank imports a module two seconds after everybody else is done.

Prints, on rank 0 and in the order of the ranks, which modules every rank
got in each of the steps.
"""

import importlib
import importlib.util
import os
import threading
import time

from mpi4py import MPI

LARGE = (
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
)
LARGE_WITHOUT_MATPLOTLIB = (
    "email.mime.multipart",
    "xml.etree.ElementTree",
    "http.cookiejar",
    "http.server",
)
IN_TURN = (
    "csv",
    "decimal",
    "html.parser",
    "json.tool",
    "logging.handlers",
    "multiprocessing.managers",
    "statistics",
    "tarfile",
    "xml.dom.minidom",
    "zipfile",
)
LAST_RANK_ONLY = "imaplib"
BY_THREADS = (
    ("unittest.mock", "asyncio"),
    ("xmlrpc.client", "sqlite3"),
)
LATE = "ftplib"
LATE_SECONDS = 2.0


def load(name):
    """Import the module 'name'; return what shows that it is the one."""
    module = importlib.import_module(name)
    origin = os.path.basename(module.__spec__.origin)
    return f"{name}={module.__name__}({origin})"


def load_large():
    """Import the large package; return what was found."""
    if importlib.util.find_spec("matplotlib") is None:
        return [load(name) for name in LARGE_WITHOUT_MATPLOTLIB]
    return [load(name) for name in LARGE]


def load_in_turn(backwards):
    """Import IN_TURN, forwards or backwards; return it in name order."""
    names = reversed(IN_TURN) if backwards else IN_TURN
    return sorted(load(name) for name in names)


def load_by_threads():
    """Import from two threads that start at the same moment."""
    gate = threading.Barrier(len(BY_THREADS))
    found = [[] for _ in BY_THREADS]

    def work(number):
        gate.wait()
        for name in BY_THREADS[number]:
            found[number].append(load(name))

    threads = [
        threading.Thread(target=work, args=(number,))
        for number in range(len(BY_THREADS))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found[0] + found[1]


def main():
    comm = MPI.COMM_WORLD
    rank = comm.rank
    steps = {}
    if rank == 0:
        steps["large"] = load_large()
    steps["in turn"] = load_in_turn(backwards=rank % 2 == 1)
    if rank == comm.size - 1:
        steps["last rank only"] = [load(LAST_RANK_ONLY)]
    steps["by threads"] = load_by_threads()
    comm.Barrier()
    if rank == 1 % comm.size:
        time.sleep(LATE_SECONDS)
        steps["late"] = [load(LATE)]
    everybody = comm.gather(steps, root=0)
    if rank != 0:
        return
    for number, found in enumerate(everybody):
        for step, modules in found.items():
            print(f"rank {number}, {step}: {' '.join(modules)}")


if __name__ == "__main__":
    main()
