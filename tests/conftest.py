"""Fixtures for all tests: where things are, and how to start jobs."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support import job  # noqa: E402

# Every test that uses 'launch' runs once with each of these.
LAUNCHERS = ("python-mpi.py", "python-mpi")
# Directories in which an MPICH may be that has no libmpi.so.12.
LIBRARIES = (
    f"/usr/lib/{os.uname().machine}-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
)


def pytest_configure():
    """Let SIGTERM stop the tests as Ctrl-C does, so that jobs end too.

    In the background a shell has what it starts ignore Ctrl-C, and nohup(1)
    SIGHUP; jobs would inherit that, and those are signals under test.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show a job that hung or left something without the traceback."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(job.JobError):
        report.longrepr = str(call.excinfo.value)
    return report


@pytest.fixture(scope="session")
def repo_root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def apps(repo_root):
    """The directory of the example programs."""
    return repo_root / "tests" / "apps"


@pytest.fixture(scope="session")
def python():
    """The interpreter that ranks run: the one that runs the tests."""
    return pathlib.Path(sys.executable)


@pytest.fixture(scope="session")
def mpiexec():
    """MPI's launcher, as a list of words."""
    for name in ("mpiexec.hydra", "mpiexec.mpich", "mpiexec"):
        path = shutil.which(name)
        if path is not None:
            return [path]
    pytest.fail("no mpiexec in PATH: run 'make' first")


def _imports_mpi4py(python, added):
    done = subprocess.run(
        [python, "-c", "from mpi4py import MPI"],
        env=job.clean_environment() | added,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode == 0


@pytest.fixture(scope="session")
def mpi_environment(python, tmp_path_factory):
    """Variables with which mpi4py finds MPI's library; often none.

    mpi4py's wheel needs libmpi.so.12; Debian's MPICH has the same library
    under another name only.
    """
    if _imports_mpi4py(python, {}):
        return {}
    directory = tmp_path_factory.mktemp("libmpi")
    for where in LIBRARIES:
        library = pathlib.Path(where, "libmpich.so.12")
        if library.exists():
            (directory / "libmpi.so.12").symlink_to(library)
            break
    path = os.environ.get("LD_LIBRARY_PATH")
    parts = [str(directory)] + ([path] if path else [])
    added = {"LD_LIBRARY_PATH": ":".join(parts)}
    if not _imports_mpi4py(python, added):
        pytest.fail("stock python cannot import mpi4py.MPI")
    return added


@pytest.fixture(scope="session")
def job_environment(mpi_environment, tmp_path_factory):
    """Variables that every job of the session gets."""
    cache = tmp_path_factory.mktemp("matplotlib")
    return mpi_environment | {"MPLCONFIGDIR": str(cache)}


@pytest.fixture(params=LAUNCHERS)
def launcher(request):
    """The launcher to test."""
    return request.param


@pytest.fixture
def launch(launcher, mpiexec, repo_root, python, tmp_path, job_environment):
    """Run a job: launch(ranks, args, ...); see job.Runner.run().

    The working directory is the test's tmp_path, which counts as shared.
    launcher="stock" runs plain Python, "shebang" the script itself.
    """
    runner = job.Runner(mpiexec, repo_root, python, tmp_path, job_environment)

    def run(ranks, args, **options):
        options.setdefault("launcher", launcher)
        return runner.run(ranks, args, **options)

    run.runner = runner
    return run


@pytest.fixture(scope="session")
def stock_job(mpiexec, repo_root, python, tmp_path_factory, job_environment):
    """Run a job with plain Python: stock_job(ranks, args); each only once."""
    results = {}

    def run(ranks, args, **options):
        key = (ranks, *map(str, args), repr(sorted(options.items())))
        if key not in results:
            scratch = tmp_path_factory.mktemp("stock")
            runner = job.Runner(
                mpiexec, repo_root, python, scratch, job_environment
            )
            results[key] = runner.run(ranks, args, launcher="stock", **options)
        return results[key]

    return run


@pytest.fixture
def stock(python, tmp_path, job_environment):
    """Run plain Python without MPI: stock(args, ...) -> job.Result.

    In the same directory and environment as 'launch' runs its ranks.
    """

    def run(args, env=None, stdin=None, cwd=None, under=()):
        runner = job.Runner([], tmp_path, python, tmp_path, job_environment)
        return runner.run_alone(
            args, env=env, stdin=stdin, cwd=cwd, under=under
        )

    return run


@pytest.fixture
def program(tmp_path):
    """Write a program: program(text, name="main.py") -> its path.

    The text comes after job.PRELUDE, so that it can call report(value).
    """

    def write(text, name="main.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(job.PRELUDE + text, encoding="utf-8")
        return path

    return write
