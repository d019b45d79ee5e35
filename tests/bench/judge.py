"""bin/python-mpi-bench: judge a filesystem, and strategies on it.

docs/benchmark.md is its manual: options, what is measured, the tables and the
JSON file.  Progress goes to stderr, the tables to stdout.  The status is 1 if
a job failed, hung or left something behind, 2 for a bad command line.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile

from bench import find_mpiexec, names_of, rank_counts
from contenders import (
    FIRST,
    LAUNCHERS,
    LOCAL,
    STRATEGIES,
    Contest,
    contenders,
    manifest_options,
)
from emulation import NotEmulated, by_rank, have_own_mounts, parse
from figures import result_text
from jobs import ROOT, JobFailed, run, say
from noise import Noise
from operations import trace_variant
from place import Place
from prefix import NoEnvironment
from support import job
from table import many
from thousand import NAME
from thousand import PROGRAM as THOUSAND

SCHEMA = 1
PROGRAM = "from mpi4py import MPI; import numpy.fft; import scipy.interpolate"


# ---- options --------------------------------------------------------------


def emulation_values(text):
    """Return --emulate's value as a dict."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def split_program(words):
    """Return (the command line without --program, the program's words).

    The value of --program is one word, or two after -c or -m, which argparse
    would take for options of its own.
    """
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name != "--program":
            continue
        its = [value] if equals else words[i + 1 : i + 2]
        end = i + 1 if equals else i + 2
        if its and its[0] in ("-c", "-m"):
            its += words[end : end + 1]
            end += 1
            if len(its) < 2:
                sys.exit(f"python-mpi-bench: --program {its[0]}: of what?")
        if not its:
            sys.exit("python-mpi-bench: --program: which?")
        return words[:i] + words[end:], tuple(its)
    return words, ("-c", PROGRAM)


def parse_options(words):
    """Return the options of the command line."""
    words, program = split_program(words)
    parser = argparse.ArgumentParser(
        prog="python-mpi-bench",
        description="Measure how long Python programs take to start on a "
        "filesystem, with stock Python and with python-mpi.",
        epilog="Also: --program -c CODE, -m MODULE, SCRIPT, or thousand "
        "(a thousand small modules); default: mpi4py, numpy, scipy.",
    )
    add = parser.add_argument
    add(
        "--tree",
        metavar="DIR",
        help="directory with an environment (DIR/bin/python3) on the "
        "filesystem under test, or an empty one to put a copy of this one in",
    )
    add("--ranks", type=rank_counts, default="1,4,16", metavar="N,N,...")
    add("--repeat", type=int, default=3, help="turns that count (3)")
    add(
        "--warm-up",
        type=int,
        default=None,
        help="turns before, that do not count (1; with --emulate of local "
        "only)",
    )
    add(
        "--strategies",
        type=names_of(STRATEGIES),
        default=list(STRATEGIES),
        metavar="NAME,...",
        help=f"of {', '.join(STRATEGIES)} (all)",
    )
    add(
        "--launchers",
        type=names_of(LAUNCHERS),
        default=["python-mpi"],
        metavar="NAME,...",
        help=f"of {', '.join(LAUNCHERS)} (python-mpi)",
    )
    add(
        "--emulate",
        type=emulation_values,
        metavar="meta-us=N,rtt-us=N,mbps=N,cache-ms=N",
        help="measure on an emulated slow filesystem over the tree",
    )
    add("--json", metavar="FILE", help="write all that was measured")
    add("--plot", metavar="FILE.png", help="plot time against ranks")
    add("--timeout", type=float, default=300, help="seconds per job (300)")
    add(
        "--scratch",
        metavar="DIR",
        help="local directory for copies of the environment (temporary one)",
    )
    add("--bin", default=str(ROOT / "bin"), help="where the launchers are")
    options = parser.parse_args(words)
    if options.repeat < 1 or (options.warm_up or 0) < 0:
        parser.error("--repeat takes 1 or more, --warm-up 0 or more")
    options.bin = pathlib.Path(options.bin).absolute()
    options.program = program
    if options.tree:
        options.tree = pathlib.Path(options.tree).absolute()
    return options


