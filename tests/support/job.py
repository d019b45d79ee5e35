"""Run MPI jobs in a clean environment, and see that nothing stays behind.

A Job is started in a session of its own, with a marker of its own in its
environment, so that every process that it leaves is found and ended, and
nothing else is.  It prints to files, not to pipes: a process that is left
cannot make the test hang.
"""

import ast
import dataclasses
import math
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import uuid

MARKER = "LAUNCH_TEST_JOB"
PATIENCE = 5.0
KEPT = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "PATH",
    "TERM",
    "TZ",
    "USER",
    "LD_LIBRARY_PATH",
    "MPI4PY_LIBMPI",
    "MPI4PY_MPIABI",
    "ASAN_OPTIONS",
    "LSAN_OPTIONS",
    "TSAN_OPTIONS",
    "UBSAN_OPTIONS",
)

PRELUDE = '''\
import os

RANK = int(
    os.environ.get("PMI_RANK")
    or os.environ.get("OMPI_COMM_WORLD_RANK")
    or "0"
)


def report(value):
    """Leave 'value', a literal, for the test that started this job."""
    name = os.path.join(os.environ["JOB_RESULTS"], str(RANK))
    with open(name, "w", encoding="utf-8") as file:
        file.write(repr(value))


'''

RANK_WRAPPER = """\
#!/bin/sh
rank=${{PMI_RANK:-${{OMPI_COMM_WORLD_RANK:-0}}}}
exec {command} -o {directory}/rank.$rank "$@"
"""


class JobError(AssertionError):
    """A job hung, or left something behind; the text says all about it."""


def clean_environment():
    """Return the part of this environment that jobs may see."""
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def change_environment(variables, changes):
    """Set what 'changes' (or None) has; None as a value takes one away."""
    for name, value in (changes or {}).items():
        variables.pop(name, None)
        if value is not None:
            variables[name] = str(value)


def ranks_per_node(ranks, nodes):
    """Return how many ranks share a node: for "one", "each" or "two"."""
    return {"one": ranks, "each": 1, "two": math.ceil(ranks / 2)}[nodes]


def sorted_lines(text):
    """Return the lines of 'text' in an order that does not depend on time."""
    return sorted(text.splitlines())


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a job.

    command, stdin: what was run; added: the environment's own variables
    status: of the launcher, negative for a signal
    stdout, stderr: as text
    seconds: wall time
    reports: rank -> what its program gave to report() of PRELUDE
    traces: directory of the files rank.R.PID of strace, or None
    store: directory in which the job had to put its node stores
    """

    command: list
    added: dict
    stdin: str | None
    status: int
    stdout: str
    stderr: str
    seconds: float
    reports: dict
    traces: pathlib.Path | None
    store: pathlib.Path

    def __str__(self):
        added = " ".join(
            f"{name}={shlex.quote(value)}"
            for name, value in sorted(self.added.items())
        )
        return (
            f"\n$ env {added} {shlex.join(self.command)}"
            f"\nstatus {self.status} after {self.seconds:.1f} s"
            f"\n--- stdout\n{self.stdout}"
            f"\n--- stderr\n{self.stderr}"
            f"\n--- reports\n{self.reports}\n---"
        )

    def lines(self):
        """Return the lines of stdout, sorted."""
        return sorted_lines(self.stdout)


def read_reports(directory):
    """Return rank -> value for the files that report() has written."""
    return {
        int(file.name): ast.literal_eval(file.read_text(encoding="utf-8"))
        for file in sorted(directory.iterdir())
    }


def _session(pid):
    """Return the session of process 'pid', or None if there is none."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, _, _, session = stat.rpartition(")")[2].split()[:4]
    return None if state in "ZX" else int(session)


def _has_marker(pid, marker):
    try:
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARKER}={marker}".encode() in environment.split(b"\0")


