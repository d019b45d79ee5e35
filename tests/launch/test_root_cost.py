"""What reading the tree costs rank 0: operations for each file it loads.

An operation is a system call with a path, or the reading of a directory.
What is read from an open file, and what is asked about it, is none.
"""

import os

import pytest
from support import trace

RANKS = 3
NUMERIC = "import numpy.fft; import scipy.interpolate"
PROGRAM = f"""
import sys
{NUMERIC}

specs = [getattr(m, "__spec__", None) for m in list(sys.modules.values())]
report([[s.origin, s.cached] for s in specs if s and s.has_location])
"""
LIMIT = 1.2

native = pytest.mark.parametrize("launcher", ["python-mpi"])


def listed(done):
    """Return the directories that were read, by the number of readings."""
    found = [one.path for one in done if one.call == "getdents64"]
    # Each reading ends with a call that gives nothing.
    ends = [
        one
        for one in done
        if one.call == "getdents64" and one.line.endswith("= 0")
    ]
    return set(found), len(ends)


def with_path(done):
    """Return the Operations that are calls with a path."""
    silent = ("read", "fstat", "fstatfs", "pread64", "getdents64")
    return [
        one
        for one in done
        if one.call not in silent and ', "", ' not in one.line
    ]


def is_shared(path):
    return path.endswith(".so") or ".so." in os.path.basename(path)


@pytest.fixture
def cost(count, launch, program, python):
    """Trace the job: -> (root's operations, files, directories)."""
    main = program(PROGRAM)
    launch(1, [main], launcher="python-mpi")  # bytecode there is, then
    _, start = count(["-S", "-c", "pass"], ranks=1, launcher="stock")
    result, found = count([main], ranks=RANKS)
    assert result.reports[0], str(result)
    done = trace.beyond(found[0], start[0])
    return done, result


@native
def test_numeric_operations_little_more_than_files(cost):
    """Also of what root's program reads itself, while it is imported.

    Files are the modules' sources, which are looked at once, their bytecode,
    the extension modules, and the libraries that these need.
    """
    done, result = cost
    modules = result.reports[0]
    calls = with_path(done)
    directories, listings = listed(done)
    touched = {one.path for one in calls}
    files = {path for module in modules for path in module if path}
    files = {os.path.realpath(path) for path in files}
    files &= {os.path.realpath(path) for path in touched}
    dependents = {
        os.path.realpath(path)
        for path in touched
        if is_shared(path) and os.path.exists(path)
    } - files
    spent = len(calls) + listings
    loaded = len(files) + len(directories) + len(dependents)
    print(
        f"{spent} operations, {len(modules)} modules, {len(files)} files, "
        f"{len(directories)} directories, {len(dependents)} libraries: "
        f"{spent / loaded:.3f}"
    )
    assert len(files) > 500 and len(directories) > 50, str(result)
    assert spent <= LIMIT * loaded, trace.listing(calls, 2000)


@native
def test_numeric_each_file_opened_once(cost):
    """Directories may be: the interpreter's start lists some itself."""
    done, result = cost
    opened = [
        one.path
        for one in done
        if one.call == "openat"
        and " = -1 " not in one.line
        and "O_DIRECTORY" not in one.line
        # The launcher looks at it as well, before there is a Python.
        and not one.path.endswith("/pyvenv.cfg")
    ]
    twice = sorted({path for path in opened if opened.count(path) > 1})
    assert not twice, f"{twice}{result}"
