"""Who reads the shared tree: rank 0, and nobody else.

Each rank runs below strace; what is counted are its calls on files below
the interpreter's prefix, the virtual environment, bin/ of the checkout and
the program's directory.  Left out is what libraries of the system cause
there: see tree.of_the_system().  getcwd() is no file operation.

With bin/python-mpi the other ranks make no operation there at all, but for
the start of the launcher itself: see tree.of_the_start().
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
from support import trace
from support.tree import PASS, RANKS, beyond_start

LAYOUTS = ("one", "two", "each")
NUMERIC = "import numpy.fft; import scipy.interpolate"
ALLOWANCE = 20

PROGRAM = """
import package
import package.deep.leaf

report([package.VALUE, package.deep.leaf.VALUE])
"""


@pytest.fixture(scope="module")
def path_of_stock(python):
    """The directories of sys.path that stock Python has."""
    return {entry for entry in sys.path if entry} | {sys.prefix}


def forbidden(operations, allowed, repo_root, path_entries):
    """Return the operations that only rank 0 may do.

    These are those on modules, bytecode, path configuration files, shared
    objects, and directories of sys.path, beyond those that the start of
    a rank may make.  The launcher's own files are free: they
    are counted elsewhere.
    """
    own = trace.below(operations, [repo_root / "bin"])
    foreign = trace.beyond(operations, [*allowed, *own])
    names = re.compile(r"\.(py|pyc|pth|so)$|\.so\.|/__pycache__(/|$)")
    return [
        done
        for done in foreign
        if names.search(done.path) or done.path in path_entries
    ]


@pytest.mark.parametrize("launcher", ["python-mpi.py"])
def test_counting_plain_python_same_on_every_rank(
    count, plain_start, repo_root, path_of_stock
):
    """The ruler: the same start gives the same operations each time."""
    _, found = count(["-S", "-c", PASS], launcher="stock")
    for rank in range(RANKS):
        more = trace.beyond(found[rank], plain_start)
        assert not more, trace.listing(more)
        assert len(found[rank]) == len(plain_start)
    _, found = count(["-c", NUMERIC], ranks=1, launcher="stock")
    assert forbidden(found[0], plain_start, repo_root, path_of_stock)


@pytest.mark.parametrize("nodes", LAYOUTS)
def test_pass_other_ranks_little_more_than_start(
    count, allowed, launcher, nodes
):
    """Of python-mpi.py, that is plain Python's start; else nothing more."""
    allowance = ALLOWANCE if launcher == "python-mpi.py" else 0
    result, found = count(["-c", PASS], nodes)
    for rank in range(1, RANKS):
        more = trace.beyond(found[rank], allowed)
        assert len(found[rank]) <= len(allowed) + allowance, (
            f"rank {rank}: {len(found[rank])} operations, its start "
            f"{len(allowed)}; those beyond:\n{trace.listing(more)}"
            f"{result}"
        )


@pytest.mark.parametrize("nodes", LAYOUTS)
def test_numeric_other_ranks_same_count_as_pass(count, nodes):
    _, before = count(["-c", PASS], nodes)
    result, found = count(["-c", NUMERIC], nodes)
    for rank in range(1, RANKS):
        now, then = found[rank], before[rank]
        more = trace.beyond(now, then)
        less = trace.beyond(then, now)
        counts = f"{len(now)} operations, with 'pass' {len(then)}"
        text = (
            f"rank {rank}: {counts}; only now:\n{trace.listing(more)}\n"
            f"only with 'pass':\n{trace.listing(less)}{result}"
        )
        assert len(now) == len(then), text


@pytest.mark.parametrize("nodes", LAYOUTS)
def test_numeric_other_ranks_touch_no_module(
    count, allowed, repo_root, path_of_stock, tmp_path, nodes
):
    result, found = count(["-c", NUMERIC], nodes)
    entries = path_of_stock | {str(tmp_path)}
    for rank in range(1, RANKS):
        wrong = forbidden(found[rank], allowed, repo_root, entries)
        assert not wrong, f"rank {rank}:\n{trace.listing(wrong)}{result}"