def processes_of(session, marker):
    """Return pid -> command line of what still runs of a job."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        its_session = _session(name)
        if its_session is None:
            continue
        if its_session == session or _has_marker(name, marker):
            try:
                line = pathlib.Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            found[int(name)] = line.replace(b"\0", b" ").decode(
                errors="replace"
            )
    return found


def end_processes(session, marker):
    """Kill what still runs of a job, each process by its number."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        left = processes_of(session, marker)
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def wait_until_empty(what):
    """Return what() as soon as it is empty, or after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    found = what()
    while found and time.monotonic() < deadline:
        time.sleep(0.05)
        found = what()
    return found


def files_below(directory):
    """Return the names of all that is below 'directory', if it exists.

    It may be on the point of being removed.
    """
    return sorted(
        os.path.relpath(os.path.join(where, name), directory)
        for where, directories, files in os.walk(directory)
        for name in (*directories, *files)
    )


def make_store():
    """Make a directory for node stores, in shared memory if there is any.

    The caller removes it.  Its name is not one that the product uses.
    """
    shm = "/dev/shm"
    where = shm if os.access(shm, os.W_OK | os.X_OK) else None
    return pathlib.Path(tempfile.mkdtemp(prefix="launch-test-", dir=where))


def trace_command():
    """Return the strace command line that jobs run under."""
    strace = shutil.which("strace")
    if strace is None:
        raise JobError("strace is not installed")
    calls = (
        "trace=%file,read,readv,pread64,preadv,preadv2,fstat,fstatfs"
        ",?getdents,getdents64"
    )
    return [strace, "-ff", "-y", "--seccomp-bpf", "-e", calls, "-s", "0"]


def write_rank_wrapper(directory):
    """Write the script that runs one rank below strace; return its path."""
    wrapper = directory / "traced.sh"
    wrapper.write_text(
        RANK_WRAPPER.format(
            command=shlex.join(trace_command()),
            directory=shlex.quote(str(directory)),
        )
    )
    wrapper.chmod(0o755)
    return wrapper


class Runner:
    """Start jobs of one test.

    mpiexec: command line of MPI's launcher, without options
    root: of the checkout; python: the interpreter that ranks run
    scratch: the test's own directory
    added: further environment, for instance where MPI's library lies
    """

    def __init__(self, mpiexec, root, python, scratch, added):
        self.mpiexec = list(mpiexec)
        self.root = pathlib.Path(root)
        self.python = str(python)
        self.scratch = pathlib.Path(scratch)
        self.added = dict(added)

    def start_of_rank(self, launcher):
        """Return the words before the options of 'launcher'."""
        if launcher == "stock":
            return [self.python]
        if launcher == "python-mpi.py":
            script = self._built("python-mpi.py")
            return [self.python, "-S", str(script)]
        if launcher == "shebang":
            return [str(self._built("python-mpi.py"))]
        return [str(self._built(launcher))]

    def _built(self, name):
        path = self.root / "bin" / name
        if not path.exists():
            raise JobError(f"{path} is missing: run make first")
        return path

    def environment(self, job, store, marker, launcher, ranks, nodes):
        """Return the variables that a job gets besides the kept ones.

        Whatever the tests use counts as shared, wherever it lies: under
        /tmp it would be a node's own.
        """
        added = dict(self.added)
        added[MARKER] = marker
        added["JOB_RESULTS"] = str(job / "reports")
        added["XDG_CACHE_HOME"] = str(job / "cache")
        if launcher == "stock":
            return added
        if launcher == "python-mpi":
            added["PYTHON_MPI_PYTHON"] = self.python
        if launcher == "shebang":
            directory = os.path.dirname(self.python)
            path = os.environ.get("PATH", os.defpath)
            added["PATH"] = f"{directory}{os.pathsep}{path}"
        per_node = ranks_per_node(ranks, nodes)
        added["PYTHON_MPI_RANKS_PER_NODE"] = str(per_node)
        added["PYTHON_MPI_TMPDIR"] = str(store)
        added["PYTHON_MPI_SHARE"] = ":".join(self.shared_prefixes())
        # A job is not to know what another one has asked for.
        added["PYTHON_MPI_MANIFEST"] = "none"
        return added

    def shared_prefixes(self):
        """Return the directories that jobs have to take as shared."""
        python = pathlib.Path(self.python)
        prefixes = [
            self.root,
            self.scratch,
            python.parent.parent,
            python.resolve().parent.parent,
        ]
        return [str(prefix) for prefix in dict.fromkeys(prefixes)]

    def run(
        self,
        ranks,
        args,
        *,
        nodes="one",
        env=None,
        stdin=None,
        timeout=60,
        strace=False,
        launcher="python-mpi.py",
        cwd=None,
        under=(),
        store=None,
    ):
        """Run one job to its end; return its Result.

        args: what follows the launcher (options, script, its arguments)
        env: variables to add; None as a value takes a variable away
        under: words to put before mpiexec
        store: where node stores have to lie; None: a directory made for
            this job, removed after it
        Raises JobError if it hangs, or leaves processes or files behind.
        """
        job = self._directory()
        own_store = make_store() if store is None else pathlib.Path(store)
        marker = uuid.uuid4().hex
        added = self.environment(
            job, own_store, marker, launcher, ranks, nodes
        )
        change_environment(added, env)
        command = [*under, *self.mpiexec, "-n", str(ranks)]
        if strace:
            command.append(str(write_rank_wrapper(job)))
        command += self.start_of_rank(launcher)
        command += [str(arg) for arg in args]
        try:
            return self._run(
                job, command, added, stdin, timeout, cwd, own_store, strace
            )
        finally:
            if store is None:
                shutil.rmtree(own_store, ignore_errors=True)

    def run_alone(self, args, *, env=None, stdin=None, cwd=None, under=()):
        """Run plain Python without MPI; return its Result."""
        job = self._directory()
        added = self.environment(
            job, job / "store", uuid.uuid4().hex, "stock", 1, "one"
        )
        change_environment(added, env)
        command = [*under, self.python, *(str(arg) for arg in args)]
        return self._run(
            job, command, added, stdin, 60, cwd, job / "store", False
        )

    def _directory(self):
        jobs = self.scratch / "jobs"
        jobs.mkdir(exist_ok=True)
        job = pathlib.Path(tempfile.mkdtemp(dir=jobs))
        (job / "reports").mkdir()
        return job

    def _run(self, job, command, added, stdin, timeout, cwd, store, strace):
        (job / "stdin").write_text(stdin or "", encoding="utf-8")
        start = time.monotonic()
        with (
            open(job / "stdin", "rb") as source,
            open(job / "stdout", "wb") as out,
            open(job / "stderr", "wb") as err,
        ):
            process = subprocess.Popen(
                command,
                stdin=source if stdin is not None else subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=clean_environment() | added,
                cwd=self.scratch if cwd is None else cwd,
                start_new_session=True,
            )
            try:
                problem = self._wait(process, timeout, added[MARKER])
            except BaseException:
                end_processes(process.pid, added[MARKER])
                process.wait()
                raise
        result = Result(
            command=command,
            added=added,
            stdin=stdin,
            status=process.returncode,
            stdout=(job / "stdout").read_text(errors="replace"),
            stderr=(job / "stderr").read_text(errors="replace"),
            seconds=time.monotonic() - start,
            reports=read_reports(job / "reports"),
            traces=job if strace else None,
            store=store,
        )
        if problem is None:
            left = wait_until_empty(lambda: files_below(store))
            problem = f"left in {store}: {left}" if left else None
        if problem is not None:
            raise JobError(f"{problem}{result}")
        return result

    def _wait(self, process, timeout, marker):
        """Wait for the end of a job; return what was wrong, or None."""
        problem = None
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            running = processes_of(process.pid, marker)
            problem = f"hung for {timeout} s: {running}"
        else:
            left = wait_until_empty(lambda: processes_of(process.pid, marker))
            if left:
                problem = f"still running after the job's end: {left}"
        if problem is not None:
            end_processes(process.pid, marker)
            process.wait()
        return problem
