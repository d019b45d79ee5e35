"""The timing report: from what every rank counted to text and JSON.

Pure: no input or output, no MPI.  The meaning of the phases and of every
field is in docs/timing.md.  Seconds are floats, bytes and counts integers.
"""

from _codecs import utf_16_be_encode

SCHEMA = 1
PHASES = (
    "FIND",
    "IO",
    "COMM",
    "LOAD",
    "LOADFile",
    "LOADDirect",
    "SITE",
    "BOOT",
    "ALL",
)
SLOWEST = 20  # modules in the verbose table
REFUSED_LISTED = 20  # objects that were loaded directly
NODES_LISTED = 8  # more than this are summed up, unless verbose

CONSTANTS = {None: "null", False: "false", True: "true"}  # of JSON

_TOTALS = ("bytes_read", "bytes_sent", "operations")


def merge(ranks, refused=(), refused_count=0, manifest=None):
    """Return the report of a job.  Local; nothing is sent.

    ranks: list with one dict per rank in the order of the ranks, None for a
    rank that did not answer.  The dicts go into the report unchanged.
    refused: (path, why) of what every rank had to load directly; if that is
    not all, refused_count is how many there are.
    manifest: what became of it, a dict, or None if there is none.
    Works with any number of answers, also with none.
    """
    answers = [rank for rank in ranks if rank is not None]
    return {
        "schema": SCHEMA,
        "size": len(ranks),
        "missing": [i for i, rank in enumerate(ranks) if rank is None],
        "first": answers[0]["rank"] if answers else None,
        "phases": {name: _phase(answers, name) for name in PHASES},
        "run": _spread([rank["run"] for rank in answers]),
        **{name: _split(answers, name) for name in _TOTALS},
        "avoided": sum(rank["avoided"] for rank in answers),
        "nodes": _nodes(answers),
        "refused": [list(pair) for pair in refused],
        "refused_count": max(len(refused), refused_count),
        "manifest": manifest,
        "ranks": list(ranks),
    }


def text(report, verbose):
    """Return the report as lines for a reader, with a final newline.

    report: of merge().  verbose: true for all nodes and for the slowest
    modules of the first rank.  Each phase is a line that starts with
    'NAME: seconds (count)'.
    """
    if report["first"] is None:
        lines = [_title(report)]
    else:
        lines = [_title(report), *_phase_lines(report), *_total_lines(report)]
        lines += _node_lines(report, verbose)
    lines += _manifest_lines(report)
    lines += _refused_lines(report)
    if report["missing"]:
        lines.append(
            f"no answer from {_ranks(report['missing'])}: "
            "not counted anywhere above"
        )
    if verbose:
        lines += _module_lines(report)
    return "\n".join(lines) + "\n"


def to_json(report):
    """Return the report as JSON text: a line per field, a line per rank.

    ValueError where a number is none.  Without the module json, which would
    be looked for on the shared tree after the job.  Source: RFC 8259.
    """
    fields = []
    for name, value in report.items():
        if name == "ranks" and value:
            rows = ",\n".join("  " + _dump(rank) for rank in value)
            fields.append(f"{_string(name)}: [\n{rows}\n ]")
        else:
            fields.append(f"{_string(name)}: {_dump(value)}")
    return "{\n " + ",\n ".join(fields) + "\n}\n"


def _dump(value):
    kind = type(value)
    if kind is int:
        return repr(value)
    if kind is float:
        if value - value != 0:
            raise ValueError(f"{value} has no JSON")
        return repr(value)
    if kind is str:
        return _string(value)
    if kind is dict:
        items = [f"{_string(key)}: {_dump(it)}" for key, it in value.items()]
        return "{" + ", ".join(items) + "}"
    if kind is list or kind is tuple:
        return "[" + ", ".join(map(_dump, value)) + "]"
    return CONSTANTS[value]


def _string(text):
    """All but what is printable in ASCII as UTF-16 in \\uXXXX."""
    if text.isascii() and text.isprintable():
        if '"' not in text and "\\" not in text:
            return f'"{text}"'
    units, _ = utf_16_be_encode(text, "surrogatepass")
    codes = [units[i] << 8 | units[i + 1] for i in range(0, len(units), 2)]
    marks = [
        chr(code)
        if 32 <= code < 127 and code not in b'"\\'
        else f"\\u{code:04x}"
        for code in codes
    ]
    return '"' + "".join(marks) + '"'


def _cell(rank, name):
    seconds, count = rank["phases"].get(name, (0.0, 0))
    return seconds, count


def _spread(values):
    """Return first, min, mean and max; None where nobody answered."""
    if not values:
        return None
    low, high = min(values), max(values)
    mean = sum(values) / len(values)  # may be an ulp beyond low or high
    return {
        "first": values[0],
        "min": low,
        "mean": min(max(mean, low), high),
        "max": high,
    }


def _phase(answers, name):
    if not answers:
        return None
    seconds, counts = zip(
        *(_cell(rank, name) for rank in answers), strict=True
    )
    return {
        "seconds": _spread(seconds),
        "count": {
            "first": counts[0],
            "min": min(counts),
            "max": max(counts),
        },
    }


def _split(answers, name):
    """Return the figure of rank 0 and the sum over all other ranks."""
    root = sum(rank[name] for rank in answers if rank["rank"] == 0)
    return {"root": root, "others": sum(r[name] for r in answers) - root}


