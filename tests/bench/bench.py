"""Measure python-mpi.py against stock Python, as ratios within one run.

    make bench
    .venv/bin/python tests/bench/bench.py --ranks 1,4 --repeat 3 --json FILE

For each number of ranks:

- wall time and processor time of both, in turns (stock, ours, stock, ours,
  ...), after a first run of each that does not count;
- where ours went: the launcher's own report, in runs of their own;
- bytes broadcast, store and mirror, also with one and two ranks per node;
- private memory of each rank at the program's end (Private_Clean and
  Private_Dirty in /proc/PID/smaps_rollup), while all ranks are still there;
- for one number of ranks, every rank's operations on the shared tree, as
  strace counts them.

The table goes to stdout, progress to stderr.  Beside a figure that has a
limit stands "ok" or "over": timings are noisy, so this is no exit status.
The status is 1 if a job failed, hung or left something behind.

JSON (--json): schema; machine; program; counts, with a member per number of
ranks: "time" {stock, ours: lists of [wall seconds, processor seconds]},
"reports" {"all", "1", "2" ranks per node: [wall seconds, the launcher's
report (docs/timing.md)]}, "memory" (see memory_figures), in bytes; "strace"
{ranks, stock, ours: per rank {kind of call: number}}; failures, list of str.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support import job, trace  # noqa: E402

SCHEMA = 1
PROGRAM = "from mpi4py import MPI; import numpy.fft; import scipy.interpolate"
SIDES = ("stock", "ours")
LAYOUTS = (1, 2)  # simulated nodes, in ranks; besides all on one node
REPORTS = 3  # runs with the launcher's report, of which the fastest counts
RATIO_LIMIT = 1.25
MEMORY_LIMIT = 4 << 20  # bytes above stock
COPIES_LIMIT = 1  # stores per node
MIB = 1 << 20
# A store that is not shared, because the rank is alone, is an anonymous
# mapping with this much address space or more.
LONE_STORE = 256 << 20
# Where private memory can be: mappings of files outside (files) and inside
# the node's directories (mirror: loaded from there; store; job: the rest).
PARTS = ("heap", "anonymous", "stack", "files", "mirror", "store", "job")
# Set by this program, so that what the user has set does not mix in.
OWN_VARIABLES = ("PYTHON_MPI_TIMING", "PYTHON_MPI_RANKS_PER_NODE")

# Follows the program.  Pages count as private as soon as nobody else maps
# them, so no rank may be early, and none may leave.
PROBE = """
import os, time
def _bench_wait(stage):
    end = time.monotonic() + 60
    open(f"{_bench_place}/{stage}.{_bench_rank}", "w").close()
    while sum(name.startswith(stage) for name in
              os.listdir(_bench_place)) < int(os.environ["BENCH_RANKS"]):
        if time.monotonic() > end:
            raise TimeoutError(f"other ranks do not come to {stage}")
        time.sleep(0.01)
_bench_place = os.environ["BENCH_PLACE"]
_bench_rank = (os.environ.get("PMI_RANK")
               or os.environ.get("OMPI_COMM_WORLD_RANK") or "0")
_bench_wait("loaded")
for _bench_name in ("smaps_rollup", "smaps"):
    with open("/proc/self/" + _bench_name, "rb") as _bench_source:
        _bench_text = _bench_source.read()
    _bench_name = f"{_bench_place}/{_bench_name}.{_bench_rank}"
    with open(_bench_name, "wb") as _bench_copy:
        _bench_copy.write(_bench_text)
_bench_wait("measured")
"""

KINDS = {
    "list": ("getdents", "getdents64"),
    "open": ("open", "openat", "openat2", "creat"),
    "read": ("read", "readv", "pread64", "preadv", "preadv2"),
    "stat": (
        "stat",
        "fstat",
        "lstat",
        "newfstatat",
        "statx",
        "access",
        "faccessat",
        "faccessat2",
        "readlink",
        "readlinkat",
    ),
}
KIND_OF_CALL = {call: kind for kind, calls in KINDS.items() for call in calls}


class JobFailed(Exception):
    """A job failed, hung or left something behind; str() says all."""


def say(text):
    """Show progress."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