# ---- measuring ------------------------------------------------------------


class Judge:
    """One run of this program: runs the jobs, keeps what they took."""

    def __init__(self, contest, options, emulation):
        self.contest = contest
        self.options = options
        self.emulation = emulation
        self.failures = []
        self.noise = Noise()

    def one(self, ranks, label, first=False):
        """Run one job; return what it took, as the manual says.

        first: whether it has to make a manifest
        """
        report = self.contest.scratch / "report.json"
        report.unlink(missing_ok=True)
        if self.emulation is not None:
            self.emulation.reset()
        words = self.contest.options(label, ranks, report, first)
        wall, processor = run(self.contest, ranks, label, words)
        found = {"wall": wall, "cpu": processor, "report": None}
        if report.exists():
            found["report"] = json.loads(report.read_text(encoding="utf-8"))
        if self.emulation is not None and label != LOCAL:
            counts = self.emulation.counts()
            found["operations"] = by_rank(counts["processes"])
            found["busy"] = {
                "meta": counts["meta_busy"],
                "data": counts["data_busy"],
            }
        elif found["report"]:
            found["operations"] = self.reported(found["report"])
        return found

    def reported(self, report):
        """Return a launcher's own counts in the shape of slowfs's."""
        return {
            who: {"total": report["operations"][name],
                  "bytes": report["bytes_read"][name]}
            for who, name in (("first", "root"), ("others", "others"))
        }  # fmt: skip

    def attempt(self, ranks, label, first=False):
        """Return what one job took, or None if it failed."""
        try:
            found = self.one(ranks, label, first)
        except (JobFailed, NotEmulated, OSError, ValueError) as error:
            self.failures.append(f"{many(ranks)}, {label}: {error}")
            say(f"FAILED: {self.failures[-1].splitlines()[0]}")
            return None
        say(f"{many(ranks)}: {label}: {found['wall']:.2f} s")
        return found

    def warm(self, ranks):
        """Make the turns that do not count.  Nothing is kept of an emulated
        filesystem, so there only the local disk has to be warm.
        """
        asked = self.options.warm_up
        for _ in range(1 if asked is None else asked):
            for label in self.contest.contenders:
                if asked or self.emulation is None or label == LOCAL:
                    say("warm-up")
                    self.attempt(ranks, label)

    def record(self, ranks, found):
        """Make the runs that leave a manifest for later ones."""
        for label, contender in self.contest.contenders.items():
            if contender.strategy == "manifest":
                say(FIRST)
                taken = self.attempt(ranks, label, first=True)
                if taken:
                    found[f"{label}, {FIRST}"] = [taken | {"turn": -1}]

    def count(self, ranks):
        """Return {label: runs} for one number of ranks, in turns."""
        found = {label: [] for label in self.contest.contenders}
        if LOCAL in found:
            self.warm(ranks)
            self.record(ranks, found)
        else:
            self.record(ranks, found)
            self.warm(ranks)
        for turn in range(self.options.repeat):
            say(f"{many(ranks)}: turn {turn + 1}/{self.options.repeat}")
            for label in self.contest.contenders:
                taken = self.attempt(ranks, label)
                if taken:
                    found[label].append(taken | {"turn": turn})
        return found

    def trace(self, ranks, found):
        """Replace reported operations by strace's, from a run of its own."""
        for label, runs in found.items():
            if not runs or label not in self.contest.contenders:
                continue
            try:
                by_each = trace_variant(self.contest, ranks, label)
            except (JobFailed, OSError) as error:
                self.failures.append(f"strace, {label}: {error}")
                continue
            operations = {"first": by_each[0], "others": {}}
            for counts in by_each[1:]:
                for kind, count in counts.items():
                    others = operations["others"]
                    others[kind] = others.get(kind, 0) + count
            for taken in runs:
                sizes = taken.get("operations") or {}
                taken["operations"] = {
                    who: counts
                    | {
                        key: value
                        for key, value in sizes.get(who, {}).items()
                        if key == "bytes"
                    }
                    for who, counts in operations.items()
                }