@pytest.mark.parametrize("nodes", ("one", "each"))
def test_program_other_ranks_touch_nothing_of_it(
    count, program, tmp_path, nodes
):
    """The script, its directory and its packages are read by rank 0."""
    deep = tmp_path / "package" / "deep"
    deep.mkdir(parents=True)
    (deep.parent / "__init__.py").write_text("VALUE = 1\n")
    (deep / "__init__.py").write_text("")
    (deep / "leaf.py").write_text("VALUE = 2\n")
    (deep / "data.txt").write_text("")
    main = program(PROGRAM)
    result, found = count([main], nodes)
    assert result.reports == {rank: [1, 2] for rank in range(RANKS)}, str(
        result
    )
    # Not what the test itself puts beside the program.
    jobs = trace.below(found[0], [tmp_path / "jobs"])
    seen = trace.below(trace.beyond(found[0], jobs), [tmp_path])
    assert any(done.path == str(main) for done in seen), str(result)
    for rank in range(1, RANKS):
        jobs = trace.below(found[rank], [tmp_path / "jobs"])
        wrong = trace.below(trace.beyond(found[rank], jobs), [tmp_path])
        assert not wrong, f"rank {rank}:\n{trace.listing(wrong)}{result}"


@pytest.mark.parametrize("nodes", ("one", "each"))
def test_program_root_reads_each_file_once(count, program, tmp_path, nodes):
    """Rank 0 opens no file of the program twice."""
    package = tmp_path / "package"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("VALUE = 1\n")
    (package / "deep" / "__init__.py").write_text("")
    (package / "deep" / "leaf.py").write_text("VALUE = 2\n")
    main = program(PROGRAM)
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    result, found = count([main], nodes, env=env)
    opened = [
        done.path
        for done in trace.below(found[0], [package, main])
        if done.call.startswith("open") and " = -1 " not in done.line
    ]
    files = [path for path in opened if path.endswith(".py")]
    twice = sorted(path for path in files if files.count(path) > 1)
    assert files, str(result)
    about = trace.below(found[0], [package, main])
    assert not twice, f"{twice}\n{trace.listing(about)}{result}"


@pytest.mark.parametrize("ranks", (2, 4))
def test_numeric_root_reads_the_same_for_any_number_of_ranks(count, ranks):
    """More ranks cost the shared tree no more reads of modules by root, but
    for what it has read ahead in vain: what a rank that is alone does not do.
    """

    def modules(operations):
        return {
            os.path.realpath(done.path)
            for done in operations
            if done.call.startswith("open")
            and done.path.endswith((".pyc", ".so"))
            and " = -1 " not in done.line
        }

    _, alone = count(["-c", NUMERIC], ranks=1)
    result, found = count(["-c", NUMERIC], "each", ranks=ranks)
    assert modules(found[0]), str(result)
    assert modules(found[0]) >= modules(alone[0]), str(result)
    vain = modules(found[0]) - modules(alone[0])
    assert len(vain) <= len(modules(alone[0])) / 50, f"{vain}{result}"


# --- the native launcher: nothing at all


native = pytest.mark.parametrize("launcher", ["python-mpi"])

WORK = """
import numpy.fft
import scipy.interpolate
import package.deep.leaf

report([package.deep.leaf.VALUE, sys.prefix])
"""


@pytest.fixture
def check_nothing(observe, allowed):
    """Run 'args': all ranks but 0 touch neither the tree nor the program.

    check_nothing(args, nodes, ...) -> the job's result.
    """

    def run(args, nodes="one", **options):
        result, found = observe(args, nodes, **options)
        for rank in range(1, RANKS):
            more = beyond_start(found[rank], allowed, result)
            assert not more, (
                f"rank {rank}: {len(more)} operations:\n"
                f"{trace.listing(more)}{result}"
            )
        assert len(found[0]) > 100, str(result)
        return result

    return run


@pytest.fixture
def work(program, tmp_path):
    """A program with a package beside it: the paths of both."""
    deep = tmp_path / "work" / "package" / "deep"
    deep.mkdir(parents=True)
    (deep.parent / "__init__.py").write_text("")
    (deep / "__init__.py").write_text("")
    (deep / "leaf.py").write_text("VALUE = 2\n")
    program("import sys\n" + WORK, "work/package/main.py")
    return program("import sys\n" + WORK, "work/main.py")


def all_reported(result, prefix=sys.prefix):
    """Every rank got through the program, in the right environment."""
    expected = dict.fromkeys(range(RANKS), [2, prefix])
    assert result.reports == expected, str(result)


@native
@pytest.mark.parametrize("nodes", LAYOUTS)
def test_native_command_other_ranks_nothing(check_nothing, nodes):
    check_nothing(["-c", NUMERIC], nodes)


