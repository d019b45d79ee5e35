"""Measure the launchers against stock Python, as ratios within one run.

    make bench
    .venv/bin/python tests/bench/bench.py --ranks 1,4 --repeat 3 --json FILE
    .venv/bin/python tests/bench/bench.py --only pass --launchers python-mpi

Parts (--only), each with stock Python and every launcher that is built:

- pass: what it costs one rank to start and end, against stock Python and a
  bare MPI program (bare.py);
- wall: for each number of ranks, wall time and processor time, in turns
  (stock, python-mpi.py, python-mpi, stock, ...), after a first turn that does
  not count (walltime.py);
- report: where a launcher's time went, by its own report, and the bytes
  broadcast, store and mirror, also with one and two ranks per node, in runs
  of their own (phases.py);
- memory: private memory of each rank at the program's end (memory.py);
- operations: for one number of ranks, every rank's operations on the shared
  tree, as strace counts them (operations.py);
- dlstorm: time to the last line, and memory, of a program with many shared
  objects that need each other (storm.py);
- objects: bytes of shared objects on each node against those that ranks map
  (objects.py);
- idle: ping-pong between two ranks while the pumps rest, with every MPI that
  is there (pingpong.py).

The tables go to stdout, progress to stderr.  Beside a figure that has a
limit stands "ok" or "over": timings are noisy, so this is no exit status.
How noisy, the tables say: how stock Python differs from turn to turn, and how
much of the machine others used.  The status is 1 if a job failed, hung or
left something behind.

JSON (--json): schema; machine; program; launchers; missing: those that are
not built; pass (see measure_pass) or null; counts, with a member per
number of ranks: "time" {variant: list of [wall seconds, processor seconds]},
"reports" {launcher: {"all", "1", "2" ranks per node: [wall seconds, the
launcher's report (docs/timing.md)]}}, "memory" {launcher: see
memory_figures}, in bytes; "strace" {ranks, variant: per rank {kind of
operation: number}} or null; dlstorm: see measure_storm, or null; objects: see
measure_objects, or null; idle: see measure_idle, or null; failures, list of
str.
"""

import argparse
import json
import os
import pathlib
import shlex
import shutil
import signal
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from bare import measure_pass, pass_text  # noqa: E402
from jobs import JobFailed, Setting, say  # noqa: E402
from memory import add_memory, measure_memory  # noqa: E402
from noise import Noise  # noqa: E402
from objects import measure_objects, objects_text  # noqa: E402
from operations import measure_operations, operations_text  # noqa: E402
from phases import (  # noqa: E402
    LAYOUTS,
    add_phases,
    add_transport,
    fastest_report,
    layout_report,
)
from pingpong import idle_text, measure_idle  # noqa: E402
from storm import measure_storm, storm_text  # noqa: E402
from support import job  # noqa: E402
from table import Table, many  # noqa: E402
from walltime import add_times, measure_time  # noqa: E402

SCHEMA = 3
PROGRAM = "from mpi4py import MPI; import numpy.fft; import scipy.interpolate"
LAUNCHERS = ("python-mpi.py", "python-mpi")
PARTS = (
    "pass", "wall", "report", "memory", "operations", "dlstorm", "objects",
    "idle",
)  # fmt: skip


# ---- text -----------------------------------------------------------------


def machine_text(result):
    """Return the lines on the machine, its noise and the program."""
    machine = result["machine"]
    others = ", ".join(
        f"{part} {share:.0%}" for part, share in machine["others"].items()
    )
    lines = [
        f"{machine['processors']} processors, load {machine['load'][0]:.1f} "
        f"before and {machine['load'][1]:.1f} after, "
        f"Python {machine['python']}",
        f"used by other processes meanwhile: {others or '-'}",
    ]
    lines += [f"{name}: not built, not measured" for name in result["missing"]]
    return "\n".join(lines)


def counts_text(result):
    """Return the table with a column per number of ranks, or None."""
    counts = {int(count): found for count, found in result["counts"].items()}

    def measured(name, launcher=None):
        found = {}
        for count, its in counts.items():
            value = its.get(name)
            if launcher is not None:
                value = (value or {}).get(launcher)
            if value:
                found[count] = value
        return found

    table = Table({count: many(count) for count in counts})
    if times := measured("time"):
        add_times(table, result["launchers"], times)
    for launcher in result["launchers"]:
        if reports := measured("reports", launcher):
            add_phases(table, launcher, reports)
            add_transport(table, launcher, reports)
        if memory := measured("memory", launcher):
            add_memory(table, launcher, memory)
    if not table.rows:
        return None
    return f"{result['program']}\n{table.text()}"


def result_text(result):
    """Return all tables."""
    blocks = [machine_text(result)]
    if result["pass"] is not None:
        blocks.append(pass_text(result["pass"]))
    if text := counts_text(result):
        blocks.append(text)
    if result["strace"] is not None:
        blocks.append(operations_text(result["strace"]))
    if result["dlstorm"] is not None:
        blocks.append(storm_text(result["dlstorm"]))
    if result["objects"] is not None:
        blocks.append(objects_text(result["objects"]))
    if result["idle"] is not None:
        blocks.append(idle_text(result["idle"]))
    return "\n\n".join(blocks)


# ---- options --------------------------------------------------------------


def rank_counts(text):
    """Return '1,4,16' as a list of numbers, each once, ascending."""
    counts = sorted({int(word) for word in text.split(",")})
    if counts[0] < 1:
        raise ValueError(text)
    return counts


