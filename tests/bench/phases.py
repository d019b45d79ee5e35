"""Where a launcher's time went, and what it sent: its own report."""

import json

from jobs import run, say
from table import many, mebibytes

LAYOUTS = (1, 2)  # simulated nodes, in ranks; besides all on one node
REPORTS = 3  # runs with the launcher's report, of which the fastest counts


def read_report(setting, launcher, ranks, per_node):
    """Run with the report; return [wall seconds, report].

    per_node: ranks on each simulated node, None for what really is
    """
    file = setting.scratch / "timing.json"
    file.unlink(missing_ok=True)
    added = {}
    if per_node is not None:
        added["PYTHON_MPI_RANKS_PER_NODE"] = str(per_node)
    taken, _ = run(setting, ranks, launcher, [f"--timing={file}"], added)
    return [taken, json.loads(file.read_text(encoding="utf-8"))]


def fastest_report(setting, launcher, ranks, repeat):
    """Return the read_report() of the fastest of some runs on one node."""
    runs = []
    for turn in range(min(repeat, REPORTS)):
        runs.append(read_report(setting, launcher, ranks, None))
        what = f"report {turn + 1}: {runs[-1][0]:.2f} s"
        say(f"{many(ranks)}: {launcher}: {what}")
    return min(runs, key=lambda taken: taken[0])


def layout_report(setting, launcher, ranks, per_node):
    """Return the read_report() of one run on simulated nodes."""
    taken = read_report(setting, launcher, ranks, per_node)
    what = f"{per_node} per node: {taken[0]:.2f} s"
    say(f"{many(ranks)}: {launcher}: {what}")
    return taken


def add_phases(table, launcher, reports):
    """Add the rows on where the time went, from the fastest run.

    reports: {ranks: {"all", "1", "2": from read_report()}}
    """

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
    table.title(f"{launcher}: where its time went, in s: rank 0, mean, most")
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


def add_transport(table, launcher, reports):
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

    table.title(f"{launcher}: operations on the tree, as it counts them")
    table.row("rank 0", *part("all", total("operations", "root")))
    table.row("all others", *part("all", total("operations", "others")))
    table.row("avoided", *part("all", lambda report: str(report["avoided"])))
    table.title(f"{launcher}: MiB sent by rank 0")
    for layout in ("all", *map(str, LAYOUTS)):
        label = "all on one node" if layout == "all" else f"{layout} per node"
        table.row(
            label,
            *part(
                layout,
                lambda report: mebibytes(report["bytes_sent"]["root"]),
            ),
        )
    table.title(f"{launcher}: MiB read by rank 0, and on its node")
    table.row(
        "read",
        *part("all", lambda report: mebibytes(report["bytes_read"]["root"])),
    )
    table.row("store", *part("all", stored("store_bytes")))
    table.row("mirror", *part("all", stored("mirror_bytes")))