# ---- jobs -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all jobs of one run have in common.

    mpiexec: list of words; launcher: path of python-mpi.py
    program: source text; timeout: seconds that a job may take
    scratch: our own directory, removed at the end
    store: directory for node stores, on a memory filesystem, likewise
    """

    mpiexec: list
    launcher: str
    program: str
    timeout: float
    scratch: pathlib.Path
    store: pathlib.Path

    def start_of_rank(self, side):
        """Return the words before a rank's options."""
        return ["python3"] if side == "stock" else [self.launcher]

    def environment(self, added):
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
        variables.setdefault("PYTHON_MPI_SHARE", str(ROOT))
        variables["PYTHON_MPI_TMPDIR"] = str(self.store)
        variables["XDG_CACHE_HOME"] = str(self.scratch / "cache")
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


def run(setting, ranks, side, options=(), added=None, wrapper=(), probe=""):
    """Run one job; return (wall seconds, processor seconds).

    options: words before -c; wrapper: words before the interpreter
    added: further environment; probe: source text after the program
    Raises JobFailed.
    """
    marker = uuid.uuid4().hex
    command = [*setting.mpiexec, "-n", str(ranks), *wrapper]
    command += [*setting.start_of_rank(side), *options]
    command += ["-c", f"{setting.program}\n{probe}"]
    output = setting.scratch / "output"
    with open(output, "wb") as stream:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=setting.environment((added or {}) | {job.MARKER: marker}),
            cwd=ROOT,
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
        shown = shlex.join([*command[:-1], setting.program])
        raise JobFailed(f"{problem}\n$ {shown}\n{text}")
    return seconds, usage.ru_utime + usage.ru_stime


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


# ---- time and reports -----------------------------------------------------


def measure_time(setting, ranks, repeat):
    """Return {side: [[wall seconds, processor seconds], ...]}."""
    found = {side: [] for side in SIDES}
    for turn in range(-1, repeat):
        for side in SIDES:
            taken = run(setting, ranks, side)
            if turn >= 0:
                found[side].append(list(taken))
        what = f"turn {turn + 1}/{repeat}" if turn >= 0 else "warm"
        last = (
            f": stock {found['stock'][-1][0]:.2f} s, "
            f"ours {found['ours'][-1][0]:.2f} s"
            if turn >= 0
            else ""
        )
        say(f"{many(ranks)}: {what}{last}")
    return found


def read_report(setting, ranks, per_node):
    """Run ours with its report; return [wall seconds, report].

    per_node: ranks on each simulated node, None for what really is
    """
    file = setting.scratch / "timing.json"
    file.unlink(missing_ok=True)
    added = {}
    if per_node is not None:
        added["PYTHON_MPI_RANKS_PER_NODE"] = str(per_node)
    seconds, _ = run(setting, ranks, "ours", [f"--timing={file}"], added)
    return [seconds, json.loads(file.read_text(encoding="utf-8"))]


def fastest_report(setting, ranks, repeat):
    """Return the read_report() of the fastest of some runs on one node."""
    runs = []
    for turn in range(min(repeat, REPORTS)):
        runs.append(read_report(setting, ranks, None))
        say(f"{many(ranks)}: report {turn + 1}: {runs[-1][0]:.2f} s")
    return min(runs, key=lambda taken: taken[0])


def layout_report(setting, ranks, per_node):
    """Return the read_report() of one run on simulated nodes."""
    taken = read_report(setting, ranks, per_node)
    say(f"{many(ranks)}, {per_node} per node: {taken[0]:.2f} s")
    return taken


# ---- memory ---------------------------------------------------------------


def mapping_part(path, size, store):
    """Return which of PARTS a mapping belongs to.

    path: as in /proc/PID/smaps, maybe empty; size: bytes of address space
    store: directory of node stores
    """
    path = path.removesuffix(" (deleted)")
    if path.startswith(f"{store}/"):
        inside = path[len(str(store)) + 1 :].split("/")[1:]
        if inside == ["store"]:
            return "store"
        return "mirror" if inside[:1] == ["tree"] else "job"
    if path.startswith("/"):
        return "files"
    if path == "[heap]":
        return "heap"
    if path.startswith("["):
        return "stack" if path.startswith("[stack") else "anonymous"
    return "store" if size >= LONE_STORE else "anonymous"


