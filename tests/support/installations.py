"""MPI libraries that the tests find, and C test programs below them."""

import os
import pathlib
import signal
import subprocess

import pytest

NONE, MPICH, OPENMPI, ABI = range(4)
PATIENCE = 60
KEPT = ("HOME", "LANG", "PATH", "TMPDIR", "USER")


def run(command, added=None):
    """Run 'command' in a clean environment with 'added'; never hangs.

    Return (status, stdout, stderr).
    """
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    process = subprocess.Popen(
        [str(word) for word in command],
        env=env | (added or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()  # mpiexec ends its ranks
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
        pytest.fail(f"{command} hangs\n{out}\n{err}")
    return process.returncode, out, err


def built(repo_root, name):
    """Return the C test program 'name'."""
    path = repo_root / "build" / "tests" / name
    if not path.exists():
        pytest.fail(f"{path} is missing: run 'make c-programs'")
    return path


class Installation:
    """An MPI that is there: its mpiexec, and how to open its library."""

    def __init__(self, mpiexec, which, family, libdir=""):
        self.mpiexec = mpiexec
        self.which = which
        self.family = family
        self.libdir = libdir

    def run(self, ranks, program, *words, which=None, libdir=None):
        """Run 'program' with 'ranks' ranks; see run()."""
        return run(
            [*self.mpiexec, "-n", ranks, program, *words]
            + [self.which if which is None else which]
            + [self.libdir if libdir is None else libdir]
        )


def from_prefix(variable, options, which, family):
    """Return the Installation whose prefix is in 'variable'."""
    prefix = os.environ.get(variable)
    if not prefix:
        pytest.skip(f"{variable} is not set")
    prefix = pathlib.Path(prefix)
    mpiexec = prefix / "bin" / "mpiexec"
    if not mpiexec.exists():
        pytest.skip(f"{variable}: there is no {mpiexec}")
    return Installation([mpiexec, *options], which, family, prefix / "lib")
