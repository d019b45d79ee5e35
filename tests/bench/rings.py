"""Show how many steps MPI's broadcasts have, for docs/scaling.md.

    mpiexec -n 16 .venv/bin/python tests/bench/rings.py

Every rank sleeps between two looks at the request, as our pumps do, and so
much longer than a message takes that the number of looks tells the steps: the
logarithm of the ranks for a tree, about the ranks for a ring.  Prints for
each size in KiB the median over some broadcasts of the most looks of a rank.
"""

import statistics
import time

from mpi4py import MPI

SIZES = (8 << 10, 100 << 10, 4 << 20)
TIMES = 5
NAP = 0.005  # seconds


def looks(comm, size):
    """Return the most looks that a rank needed for a broadcast."""
    buffer = bytearray(size)
    comm.Barrier()
    request = comm.Ibcast([buffer, MPI.BYTE], 0)
    count = 0
    while not request.Test():
        time.sleep(NAP)
        count += 1
    return comm.allreduce(count, MPI.MAX)


def main():
    """Print a line on rank 0."""
    comm = MPI.COMM_WORLD
    found = {
        size: statistics.median(looks(comm, size) for _ in range(TIMES))
        for size in SIZES
    }
    if comm.rank == 0:
        text = ", ".join(f"{k >> 10} KiB: {n}" for k, n in found.items())
        print(f"{comm.size} ranks: {text}")


if __name__ == "__main__":
    main()
