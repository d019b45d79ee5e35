"""Show how many steps MPI's broadcasts have, for docs/scaling.md.

    mpiexec -n 16 .venv/bin/python tests/bench/rings.py

Every rank sleeps between two looks at the request, as our pumps do, and so
much longer than a message takes that the number of looks tells the steps: the
logarithm of the ranks for a tree, about the ranks for a ring.  Prints for
each size in KiB the median over some broadcasts of the most looks of a rank;
the same for a broadcast in pieces, as the start-up makes it, and for a scatter
of one entry to each rank.
"""

import statistics
import time

from mpi4py import MPI

SIZES = (8 << 10, 100 << 10, 4 << 20)
PIECE = 8 << 10  # PIECE in libmpi_min/collective.c
ENTRY = 64  # the largest that the start-up scatters: struct sign in src/node.c
TIMES = 5
NAP = 0.005  # seconds


def looks(comm, start):
    """Return the most looks that a rank needed for what start() began."""
    comm.Barrier()
    requests = start()
    count = 0
    while not MPI.Request.Testall(requests):
        time.sleep(NAP)
        count += 1
    return comm.allreduce(count, MPI.MAX)


def broadcast(comm, size, piece=None):
    """Return a function that starts a broadcast, in pieces if that is said."""
    buffer = bytearray(size)
    piece = piece or size

    def start():
        return [
            comm.Ibcast([memoryview(buffer)[at : at + piece], MPI.BYTE], 0)
            for at in range(0, size, piece)
        ]

    return start


def scatter(comm, size):
    """Return a function that starts a scatter of so many bytes to each."""
    table = bytearray(size * comm.size) if comm.rank == 0 else None
    mine = bytearray(size)

    def start():
        out = table and [table, size, MPI.BYTE]
        return [comm.Iscatter(out, [mine, MPI.BYTE], 0)]

    return start


def main():
    """Print a line on rank 0."""
    comm = MPI.COMM_WORLD
    cases = {f"{k >> 10} KiB": broadcast(comm, k) for k in SIZES}
    cases["100 KiB in pieces"] = broadcast(comm, 100 << 10, PIECE)
    cases[f"scatter of {ENTRY} B"] = scatter(comm, ENTRY)
    found = {
        name: statistics.median(looks(comm, start) for _ in range(TIMES))
        for name, start in cases.items()
    }
    if comm.rank == 0:
        text = ", ".join(f"{name}: {n}" for name, n in found.items())
        print(f"{comm.size} ranks: {text}")


if __name__ == "__main__":
    main()
