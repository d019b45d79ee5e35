"""Count the file operations of ranks from what strace wrote.

Source: strace(1), options -ff and -y: one file per process and thread, one
call per line, descriptors followed by what they refer to in <>.
"""

import collections
import dataclasses
import os
import re

# Calls that cost a network filesystem something, or could.
COUNTED = re.compile(
    r"""^(?:open|openat|openat2|creat|access|faccessat2?|[fl]?stat|stat64
    |newfstatat|statx|readlink|readlinkat|execve|execveat|statfs|fstatfs
    |getdents|getdents64|read|readv|pread64|preadv2?|chdir|getxattr
    |lgetxattr|unlink|unlinkat|rename|renameat2?|mkdir|mkdirat|link|linkat
    |symlink|symlinkat|utimensat|chmod|fchmodat|truncate)$""",
    re.VERBOSE,
)
CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
DESCRIPTOR = re.compile(r"^(?:AT_FDCWD|\d+)<(.*?)(?<!\\)>")
ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-f]{2}|.)")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One call on one path, which is absolute; 'line' is strace's."""

    call: str
    path: str
    line: str = dataclasses.field(compare=False)


def _unescaped(text):
    def byte(match):
        code = match.group(1)
        if code[0] in "01234567":
            return chr(int(code, 8))
        if code[0] == "x":
            return chr(int(code[1:], 16))
        return code

    raw = ESCAPE.sub(byte, text)
    return raw.encode("latin-1", "replace").decode("utf-8", "replace")


def operation(line, cwd):
    """Return the Operation in a line of strace, or None.

    A path that is relative and has no directory descriptor counts from
    'cwd'.  What is not a file (pipe, socket, memfd) gives None.
    """
    call = CALL.match(line)
    if call is None or not COUNTED.match(call.group(1)):
        return None
    name, rest = call.groups()
    base = cwd
    if name.startswith("symlink"):  # the first string is what it holds
        rest = STRING.sub("", rest, count=1).lstrip(", ")
    descriptor = DESCRIPTOR.match(rest)
    if descriptor is not None:
        base = _unescaped(descriptor.group(1)).removesuffix(" (deleted)")
        rest = rest[descriptor.end() :]
    if name in ("read", "readv", "pread64", "preadv", "preadv2"):
        path = base if descriptor is not None else ""
    elif name.startswith(("getdents", "fstat")):
        path = base if descriptor is not None else ""
    else:
        string = STRING.search(rest)
        if string is None:
            return None
        path = os.path.join(base, _unescaped(string.group(1)))
    if not path.startswith("/"):
        return None
    return Operation(name, os.path.normpath(path), line)


def operations_of_rank(directory, rank, cwd):
    """Return the list of all Operations of one rank, with its threads and
    children, in the order of each but not of all."""
    found = []
    for file in sorted(directory.glob(f"rank.{rank}.*")):
        here = str(cwd)
        with open(file, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                done = operation(line.rstrip("\n"), here)
                if done is None:
                    continue
                if done.call == "chdir" and line.rstrip().endswith("= 0"):
                    here = done.path
                found.append(done)
    return found


def below(operations, prefixes):
    """Return the Operations on 'prefixes' and all that lies below them."""
    roots = [os.path.normpath(str(prefix)) for prefix in prefixes]
    return [
        done
        for done in operations
        if any(
            done.path == root or done.path.startswith(root + "/")
            for root in roots
        )
    ]


def beyond(operations, allowed):
    """Return those Operations that 'allowed' does not contain as often.

    Two Operations are the same if call and path are.
    """
    rest = collections.Counter(allowed)
    found = []
    for done in operations:
        if rest[done] > 0:
            rest[done] -= 1
        else:
            found.append(done)
    return found


def listing(operations, limit=60):
    """Return the lines of 'operations' as text, the first 'limit' of them."""
    lines = [done.line for done in operations[:limit]]
    if len(operations) > limit:
        lines.append(f"... and {len(operations) - limit} more")
    return "\n".join(lines)