def names_of(known):
    """Return the type of an option that takes some of the known names."""

    def names(text):
        words = text.split(",")
        if unknown := [word for word in words if word not in known]:
            raise argparse.ArgumentTypeError(
                f"{unknown[0]!r} is none of {', '.join(known)}"
            )
        return [name for name in known if name in words]

    return names


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description="Measure the launchers against stock Python."
    )
    add = parser.add_argument
    add("--ranks", type=rank_counts, default="1,4,16", metavar="N,N,...")
    add("--repeat", type=int, default=5, help="turns that count (5)")
    add("--turns", type=int, default=20, help="the same, for pass (20)")
    add(
        "--only",
        type=names_of(PARTS),
        default=list(PARTS),
        metavar="PART,...",
        help=f"of {', '.join(PARTS)} (all)",
    )
    add(
        "--launchers",
        type=names_of(LAUNCHERS),
        default=list(LAUNCHERS),
        metavar="NAME,...",
        help=f"of {', '.join(LAUNCHERS)} (those that are built)",
    )
    add("--bin", default=str(ROOT / "bin"), help="where the launchers are")
    add("--program", default=PROGRAM, help="source text that ranks run")
    add("--json", metavar="FILE", help="write all that was measured")
    add("--strace-ranks", type=int, default=4, help="ranks for strace (4)")
    add("--storm-ranks", type=int, default=16, help="for dlstorm (16)")
    add("--timeout", type=float, default=120, help="seconds per job (120)")
    options = parser.parse_args()
    counts = (
        options.repeat,
        options.turns,
        options.strace_ranks,
        options.storm_ranks,
    )
    if min(counts) < 1:
        parser.error(
            "--repeat, --turns, --strace-ranks and --storm-ranks take 1 or "
            "more"
        )
    options.bin = pathlib.Path(options.bin).absolute()
    return options


def find_mpiexec():
    """Return MPI's launcher as a list of words."""
    words = shlex.split(os.environ.get("MPIEXEC", ""))
    for name in ("mpiexec.mpich", "mpiexec.hydra", "mpiexec"):
        if not words and (path := shutil.which(name)):
            words = [path]
    if not words:
        sys.exit("bench: no mpiexec in PATH; MPIEXEC names one")
    return words


# ---- measuring ------------------------------------------------------------


class Measurement:
    """One run of this program: what it found, and what failed."""

    def __init__(self, setting, options):
        self.setting = setting
        self.options = options
        self.noise = Noise()
        self.failures = []

    def attempt(self, part, where, name, function, *args):
        """Set where[name] to what the function returns, if that is asked for
        and does not fail.
        """
        if part not in self.options.only:
            return
        try:
            with self.noise.during(part):
                where[name] = function(self.setting, *args)
        except (JobFailed, job.JobError, OSError, ValueError) as error:
            self.failures.append(f"{function.__name__}{args}: {error}")
            say(f"FAILED: {self.failures[-1].splitlines()[0]}")

    def measure_count(self, ranks):
        """Return the figures for one number of ranks."""
        found = {"reports": {}}
        repeat = self.options.repeat
        self.attempt("wall", found, "time", measure_time, ranks, repeat)
        for launcher in self.setting.launchers:
            reports = found["reports"].setdefault(launcher, {})
            self.attempt(
                "report", reports, "all", fastest_report, launcher, ranks,
                repeat,
            )  # fmt: skip
            for per_node in LAYOUTS:
                if per_node < ranks:
                    self.attempt(
                        "report", reports, str(per_node), layout_report,
                        launcher, ranks, per_node,
                    )  # fmt: skip
        self.attempt("memory", found, "memory", measure_memory, ranks)
        return found

    def measure(self):
        """Return all figures as a dict for JSON."""
        options = self.options
        load = os.getloadavg()[0]
        result = {
            "schema": SCHEMA,
            "program": options.program,
            "launchers": self.setting.launchers,
            "missing": [
                name
                for name in options.launchers
                if name not in self.setting.launchers
            ],
            "pass": None,
            "counts": {},
            "strace": None,
            "dlstorm": None,
            "objects": None,
            "idle": None,
            "failures": self.failures,
        }
        self.attempt("pass", result, "pass", measure_pass, options.turns)
        for ranks in options.ranks:
            result["counts"][str(ranks)] = self.measure_count(ranks)
        self.attempt(
            "operations", result, "strace", measure_operations,
            options.strace_ranks,
        )  # fmt: skip
        self.attempt(
            "dlstorm", result, "dlstorm", measure_storm, options.storm_ranks,
            options.repeat,
        )  # fmt: skip
        self.attempt("objects", result, "objects", measure_objects)
        self.attempt("idle", result, "idle", measure_idle, options.repeat)
        result["machine"] = {
            "processors": os.cpu_count(),
            "load": [load, os.getloadavg()[0]],
            "others": self.noise.shares(),
            "python": sys.version.split()[0],
            "mpiexec": self.setting.mpiexec,
        }
        return result


def measure(options):
    """Return all figures; what jobs have written is removed."""
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
    store = job.make_store()
    try:
        setting = Setting(
            mpiexec=find_mpiexec(),
            launchers=[
                name
                for name in options.launchers
                if (options.bin / name).exists()
            ],
            bin=options.bin,
            program=options.program,
            timeout=options.timeout,
            scratch=scratch,
            store=store,
        )
        return Measurement(setting, options).measure()
    finally:
        shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)


def main():
    """Measure, print, and return the exit status."""
    options = parse_options()
    # An end from outside must end the jobs as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    result = measure(options)
    print(result_text(result))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump(result, stream, indent=1)
            stream.write("\n")
    for failure in result["failures"]:
        print(f"\nFAILED: {failure}")
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
