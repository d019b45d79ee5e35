"""Import all modules that generate.py has made, and call them.

Usage: mpiexec -n N python3 main.py [DIR]

DIR: what generate.py was given; the working directory by default

Prints one line per rank; the order of the lines is not defined.
"""

import importlib
import os
import sys

from mpi4py import MPI


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.getcwd()
    sys.path.insert(0, directory)
    storm = importlib.import_module("storm")
    names = [f"storm.{name}" for name in storm.MODULES]
    modules = [importlib.import_module(name) for name in names]
    checksum = sum(module.run() for module in modules)
    rank = MPI.COMM_WORLD.rank
    # In one piece: print() writes the end of the line by itself.
    sys.stdout.write(
        f"rank {rank}: modules {len(modules)} checksum {checksum:x}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
