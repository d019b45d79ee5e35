"""Fixtures that trace jobs, and that make trees of shared objects."""

import fcntl
import os

import pytest
from apps.dlstorm import generate
from support import job, signals
from support.tree import (
    PASS,
    RANKS,
    of_each_rank,
    of_the_start,
    of_the_system,
    tree_of,
)


@pytest.fixture(scope="session")
def tree(python, repo_root):
    """The prefixes that count as shared tree, without the program's."""
    return tree_of(python, repo_root)


@pytest.fixture
def observe(launch, tree):
    """Run 'args' below strace: observe(args, nodes) -> (result, by rank).

    by rank: its operations on the tree and in the working directory
    more: further directories of the tree
    """

    def run(args, nodes="one", ranks=RANKS, more=(), **options):
        if more:
            prefixes = [*launch.runner.shared_prefixes(), *map(str, more)]
            env = options.get("env") or {}
            options["env"] = env | {"PYTHON_MPI_SHARE": ":".join(prefixes)}
        result = launch(ranks, args, nodes=nodes, strace=True, **options)
        assert result.status == 0, str(result)
        here = launch.runner.scratch
        cwd = options.get("cwd") or here
        places = [*tree, *more, here]
        return result, of_each_rank(result, ranks, cwd, places)

    return run


@pytest.fixture
def count(observe):
    """As observe(), without what is due to libraries of the system."""

    def run(*args, **options):
        result, found = observe(*args, **options)
        return result, {
            rank: [one for one in done if not of_the_system(one)]
            for rank, done in found.items()
        }

    return run


@pytest.fixture
def plain_start(count):
    """What stock 'python3 -S -c pass' does, on one rank."""
    _, found = count(["-S", "-c", PASS], ranks=1, launcher="stock")
    assert found[0], "stock Python touches nothing?"
    return found[0]


@pytest.fixture
def allowed(launcher, repo_root, request):
    """The operations that the start of any rank may make on the tree."""
    if launcher == "python-mpi":
        return of_the_start(repo_root / "bin" / launcher)
    return request.getfixturevalue("plain_start")


@pytest.fixture
def start(launcher, mpiexec, repo_root, python, tmp_path, job_environment):
    """Start a job: start(ranks, args, ...); see signals.Starter.start()."""
    starter = signals.Starter(
        mpiexec, repo_root, python, tmp_path, job_environment
    )
    started = []

    def run(ranks, args, **options):
        options.setdefault("launcher", launcher)
        started.append(starter.start(ranks, args, **options))
        return started[-1]

    yield run
    for one in started:
        one.clear()


@pytest.fixture(scope="session")
def fixed_starts(
    mpiexec, repo_root, python, tmp_path_factory, job_environment, tree
):
    """What the start of each rank does: fixed_starts(launcher, ranks, nodes).

    -> {rank: its operations on the tree}, searches for libraries included.
    Of python-mpi it is what the launcher needs by itself, of python-mpi.py
    what it does for '-c pass'.
    """
    results = {}

    def start(launcher, ranks, nodes):
        if launcher == "python-mpi":
            done = of_the_start(repo_root / "bin" / launcher)
            return dict.fromkeys(range(ranks), done)
        key = (launcher, ranks, nodes)
        if key not in results:
            here = tmp_path_factory.mktemp("start")
            runner = job.Runner(
                mpiexec, repo_root, python, here, job_environment
            )
            result = runner.run(
                ranks, ["-c", PASS], nodes=nodes, strace=True,
                launcher=launcher,
            )  # fmt: skip
            assert result.status == 0, str(result)
            results[key] = of_each_rank(result, ranks, here, tree)
        return results[key]

    return start


@pytest.fixture(scope="session")
def storm(tmp_path_factory):
    """Make a tree of tests/apps/dlstorm: storm(search=...) -> its directory.

    Each is made once, whatever the number of workers.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def make(**options):
        words = [f"{name}={value}" for name, value in options.items()]
        directory = base / "-".join(["storm", *sorted(words)])
        with open(f"{directory}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (directory / "complete").exists():
                small = generate.Options(
                    modules=12, utilities=6, functions=10, **options
                )
                generate.generate(directory, small)
                (directory / "complete").touch()
        return directory

    return make
