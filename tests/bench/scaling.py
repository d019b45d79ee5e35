"""Print the tables of docs/scaling.md: a model of the start-up at scale.

    .venv/bin/python tests/bench/scaling.py [--constants FILE.json]

The model is in model.py.  The constants are counted and measured on one
machine (scaling_fit.py puts them into the file), or assumed: a copy of
scaling.json with other values shows what they do.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics

import model
from model import Filesystem, Machine, Program
from scaling_fit import predict
from table import aligned

HERE = pathlib.Path(__file__).resolve().parent
QUIET = 0.5  # of the processors, used by others: more, and it is not counted
RANKS = (1024, 4096, 16384, 65536, 262144, 1048576)
MANY = 65536  # ranks of the table of what if
PROGRAM = "scipy"
# Seconds for which nothing has happened anywhere before somebody asks.
PAUSES = {"10 ms": 0.01, "0.9 s": 0.9, "a minute": 60.0}


def seconds(value):
    """Return a time with what is sensible of its digits."""
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def amount(size):
    """Return bytes in the unit that fits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if size >= 10 else f"{size:.1f} {unit}"
        size /= 1024


def block(title, head, rows):
    """Return a table under its title."""
    return "\n".join([title, *aligned([head, *rows])])


def line(points):
    """Return (seconds on no node, seconds per node) of the straight line
    through the first and the last of (nodes, seconds).
    """
    (few, before), (many, after) = points[0], points[-1]
    slope = (after - before) / (many - few)
    return before - slope * few, slope


class Constants:
    """What the file says."""

    def __init__(self, contents):
        assumed = contents["assumed"]
        self.contents = contents
        self.programs = {
            name: Program(**fields)
            for name, fields in contents["programs"].items()
        }
        self.filesystem = Filesystem(**assumed["filesystem"])
        self.machine = Machine(**assumed["machine"])
        self.message = assumed["message"]
        self.launches = {
            name: line(its["points"])
            for name, its in contents["launches"].items()
        }

    def launch(self, nodes):
        """Return how much longer launches took on so many nodes, as text."""
        each = sorted(slope for _, slope in self.launches.values())
        return " - ".join(seconds(slope * nodes) for slope in each)


def ways(program, filesystem, machine, ranks):
    """Return the times of the WAYS to start."""
    keeps = dataclasses.replace(filesystem, remembers=True)
    return [
        model.stock(program, filesystem, machine, ranks),
        model.stock(program, keeps, machine, ranks),
        model.names(program, filesystem, machine, ranks),
        model.ours(program, filesystem, machine, ranks),
        model.ours(program, filesystem, machine, ranks, manifest=True),
        model.ours(program, filesystem, machine, ranks, rings=True),
    ]


WAYS = [
    "stock", "stock, nodes remember", "names", "first run", "manifest",
    "first run, rings",
]  # fmt: skip


# ---- tables ---------------------------------------------------------------


def programs_text(constants):
    """Return what was counted."""
    names = [field.name for field in dataclasses.fields(Program)]
    rows = [
        [
            name,
            *(
                f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
                for value in (getattr(program, n) for program in its)
            ),
        ]
        for name, n, its in (
            (name, name, constants.programs.values()) for name in names
        )
    ]
    title = "counted (requests of a rank, bytes) and measured (s)"
    return block(title, ["", *constants.programs], rows)


def check_text(constants):
    """Return the predictions for runs that were measured here."""
    contents = constants.contents
    fitted = contents["fitted"]
    rows, errors, loud = [], {"fit": [], "check": []}, 0
    for run in sorted(
        contents["runs"],
        key=lambda run: (run["role"] == "fit", run["others"] > QUIET),
    ):
        given = predict(run, contents["programs"], fitted)
        error = given / run["wall"] - 1
        if run["others"] <= QUIET:
            errors[run["role"]].append(abs(error))
        else:
            loud += 1
        rows.append([
            f"{run['role']}: {run['program']}, {run['kind']}",
            str(run["ranks"]), str(run["meta_us"]), str(run["rtt_us"]),
            f"{run['requests']:,}", f"{run['busy']:.2f}",
            f"{run['others']:.0%}", f"{run['local']:.2f}",
            f"{run['wall']:.2f}", f"{given:.2f}", f"{error:+.0%}",
        ])  # fmt: skip
    head = [
        "", "ranks", "meta-us", "rtt-us", "requests", "busy", "others",
        "local", "measured", "model", "error",
    ]  # fmt: skip
    said = ", ".join(f"{name} {value:g} s" if name != "import"
                     else f"{name} {value:g}"
                     for name, value in fitted.items())  # fmt: skip
    means = "; ".join(
        f"{role}: mean error {statistics.mean(found):.0%}, "
        f"most {max(found):.0%}"
        for role, found in errors.items()
    )
    title = (
        f"model and measurement, emulated server (fitted: {said})\n"
        f"{means}; without {loud} runs in which others used more than "
        f"{QUIET:.0%} of the machine"
    )
    return block(title, head, rows)


def scale_text(constants, name):
    """Return the times at scale of one program."""
    rows = []
    for ranks in RANKS:
        nodes = constants.machine.nodes(ranks)
        rows.append([
            f"{ranks:,}", f"{nodes:,}",
            *map(seconds, ways(constants.programs[name], constants.filesystem,
                               constants.machine, ranks)),
            constants.launch(nodes),
        ])  # fmt: skip
    title = f"computed: start-up of {name}, s, without launcher and MPI_Init"
    return block(title, ["ranks", "nodes", *WAYS, "launch"], rows)


