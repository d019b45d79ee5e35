"""How much of the machine other processes used while we measured."""

import contextlib
import os
import resource

# The fields of /proc/stat's first line that are not idle time; guest time is
# in user and nice already.  Source: proc(5), /proc/stat.
IDLE = (3, 4)  # idle, iowait
FIELDS = 8


def machine_seconds():
    """Return (busy, all) processor seconds since the machine's start."""
    with open("/proc/stat", encoding="ascii") as stream:
        ticks = [int(word) for word in stream.readline().split()[1:]][:FIELDS]
    per_second = os.sysconf("SC_CLK_TCK")
    idle = sum(ticks[field] for field in IDLE)
    return (sum(ticks) - idle) / per_second, sum(ticks) / per_second


def own_seconds():
    """Return the processor seconds of this process and its ended children."""
    found = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        found += usage.ru_utime + usage.ru_stime
    return found


class Noise:
    """The processor seconds of others, by part of the measurement."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def during(self, part):
        """Add what happens in the block to the figures of 'part'."""
        busy, whole = machine_seconds()
        own = own_seconds()
        try:
            yield
        finally:
            busy_now, whole_now = machine_seconds()
            others = busy_now - busy - (own_seconds() - own)
            before = self.seconds.get(part, (0.0, 0.0))
            self.seconds[part] = (
                before[0] + max(others, 0.0),
                before[1] + whole_now - whole,
            )

    def shares(self):
        """Return {part: share of all processors, 0 to 1}."""
        return {
            part: others / whole if whole else 0.0
            for part, (others, whole) in self.seconds.items()
        }
