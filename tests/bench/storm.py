"""tests/apps/dlstorm: many shared objects that need each other.

Time until the last line of output, and private memory at the end, against
stock Python in turns, as in walltime.py and memory.py.
"""

import dataclasses
import os
import pathlib
import statistics
import threading
import time

from apps.dlstorm import generate
from jobs import ROOT, STOCK, run, say
from memory import add_memory, measure_memory
from table import Table, judged, many, spread, turn_over_turn

PROGRAM = ROOT / "tests" / "apps" / "dlstorm" / "main.py"
OPTIONS = generate.Options(modules=100, utilities=40)
LIMIT = 1.1  # of the median of the ratios to stock


def storm_setting(setting):
    """Generate the package; return a Setting whose program imports it.

    It is made only once.
    """
    directory = pathlib.Path(setting.scratch, "storm")
    if not directory.exists():
        what = f"{OPTIONS.modules} modules, {OPTIONS.utilities} utilities"
        say(f"dlstorm: {what}: compiling")
        generate.generate(directory, OPTIONS)
    source = PROGRAM.read_text(encoding="utf-8")
    return dataclasses.replace(
        setting,
        program=f"import sys; sys.argv.append({str(directory)!r})\n{source}",
        share=(*setting.share, str(directory)),
    )


class Lines:
    """Lines that a job prints to the descriptor 'write'.

    last: time.perf_counter() when the last one came; text: all of them
    """

    def __init__(self):
        self.last = None
        self._parts = []
        self._read, self.write = os.pipe()
        self._thread = threading.Thread(target=self._collect)
        self._thread.start()

    def _collect(self):
        while part := os.read(self._read, 1 << 16):
            if b"\n" in part:
                self.last = time.perf_counter()
            self._parts.append(part)

    def close(self):
        """Wait until nobody can print any more."""
        os.close(self.write)
        self._thread.join()
        os.close(self._read)

    @property
    def text(self):
        return b"".join(self._parts).decode(errors="replace")


def time_storm(setting, ranks, variant):
    """Run once; return [seconds to the last line, results].

    results: sorted list of what ranks printed, each once, without the rank
    """
    lines = Lines()
    begin = time.perf_counter()
    try:
        run(setting, ranks, variant, output=lines.write)
    finally:
        lines.close()
    printed = lines.text.splitlines()
    if len(printed) != ranks:
        raise ValueError(f"{variant}: {len(printed)} lines of {ranks} ranks")
    results = {line.partition(": ")[2] for line in printed}
    return [lines.last - begin, sorted(results)]


def measure_storm(setting, ranks, repeat):
    """Return {"ranks", "time": {variant: list of time_storm()}, "memory"}.

    memory: see measure_memory().  The first turn does not count.
    """
    setting = storm_setting(setting)
    found = {variant: [] for variant in setting.variants()}
    for turn in range(-1, repeat):
        last = []
        for variant in found:
            taken = time_storm(setting, ranks, variant)
            last.append(f"{variant} {taken[0]:.2f} s")
            if turn >= 0:
                found[variant].append(taken)
        what = f"turn {turn + 1}/{repeat}" if turn >= 0 else "warm"
        say(f"dlstorm: {many(ranks)}: {what}: {', '.join(last)}")
    return {
        "ranks": ranks,
        "time": found,
        "memory": measure_memory(setting, ranks),
    }


# ---- table ----------------------------------------------------------------


def seconds(times, variant):
    """Return a variant's seconds of all turns."""
    return [taken[0] for taken in times[variant]]


def pair_ratios(times, launcher):
    """Return the launcher's time over stock's, for each turn."""
    return [
        our / its
        for its, our in zip(
            seconds(times, STOCK), seconds(times, launcher), strict=True
        )
    ]


def results_text(times, launcher):
    """Return whether all ranks of all turns computed what stock's did."""
    counts = {
        result
        for variant in (STOCK, launcher)
        for _, results in times[variant]
        for result in results
    }
    return judged("yes" if len(counts) == 1 else "no", len(counts), 1)


def storm_text(found):
    """Return the table of what measure_storm() found."""
    times, ranks = found["time"], found["ranks"]
    table = Table({ranks: many(ranks)})
    columns = {ranks: times}
    table.title("time to the last line in s: least, median, most")
    for variant in times:
        table.row(
            variant,
            columns,
            lambda its, variant=variant: spread(seconds(its, variant)),
        )
    table.title("noise: stock's time over that of the turn before")
    table.row(
        "least, median, most",
        columns,
        lambda its: (
            spread(ratios)
            if (ratios := turn_over_turn(seconds(its, STOCK)))
            else "-"
        ),
    )
    for launcher in found["memory"]:
        add_ratios(table, launcher, columns)
    for launcher, memory in found["memory"].items():
        add_memory(table, launcher, {ranks: memory})
    turns = len(times[STOCK])
    return "\n".join(
        [
            f"dlstorm, {OPTIONS.modules} modules, {OPTIONS.utilities} "
            f"utilities, {turns} turns",
            table.text(),
        ]
    )


def add_ratios(table, launcher, columns):
    """Add the rows on one launcher's time over stock's."""

    def median(times):
        ratio = statistics.median(pair_ratios(times, launcher))
        return judged(f"{ratio:.2f}", ratio, LIMIT)

    table.title(f"ratio of times to the last line, {launcher} / stock")
    table.row("median of the turns", columns, median, f"<= {LIMIT}")
    table.row(
        "turns: least, median, most",
        columns,
        lambda times: spread(pair_ratios(times, launcher)),
    )
    table.row(
        "same results as stock",
        columns,
        lambda times: results_text(times, launcher),
        "yes",
    )