def read_smaps(text, store):
    """Return (private bytes by part, {inode of a store: its Pss}).

    The inode 0 stands for a store that is not shared.
    Source: proc(5), /proc/pid/smaps.
    """
    private = dict.fromkeys(PARTS, 0)
    stores = collections.Counter()
    part, inode, path = "anonymous", 0, ""
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if " " in name:  # ADDRESSES PERMISSIONS OFFSET MAJOR:MINOR INODE PATH
            fields = line.split(None, 5)
            inode = int(fields[4])
            path = fields[5] if len(fields) > 5 else ""
        elif name == "Size":
            part = mapping_part(path, int(words[0]) * 1024, store)
        elif name in ("Private_Clean", "Private_Dirty"):
            private[part] += int(words[0]) * 1024
        elif name == "Pss" and part == "store":
            stores[inode] += int(words[0]) * 1024
    return private, dict(stores)


def rollup_private(text):
    """Return the private bytes in the text of a smaps_rollup."""
    return sum(
        int(line.split()[1]) * 1024
        for line in text.splitlines()
        if line.startswith(("Private_Clean:", "Private_Dirty:"))
    )


def probe_memory(setting, ranks, side):
    """Return per rank (private bytes, those by part, {store: Pss})."""
    place = pathlib.Path(tempfile.mkdtemp(dir=setting.scratch))
    added = {"BENCH_PLACE": str(place), "BENCH_RANKS": str(ranks)}
    run(setting, ranks, side, added=added, probe=PROBE)
    found = []
    for rank in range(ranks):
        rollup = (place / f"smaps_rollup.{rank}").read_text(errors="replace")
        smaps = (place / f"smaps.{rank}").read_text(errors="replace")
        parts, stores = read_smaps(smaps, setting.store)
        found.append((rollup_private(rollup), parts, stores))
    return found


def memory_figures(stock, ours):
    """Return the memory of both sides, each from probe_memory(), in bytes.

    stock, ours: private memory per rank; above: the difference per rank
    worst: rank with the largest one, parts: what that consists of
    without_store: the largest difference when store mappings do not count
    copies: stores that the ranks of the node map; lone: it is not shared
    resident: bytes of all copies in memory (sum of Pss)
    """
    above = [our[0] - its[0] for its, our in zip(stock, ours, strict=True)]
    worst = max(range(len(above)), key=above.__getitem__)
    resident = collections.Counter()
    for _, _, stores in ours:
        resident.update(stores)
    return {
        "stock": [rank[0] for rank in stock],
        "ours": [rank[0] for rank in ours],
        "above": above,
        "worst": worst,
        "parts": {
            part: ours[worst][1][part] - stock[worst][1][part]
            for part in PARTS
        },
        "without_store": max(
            more - our[1]["store"]
            for more, our in zip(above, ours, strict=True)
        ),
        "copies": len(resident),
        "lone": 0 in resident,
        "resident": sum(resident.values()),
    }


def measure_memory(setting, ranks):
    """Return memory_figures() of one job of each side."""
    say(f"{many(ranks)}: memory")
    stock, ours = (probe_memory(setting, ranks, side) for side in SIDES)
    return memory_figures(stock, ours)


# ---- operations -----------------------------------------------------------


def tree_prefixes():
    """Return the directories that are the shared tree."""
    found = [ROOT, sys.prefix, sys.base_prefix, sys.base_exec_prefix]
    return list(dict.fromkeys(map(str, found)))


def trace_side(setting, ranks, side):
    """Return per rank {kind of call: number} on the shared tree."""
    directory = pathlib.Path(tempfile.mkdtemp(dir=setting.scratch))
    wrapper = job.write_rank_wrapper(directory)
    say(f"{many(ranks)}: strace, {side}")
    run(setting, ranks, side, wrapper=[str(wrapper)])
    found = []
    for rank in range(ranks):
        done = trace.operations_of_rank(directory, rank, ROOT)
        if not done:
            raise JobFailed(f"strace wrote nothing for rank {rank}, {side}")
        on_tree = trace.below(done, tree_prefixes())
        kinds = collections.Counter(
            KIND_OF_CALL.get(one.call, "other") for one in on_tree
        )
        found.append(dict(kinds))
    return found


