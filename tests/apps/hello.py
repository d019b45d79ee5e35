"""Say hello from every rank.

Usage: mpiexec -n N python3 hello.py

Prints one line per rank; the order of the lines is not defined.
"""

from mpi4py import MPI


def main():
    comm = MPI.COMM_WORLD
    print(f"hello from rank {comm.rank} of {comm.size}", flush=True)


if __name__ == "__main__":
    main()
