"""What is mirrored on a node against what is mapped there.

A shared object that no rank maps need not be on any node.
"""

import json
import os
import pathlib
import re
import tempfile

from jobs import run, say
from storm import storm_setting
from table import Table, judged, mebibytes

RANKS = 4
PER_NODE = 2  # ranks on each simulated node
LIMIT = 1.05  # of the bytes mirrored on a node to those that are mapped
MIRRORED = re.compile(r"/.*/mpiimport-[^/]+/tree(/.*)")

# Follows the program.
PROBE = """
import os
_bench_rank = (os.environ.get("PMI_RANK")
               or os.environ.get("OMPI_COMM_WORLD_RANK") or "0")
with open("/proc/self/maps", "rb") as _bench_source:
    _bench_text = _bench_source.read()
_bench_name = os.environ["BENCH_PLACE"] + "/maps." + _bench_rank
with open(_bench_name, "wb") as _bench_copy:
    _bench_copy.write(_bench_text)
"""


def mapped_objects(text, prefixes, own):
    """Return the objects of the tree that a rank maps.

    {real path on the tree: whether it is mapped from there}
    text: of /proc/PID/maps; prefixes: the tree, real paths
    own: directory of the launchers, whose files do not count
    Nor does libpython, which is mapped before there is a mirror.
    """
    found = {}
    for line in text.splitlines():
        fields = line.split(None, 5)
        if len(fields) < 6 or ".so" not in os.path.basename(fields[5]):
            continue
        path = fields[5].removesuffix(" (deleted)")
        mirrored = MIRRORED.fullmatch(path)
        path = os.path.realpath(mirrored[1] if mirrored else path)
        if path.startswith(f"{own}/") or "/libpython" in path:
            continue
        if any(path.startswith(f"{prefix}/") for prefix in prefixes):
            found[path] = found.get(path, False) or mirrored is None
    return found


def object_figures(setting, launcher, name):
    """Run once; return the bytes of objects on a node, and mapped.

    mirrored: the most of any node, by the launcher's report
    mapped, objects: bytes and number of those that any rank maps
    direct: number of those that any rank maps from the tree
    """
    say(f"objects: {name}: {launcher}")
    place = pathlib.Path(tempfile.mkdtemp(dir=setting.scratch))
    report = place / "timing.json"
    added = {
        "BENCH_PLACE": str(place),
        "PYTHON_MPI_RANKS_PER_NODE": str(PER_NODE),
    }
    run(setting, RANKS, launcher, [f"--timing={report}"], added, probe=PROBE)
    prefixes = [*setting.tree_prefixes(), *setting.share]
    prefixes = [os.path.realpath(prefix) for prefix in prefixes]
    own = os.path.realpath(setting.bin)
    found, direct = set(), set()
    for rank in range(RANKS):
        text = (place / f"maps.{rank}").read_text(errors="replace")
        objects = mapped_objects(text, prefixes, own)
        found.update(objects)
        direct.update(path for path in objects if objects[path])
    nodes = json.loads(report.read_text(encoding="utf-8"))["nodes"]
    return {
        "mirrored": max(node["mirror_bytes"] for node in nodes),
        "mapped": sum(map(os.path.getsize, found)),
        "objects": len(found),
        "direct": len(direct),
    }


def measure_objects(setting):
    """Return {launcher: {program: object_figures()}}."""
    settings = {"program": setting, "dlstorm": storm_setting(setting)}
    return {
        launcher: {
            name: object_figures(its, launcher, name)
            for name, its in settings.items()
        }
        for launcher in setting.launchers
    }


def ratio_cell(figures):
    """Return the ratio of bytes mirrored to bytes mapped, judged."""
    if not figures["mapped"]:
        return "-"
    ratio = figures["mirrored"] / figures["mapped"]
    return judged(f"{ratio:.3f}", ratio, LIMIT)


def objects_text(found):
    """Return the table of what measure_objects() found."""
    table = Table({"program": "program", "dlstorm": "dlstorm"})
    for launcher, figures in found.items():
        table.title(f"{launcher}: shared objects on a node")
        table.row(
            "MiB mirrored, most of any node",
            figures,
            lambda its: mebibytes(its["mirrored"]),
        )
        table.row(
            "MiB mapped by any rank",
            figures,
            lambda its: mebibytes(its["mapped"]),
        )
        table.row("objects mapped", figures, lambda its: str(its["objects"]))
        table.row(
            "of them from the tree, by any rank",
            figures,
            lambda its: judged(str(its["direct"]), its["direct"], 0),
            "0",
        )
        table.row("mirrored / mapped", figures, ratio_cell, f"<= {LIMIT}")
    head = f"objects, {RANKS} ranks, {PER_NODE} on each node"
    return f"{head}\n{table.text()}"