@native
@pytest.mark.parametrize("nodes", LAYOUTS)
def test_native_script_other_ranks_nothing(check_nothing, work, nodes):
    all_reported(check_nothing([work], nodes))


@native
@pytest.mark.parametrize("nodes", LAYOUTS)
def test_native_module_other_ranks_nothing(check_nothing, work, nodes):
    result = check_nothing(["-m", "package.main"], nodes, cwd=work.parent)
    all_reported(result)


@native
@pytest.mark.parametrize("nodes", ("one", "each"))
def test_native_directory_other_ranks_nothing(check_nothing, work, nodes):
    shutil.move(work, work.parent / "__main__.py")
    all_reported(check_nothing([work.parent], nodes))


@native
@pytest.mark.parametrize("nodes", ("one", "each"))
def test_native_stdin_other_ranks_nothing(check_nothing, nodes):
    check_nothing(["-"], nodes, stdin=NUMERIC)


@native
@pytest.mark.parametrize(
    "options",
    [
        ["-W", "error"],
        ["-X", "dev"],
        ["-O", "-B"],
        ["-E", "-s", "-P"],
        ["-X", "utf8"],
        ["-X", "importtime"],
        ["-v", "--timing"],
    ],
    ids=" ".join,
)
def test_native_options_other_ranks_nothing(check_nothing, work, options):
    if options[0] == "-E":
        check_nothing([*options, "-c", NUMERIC], "two")
    else:
        all_reported(check_nothing([*options, work], "two"))


@native
@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252:replace"},
        {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
        {"PYTHONHASHSEED": "7"},
        {"PYTHONNOUSERSITE": "1"},
    ],
    ids=lambda env: " ".join(f"{name}={env[name]}" for name in env),
)
def test_native_variables_other_ranks_nothing(check_nothing, work, env):
    all_reported(check_nothing([work], "two", env=env))


@native
def test_native_python_path_other_ranks_nothing(check_nothing, work, tmp_path):
    modules = tmp_path / "modules"
    modules.mkdir()
    shutil.move(work.parent / "package", modules / "package")
    env = {"PYTHONPATH": f"{tmp_path / 'missing'}:{modules}"}
    all_reported(check_nothing([work], "two", env=env))


@pytest.fixture(scope="module")
def latin(tmp_path_factory):
    """Variables for a locale whose encoding is ISO-8859-1."""
    where = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-i", "fr_FR", "-f", "ISO-8859-1"]
    try:
        subprocess.run(
            [*command, where / "fr_FR.ISO-8859-1"],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("localedef cannot make a locale")
    return {"LOCPATH": where, "LC_ALL": "fr_FR.ISO-8859-1"}


@native
@pytest.mark.parametrize("added", [{}, {"PYTHONIOENCODING": "latin-1"}])
def test_native_latin_locale_other_ranks_nothing(
    check_nothing, work, latin, added
):
    text = work.read_text() + (
        "assert sys.getfilesystemencoding() == 'iso8859-1'\n"
        "assert sys.stdout.encoding in ('iso8859-1', 'latin-1')\n"
    )
    work.write_text(text)
    all_reported(check_nothing([work], "two", env=latin | added))


@native
def test_native_active_environment_other_ranks_nothing(
    check_nothing, work, tmp_path
):
    """VIRTUAL_ENV chooses an environment: its packages are read by rank 0."""
    where = tmp_path / "venv"
    subprocess.run(
        [sys._base_executable, "-m", "venv", "--without-pip", where],
        check=True,
        timeout=60,
    )
    (packages,) = where.glob("lib/python3*/site-packages")
    installed = packages / "installed"
    installed.mkdir()
    (installed / "__init__.py").write_text("VALUE = 3\n")
    (packages / "some.pth").write_text("import installed\n")
    text = work.read_text().replace("import numpy.fft", "import json.tool")
    text = text.replace("import scipy.interpolate", "import installed")
    work.write_text(text)
    env = {"PYTHON_MPI_PYTHON": None, "VIRTUAL_ENV": where}
    all_reported(check_nothing([work], "two", env=env), str(where))


@native
def test_native_default_interpreter_other_ranks_nothing(check_nothing):
    """Neither variable: the interpreter that the launcher was built for.

    Without site: what is installed there may do as it likes at its start.
    """
    env = {"PYTHON_MPI_PYTHON": None, "VIRTUAL_ENV": None}
    check_nothing(["-S", "-c", "import json.tool, decimal"], "two", env=env)
