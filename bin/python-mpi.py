#!/usr/bin/env -S python3 -S
"""python-mpi.py: run a Python program on all ranks, with imports from rank 0.

    mpiexec -n N python-mpi.py [OPTION...] PROGRAM [ARGUMENT...]

This is the launcher on the stock interpreter; --help tells the rest.
"""

import sys

if __name__ == "__main__":
    here = [] if sys.flags.safe_path else [sys.path.pop(0)]
    if not here:
        import os

        here = [os.path.dirname(os.path.realpath(__file__))]
    sys.path[:0] = here
    try:
        import mpiimport
    except ImportError as error:
        sys.exit(
            "python-mpi: mpiimport is not built for this interpreter "
            f"({sys.executable}, {sys.version.split()[0]}): {error}\n"
            "Run 'make PYTHON=...' with it, or put another one first in PATH."
        )
    del sys.path[0]
    mpiimport.main(sys.argv)
