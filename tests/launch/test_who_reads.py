"""Who reads the shared tree: rank 0, and nobody else.

Each rank runs below strace; what is counted are its calls on files below
the interpreter's prefix, the virtual environment, bin/ of the checkout and
the program's directory.  Left out is what libraries of the system cause
there: see of_the_system().  getcwd() is no file operation.
"""

import pathlib
import re
import sys

import pytest
from support import trace

RANKS = 4
LAYOUTS = ("one", "two", "each")
PASS = "pass"
NUMERIC = "import numpy.fft; import scipy.interpolate"
ALLOWANCE = 20

PROGRAM = """
import package
import package.deep.leaf

report([package.VALUE, package.deep.leaf.VALUE])
"""


@pytest.fixture(scope="module")
def tree(python, repo_root):
    """The prefixes that count as shared tree, without the program's."""
    prefixes = [
        pathlib.Path(sys.base_prefix),
        pathlib.Path(sys.base_exec_prefix),
        pathlib.Path(sys.prefix),
        python.parent.parent,
        repo_root / "bin",
    ]
    return list(dict.fromkeys(prefixes))


def of_the_system(done):
    """Tell whether an operation is due to libraries of the system.

    These are MPI's search for a configuration file in the working
    directory, and the search for libraries of the system in the directory
    lib/ of a prefix, where an interpreter with an RPATH makes the dynamic
    linker look first.
    """
    if done.path.endswith("/ucx.conf"):
        return True
    prefixes = {sys.base_prefix, sys.base_exec_prefix, sys.prefix}
    places = "|".join(re.escape(prefix) for prefix in prefixes)
    search = (
        rf"({places})/lib(/glibc-hwcaps|/tls|/haswell|/avx512_1|/x86[-_]64\S*)*"
        r"(/lib[^/]*\.so[^/]*)?"
    )
    failed = done.line.endswith("= -1 ENOENT (No such file or directory)")
    return failed and re.fullmatch(search, done.path) is not None


@pytest.fixture(scope="module")
def path_of_stock(python):
    """The directories of sys.path that stock Python has."""
    return {entry for entry in sys.path if entry} | {sys.prefix}


@pytest.fixture
def count(launch, tree):
    """Run 'args' below strace: count(args, nodes) -> (result, by rank)."""

    def run(args, nodes="one", ranks=RANKS, **options):
        result = launch(ranks, args, nodes=nodes, strace=True, **options)
        assert result.status == 0, str(result)
        here = launch.runner.scratch
        found = {}
        for rank in range(ranks):
            done = trace.operations_of_rank(result.traces, rank, here)
            assert done, f"no trace of rank {rank}{result}"
            found[rank] = [
                one
                for one in trace.below(done, [*tree, here])
                if not of_the_system(one)
            ]
        return result, found

    return run


@pytest.fixture
def plain_start(count):
    """What stock 'python3 -S -c pass' does, on one rank."""
    _, found = count(["-S", "-c", PASS], ranks=1, launcher="stock")
    assert found[0], "stock Python touches nothing?"
    return found[0]


def forbidden(operations, allowed, repo_root, path_entries):
    """Return the operations that only rank 0 may do.

    These are those on modules, bytecode, path configuration files, shared
    objects, and directories of sys.path, beyond those that the start of
    plain Python needs as well.  The launcher's own files are free: they
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
def test_pass_other_ranks_little_more_than_stock_start(
    count, plain_start, nodes
):
    result, found = count(["-c", PASS], nodes)
    for rank in range(1, RANKS):
        more = trace.beyond(found[rank], plain_start)
        assert len(found[rank]) <= len(plain_start) + ALLOWANCE, (
            f"rank {rank}: {len(found[rank])} operations, plain Python "
            f"{len(plain_start)}; those beyond:\n{trace.listing(more)}"
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
    count, plain_start, repo_root, path_of_stock, tmp_path, nodes
):
    result, found = count(["-c", NUMERIC], nodes)
    entries = path_of_stock | {str(tmp_path)}
    for rank in range(1, RANKS):
        wrong = forbidden(found[rank], plain_start, repo_root, entries)
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
    """More ranks cost the shared tree no more reads of modules by root."""

    def modules(operations):
        return {
            done.path
            for done in operations
            if done.call.startswith("open")
            and done.path.endswith((".pyc", ".so"))
            and " = -1 " not in done.line
        }

    _, alone = count(["-c", NUMERIC], ranks=1)
    result, found = count(["-c", NUMERIC], "each", ranks=ranks)
    assert modules(found[0]), str(result)
    assert modules(found[0]) == modules(alone[0]), str(result)
