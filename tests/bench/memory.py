"""Private memory of each rank at the program's end, and the store's copies.

All ranks are still there then, and have been idle for a moment: what only the
start-up needs is given back by then.  Private is Private_Clean and
Private_Dirty in /proc/PID/smaps_rollup.  The clean pages of a file count as
private while nobody else on the machine maps them, so other jobs change the
figure; dirty pages alone are free of that.
"""

import collections
import pathlib
import tempfile

from jobs import STOCK, run, say
from table import MIB, judged, many, mebibytes

ABOVE_LIMIT = 4 << 20  # bytes above stock
COPIES_LIMIT = 1  # stores per node
# A store that is not shared, because the rank is alone, is an anonymous
# mapping with this much address space or more.
LONE_STORE = 256 << 20
# Where private memory can be: mappings of files outside (files) and inside
# the node's directories (mirror: loaded from there; store; job: the rest).
PARTS = ("heap", "anonymous", "stack", "files", "mirror", "store", "job")

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
time.sleep(0.3)
for _bench_name in ("smaps_rollup", "smaps"):
    with open("/proc/self/" + _bench_name, "rb") as _bench_source:
        _bench_text = _bench_source.read()
    _bench_name = f"{_bench_place}/{_bench_name}.{_bench_rank}"
    with open(_bench_name, "wb") as _bench_copy:
        _bench_copy.write(_bench_text)
_bench_wait("measured")
"""


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


def rollup_bytes(text, *fields):
    """Return the sum of some fields in the text of a smaps_rollup."""
    starts = tuple(f"{field}:" for field in fields)
    return sum(
        int(line.split()[1]) * 1024
        for line in text.splitlines()
        if line.startswith(starts)
    )


def probe_memory(setting, ranks, variant):
    """Return per rank what it had at the program's end, in bytes.

    private, dirty: private memory, and the part of it that was written to
    parts: private by part; stores: {inode: Pss}
    """
    say(f"{many(ranks)}: memory, {variant}")
    place = pathlib.Path(tempfile.mkdtemp(dir=setting.scratch))
    added = {"BENCH_PLACE": str(place), "BENCH_RANKS": str(ranks)}
    run(setting, ranks, variant, added=added, probe=PROBE)
    found = []
    for rank in range(ranks):
        rollup = (place / f"smaps_rollup.{rank}").read_text(errors="replace")
        smaps = (place / f"smaps.{rank}").read_text(errors="replace")
        parts, stores = read_smaps(smaps, setting.store)
        dirty = rollup_bytes(rollup, "Private_Dirty")
        found.append(
            {
                "private": dirty + rollup_bytes(rollup, "Private_Clean"),
                "dirty": dirty,
                "parts": parts,
                "stores": stores,
            }
        )
    return found


def differences(stock, ours, field):
    """Return ours less stock in one field of probe_memory(), per rank."""
    return [
        our[field] - its[field] for its, our in zip(stock, ours, strict=True)
    ]


def memory_figures(stock, ours):
    """Return the memory of both sides, each from probe_memory(), in bytes.

    stock, ours: private memory per rank; above: the difference per rank
    dirty_above: of dirty memory, likewise
    worst: rank with the largest difference, parts: what that consists of
    without_store: the largest difference when store mappings do not count
    copies: stores that the ranks of the node map; lone: it is not shared
    resident: bytes of all copies in memory (sum of Pss)
    """
    above = differences(stock, ours, "private")
    worst = max(range(len(above)), key=above.__getitem__)
    resident = collections.Counter()
    for rank in ours:
        resident.update(rank["stores"])
    return {
        "stock": [rank["private"] for rank in stock],
        "ours": [rank["private"] for rank in ours],
        "above": above,
        "dirty_above": differences(stock, ours, "dirty"),
        "worst": worst,
        "parts": {
            part: ours[worst]["parts"][part] - stock[worst]["parts"][part]
            for part in PARTS
        },
        "without_store": max(
            more - our["parts"]["store"]
            for more, our in zip(above, ours, strict=True)
        ),
        "copies": len(resident),
        "lone": 0 in resident,
        "resident": sum(resident.values()),
    }


def measure_memory(setting, ranks):
    """Return {launcher: memory_figures()} of one job of each variant."""
    stock = probe_memory(setting, ranks, STOCK)
    return {
        launcher: memory_figures(stock, probe_memory(setting, ranks, launcher))
        for launcher in setting.launchers
    }


def copies_text(found):
    """Return how many copies of the store a node has."""
    if found["lone"] and found["copies"] == 1:
        return "1, private"
    return judged(str(found["copies"]), found["copies"], COPIES_LIMIT)


def add_memory(table, launcher, memory):
    """Add the rows on private memory and on the copies of the store.

    memory: {ranks: from memory_figures()}
    """
    table.title(f"{launcher}: private memory per rank in MiB")
    for side, label in (("stock", STOCK), ("ours", launcher)):
        table.row(
            f"{label}: least, most",
            memory,
            lambda found, side=side: (
                f"{mebibytes(min(found[side]))} {mebibytes(max(found[side]))}"
            ),
        )
    table.row(
        "above stock, most",
        memory,
        lambda found: judged(
            mebibytes(max(found["above"])), max(found["above"]), ABOVE_LIMIT
        ),
        f"<= {ABOVE_LIMIT // MIB}",
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
    table.row(
        "above stock, dirty pages only, most",
        memory,
        lambda found: mebibytes(max(found["dirty_above"])),
    )
    table.row("rank with the most", memory, lambda found: str(found["worst"]))
    for part in PARTS:
        table.row(
            f"  of it {part}",
            memory,
            lambda found, part=part: mebibytes(found["parts"][part]),
        )
    table.title(f"{launcher}: store, all on one node")
    table.row("copies", memory, copies_text, f"<= {COPIES_LIMIT}")
    table.row(
        "MiB in memory", memory, lambda found: mebibytes(found["resident"])
    )
