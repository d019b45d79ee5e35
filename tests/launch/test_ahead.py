"""Read-ahead from bytecode: rank 0 reads what modules import, early, and
little that nobody imports; nothing of it is executed.
"""

import compileall
import re

import pytest

RANKS = 3
MODULES = 60
NUMERIC = "import numpy.fft, scipy.interpolate"

PACKAGE = """
import os
import time
from typing import TYPE_CHECKING

if os.environ.get("PMI_RANK", "0") == "0":
    time.sleep(0.5)  # while others are read
if TYPE_CHECKING:
    import application.never
if time is os:
    import application.perhaps
from application import module0
"""

PROGRAM = """
import time
import mpiimport

def numbers():
    seen = mpiimport.timings()
    return seen["phases"]["IO"][1], seen["operations"]

import application
import application.module0 as first

after = numbers()
mpiimport.COMM_WORLD.barrier()
time.sleep(0.2)
report([first.COUNT, after, numbers()])
"""

# What a process with strace opens, and what it has imported by then.
LOADED = f"""
{NUMERIC}
import sys

report([module.__cached__ for module in list(sys.modules.values())
        if getattr(module, "__cached__", None)])
"""


@pytest.fixture
def application(tmp_path):
    """A package whose modules import the next one each; its directory.

    One of its modules has no bytecode, and prints.
    """
    top = tmp_path / "application"
    top.mkdir()
    (top / "__init__.py").write_text(PACKAGE)
    for number in range(MODULES):
        lines = [f"from .module{number + 1} import COUNT", "COUNT += 1"]
        if number == MODULES - 1:
            lines = ["COUNT = 1"]
        (top / f"module{number}.py").write_text("\n".join(lines))
    assert compileall.compile_dir(top, quiet=1)
    for name in ("never", "perhaps"):
        (top / f"{name}.py").write_text(f"print('{name} is executed')")
    return top


def test_package_read_while_it_executes(launch, program, application):
    """Rank 0 imports module after module that are there; what no condition
    leads to is not executed, and not compiled.
    """
    result = launch(RANKS, [program(PROGRAM)])
    assert result.status == 0, str(result)
    for rank in range(RANKS):
        assert result.reports[rank][0] == MODULES, str(result)
    _, (inline, operations), _ = result.reports[0]
    assert inline < MODULES / 2 < operations, str(result)
    assert "is executed" not in result.stdout, str(result)
    compiled = {path.name for path in application.glob("__pycache__/*")}
    assert len(compiled) == MODULES + 1, compiled


def test_package_any_ranks_same_operations(launch, program, application):
    """What is read ahead depends on the modules alone.  (A directory may be
    opened on the way to a file, or be kept by then because it was listed.)
    """
    made = set()
    for ranks in (2, 5):
        result = launch(ranks, [program(PROGRAM)])
        assert result.status == 0, str(result)
        made.add(result.reports[0][-1][1])
    assert max(made) - min(made) <= 2, made


def test_module_written_by_program_found(launch, program):
    """Beside it, and before the import; not what was there at first."""
    path = program("""
import time  # these are there: no directory has been listed

import mpiimport

if RANK == 0:
    time.sleep(0.3)
    for name in ("old", "new"):
        path = os.path.join(os.path.dirname(__file__), f"{name}.py")
        with open(path, "w") as file:
            file.write(f"VALUE = 'by the program: {name}'")
mpiimport.COMM_WORLD.barrier()
import new
import old
report([new.VALUE, old.VALUE])
""")
    (path.parent / "old.py").write_text("VALUE = 'old'")
    assert compileall.compile_file(path.parent / "old.py", quiet=1)
    result = launch(RANKS, [path])
    assert result.status == 0, str(result)
    for rank in range(RANKS):
        values = [f"by the program: {name}" for name in ("new", "old")]
        assert result.reports[rank] == values, str(result)


@pytest.mark.parametrize("launcher", ["python-mpi"])
def test_numeric_hardly_anything_in_vain(observe, program):
    """Of the bytecode that rank 0 reads, nearly all is imported."""
    result, found = observe([program(LOADED)], ranks=2)
    opened = {
        one.path
        for one in found[0]
        if one.call.startswith("open") and re.search(r"\.pyc$", one.path)
    }
    loaded = set(result.reports[0])
    vain = opened - loaded
    assert len(loaded) > 300, sorted(loaded)
    print(f"{len(opened)} read, {len(vain)} in vain: {sorted(vain)}")
    assert len(vain) <= len(loaded) / 50, sorted(vain)
