"""What a resting pump costs a program: ping-pong between two ranks.

8 bytes go to and fro with mpi4py, in many short blocks, some time after the
last import, when the pumps have come to rest.  Stock Python runs the same
program, with the thread level that mpi4py asks for (MULTIPLE) in both, so
what differs is the pump.  The variants take turns:

- stock;
- one node: no stream, and a pump that nobody wakes up;
- two nodes (simulated): a stream between two pumps that look for messages.

For each family of MPI that is found: that of mpiexec, and the environments
that MPIIMPORT_TEST_MPIABI and MPIIMPORT_TEST_OPENMPI name (.mpi/ has them
after `make test`).  The launcher is python-mpi.py: the pump is the same in
both.

Each rank stays on a processor of its own, where there are two, and pauses
between the blocks, so that they see the machine at many moments: its
processors may have one speed for a second, and half of it for the next.  The
least of all blocks is what the calls themselves take; the median has what
others do with the machine in it as well.  How often a pump wakes up, which is
exact, is in tests/mpi/test_idle.py.
"""

import json
import os
import pathlib
import statistics
import sys

from jobs import ROOT, STOCK, JobFailed, run_command, say
from table import Table, judged

LIMIT = 1.05  # of the least, ours / stock
RANKS = 2
BLOCKS = 300
ROUNDS = 100
ONE, TWO = "one node", "two nodes"
VARIANTS = (STOCK, ONE, TWO)

PROGRAM = """
import json, os, sys, time
from mpi4py import MPI
world = MPI.COMM_WORLD
processors = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {processors[world.rank % len(processors)]})
message = [bytearray(8), 8, MPI.BYTE]
other = 1 - world.rank
first, second = (world.Send, world.Recv)[::1 - 2 * world.rank]
def block(rounds):
    for _ in range(rounds):
        first(message, other)
        second(message, other)
blocks, rounds = map(int, sys.argv[1:])
time.sleep(1.5)
taken = []
for _ in range(blocks):
    time.sleep(0.005)
    block(5)
    start = time.perf_counter()
    block(rounds)
    taken.append((time.perf_counter() - start) / rounds)
if world.rank == 0:
    version = MPI.Get_library_version().splitlines()[0].split(",")[0]
    words = [word for word in version.split() if word != "Version:"]
    print(json.dumps([" ".join(words), taken]))
"""

# Options of the families' own launchers.
OPENMPI = ("--allow-run-as-root", "--oversubscribe")


def families(setting):
    """Return {name: (mpiexec, interpreter)} for each MPI that is there."""
    found = {"mpiexec": (setting.mpiexec, sys.executable)}
    for name, options in (("mpiabi", ()), ("openmpi", OPENMPI)):
        place = os.environ.get(f"MPIIMPORT_TEST_{name.upper()}")
        prefix = pathlib.Path(place or ROOT / ".mpi" / name).absolute()
        python = prefix / "bin" / "python"
        if python.exists():
            words = [str(prefix / "bin" / "mpiexec"), *options]
            found[name] = (words, str(python))
    return found


def ping_pong(setting, family, variant):
    """Run one job; return (version of MPI, seconds per round trip of each
    block).
    """
    mpiexec, python = families(setting)[family]
    words = [*mpiexec, "-n", str(RANKS), python]
    added = {}
    if variant != STOCK:
        words += ["-S", str(setting.bin / "python-mpi.py")]
    if variant == TWO:
        added["PYTHON_MPI_RANKS_PER_NODE"] = "1"
    environment = setting.environment(variant, added)
    environment.pop("VIRTUAL_ENV", None)
    prefix = pathlib.Path(python).parent.parent
    environment["PYTHON_MPI_SHARE"] += f":{prefix}"
    if family != "mpiexec":  # its own library, and no other's
        environment.pop("LD_LIBRARY_PATH", None)
    words += ["-c", PROGRAM, str(BLOCKS), str(ROUNDS)]
    with open(setting.scratch / "pingpong", "w+b") as printed:
        run_command(setting, words, environment, words, printed.fileno())
        printed.seek(0)
        try:
            return json.loads(printed.read())
        except ValueError as error:
            raise JobFailed(f"no times from {family}: {error}") from error


def measure_idle(setting, turns):
    """Return {family: {"version", variant: blocks of all turns, seconds}}.

    Each of the lists has BLOCKS numbers per turn, the time of a round trip.
    """
    found = {}
    for family in families(setting):
        its = found[family] = {name: [] for name in VARIANTS}
        for turn in range(turns):
            say(f"ping-pong, {family}: turn {turn + 1}/{turns}")
            for variant in VARIANTS:
                its["version"], blocks = ping_pong(setting, family, variant)
                its[variant] += blocks
    return found


def ratio(its, variant, statistic):
    """Return a statistic of a variant over the same of stock."""
    return statistic(its[variant]) / statistic(its[STOCK])


def idle_text(found):
    """Return the table of what measure_idle() found."""
    table = Table({name: its["version"] for name, its in found.items()})
    median = statistics.median
    for title, statistic in (("least", min), ("median", median)):
        table.title(f"microseconds per round trip: {title} of all blocks")
        for variant in VARIANTS:
            table.row(
                variant,
                found,
                lambda its, variant=variant, statistic=statistic: (
                    f"{1e6 * statistic(its[variant]):.3f}"
                ),
            )
    table.title("ratio to stock")
    for variant in (ONE, TWO):

        def cell(its, variant=variant):
            value = ratio(its, variant, min)
            return judged(f"{value:.3f}", value, LIMIT)

        table.row(f"{variant}, least", found, cell, f"<= {LIMIT}")
        table.row(
            f"{variant}, median",
            found,
            lambda its, variant=variant: f"{ratio(its, variant, median):.3f}",
        )
    blocks = max(len(its[STOCK]) for its in found.values())
    return "\n".join(
        [
            f"ping-pong of 8 bytes between {RANKS} ranks, the pumps at rest,",
            f"{blocks} blocks of {ROUNDS} round trips for each variant",
            table.text(),
        ]
    )
