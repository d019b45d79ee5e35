"""Run one job in a clean environment, and see that nothing stays behind."""

import dataclasses
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid

from support import job

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STOCK = "stock"
# Set by this program, so that what the user has set does not mix in.
OWN_VARIABLES = (
    "PYTHON_MPI_PYTHON",
    "PYTHON_MPI_RANKS_PER_NODE",
    "PYTHON_MPI_TIMING",
)


class JobFailed(Exception):
    """A job failed, hung or left something behind; str() says all."""


def say(text):
    """Show progress."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all jobs of one run have in common.

    mpiexec: list of words; launchers: names of files in bin, a directory
    program: source text; timeout: seconds that a job may take
    scratch: our own directory, removed at the end
    store: directory for node stores, on a memory filesystem, likewise
    share: further directories that count as shared
    directory: where jobs run
    """

    mpiexec: list
    launchers: list
    bin: pathlib.Path
    program: str
    timeout: float
    scratch: pathlib.Path
    store: pathlib.Path
    share: tuple = ()
    directory: pathlib.Path = ROOT

    def variants(self):
        """Return stock and the launchers, in the order of a turn."""
        return [STOCK, *self.launchers]

    def start_of_rank(self, variant):
        """Return the words before a rank's options."""
        return ["python3" if variant == STOCK else str(self.bin / variant)]

    def words_of_program(self, probe):
        """Return what follows a rank's options; probe: see run()."""
        return ["-c", f"{self.program}\n{probe}"]

    def tree_prefixes(self):
        """Return the directories that are the shared tree."""
        found = [ROOT, sys.prefix, sys.base_prefix, sys.base_exec_prefix]
        return list(dict.fromkeys(map(str, found)))

    def environment(self, variant, added):
        """Return a job's whole environment.

        The interpreter is the one that runs this program.  Caches are our
        own, and the same for all jobs.
        """
        variables = {
            name: value
            for name, value in os.environ.items()
            if name not in OWN_VARIABLES
        }
        here = os.path.dirname(sys.executable)
        path = variables.get("PATH", os.defpath)
        variables["PATH"] = f"{here}{os.pathsep}{path}"
        shared = variables.get("PYTHON_MPI_SHARE", str(ROOT))
        variables["PYTHON_MPI_SHARE"] = ":".join([shared, *self.share])
        variables["PYTHON_MPI_TMPDIR"] = str(self.store)
        variables["XDG_CACHE_HOME"] = str(self.scratch / "cache")
        variables["PYTHON_MPI_MANIFEST"] = "none"
        if variant == "python-mpi":
            variables["PYTHON_MPI_PYTHON"] = sys.executable
        return variables | added


def limited_wait(process, timeout):
    """Wait for a process; return (status, usage of its tree, in time).

    status: negative for a signal; in time: False if it had to be killed.
    Nothing is polled: the moment of the end is what is measured.
    """
    late = threading.Event()

    def end():
        late.set()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    timer = threading.Timer(timeout, end)
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage, not late.is_set()


def run_command(setting, command, environment, shown, printed=None):
    """Run a command to its end; return (wall seconds, processor seconds).

    shown: the command as a failure shows it
    printed: descriptor that it prints to, None for a file of our own
    Raises JobFailed.
    """
    marker = uuid.uuid4().hex
    output = setting.scratch / "output"
    with open(output, "wb") as stream:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream if printed is None else printed,
            stderr=stream,
            env=environment | {job.MARKER: marker},
            cwd=setting.directory,
            start_new_session=True,
        )
        try:
            status, usage, in_time = limited_wait(process, setting.timeout)
            seconds = time.perf_counter() - start
        except BaseException:
            job.end_processes(process.pid, marker)
            raise
    problem = None if status == 0 else f"status {status}"
    if not in_time:
        problem = f"not done after {setting.timeout:g} s"
    problem = leftovers(setting, process.pid, marker, in_time) or problem
    if problem is not None:
        text = output.read_text(errors="replace")[-4000:]
        raise JobFailed(f"{problem}\n$ {shlex.join(shown)}\n{text}")
    return seconds, usage.ru_utime + usage.ru_stime


def run(
    setting,
    ranks,
    variant,
    options=(),
    added=None,
    wrapper=(),
    probe="",
    output=None,
):
    """Run the program; return (wall seconds, processor seconds).

    options: words before -c; wrapper: words before the interpreter
    added: further environment; probe: source text after the program
    output: descriptor that it prints to
    Raises JobFailed.
    """
    words = [*setting.mpiexec, "-n", str(ranks), *wrapper]
    words += [*setting.start_of_rank(variant), *options]
    return run_command(
        setting,
        [*words, *setting.words_of_program(probe)],
        setting.environment(variant, added or {}),
        [*words, *setting.words_of_program("")],
        output,
    )


def leftovers(setting, session, marker, in_time):
    """Return what a job has left behind, as text, or None; remove it."""
    if not in_time:
        job.end_processes(session, marker)
    left = job.wait_until_empty(lambda: job.processes_of(session, marker))
    if left:
        job.end_processes(session, marker)
        return f"still running after its end: {left}"
    files = job.wait_until_empty(lambda: job.files_below(setting.store))
    for path in setting.store.iterdir():
        shutil.rmtree(path, ignore_errors=True)
    if files and in_time:
        return f"left in {setting.store}: {len(files)}, {files[0]} ..."
    return None
