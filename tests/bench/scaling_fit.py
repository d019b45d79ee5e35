"""Put what python-mpi-bench has measured into the constants of scaling.py.

    .venv/bin/python tests/bench/scaling_fit.py FILE.json --fit F.json ... \\
        --check F.json ... --counts NAME PLAIN.json CACHE.json PASS.json

--fit and --check: emulated runs with "local"; only the first have a part in
the fitted constants.  --counts (for each program): runs with no delays and
nothing remembered, runs with everything remembered by the node (1 rank first,
then 2), and runs of the program "pass".  The rest of FILE.json stays.
"""

import argparse
import json
import math

from model import Filesystem, asking, reading
from table import many

KINDS = {
    "stock": "stock",
    "python-mpi names": "names",
    "python-mpi all": "first run",
    "python-mpi manifest": "manifest",
    "python-mpi manifest, first run": "first run",
}


def load(path):
    """Return the contents of a JSON file."""
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


def metadata(run, who="first"):
    """Return a run's metadata requests."""
    counts = run["operations"][who]
    data = ("read", "bytes")
    return sum(n for kind, n in counts.items() if kind not in data)


def least_cpu(result, label):
    """Return the least processor seconds per rank, of several ranks."""
    return min(
        run["cpu"] / int(ranks)
        for ranks, found in result["counts"].items()
        for run in found[label]
        if int(ranks) > 1
    )


def program_of(plain, cache, nothing):
    """Return the fields of model.Program."""
    two = plain["counts"]["2"]
    cold = metadata(cache["counts"]["1"]["stock"][0])
    per_rank = metadata(cache["counts"]["2"]["stock"][0])
    first = two["python-mpi all"][0]
    alone = cache["counts"]["1"]["stock"][0]["operations"]["first"]
    return {
        "cpu": round(least_cpu(plain, "local"), 3),
        "cpu_ours": round(least_cpu(plain, "python-mpi all"), 3),
        "stock": metadata(two["stock"][0]),
        "names": metadata(two["python-mpi names"][0], "others"),
        "per_node": cold - per_rank,
        "per_rank": per_rank,
        "start": metadata(nothing["counts"]["1"]["python-mpi all"][0]),
        "first_run": metadata(first),
        "manifest": metadata(two["python-mpi manifest"][0]),
        "reads": alone["read"],
        "touched": alone["bytes"],
        "size": first["report"]["bytes_read"]["root"],
    }


def fastest_turn(runs, local):
    """Return (run, local run of the same turn) of the turn in which the run
    was fastest: what others do can only add to it.

    runs  those of the first turns at least
    """
    turns = zip(runs, local, strict=False)
    return min(turns, key=lambda turn: turn[0]["wall"])


def runs_of(result, name, role):
    """Return the emulated runs, the fastest turn of each, as a flat list."""
    emulate = result["emulate"]
    rows = []
    others = result["machine"]["others"]
    for ranks, found in result["counts"].items():
        for label, kind in KINDS.items():
            alike = kind in ("stock", "names")
            if label not in found or (not alike and int(ranks) == 1):
                continue  # a rank that is alone reads in a way of its own
            run, local = fastest_turn(found[label], found["local"])
            each = int(ranks) - 1 if alike else 0
            who = "others" if each else "first"
            rows.append({
                "role": role,
                "program": name,
                "kind": kind,
                "ranks": int(ranks),
                "meta_us": emulate["meta-us"],
                "rtt_us": emulate["rtt-us"],
                "mbps": emulate["mbps"],
                "requests": metadata(run, who) // (each or 1),
                "reads": run["operations"][who]["read"] // (each or 1),
                "others": round(others[many(int(ranks))], 2),
                "busy": round(run["busy"]["meta"], 2),
                "wall": round(run["wall"], 2),
                "local": round(local["wall"], 2),
            })  # fmt: skip
    return rows


def emulated(run, fitted):
    """Return the filesystem that a run had."""
    rtt = run["rtt_us"] * 1e-6 + fitted["request"]
    return Filesystem(1e6 / run["meta_us"], rtt, math.inf, math.inf)


def predict(run, programs, fitted):
    """Return the wall time that the model gives for an emulated run.

    The data server's time is added: where all processors are busy with ranks
    and the emulation, there is nothing to hide it behind.
    programs: {name: fields of model.Program}
    """
    program = programs[run["program"]]
    filesystem = emulated(run, fitted)
    if run["kind"] in ("stock", "names"):
        work = run["local"] + run["reads"] * run["rtt_us"] * 1e-6
        data = run["ranks"] * program["touched"] / run["mbps"] * 1e-6
        return data + asking(run["requests"], work, run["ranks"], filesystem)
    start = program["start"]
    data = program["size"] / run["mbps"] * 1e-6
    work = fitted["launcher"] + fitted["import"] * run["local"]
    first = start * filesystem.answer
    if run["kind"] == "manifest":
        ahead = reading(run["requests"], filesystem) + fitted["launcher"]
        return data + max(first + work, ahead)
    ahead = reading(run["requests"] - start, filesystem)
    return data + first + max(work, ahead)


def error(value, runs, programs, fitted, name):
    """Return the sum of squared relative errors with another constant."""
    tried = fitted | {name: value}
    return sum(
        math.log(predict(run, programs, tried) / run["wall"]) ** 2
        for run in runs
    )


def fit(runs, programs):
    """Return the fitted constants: the best of a grid, one after the other,
    until nothing changes.
    """
    fitted = {"request": 20e-6, "launcher": 0.2, "import": 1.0}
    grids = {
        "request": [5e-6 * i for i in range(41)],
        "launcher": [0.02 * i for i in range(41)],
        "import": [0.05 * i for i in range(10, 41)],
    }
    for _ in range(20):
        before = dict(fitted)
        for name, grid in grids.items():
            fitted[name] = min(
                grid, key=lambda v, n=name: error(v, runs, programs, fitted, n)
            )
        if fitted == before:
            break
    return {name: round(value, 7) for name, value in fitted.items()}


def name_of(result, names):
    """Return which of the programs a result is of."""
    words = " ".join(result["program"])
    return next(name for name in names if name in words)


def dump(constants):
    """Return the constants as JSON text, an entry of a field in a line."""
    fields = []
    for name, value in constants.items():
        if isinstance(value, dict):
            its = [
                f"{json.dumps(key)}: {json.dumps(entry)}"
                for key, entry in value.items()
            ]
            ends = "{}"
        else:
            its = [json.dumps(entry) for entry in value]
            ends = "[]"
        body = ",\n".join(f"  {entry}" for entry in its)
        fields.append(f" {json.dumps(name)}: {ends[0]}\n{body}\n {ends[1]}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def main():
    """Rewrite the constants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("constants")
    add("--fit", nargs="+", required=True)
    add("--check", nargs="+", required=True)
    add("--counts", nargs=4, action="append", required=True)
    options = parser.parse_args()
    constants = load(options.constants)
    constants["programs"] = {
        name: program_of(*map(load, paths)) for name, *paths in options.counts
    }
    names = list(constants["programs"])
    constants["runs"] = [
        row
        for role in ("fit", "check")
        for result in map(load, getattr(options, role))
        for row in runs_of(result, name_of(result, names), role)
    ]
    constants["fitted"] = fit(
        [run for run in constants["runs"] if run["role"] == "fit"],
        constants["programs"],
    )
    with open(options.constants, "w", encoding="utf-8") as stream:
        stream.write(dump(constants))


if __name__ == "__main__":
    main()