def measure_operations(setting, ranks):
    """Return {"ranks", and per side what trace_side() found}."""
    return {
        "ranks": ranks,
        **{side: trace_side(setting, ranks, side) for side in SIDES},
    }


# ---- table ----------------------------------------------------------------


def many(ranks):
    """Return '1 rank' or 'N ranks'."""
    return f"{ranks} rank" if ranks == 1 else f"{ranks} ranks"


def mebibytes(size):
    """Return bytes as MiB with one decimal."""
    return f"{size / MIB:.1f}"


def judged(text, value, limit):
    """Return the text with what the limit makes of the value."""
    return f"{text} {'ok' if value <= limit else 'over'}"


class Table:
    """Rows of a label, a cell per number of ranks, and a limit."""

    def __init__(self, counts):
        self.counts = counts
        self.rows = []

    def title(self, text, limit=""):
        """Start a block of rows."""
        self.rows.append((text, [""] * len(self.counts), limit))

    def row(self, label, found, cell, limit=""):
        """Add a row: cell(found[count]) for each count that was measured."""
        cells = [
            cell(found[count]) if found.get(count) is not None else "-"
            for count in self.counts
        ]
        self.rows.append((f"  {label}", cells, limit))

    def text(self):
        """Return the table with aligned columns."""
        head = ("", [many(count) for count in self.counts], "limit")
        rows = [head, *self.rows]
        width = max(len(label) for label, _, _ in rows)
        columns = [
            max(len(cells[i]) for _, cells, _ in rows)
            for i in range(len(self.counts))
        ]
        lines = []
        for label, cells, limit in rows:
            padded = "  ".join(
                f"{cell:>{columns[i]}}" for i, cell in enumerate(cells)
            )
            lines.append(f"{label:<{width}}  {padded}  {limit}".rstrip())
        return "\n".join(lines)


def spread(index, side):
    """Return a cell: least, median and most of a side's seconds."""

    def cell(times):
        values = [taken[index] for taken in times[side]]
        low, middle = min(values), statistics.median(values)
        return f"{low:.2f} {middle:.2f} {max(values):.2f}"

    return cell


def pair_ratios(times):
    """Return ours over stock for each turn."""
    return [
        our[0] / its[0]
        for its, our in zip(times["stock"], times["ours"], strict=True)
    ]


def least_ratio(times, index):
    """Return the least of ours over the least of stock."""
    ours, stock = (
        min(taken[index] for taken in times[side])
        for side in ("ours", "stock")
    )
    return ours / stock if stock else 0.0


def ratio_cell(value):
    """Return a ratio and what its limit makes of it."""
    return judged(f"{value:.2f}", value, RATIO_LIMIT)


def add_times(table, times):
    """Add the rows on time."""
    limit = f"<= {RATIO_LIMIT}"
    table.title("wall time in s: least, median, most")
    for side in SIDES:
        table.row(side, times, spread(0, side))
    table.title("ratio of wall times, ours / stock")
    table.row(
        "median of the turns",
        times,
        lambda found: ratio_cell(statistics.median(pair_ratios(found))),
        limit,
    )
    table.row(
        "least and most of the turns",
        times,
        lambda found: (
            f"{min(pair_ratios(found)):.2f} {max(pair_ratios(found)):.2f}"
        ),
    )
    table.row(
        "least / least",
        times,
        lambda found: ratio_cell(least_ratio(found, 0)),
        limit,
    )
    table.title("processor time in s, all ranks: least, median, most")
    for side in SIDES:
        table.row(side, times, spread(1, side))
    table.row(
        "least / least", times, lambda found: f"{least_ratio(found, 1):.2f}"
    )


