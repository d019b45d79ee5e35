"""The tables of python-mpi-bench, from what it has measured."""

import statistics

from contenders import FIRST, LOCAL, STOCK
from table import aligned, many, mebibytes, spread

# Columns of the table of operations, and the kinds that each sums up.
KINDS = {
    "lookup": ("lookup",),
    "stat": ("getattr", "access", "readlink", "stat"),
    "list": ("opendir", "readdir", "list"),
    "open": ("open",),
    "read": ("read",),
    "other": ("other", "start"),
}
WHO = {"first": "rank 0", "others": "others, all", "unknown": "no rank"}
METADATA = ("lookup", "stat", "list", "open", "other")
PHASES = (
    "FIND", "IO", "COMM", "LOAD", "LOADFile", "LOADDirect", "SITE", "BOOT",
)  # fmt: skip


def typical(runs):
    """Return the run with the median wall time, of an even number the
    quicker one.
    """
    return sorted(runs, key=lambda run: run["wall"])[(len(runs) - 1) // 2]


def walls(runs):
    """Return the wall times of runs."""
    return [run["wall"] for run in runs]


def _turns(found, label, base):
    """Return [(wall time, the base's in the same turn), ...]."""
    theirs = {run["turn"]: run["wall"] for run in found.get(base, [])}
    return [
        (run["wall"], theirs[run["turn"]])
        for run in found.get(label, [])
        if theirs.get(run["turn"])
    ]


def ratio(found, label, base):
    """Return the median over the turns of a contender's wall time over the
    base's in the same turn; None if one of them was not measured.
    """
    ratios = [mine / other for mine, other in _turns(found, label, base)]
    return statistics.median(ratios) if ratios else None


def excess(found, label, base):
    """As ratio(): by how many seconds the wall time is longer."""
    more = [mine - other for mine, other in _turns(found, label, base)]
    return statistics.median(more) if more else None


def measured(found):
    """Return the part of {label: runs} that has runs that count."""
    return {
        label: runs
        for label, runs in found.items()
        if runs and not label.endswith(FIRST)
    }


def _cell(value, form="{:.2f}"):
    return "-" if value is None else form.format(value)


def time_rows(ranks, found, bases):
    """Return rows: wall times, ratios, and how busy the servers were."""
    rows = [
        [
            many(ranks),
            "wall min med max",
            *(f"/ {base}" for base in bases),
            *([f"- {LOCAL}"] if LOCAL in bases else []),
            "cpu",
            "meta",
            "data",
        ]
    ]
    for label, runs in found.items():
        if not runs:
            continue
        busy = typical(runs).get("busy") or {}
        first = label.endswith(FIRST)
        rows.append(
            [
                f"  {label}",
                spread(walls(runs)),
                *(
                    "-" if first else _cell(ratio(found, label, base))
                    for base in bases
                ),
                *(
                    ["-" if first else _cell(excess(found, label, LOCAL))]
                    if LOCAL in bases
                    else []
                ),
                _cell(typical(runs)["cpu"]),
                _cell(busy.get("meta")),
                _cell(busy.get("data")),
            ]
        )
    return rows


def sums(counts):
    """Return counts by kind as {column: number}."""
    return {
        column: sum(counts.get(kind, 0) for kind in kinds)
        for column, kinds in KINDS.items()
    }


def operation_rows(ranks, found):
    """Return rows: operations on the tree by who made them."""
    rows = [[many(ranks), "meta", *KINDS, "MiB read"]]
    for label, runs in measured(found).items():
        if label == LOCAL:
            continue
        operations = typical(runs).get("operations")
        if not operations:
            continue
        for who, name in WHO.items():
            counts = operations.get(who) or {}
            if ranks == 1 if who == "others" else not counts:
                continue
            row = sums(counts)
            size = counts.get("bytes", 0 if not counts else None)
            if "total" in counts:
                cells = [str(counts["total"]), *("-" for _ in KINDS)]
            else:
                total = sum(row[column] for column in METADATA)
                cells = [str(total), *map(str, row.values())]
            cells.append("-" if size is None else mebibytes(size))
            rows.append([f"  {label}, {name}", *cells])
    return rows


def phase_rows(ranks, found):
    """Return rows: where the launchers' time went."""
    rows = [[many(ranks), *PHASES, "ALL", "RUN"]]
    for label, runs in measured(found).items():
        report = typical(runs).get("report")
        if not report:
            continue
        for who, name in (("first", "rank 0"), ("mean", "mean")):
            if who == "mean" and ranks == 1:
                continue
            phases = report["phases"]
            cells = [
                f"{phases[phase]['seconds'][who]:.2f}"
                for phase in (*PHASES, "ALL")
            ]
            rows.append(
                [f"  {label}, {name}", *cells, f"{report['run'][who]:.2f}"]
            )
    return rows


def _block(title, tables):
    lines = [title]
    for rows in tables:
        if len(rows) > 1:
            lines += aligned(rows)
    return "\n".join(lines) if len(lines) > 1 else ""


def options_text(values):
    """Return {key: number} as text."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


def machine_text(machine):
    """Return the line on the machine and its noise."""
    shares = [share for share in machine["others"].values()]
    most = f"{max(shares):.0%}" if shares else "-"
    return (
        f"machine: {machine['processors']} processors, Python "
        f"{machine['python']}; of the processors' time others (slowfs, too) "
        f"used up to {most}"
    )


def result_text(result):
    """Return all tables."""
    counts = {int(ranks): found for ranks, found in result["counts"].items()}
    bases = [
        base
        for base in (STOCK, LOCAL)
        if any(found.get(base) for found in counts.values())
    ]
    where = result["tree"]
    emulated = result["emulate"]
    head = [
        f"program: {' '.join(result['program'])}",
        f"tree: {where}"
        + (f" behind an emulated server: {options_text(emulated)}"
           if emulated else ""),
        machine_text(result["machine"]),
    ]  # fmt: skip
    head += [f"note: {note}" for note in result["notes"]]
    blocks = [
        "\n".join(head),
        _block(
            "time in s; ratios: median of the turns; meta, data: how long "
            "the servers were busy",
            [time_rows(ranks, counts[ranks], bases) for ranks in counts],
        ),
        _block(
            f"operations on the tree, by {result['counted_by']}; meta: all "
            "but the reads",
            [operation_rows(ranks, counts[ranks]) for ranks in counts],
        ),
        _block(
            "phases in s, by the launchers' reports",
            [phase_rows(ranks, counts[ranks]) for ranks in counts],
        ),
    ]
    return "\n\n".join(filter(None, blocks))
