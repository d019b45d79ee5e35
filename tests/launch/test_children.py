"""What a rank starts is ordinary Python, and works as a child of python3.

Each test runs one program with plain Python and as a job, and compares what
every rank has reported.  That no process and no file is left is checked by
launch() after every job.
"""

import re
import sys

import pytest
from support import signals

RANKS = 2
layouts = pytest.mark.parametrize("nodes", ["one", "each"])

# What a child can see of how it was started; it prints a literal.
CHILD = """
import sys

names = ("flags", "path", "prefix", "exec_prefix", "base_prefix", "executable",
         "base_exec_prefix", "_base_executable", "orig_argv", "argv",
         "warnoptions", "pycache_prefix", "dont_write_bytecode")
seen = {name: getattr(sys, name) for name in names}
seen["flags"] = tuple(seen["flags"])
seen["xoptions"] = dict(sys._xoptions)
seen["modules"] = sorted(sys.modules)
seen["finders"] = [str(hook) for hook in sys.path_hooks][:1]
import os
seen["seed"] = os.environ.get("PYTHONHASHSEED")
with open("/proc/self/maps") as lines:
    seen["with MPI"] = any("libmpi" in line for line in lines)
"""
PRINT_CHILD = CHILD + "print(seen)\n"
RUN_CHILD = (
    f"CHILD = {PRINT_CHILD!r}\n"
    + """
import ast
import subprocess
import sys


def run(*words, **options):
    done = subprocess.run(
        [sys.executable, *words],
        check=True, capture_output=True, text=True, **options,
    )
    return done.stdout
"""
)


@pytest.fixture
def same(launch, stock):
    """Run a program with plain Python and as a job; compare the reports.

    same(args, ...) -> the job's result.
    """

    def run(args, nodes="one", env=None, **options):
        expected = stock(args, env=env, **options)
        assert expected.status == 0, str(expected)
        result = launch(RANKS, args, nodes=nodes, env=env, **options)
        assert result.status == 0, f"{result}{expected}"
        assert sorted(result.reports) == list(range(RANKS)), str(result)
        for rank in range(RANKS):
            assert result.reports[rank] == expected.reports[0], (
                f"rank {rank}{result}{expected}"
            )
        assert result.stderr == expected.stderr, f"{result}{expected}"
        return result

    return run


# --- subprocess


@layouts
def test_child_is_ordinary_python(same, program, nodes):
    text = RUN_CHILD + "report(ast.literal_eval(run('-c', CHILD)))\n"
    result = same([program(text)], nodes)
    seen = result.reports[0]
    assert not [name for name in seen["modules"] if "mpiimport" in name]
    assert seen["seed"] is None and not seen["with MPI"], str(result)


def test_child_of_a_script_and_of_stdin_is_ordinary(same, program, tmp_path):
    (tmp_path / "child.py").write_text(PRINT_CHILD)
    text = RUN_CHILD + (
        "report([\n"
        "    ast.literal_eval(run('child.py', 'argument')),\n"
        "    ast.literal_eval(run('-m', 'child')),\n"
        "    ast.literal_eval(run('-', 'argument', input=CHILD)),\n"
        "])\n"
    )
    same([program(text)])