def choose(options, notes):
    """Return (launchers, strategies) that there are; note what is not."""
    launchers = []
    for name in options.launchers:
        if (options.bin / name).exists():
            launchers.append(name)
        else:
            notes.append(f"{name} is not built, not measured")
    known = manifest_options(options.bin / launchers[0]) if launchers else ()
    strategies = list(options.strategies)
    if "manifest" in strategies and not known:
        strategies.remove("manifest")
        notes.append("manifest: these launchers do not have it, not measured")
    return launchers, strategies, known


def words_of(program):
    """Return the program's words as python3 takes them."""
    if program[0] in ("-c", "-m"):
        return program
    if program[0] == NAME:
        return ("-c", THOUSAND)
    return (str(pathlib.Path(program[0]).absolute()),)


def measure_in(options, place, scratch, store):
    """Return all figures as a dict for JSON."""
    notes = place.notes
    launchers, strategies, known = choose(options, notes)
    manifests = scratch / "manifests"
    manifests.mkdir()
    (scratch / "cwd").mkdir()
    contest = Contest(
        mpiexec=find_mpiexec(),
        launchers=launchers,
        bin=options.bin,
        program="",
        timeout=options.timeout,
        scratch=scratch,
        store=store,
        directory=scratch / "cwd",
        contenders=contenders(launchers, strategies, place.tree, place.local),
        words=words_of(options.program),
        manifests=manifests,
        known=known,
        prefixes=place.prefixes(),
    )
    judge = Judge(contest, options, place.emulation)
    strace = place.emulation is None and shutil.which("strace")
    result = {
        "schema": SCHEMA,
        "program": list(options.program),
        "tree": str(options.tree or f"a copy of {sys.prefix}"),
        "emulate": options.emulate if place.emulation else None,
        "contenders": {
            label: {
                key: str(value) if key == "tree" else value
                for key, value in dataclasses.asdict(one).items()
            }
            for label, one in contest.contenders.items()
        },
        "counted_by": "slowfs"
        if place.emulation
        else "strace"
        if strace
        else "the launchers' reports",
        "machine": {
            "processors": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": sys.version.split()[0],
            "mpiexec": contest.mpiexec,
        },
        "notes": notes,
        "counts": {},
        "failures": judge.failures,
    }
    for ranks in options.ranks:
        with judge.noise.during(many(ranks)):
            found = judge.count(ranks)
        if strace:
            judge.trace(ranks, found)
        result["counts"][str(ranks)] = found
    result["machine"]["others"] = judge.noise.shares()
    return result


def measure(options):
    """Return all figures; what was made on the way is removed."""
    if options.emulate is not None:
        have_own_mounts()
    scratch = pathlib.Path(
        tempfile.mkdtemp(prefix="python-mpi-bench-", dir=options.scratch)
    )
    store = job.make_store()
    place = None
    try:
        place = Place(options, scratch)
        if options.program[0] == NAME:
            place.add_thousand()
        if options.emulate is not None:
            place.emulate()
        return measure_in(options, place, scratch, store)
    finally:
        if place is not None:
            place.end()
        shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)


def write_json(result, path):
    """Write all that was measured."""
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(result, stream, indent=1)
        stream.write("\n")


def main():
    """Measure, print, and return the exit status."""
    options = parse_options(sys.argv[1:])
    # An end from outside must end the jobs as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        result = measure(options)
    except NoEnvironment as error:
        sys.exit(f"python-mpi-bench: {error}")
    print(result_text(result))
    if options.json:
        write_json(result, options.json)
    if options.plot:
        from plot import draw

        draw(result, options.plot)
    for failure in result["failures"]:
        print(f"\nFAILED: {failure}")
    return 1 if result["failures"] else 0