def what_if_text(constants):
    """Return the times with one assumption changed."""
    fs, machine = constants.filesystem, constants.machine
    program = constants.programs[PROGRAM]
    cases = [("as assumed", fs, machine)]
    cases += [
        (f"{rate:,} metadata requests/s",
         dataclasses.replace(fs, rate=rate), machine)
        for rate in (10_000, 200_000)
    ]  # fmt: skip
    cases += [
        (f"{1e3 * rtt:g} ms for a request's way",
         dataclasses.replace(fs, rtt=rtt), machine)
        for rtt in (0.00005, 0.002)
    ]  # fmt: skip
    cases += [
        (f"{1e-9 * rate:g} GB/s to all clients",
         dataclasses.replace(fs, bandwidth=rate), machine)
        for rate in (1e10, 1e12)
    ]  # fmt: skip
    cases += [
        (f"{count} rank{'s'[: count > 1]} per node", fs,
         dataclasses.replace(machine, ranks_per_node=count))
        for count in (1, 8)
    ]  # fmt: skip
    cases += [
        (f"a core {factor:g} times slower", fs,
         dataclasses.replace(machine, slower=factor))
        for factor in (1.0, 10.0)
    ]  # fmt: skip
    rows = [
        [label, *map(seconds, ways(program, a, b, MANY))]
        for label, a, b in cases
    ]
    title = f"computed: {PROGRAM}, {MANY:,} ranks, with other assumptions, s"
    return block(title, ["", *WAYS], rows)


def implied(program, remembers, ranks, per_node, published):
    """Return the requests per second that a published time stands for."""
    requests = program.stock * ranks
    if remembers:
        requests = program.per_rank * ranks
        requests += program.per_node * -(-ranks // per_node)
    return requests / published


def published_text(constants):
    """Return what the model says of what others have measured."""
    rows = []
    for case in constants.contents["published"]:
        per_node = case["ranks_per_node"]
        machine = dataclasses.replace(
            constants.machine, ranks_per_node=per_node, cores=per_node
        )
        ranks, published = case["ranks"], case["seconds"]
        program = constants.programs[case["program"]]
        times = ways(program, constants.filesystem, machine, ranks)
        given, rates = seconds(times[3]), "-"
        if case["kind"] == "stock":
            given = f"{seconds(times[1])} - {seconds(times[0])}"
            rates = " - ".join(
                f"{implied(program, keeps, ranks, per_node, published):,.0f}"
                for keeps in (True, False)
            )
        rows.append([
            case["what"], f"{ranks:,}", f"{machine.nodes(ranks):,}",
            case["program"], f"{published:g}", given, rates,
        ])  # fmt: skip
    head = [
        "", "ranks", "nodes", "as", "published", "model", "requests/s",
    ]  # fmt: skip
    title = "published, and computed for the same numbers of ranks, s"
    return block(title, head, rows)


def launches_text(constants):
    """Return the published launches beside the lines through them."""
    rows = []
    for name, its in constants.contents["launches"].items():
        fixed, slope = constants.launches[name]
        rows += [
            [
                name, f"{nodes:,}", f"{nodes * its['ranks_per_node']:,}",
                f"{found:g}", f"{fixed + slope * nodes:.1f}",
                f"{1e3 * slope:.1f}",
            ]
            for nodes, found in its["points"]
        ]  # fmt: skip
    head = ["", "nodes", "ranks", "published", "line", "ms per node"]
    title = "published: launches with all files on the nodes, s"
    return block(title, head, rows)


def broadcast_text(constants):
    """Return what the stream needs, by algorithm and by how pumps poll."""
    machine = constants.machine
    size = constants.programs[PROGRAM].size
    spinning = dataclasses.replace(machine, poll=0.0)
    rows = []
    for ranks in RANKS:
        nodes = machine.nodes(ranks)
        rows.append([
            f"{ranks:,}", f"{nodes:,}",
            seconds(model.stream(size, machine, nodes)),
            seconds(model.ring(size, spinning, nodes)),
            seconds(model.ring(size, machine, nodes)),
            seconds(2 * model.depth(nodes) * machine.hop),
            *(
                seconds(model.answer(machine, nodes, pause, constants.message))
                for pause in PAUSES.values()
            ),
        ])  # fmt: skip
    head = [
        "ranks", "nodes", "trees", "rings, no sleep", "rings",
        "an answer", *(f"after {pause}" for pause in PAUSES),
    ]  # fmt: skip
    title = f"computed: the stream of {PROGRAM} ({amount(size)}), s"
    return block(title, head, rows)


def costs_text(constants):
    """Return what the job's bookkeeping needs, at two sizes."""
    blocks = []
    for ranks in (MANY, RANKS[-1]):
        found = model.costs(constants.machine, ranks, constants.message)
        rows = [
            [
                cost.name,
                amount(cost.root),
                amount(cost.each) if cost.each else "-",
                amount(cost.node),
                f"{cost.messages:,}" if cost.messages else "-",
                seconds(cost.seconds),
            ]
            for cost in found
        ]
        head = [
            "", "on rank 0", "each rank", "each node", "messages to rank 0",
            "s",
        ]  # fmt: skip
        blocks.append(
            block(f"computed: bookkeeping of {ranks:,} ranks", head, rows)
        )
    return "\n\n".join(blocks)


def text(contents):
    """Return all tables."""
    constants = Constants(contents)
    return "\n\n".join([
        programs_text(constants),
        check_text(constants),
        *(scale_text(constants, name) for name in constants.programs),
        what_if_text(constants),
        published_text(constants),
        launches_text(constants),
        broadcast_text(constants),
        costs_text(constants),
    ])  # fmt: skip


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--constants", default=HERE / "scaling.json")
    options = parser.parse_args()
    with open(options.constants, encoding="utf-8") as stream:
        print(text(json.load(stream)))


if __name__ == "__main__":
    main()
