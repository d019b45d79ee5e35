"""Operations of every rank on the shared tree, as strace counts them."""

import collections
import os
import pathlib
import subprocess
import sys
import tempfile

from jobs import JobFailed, run, say
from support import job, trace
from table import aligned, judged, many

# What ranks other than 0 may do, besides "start" (see kind_of).
LIMITS = {"python-mpi": 0}

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
COLUMNS = ("list", "stat", "open", "read", "other", "start")


def own_libraries(path):
    """Return the file names of the libraries that an executable is linked to.

    None for a script or a word without a path.  Source: ldd(1).
    """
    done = subprocess.run(
        ["ldd", path], capture_output=True, text=True, check=False
    )
    words = [line.split() for line in done.stdout.splitlines()]
    return {os.path.basename(line[0]) for line in words if line}


def kind_of(operation, libraries):
    """Return the column that an operation counts in.

    "start" is what no launcher can do without: the kernel's execve, and the
    dynamic linker's search for the launcher's own libraries.
    """
    name = os.path.basename(operation.path)
    if operation.call == "execve" or name in libraries:
        return "start"
    if "/glibc-hwcaps" in operation.path:
        return "start"
    return KIND_OF_CALL.get(operation.call, "other")


def trace_variant(setting, ranks, variant):
    """Return per rank {kind of operation: number} on the shared tree."""
    directory = pathlib.Path(tempfile.mkdtemp(dir=setting.scratch))
    wrapper = job.write_rank_wrapper(directory)
    say(f"{many(ranks)}: strace, {variant}")
    run(setting, ranks, variant, wrapper=[str(wrapper)])
    libraries = own_libraries(setting.start_of_rank(variant)[0])
    libraries = libraries or own_libraries(sys.executable)
    found = []
    for rank in range(ranks):
        done = trace.operations_of_rank(
            directory, rank, setting.directory
        )
        if not done:
            raise JobFailed(f"strace wrote nothing for rank {rank}, {variant}")
        on_tree = trace.below(done, setting.tree_prefixes())
        found.append(
            dict(
                collections.Counter(kind_of(one, libraries) for one in on_tree)
            )
        )
    return found


def measure_operations(setting, ranks):
    """Return {"ranks", and per variant what trace_variant() found}."""
    return {
        "ranks": ranks,
        **{
            variant: trace_variant(setting, ranks, variant)
            for variant in setting.variants()
        },
    }


def total(rank):
    """Return a rank's operations without those of its start."""
    return sum(count for kind, count in rank.items() if kind != "start")


def rows_of_variant(variant, ranks):
    """Return rows of text for one variant, the limit last."""
    limit = LIMITS.get(variant)
    first, *others = ranks
    groups = [("rank 0", first, None)]
    if others:
        by_total = sorted(others, key=total)
        groups.append(("others, least", by_total[0], None))
        groups.append(("others, most", by_total[-1], limit))
    rows = []
    for label, rank, most in groups:
        cell = str(total(rank))
        rows.append(
            [
                f"  {variant}, {label}",
                cell if most is None else judged(cell, total(rank), most),
                *(str(rank.get(kind, 0)) for kind in COLUMNS),
                "" if most is None else f"<= {most}",
            ]
        )
    return rows


def operations_text(found):
    """Return the table of what strace counted."""
    rows = [["", "all", *COLUMNS, "limit"]]
    for variant, ranks in found.items():
        if variant != "ranks":
            rows += rows_of_variant(variant, ranks)
    return "\n".join(
        [
            f"operations on the tree by strace, {many(found['ranks'])}, "
            "failed ones too",
            "Not in all: start, which is execve and the dynamic linker's",
            "search for the executable's (of a script, Python's) libraries",
            *aligned(rows),
        ]
    )
