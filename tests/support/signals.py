"""Start jobs whose end the test brings about, and see that nothing is left.

Where job.Runner runs a job to its end, Starter only starts it, so that the
test can send signals, or close what the job prints to.
"""

import ast
import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid

from support import job


class Started:
    """A job that runs.

    process: the subprocess.Popen of MPI's launcher, or of the only rank
    own_store: nothing may be left where its node stores were, and that
        directory is removed
    """

    def __init__(
        self, starter, process, directory, store, own_store, command, added
    ):
        self.process = process
        self._starter = starter
        self._directory = directory
        self._store = store
        self._own_store = own_store
        self._command = command
        self._added = added
        self._begin = time.monotonic()

    def reports(self, ranks, timeout=40):
        """Wait until all ranks have called report(); return rank -> value.

        Raises job.JobError if that takes longer than 'timeout' seconds, or
        the job ends before.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = self._complete_reports()
            if len(found) == ranks:
                time.sleep(0.3)  # let them come out of report()
                return found
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise job.JobError(f"only {sorted(found)} of {ranks} ready")
            time.sleep(0.02)

    def _complete_reports(self):
        found = {}
        for file in (self._directory / "reports").iterdir():
            text = file.read_text(encoding="utf-8")
            with contextlib.suppress(SyntaxError):
                found[int(file.name)] = ast.literal_eval(text)
        return found

    def wait_for_processes(self, word, count, timeout=40):
        """Wait until 'count' processes have 'word' in their command line.

        Raises job.JobError if that takes longer than 'timeout' seconds.
        """
        deadline = time.monotonic() + timeout
        marker = self._added[job.MARKER]
        while time.monotonic() < deadline:
            running = job.processes_of(self.process.pid, marker)
            if sum(word in line for line in running.values()) >= count:
                return
            time.sleep(0.01)
        raise job.JobError(f"no {count} processes with {word}: {running}")

    def send(self, number):
        """Send a signal to the process that was started, and no other."""
        self.process.send_signal(number)

    def send_group(self, number):
        """Send a signal as a terminal does: to all of the process group."""
        os.killpg(self.process.pid, number)

    def finish(self, timeout=60):
        """Wait for the job's end; return its job.Result.

        Raises job.JobError if it hangs, or leaves processes or files behind.
        """
        marker = self._added[job.MARKER]
        problem = self._starter.wait(self.process, timeout, marker)
        result = job.Result(
            command=self._command,
            added=self._added,
            stdin=None,
            status=self.process.returncode,
            stdout=self._text("stdout"),
            stderr=self._text("stderr"),
            seconds=time.monotonic() - self._begin,
            reports=self._complete_reports(),
            traces=None,
            store=self._store,
        )
        left = self._own_store and job.wait_until_empty(
            lambda: job.files_below(self._store)
        )
        if problem is None and left:
            problem = f"left in {self._store}: {left}"
        if problem is not None:
            raise job.JobError(f"{problem}{result}")
        return result

    def _text(self, name):
        return (self._directory / name).read_text(errors="replace")

    def clear(self):
        """End what still runs, and remove the directory of the stores."""
        job.end_processes(self.process.pid, self._added[job.MARKER])
        self.process.wait()
        if self._own_store:
            shutil.rmtree(self._store, ignore_errors=True)

    def kill(self, directories):
        """End all its processes by SIGKILL, and before them the guards.

        directories: what the guards would remove
        Returns how many guards there were.
        """
        guards = guards_of(directories)
        for pid in guards:
            os.kill(pid, signal.SIGKILL)
        job.end_processes(self.process.pid, self._added[job.MARKER])
        self.process.wait()
        return len(guards)


class Starter(job.Runner):
    """Start jobs of one test; the caller clear()s every one of them."""

    def start(
        self,
        ranks,
        args,
        launcher,
        *,
        nodes="one",
        env=None,
        stdout=None,
        under=(),
        around=(),
        store=None,
    ):
        """Start a job and return it as Started.

        ranks: how many; 0 for one rank that no MPI launcher has started
        env: variables to add; None as a value takes a variable away
        stdout: descriptor to print to, instead of the job's file
        under, around: words to put before mpiexec, and before each rank's
        store: where node stores have to lie, with what is there; None: a
            directory made for this job
        """
        directory = self._directory()
        own_store = store is None
        store = job.make_store() if own_store else store
        added = self.environment(
            directory, store, uuid.uuid4().hex, launcher, max(ranks, 1), nodes
        )
        job.change_environment(added, env)
        command = [*under]
        if ranks:
            command += [*self.mpiexec, "-n", str(ranks)]
        command += [*around, *self.start_of_rank(launcher)]
        command += [str(arg) for arg in args]
        with (
            open(directory / "stdout", "wb") as out,
            open(directory / "stderr", "wb") as err,
        ):
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=err,
                env=job.clean_environment() | added,
                cwd=self.scratch,
                start_new_session=True,
                preexec_fn=_default_signals,
            )
        return Started(
            self, process, directory, store, own_store, command, added
        )

    def wait(self, process, timeout, marker):
        """Wait for the end of a job; return what was wrong, or None."""
        return self._wait(process, timeout, marker)


def guards_of(directories):
    """Return the processes that wait to remove any of the directories."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = os.fsdecode(file.read()).split("\0")
        except OSError:
            continue
        if "mpiimport-guard" in words and set(words) & set(directories):
            found.append(int(name))
    return found


def _default_signals():
    """What a shell's job has, in whatever way the tests were started."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
