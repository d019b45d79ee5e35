"""The MPI libraries at hand.

That of 'mpiexec', and those below the prefixes in MPIIMPORT_TEST_OPENMPI and
MPIIMPORT_TEST_MPIABI.
"""

import os

import pytest
from support.installations import (
    ABI,
    MPICH,
    OPENMPI,
    Installation,
    from_prefix,
)


def openmpi_installation():
    options = ["--oversubscribe"]
    if os.geteuid() == 0:
        options.append("--allow-run-as-root")
    return from_prefix("MPIIMPORT_TEST_OPENMPI", options, "openmpi", OPENMPI)


@pytest.fixture(scope="session")
def mpich(mpiexec):
    """The MPICH that everything is tested with."""
    mpiexec = [os.environ.get("MPIIMPORT_TEST_MPIEXEC") or mpiexec[0]]
    return Installation(mpiexec, "mpich", MPICH)


@pytest.fixture(scope="session")
def openmpi():
    """An Open MPI, or skip."""
    return openmpi_installation()


@pytest.fixture(scope="session", params=["mpich", "openmpi", "abi", "legacy"])
def installation(request):
    """Each MPI in turn; "legacy" is the MPICH ABI of the standard's MPICH."""
    if request.param in ("mpich", "openmpi"):
        return request.getfixturevalue(request.param)
    which, family = {"abi": ("abi", ABI), "legacy": ("mpich", MPICH)}[
        request.param
    ]
    found = from_prefix("MPIIMPORT_TEST_MPIABI", [], which, family)
    if which == "mpich" and not (found.libdir / "libmpi.so.12").exists():
        pytest.skip("no libmpi.so.12 beside the standard ABI's library")
    return found