def add_phases(table, reports):
    """Add the rows on where our time went, from the fastest run."""

    def phase(name):
        def cell(found):
            seconds = found["all"][1]["phases"][name]["seconds"]
            return " ".join(
                f"{seconds[key]:.3f}" for key in ("first", "mean", "max")
            )

        return cell

    def outside(found):
        wall, report = found["all"]
        all_of_it = report["phases"]["ALL"]["seconds"]["first"]
        return f"{wall - all_of_it - report['run']['first']:.3f}"

    reports = {n: found for n, found in reports.items() if "all" in found}
    if not reports:
        return
    table.title("where ours went, in s: rank 0, mean, most")
    names = next(iter(reports.values()))["all"][1]["phases"]
    for name in names:
        table.row(name, reports, phase(name))
    table.row(
        "RUN, rank 0",
        reports,
        lambda found: f"{found['all'][1]['run']['first']:.3f}",
    )
    table.row("mpiexec and end", reports, outside)
    table.row(
        "wall time of that run",
        reports,
        lambda found: f"{found['all'][0]:.3f}",
    )


def add_transport(table, reports):
    """Add the rows on what was read, sent and stored."""

    def part(layout, cell):
        return {
            count: found[layout][1]
            for count, found in reports.items()
            if layout in found
        }, cell

    def stored(name):
        return lambda report: mebibytes(
            max(node[name] for node in report["nodes"])
        )

    def total(name, who):
        return lambda report: str(report[name][who])

    table.title("operations on the tree, as ours counts them")
    table.row("rank 0", *part("all", total("operations", "root")))
    table.row("all others", *part("all", total("operations", "others")))
    table.row("avoided", *part("all", lambda report: str(report["avoided"])))
    table.title("MiB sent by rank 0")
    for layout in ("all", *map(str, LAYOUTS)):
        label = "all on one node" if layout == "all" else f"{layout} per node"
        table.row(
            label,
            *part(
                layout,
                lambda report: mebibytes(report["bytes_sent"]["root"]),
            ),
        )
    table.title("MiB read by rank 0, and on its node")
    table.row(
        "read",
        *part("all", lambda report: mebibytes(report["bytes_read"]["root"])),
    )
    table.row("store", *part("all", stored("store_bytes")))
    table.row("mirror", *part("all", stored("mirror_bytes")))


def add_memory(table, memory):
    """Add the rows on private memory and on the copies of the store."""

    def copies(found):
        if found["lone"] and found["copies"] == 1:
            return "1, private"
        return judged(str(found["copies"]), found["copies"], COPIES_LIMIT)

    table.title("private memory per rank in MiB")
    for side in SIDES:
        table.row(
            f"{side}: least, most",
            memory,
            lambda found, side=side: (
                f"{mebibytes(min(found[side]))} {mebibytes(max(found[side]))}"
            ),
        )
    table.row(
        "above stock, most",
        memory,
        lambda found: judged(
            mebibytes(max(found["above"])), max(found["above"]), MEMORY_LIMIT
        ),
        f"<= {MEMORY_LIMIT // MIB}",
    )
    table.row(
        "above stock, rank 0",
        memory,
        lambda found: mebibytes(found["above"][0]),
    )
    table.row(
        "above stock, most of the others",
        {n: found for n, found in memory.items() if n > 1},
        lambda found: mebibytes(max(found["above"][1:])),
    )
    table.row(
        "above stock, store aside",
        memory,
        lambda found: mebibytes(found["without_store"]),
    )
    table.row("rank with the most", memory, lambda found: str(found["worst"]))
    for part in PARTS:
        table.row(
            f"  of it {part}",
            memory,
            lambda found, part=part: mebibytes(found["parts"][part]),
        )
    table.title("store, all on one node")
    table.row("copies", memory, copies, f"<= {COPIES_LIMIT}")
    table.row(
        "MiB in memory", memory, lambda found: mebibytes(found["resident"])
    )


def operations_text(found):
    """Return the table of what strace counted."""
    kinds = ("list", "stat", "open", "read", "other")
    head = ["", "all", *kinds]
    rows = [head]
    for side in SIDES:
        others = found[side][1:]
        groups = [("rank 0", found[side][:1])]
        if others:
            by_total = sorted(others, key=lambda rank: sum(rank.values()))
            groups.append(("others, least", by_total[:1]))
            groups.append(("others, most", by_total[-1:]))
        for label, (rank,) in groups:
            rows.append(
                [f"  {side}, {label}", str(sum(rank.values()))]
                + [str(rank.get(kind, 0)) for kind in kinds]
            )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        f"operations on the tree by strace, {many(found['ranks'])}, "
        "failed ones too"
    ]
    for first, *cells in rows:
        padded = "  ".join(
            f"{cell:>{widths[i]}}" for i, cell in enumerate(cells, 1)
        )
        lines.append(f"{first:<{widths[0]}}  {padded}")
    return "\n".join(lines)


