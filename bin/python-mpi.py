#!/usr/bin/env -S python3 -S
"""python-mpi.py: run a Python program on all ranks, with imports from rank 0.

    mpiexec -n N python-mpi.py [OPTION...] PROGRAM [ARGUMENT...]

This is the launcher on the stock interpreter; --help tells the rest.
"""

import sys


def load():
    """Load the extension beside this file, without searching for it: every
    look at a directory would be multiplied by the number of ranks.
    """
    from _frozen_importlib import ModuleSpec, _load
    from _frozen_importlib_external import ExtensionFileLoader
    from _imp import extension_suffixes

    if sys.flags.safe_path:
        import os

        here = os.path.dirname(os.path.realpath(__file__))
    else:
        here = sys.path.pop(0)
    path = f"{here}/mpiimport{extension_suffixes()[0]}"
    loader = ExtensionFileLoader("mpiimport", path)
    spec = ModuleSpec("mpiimport", loader, origin=path)
    spec._set_fileattr = True
    try:
        return _load(spec)
    except ImportError as error:
        sys.exit(
            "python-mpi: mpiimport is not built for this interpreter "
            f"({sys.executable}, {sys.version.split()[0]}): {error}\n"
            "Run 'make PYTHON=...' with it, or put another one first in PATH."
        )


def run():
    """Run the program, which gets this module's namespace for its own."""
    status = load().main(sys.argv)
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    run()