OPTIONS = [
    [],
    ["-O"],
    ["-OO", "-B"],
    ["-E", "-s", "-P"],
    ["-S"],
    ["-u", "-b"],
    ["-W", "error", "-W", "ignore::UserWarning"],
    ["-X", "dev"],
    ["-X", "utf8=0", "-X", "importtime"],
    ["-X", "no_debug_ranges"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_child_with_the_flags_of_its_parent(launch, stock, program, options):
    text = RUN_CHILD + (
        "words = subprocess._args_from_interpreter_flags()\n"
        "report((words, ast.literal_eval(run(*words, '-c', CHILD))))\n"
    )
    args = [*options, program(text)]
    expected = stock(args)
    result = launch(RANKS, args)
    assert expected.status == result.status == 0, f"{result}{expected}"
    for rank in range(RANKS):
        assert result.reports[rank] == expected.reports[0], (
            f"rank {rank}{result}{expected}"
        )


HASHES = """
WORDS = ("-c", "print(hash('some text'))")
report((
    os.environ.get("PYTHONHASHSEED"),
    hash("some text"),
    *(int(run(*WORDS)) for _ in range(3)),
))
"""


def test_children_have_random_hashes_of_their_own(launch, program):
    result = launch(RANKS, [program(RUN_CHILD + HASHES)])
    assert result.status == 0, str(result)
    found = []
    for rank in range(RANKS):
        variable, own, *others = result.reports[rank]
        assert variable is None, str(result)
        assert own not in others, str(result)
        found += others
    assert len(set(found)) == len(found), str(result)


@pytest.mark.parametrize("seed", ["0", "42"])
def test_hash_seed_of_the_user_reaches_children(same, program, seed):
    text = RUN_CHILD + HASHES
    same([program(text)], env={"PYTHONHASHSEED": seed})


def test_child_with_the_words_of_its_parent(same, program):
    """The program starts itself again, as programs that reload do."""
    text = (
        "import os\nimport subprocess\nimport sys\n\n"
        "words = [sys.executable, *sys.orig_argv[1:]]\n"
        "if 'AGAIN' not in os.environ:\n"
        "    env = os.environ | {'AGAIN': '1'}\n"
        "    done = subprocess.run(words, env=env, capture_output=True,\n"
        "                          check=True)\n"
        "    report((sys.orig_argv, done.stdout.decode()))\n"
        "else:\n"
        "    print(sys.orig_argv, sys.argv, sys.flags, sys.path)\n"
    )
    main = program(text)
    words = ["-O", "-W", "ignore", "-X", "dev", main, "a", "-b", "--c=d"]
    result = same(words)
    (first, *rest), _ = result.reports[0]
    assert first == str(launch_python(result)), str(result)
    assert rest == [str(word) for word in words], str(result)


def launch_python(result):
    """Return the interpreter that the ranks of 'result' had to run."""
    return result.added.get("PYTHON_MPI_PYTHON", sys.executable)


AGAIN = """
import os
import sys

if "AGAIN" not in os.environ:
    os.environ["AGAIN"] = "1"
    import fractions
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
print(sys.orig_argv, sys.argv, sys.flags, sys.path)
print([name for name in sys.modules if "mpiimport" in name])
sys.exit(3)
"""


@pytest.mark.parametrize("options", [[], ["-O", "-X", "dev"]], ids=" ".join)
def test_execv_of_a_single_rank_is_plain_python(
    launcher, mpiexec, repo_root, python, tmp_path, job_environment, options
):
    """Without MPI's launcher, which would take it for a crash."""
    starter = signals.Starter(
        mpiexec, repo_root, python, tmp_path, job_environment
    )
    main = tmp_path / "main.py"
    main.write_text(AGAIN)
    results = []
    for name in (launcher, "stock"):
        started = starter.start(0, [*options, main, "argument"], name)
        try:
            results.append(started.finish())
        finally:
            started.clear()
    result, expected = results
    assert expected.status == 3, str(expected)
    assert result.status == 3, f"{result}{expected}"
    assert result.stdout == expected.stdout, f"{result}{expected}"
    assert result.stderr == expected.stderr, f"{result}{expected}"


# --- multiprocessing and concurrent.futures

PROCESSES = """
import multiprocessing
import os
import sys


def facts():
    with open("/proc/self/maps") as lines:
        maps = lines.read()
    return {
        "ours": "mpiimport" in sys.modules,
        "with MPI": "libmpi" in maps,
        "name": __name__,
        "parent": os.getppid(),
    }


def square(x):
    import colorsys
    return x * x, os.getpid() != PARENT, colorsys.__name__


def put(queue, value):
    import fractions
    queue.put((fractions.Fraction(value, 3) * 3, facts()))


PARENT = int(os.environ.setdefault("PARENT_OF_ALL", str(os.getpid())))


def main(method):
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        squares = pool.map(square, range(6))
    queue = context.Queue()
    process = context.Process(target=put, args=(queue, 5))
    process.start()
    value, seen = queue.get(timeout=60)
    process.join()
    if method != "forkserver":
        assert seen.pop("parent") == os.getpid()
    seen.pop("parent", None)
    if method == "fork":
        # A copy of the rank, with all that it has.
        seen.pop("ours"), seen.pop("with MPI")
    return squares, int(value), seen, process.exitcode


if __name__ == "__main__":
    report(main(sys.argv[1]))
"""
METHODS = ("spawn", "forkserver", "fork")


def check_processes(result):
    """Results are right, and spawned processes know nothing of a job."""
    squares, value, seen, status = result.reports[1]
    assert squares == [(x * x, True, "colorsys") for x in range(6)]
    assert (value, status) == (5, 0), str(result)
    assert not seen.get("ours") and not seen.get("with MPI"), str(result)


# From 3.12 on Python warns of a fork where there are threads.
QUIET = ["-W", "ignore::DeprecationWarning"]


@layouts
@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing_of_a_script(same, program, method, nodes):
    result = same([*QUIET, program(PROCESSES), method], nodes)
    check_processes(result)


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing_of_a_module(same, program, method):
    program(PROCESSES, "package/work.py")
    result = same([*QUIET, "-m", "package.work", method])
    check_processes(result)


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing_beside_mpi(launch, program, method):
    """The ranks' own MPI calls go on while they have processes."""
    text = (
        PROCESSES
        + "    from mpi4py import MPI\n"
        + "    MPI.COMM_WORLD.Barrier()\n"
        + "    print(MPI.COMM_WORLD.allreduce(RANK + 1))\n"
    )
    args = [*QUIET, program(text), method]
    result = launch(RANKS, args)
    assert result.status == 0, str(result)
    check_processes(result)
    assert result.lines() == ["3"] * RANKS, str(result)


EXECUTOR = """
import concurrent.futures
import multiprocessing
import sys


def work(x):
    import statistics
    return statistics.mean([x, x + 2])


def fail(x):
    raise ValueError(x)


def main(method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, context) as executor:
        means = list(executor.map(work, range(5)))
        error = executor.submit(fail, 7).exception(60)
    return means, type(error).__name__, error.args


if __name__ == "__main__":
    report(main(sys.argv[1]))
"""


@pytest.mark.parametrize("method", METHODS)
def test_process_pool_executor(same, program, method):
    result = same([*QUIET, program(EXECUTOR), method])
    means = [x + 1 for x in range(5)]
    assert result.reports[1] == (means, "ValueError", (7,)), str(result)


SHARED = """
import multiprocessing
from multiprocessing import shared_memory


def add(name, lock, count):
    memory = shared_memory.SharedMemory(name)
    with lock:
        memory.buf[0] += count
    memory.close()


def main():
    context = multiprocessing.get_context("spawn")
    memory = shared_memory.SharedMemory(create=True, size=1)
    lock = context.Lock()
    processes = [
        context.Process(target=add, args=(memory.name, lock, count))
        for count in (3, 4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    value = memory.buf[0]
    memory.close()
    memory.unlink()
    return value, [process.exitcode for process in processes]


if __name__ == "__main__":
    report(main())
"""


def test_shared_memory_and_lock_of_spawned_processes(same, program):
    result = same([program(SHARED)])
    assert result.reports[1] == (7, [0, 0]), str(result)


# --- fork

FORK = """
import sys

import early


def child():
    import late
    import late_package.deep
    import _lsprof
    import decimal
    assert late.VALUE == late_package.deep.VALUE == 1
    assert decimal.Decimal(2) + 1 == 3
    import numpy.fft
    assert numpy.fft.fft([1.0]) == 1


def main():
    pid = os.fork()
    if pid == 0:
        try:
            child()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(9)
        {end}
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    import after
    return status, after.VALUE, early.VALUE


value = main()
report(value)
"""


@layouts
@pytest.mark.parametrize(
    ("end", "status"),
    [("os._exit(4)", 4), ("sys.exit(5)", 5), ("1 / 0", 1)],
)
def test_forked_child_imports_more(
    launch, stock, program, tmp_path, nodes, end, status
):
    for name in ("early", "late", "after"):
        (tmp_path / f"{name}.py").write_text("VALUE = 1\n")
    (tmp_path / "late_package").mkdir()
    (tmp_path / "late_package" / "deep.py").write_text("VALUE = 1\n")
    args = [*QUIET, program(FORK.format(end=end))]
    expected = stock(args)
    result = launch(RANKS, args, nodes=nodes)
    assert expected.reports[0] == (status, 1, 1), str(expected)
    assert result.status == 0, str(result)
    assert result.reports == dict.fromkeys(
        range(RANKS), expected.reports[0]
    ), str(result)
    if end != "1 / 0":
        assert result.stderr == "", str(result)
    else:
        assert result.stderr.count("ZeroDivisionError") == RANKS, str(result)


def test_forked_child_that_outlives_its_parents_imports(
    same, program, tmp_path
):
    """A child that imports while its parent is at its end."""
    (tmp_path / "late.py").write_text("VALUE = 1\n")
    text = """
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    import time
    time.sleep(0.5)
    import late
    import fractions
    os.write(write, b"%d" % late.VALUE)
    os._exit(0)
import atexit


@atexit.register
def last():
    report((os.read(read, 10), os.waitpid(pid, 0)[1]))
"""
    result = same([*QUIET, program(text)])
    assert result.reports[1] == (b"1", 0), str(result)


# --- environments

ENVIRONMENT = (
    RUN_CHILD
    + """
import pathlib
import shutil
import venv

where = pathlib.Path(sys.argv[1], str(RANK), "made")
venv.create(where, symlinks=True, **eval(sys.argv[2]))


def text_of(path):
    return path.read_text().replace(str(where), "WHERE")


python = where / "bin" / "python"
seen = subprocess.run(
    [python, "-c", CHILD], check=True, capture_output=True, text=True
)
seen = eval(seen.stdout.replace(str(where), "WHERE"))
report((
    text_of(where / "pyvenv.cfg"),
    os.readlink(python),
    os.path.realpath(python),
    sorted(str(path.relative_to(where)) for path in where.rglob("*")),
    text_of(where / "bin" / "activate"),
    seen,
))
shutil.rmtree(where)
"""
)


@pytest.mark.parametrize("system", [False, True])
def test_venv_create_makes_what_python_makes(same, program, tmp_path, system):
    options = {"system_site_packages": system}
    result = same([program(ENVIRONMENT), tmp_path / "venv", options])
    config, _, _, _, _, seen = result.reports[1]
    assert f"version = {sys.version.split()[0]}\n" in config, config
    assert seen["base_prefix"] == sys.base_prefix, str(result)
    assert seen["prefix"] == "WHERE", str(result)
    assert seen["executable"] == "WHERE/bin/python", str(result)


def test_venv_of_an_other_interpreter_of_the_same_version(
    launch, stock, program, tmp_path
):
    """python -m venv, started from a rank."""
    text = RUN_CHILD + (
        "where = os.path.join(sys.argv[1], str(RANK))\n"
        "run('-m', 'venv', '--without-pip', where)\n"
        "names = ('prefix', 'base_prefix')\n"
        "code = 'import sys; print(sys.prefix, sys.base_prefix)'\n"
        "done = subprocess.run([where + '/bin/python', '-c', code],\n"
        "                      capture_output=True, text=True)\n"
        "report(done.stdout.replace(where, 'WHERE'))\n"
    )
    args = [program(text), tmp_path / "made"]
    result = launch(RANKS, args)
    assert result.status == 0, str(result)
    value = f"WHERE {sys.base_prefix}\n"
    assert result.reports == dict.fromkeys(range(RANKS), value), str(result)


# --- the environment

VARIABLES = """
from mpi4py import MPI
import ast
import subprocess
import sys

# What the rank has, and what the C library would give to a child.
code = "import os; print(dict(os.environ))"
done = subprocess.run(
    [sys.executable, "-I", "-c", code], capture_output=True, check=True
)
report((dict(os.environ), ast.literal_eval(done.stdout.decode())))
"""
# Of MPI's launcher: other values in each job, or in each rank.
OF_MPI = re.compile(r"(PMI|PMIX|HYD|HYDI|MPI|MPIR|MPICH|OMPI|UCX)_")
# Of the tests: other values in each job.
OF_TESTS = {"LAUNCH_TEST_JOB", "JOB_RESULTS", "XDG_CACHE_HOME", "_"}


def comparable(variables):
    """Return the variables that are the same in all jobs of a test."""
    return {
        name: value
        for name, value in variables.items()
        if not OF_MPI.match(name) and name not in OF_TESTS
    }


@pytest.mark.parametrize(
    "locale",
    [
        {},
        {"LC_ALL": "C"},
        {"LC_ALL": None, "LANG": "C"},
        {"LC_ALL": None, "LANG": "C", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C.UTF-8"},
        {"LC_ALL": None, "LANG": None, "LC_CTYPE": "POSIX"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "options", [[], ["-X", "dev", "-O"]], ids=["", "-X dev -O"]
)
def test_environment_is_not_changed(launch, program, locale, options):
    """Ranks have the variables that they were given, and no other."""
    args = [*options, program(VARIABLES)]
    expected = launch(RANKS, args, env=locale, launcher="stock")
    result = launch(RANKS, args, env=locale)
    assert expected.status == result.status == 0, f"{result}{expected}"
    for rank in range(RANKS):
        for kind in (0, 1):
            given = {
                name: value
                for name, value in result.added.items()
                if name.startswith("PYTHON_MPI_")
            }
            wanted = comparable(expected.reports[rank][kind]) | given
            found = comparable(result.reports[rank][kind])
            assert found == wanted, f"rank {rank}{result}{expected}"
        names, plain = (
            {name for name in one.reports[rank][0] if OF_MPI.match(name)}
            for one in (result, expected)
        )
        assert names == plain, f"rank {rank}{result}{expected}"
