"""Send a pickled dictionary once round the ring of all ranks.

Usage: mpiexec -n N python3 ring.py

Every rank starts with a dictionary made from its own rank and passes what
it holds to its right neighbour until its own dictionary has come back.
Prints one line per rank, in the order of the ranks: what the neighbours
sent, as a sum, and whether the rank got its own dictionary back unchanged.
"""

import math
import sys

from mpi4py import MPI


def parcel(rank):
    """Return the dictionary that 'rank' sends."""
    return {
        "rank": rank,
        "answer": 42 * rank,
        "angle": math.pi * rank,
    }


def travel(comm):
    """Pass the dictionaries round; return those received, in order.

    Collective over 'comm'.
    """
    right = (comm.rank + 1) % comm.size
    left = (comm.rank - 1) % comm.size
    received = []
    held = parcel(comm.rank)
    for _ in range(comm.size):
        held = comm.sendrecv(held, dest=right, source=left)
        received.append(held)
    return received


def main():
    comm = MPI.COMM_WORLD
    received = travel(comm)
    expected = [
        parcel((comm.rank - 1 - step) % comm.size) for step in range(comm.size)
    ]
    line = (
        f"rank {comm.rank}: first {received[0]}, "
        f"answers {sum(item['answer'] for item in received)}, "
        f"angles {math.fsum(item['angle'] for item in received):.9f}, "
        f"{'all right' if received == expected else 'WRONG'}"
    )
    lines = comm.gather(line, root=0)
    if comm.rank == 0:
        print("\n".join(lines), flush=True)
    sys.exit(0 if received == expected else 1)


if __name__ == "__main__":
    main()