def result_text(result):
    """Return all tables."""
    counts = [int(count) for count in result["counts"]]

    def measured(name):
        return {
            count: result["counts"][str(count)][name]
            for count in counts
            if result["counts"][str(count)].get(name)
        }

    table = Table(counts)
    for name, add in (
        ("time", add_times),
        ("reports", add_phases),
        ("reports", add_transport),
        ("memory", add_memory),
    ):
        if found := measured(name):
            add(table, found)
    machine = result["machine"]
    blocks = [
        f"{machine['processors']} processors, load {machine['load'][0]:.1f} "
        f"before and {machine['load'][1]:.1f} after, "
        f"Python {machine['python']}\n{result['program']}",
        table.text(),
    ]
    if result["strace"] is not None:
        blocks.append(operations_text(result["strace"]))
    return "\n\n".join(blocks)


# ---- main -----------------------------------------------------------------


def rank_counts(text):
    """Return '1,4,16' as a list of numbers, each once, ascending."""
    counts = sorted({int(word) for word in text.split(",")})
    if counts[0] < 1:
        raise ValueError(text)
    return counts


def parse_options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description="Measure python-mpi.py against stock Python."
    )
    add = parser.add_argument
    add("--ranks", type=rank_counts, default="1,4,16", metavar="N,N,...")
    add("--repeat", type=int, default=5, help="turns that count (5)")
    add("--program", default=PROGRAM, help="source text that ranks run")
    add("--json", metavar="FILE", help="write all that was measured")
    add("--no-strace", action="store_true", help="do not count operations")
    add("--strace-ranks", type=int, default=4, help="ranks for strace (4)")
    add("--timeout", type=float, default=120, help="seconds per job (120)")
    add("--launcher", default=str(ROOT / "bin" / "python-mpi.py"))
    options = parser.parse_args()
    if options.repeat < 1 or options.strace_ranks < 1:
        parser.error("--repeat and --strace-ranks take 1 or more")
    options.launcher = os.path.abspath(options.launcher)
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


def measure(setting, options):
    """Return all figures as a dict for JSON."""
    failures = []

    def attempt(where, name, function, *args):
        try:
            where[name] = function(setting, *args)
        except (JobFailed, job.JobError, OSError, ValueError) as error:
            failures.append(f"{function.__name__}{args}: {error}")
            say(f"FAILED: {failures[-1].splitlines()[0]}")

    load = os.getloadavg()[0]
    result = {
        "schema": SCHEMA,
        "program": options.program,
        "counts": {},
        "strace": None,
        "failures": failures,
    }
    for ranks in options.ranks:
        found = result["counts"].setdefault(str(ranks), {})
        attempt(found, "time", measure_time, ranks, options.repeat)
        reports = found.setdefault("reports", {})
        attempt(reports, "all", fastest_report, ranks, options.repeat)
        for per_node in LAYOUTS:
            if per_node < ranks:
                name = str(per_node)
                attempt(reports, name, layout_report, ranks, per_node)
        attempt(found, "memory", measure_memory, ranks)
    if not options.no_strace:
        attempt(result, "strace", measure_operations, options.strace_ranks)
    result["machine"] = {
        "processors": os.cpu_count(),
        "load": [load, os.getloadavg()[0]],
        "python": sys.version.split()[0],
        "mpiexec": setting.mpiexec,
    }
    return result


def main():
    """Measure, print, and return the exit status."""
    options = parse_options()
    # An end from outside must end the jobs as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
    store = job.make_store()
    try:
        setting = Setting(
            mpiexec=find_mpiexec(),
            launcher=options.launcher,
            program=options.program,
            timeout=options.timeout,
            scratch=scratch,
            store=store,
        )
        result = measure(setting, options)
    finally:
        shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
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
