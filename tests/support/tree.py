"""What is the shared tree, and what ranks may do there at their start."""

import os
import pathlib
import re
import subprocess
import sys

from support import trace

RANKS = 4
PASS = "pass"


def own_parts(prefix):
    """Return the directories of a prefix that are Python's alone.

    Below /usr are the system's and MPI's libraries as well.
    """
    if str(prefix) not in ("/usr", "/usr/local"):
        return [prefix]
    libraries = [prefix / name for name in ("lib", "lib64")]
    return [path for lib in libraries for path in lib.glob("python3*")]


def tree_of(python, root):
    """Return the prefixes that count as shared tree, without the program's.

    python: the interpreter of the ranks; root: of the checkout
    An environment may be a link: strace has both of its names.
    """
    prefixes = [
        pathlib.Path(sys.base_prefix),
        pathlib.Path(sys.base_exec_prefix),
        pathlib.Path(sys.prefix),
        python.parent.parent,
    ]
    prefixes += [prefix.resolve() for prefix in prefixes]
    parts = [part for prefix in prefixes for part in own_parts(prefix)]
    return list(dict.fromkeys([*parts, root / "bin"]))


def of_the_system(done):
    """Tell whether an operation is due to libraries of the system.

    These are MPI's search for a configuration file in the working
    directory, and the search for libraries of the system in the directory
    lib/ of a prefix, where an interpreter with an RPATH makes the dynamic
    linker look first.
    """
    if of_mpi(done):
        return True
    prefixes = {sys.base_prefix, sys.base_exec_prefix, sys.prefix}
    places = "|".join(re.escape(prefix) for prefix in prefixes)
    search = (
        rf"({places})/lib(/glibc-hwcaps|/tls|/haswell|/avx512_1|/x86[-_]64\S*)*"
        r"(/lib[^/]*\.so[^/]*)?"
    )
    failed = done.line.endswith("= -1 ENOENT (No such file or directory)")
    return failed and re.fullmatch(search, done.path) is not None


def of_mpi(done):
    """Tell whether it is MPI's search in the working directory."""
    return done.path.endswith("/ucx.conf")


def of_the_start(path):
    """Return what the start of the native launcher itself may do.

    The kernel executes it, and the dynamic linker opens every library that
    it is linked to, once, by a name that needs no search.  Nothing else.
    """
    listed = subprocess.run(
        [path],
        env={"LD_TRACE_LOADED_OBJECTS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    allowed = [("execve", str(path))]
    for library in re.findall(r"(?m)(/\S+) \(0x[0-9a-f]+\)$", listed):
        allowed.append(("openat", library))
        real = os.path.realpath(library)
        calls = ("read", "pread64", "pread64", "newfstatat", "fstat")
        allowed += [(call, real) for call in calls]
    return [trace.Operation(call, name, "") for call, name in allowed]


def of_each_rank(result, ranks, cwd, prefixes):
    """Return {rank: its operations below the prefixes} of a traced job."""
    found = {}
    for rank in range(ranks):
        done = trace.operations_of_rank(result.traces, rank, cwd)
        assert done, f"no trace of rank {rank}{result}"
        found[rank] = trace.below(done, prefixes)
    return found


def beyond_start(operations, allowed, result):
    """Return what a rank did beyond what is allowed, and its report()."""
    more = trace.beyond(operations, allowed)
    reports = trace.below(more, [result.traces / "reports"])
    more = trace.beyond(more, reports)
    return [done for done in more if not of_mpi(done)]
