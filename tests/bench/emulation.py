"""A slow shared filesystem on this machine: tests/slowfs over a directory.

The mount lies in a mount namespace of our own where that is allowed, so that
the kernel takes it away with the last process of ours.  Elsewhere slowfs
unmounts it when its standard input ends, which it does with us.
"""

import ctypes
import json
import os
import pathlib
import select
import subprocess

from jobs import ROOT

SLOWFS = pathlib.Path(
    os.environ.get("MPIIMPORT_SLOWFS", ROOT / "build" / "slowfs")
)
KEYS = ("meta-us", "rtt-us", "mbps", "cache-ms")
PATIENCE = 20.0
CLONE_NEWNS = 0x20000
MS_REC, MS_SLAVE = 0x4000, 0x80000


class NotEmulated(Exception):
    """There is no slow filesystem; str() says why."""


def parse(text):
    """Return "meta-us=100,rtt-us=50,..." as {key: number}, 0 if not given."""
    found = dict.fromkeys(KEYS, 0)
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key not in KEYS or not value.isdigit():
            raise ValueError(f"{part!r}: of {', '.join(KEYS)}, as KEY=NUMBER")
        found[key] = int(value)
    return found


def have_own_mounts():
    """Give this process mounts that nobody else sees; do nothing where it may
    not.  Source: unshare(2), mount_namespaces(7).
    """
    libc = ctypes.CDLL(None)
    if libc.unshare(CLONE_NEWNS) == 0:
        libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None)


class Emulation:
    """slowfs over 'source', mounted at 'mount', an empty directory.

    values: from parse()
    """

    def __init__(self, source, mount, values):
        self.mount = pathlib.Path(mount)
        if not SLOWFS.exists():
            raise NotEmulated(f"{SLOWFS} is not built (it needs libfuse3-dev)")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise NotEmulated("/dev/fuse is not there, or not ours to use")
        options = ",".join(f"{key}={values[key]}" for key in KEYS)
        self.process = subprocess.Popen(
            [SLOWFS, "-o", options, source, mount],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            if self._line() != "ready":
                _, said = self.process.communicate(timeout=PATIENCE)
                why = said.decode(errors="replace").strip()
                raise NotEmulated(why or "slowfs does not start")
        except BaseException:
            self.end()
            raise

    def _line(self):
        """Return the next line that slowfs prints, "" if there is none."""
        stream = self.process.stdout
        if not select.select([stream], [], [], PATIENCE)[0]:
            return ""
        return stream.readline().decode().strip()

    def _ask(self, word):
        try:
            self.process.stdin.write(f"{word}\n".encode())
            self.process.stdin.flush()
        except OSError as error:
            raise NotEmulated(f"slowfs has ended: {error}") from error
        answer = self._line()
        if not answer:
            raise NotEmulated("slowfs does not answer")
        return answer

    def reset(self):
        """Let all counts begin at 0."""
        self._ask("reset")

    def counts(self):
        """Return the counts since reset(), as slowfs.c says."""
        return json.loads(self._ask("counts"))

    def end(self):
        """Unmount; safe to repeat."""
        try:
            self.process.communicate(timeout=PATIENCE)
        except (subprocess.TimeoutExpired, ValueError):
            self.process.kill()
            self.process.wait()
        if os.path.ismount(self.mount):
            for command in (["umount", "-l"], ["fusermount3", "-uz"]):
                try:
                    done = subprocess.run(
                        [*command, self.mount],
                        capture_output=True,
                        timeout=PATIENCE,
                        check=False,
                    )
                except (OSError, subprocess.SubprocessError):
                    continue
                if done.returncode == 0:
                    break


def by_rank(processes):
    """Return {"first", "others", "unknown"}: the sums of the processes'
    counts for rank 0, the other ranks, and those that are no rank.
    """
    found = {name: {} for name in ("first", "others", "unknown")}
    for process in processes:
        rank = process["rank"]
        who = "unknown" if rank is None else "others" if rank else "first"
        for kind, count in process.items():
            if kind not in ("pid", "rank", "name"):
                found[who][kind] = found[who].get(kind, 0) + count
    return found