def _nodes(answers):
    nodes = {}
    for rank in answers:
        node = nodes.setdefault(
            rank["node"],
            {
                "node": rank["node"],
                "host": rank["host"],
                "ranks": [],
                "store_bytes": 0,
                "mirror_bytes": 0,
            },
        )
        node["ranks"].append(rank["rank"])
        node["store_bytes"] += rank["store_bytes"]
        node["mirror_bytes"] += rank["mirror_bytes"]
    return [nodes[key] for key in sorted(nodes)]


def _title(report):
    nodes = len(report["nodes"])
    answered = report["size"] - len(report["missing"])
    title = f"python-mpi: where the time of {_many(report['size'], 'rank')}"
    if answered == 0:
        return title + " went is not known"
    return f"{title} on {_many(nodes, 'node')} went"


def _phase_lines(report):
    """One line per phase and one for RUN, in aligned columns."""
    phases = report["phases"]
    rows = []
    for name in PHASES:
        seconds, count = phases[name]["seconds"], phases[name]["count"]
        lead = f"{name}: {_seconds(seconds['first'])} ({count['first']})"
        rows.append((lead, seconds, f"count {count['min']}..{count['max']}"))
    run = report["run"]
    rows.append((f"RUN: {_seconds(run['first'])}", run, ""))

    width = max(len(lead) for lead, _, _ in rows)
    cells = {
        key: max(len(_seconds(row[1][key])) for row in rows)
        for key in ("min", "mean", "max")
    }
    answered = report["size"] - len(report["missing"])
    lines = [
        f"NAME: seconds (count) of rank {report['first']}, then the seconds "
        "and the counts",
        f"over {_many(answered, 'rank')}.  ALL, the sum of the lines above "
        "it, is start-up and",
        "imports; RUN is the program's own time.",
    ]
    for lead, seconds, counts in rows:
        columns = " ".join(
            f"{key} {_seconds(seconds[key]):>{cells[key]}}" for key in cells
        )
        lines.append(f"{lead:<{width}}   {columns}   {counts}".rstrip())
    return lines


def _total_lines(report):
    rows = [
        (label, _bytes(figures["root"]), _bytes(figures["others"]))
        for label, figures in (
            ("bytes read", report["bytes_read"]),
            ("bytes sent", report["bytes_sent"]),
        )
    ]
    made = report["operations"]
    rows.append(("operations", str(made["root"]), str(made["others"])))
    width = max(len(root) for _, root, _ in rows)
    lines = [
        f"{label:<10}   root {root:<{width}}   others {others}"
        for label, root, others in rows
    ]
    lines[-1] += f"   avoided {report['avoided']}"
    return lines


def _node_lines(report, verbose):
    nodes = report["nodes"]
    if len(nodes) > NODES_LISTED and not verbose:
        return [
            _node_summary("store", [n["store_bytes"] for n in nodes]),
            _node_summary("mirror", [n["mirror_bytes"] for n in nodes]),
        ]
    return [
        f"node {node['node']}: store {_bytes(node['store_bytes'])}, "
        f"mirror {_bytes(node['mirror_bytes'])}, "
        f"{node['host']}, {_ranks(node['ranks'])}"
        for node in nodes
    ]


def _node_summary(label, sizes):
    mean = sum(sizes) // len(sizes)
    return (
        f"{label:<6} per node   min {_bytes(min(sizes))} "
        f"mean {_bytes(mean)} max {_bytes(max(sizes))}"
    )


def _manifest_lines(report):
    """What rank 0 knew before, and has learnt."""
    manifest = report["manifest"]
    if manifest is None:
        return []
    return [
        f"manifest     read ahead {manifest['read_ahead']}   "
        f"used by rank 0 {manifest['used']}   new {manifest['added']}   "
        f"{_printable(manifest['file'])}"
    ]


def _refused_lines(report):
    """What was loaded directly for want of room, and why."""
    lines = [
        f"loaded directly: {_printable(path)} ({_printable(why)})"
        for path, why in report["refused"][:REFUSED_LISTED]
    ]
    more = report["refused_count"] - len(lines)
    if more:
        lines.append(f"... and {more} more")
    return lines


def _printable(text):
    """Return text on one line that any stream can encode."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in text
    )


def _module_lines(report):
    """The slowest modules of the first rank, if it listed any."""
    answers = [rank for rank in report["ranks"] if rank is not None]
    modules = answers[0].get("modules") if answers else None
    if not modules:
        return []
    slowest = sorted(modules, key=lambda row: (-row[2], row[0]))[:SLOWEST]
    lines = [
        f"slowest {len(slowest)} of {_many(len(modules), 'module')} of rank "
        f"{report['first']}:",
        f"{'seconds':>10}  {'phase':<10}  module",
    ]
    for name, phase, seconds in slowest:
        lines.append(f"{_seconds(seconds):>10}  {phase:<10}  {name}")
    return lines


def _seconds(value):
    # Adding zero turns a rounded -0.0 into 0.0.
    return f"{round(value, 4) + 0.0:.4f}"


def _bytes(size):
    """Exact, followed by the rounded size in binary units."""
    if size < 1024:
        return str(size)
    scaled = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        scaled /= 1024
        if scaled < 1023.95 or unit == "TiB":
            break
    return f"{size} ({scaled:.1f} {unit})"


def _many(number, noun):
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _ranks(numbers):
    """Name the ranks in a short way: 'ranks 3, 7-9'."""
    runs = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    names = [str(a) if a == b else f"{a}-{b}" for a, b in runs]
    noun = "rank" if len(numbers) == 1 else "ranks"
    return f"{noun} {', '.join(names)}"
