"""Measure the bandwidth of pickled lists of floats between two ranks.

Usage: mpiexec -n 2 python3 bandwidth.py

Rank 0 sends lists of 2^0, 2^1, ... 2^15 floats to rank 1 and back again;
further ranks only wait.  Prints one line per size, on rank 0: number of
floats, bytes of the pickle, MB/s (10^6 bytes per second, one way).
"""

import pickle
import sys

from mpi4py import MPI

REPEAT = 5


def seconds_one_way(comm, data):
    """Return the seconds that 'data' takes one way between ranks 0 and 1.

    To be called by ranks 0 and 1 together; only rank 0's answer counts.
    """
    start = MPI.Wtime()
    for _ in range(REPEAT):
        if comm.rank == 0:
            comm.send(data, dest=1)
            back = comm.recv(source=1)
        else:
            back = comm.recv(source=0)
            comm.send(back, dest=0)
        if back != data:
            raise RuntimeError(f"{len(data)} floats came back changed")
    return max(MPI.Wtime() - start, 1e-9) / (2 * REPEAT)


def main():
    comm = MPI.COMM_WORLD
    if comm.size < 2:
        sys.exit("bandwidth.py: needs at least two ranks")
    for exponent in range(16):
        data = [float(i) for i in range(2**exponent)]
        size = len(pickle.dumps(data))
        if comm.rank < 2:
            seconds = seconds_one_way(comm, data)
        if comm.rank == 0:
            rate = size / seconds / 1e6
            print(f"{len(data)} floats, {size} bytes: {rate:.3f} MB/s")


if __name__ == "__main__":
    main()
