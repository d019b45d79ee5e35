"""Wall time and processor time of the program, in turns."""

import statistics

from jobs import STOCK, run, say
from table import judged, many, spread, turn_over_turn

# Of the ratio to stock, and for which numbers of ranks (None: for all).
LIMITS = {"python-mpi.py": (1.25, None), "python-mpi": (1.05, (16,))}


def measure_time(setting, ranks, repeat):
    """Return {variant: [[wall seconds, processor seconds], ...]}.

    The first turn does not count.
    """
    found = {variant: [] for variant in setting.variants()}
    for turn in range(-1, repeat):
        last = []
        for variant in found:
            taken = run(setting, ranks, variant)
            last.append(f"{variant} {taken[0]:.2f} s")
            if turn >= 0:
                found[variant].append(list(taken))
        what = f"turn {turn + 1}/{repeat}" if turn >= 0 else "warm"
        say(f"{many(ranks)}: {what}: {', '.join(last)}")
    return found


def seconds(times, variant, index):
    """Return a variant's seconds of all turns: 0 for wall, 1 processor."""
    return [taken[index] for taken in times[variant]]


def pair_ratios(times, launcher):
    """Return the launcher's wall time over stock's, for each turn."""
    return [
        our / its
        for its, our in zip(
            seconds(times, STOCK, 0), seconds(times, launcher, 0), strict=True
        )
    ]


def least_ratio(times, launcher, index):
    """Return the launcher's least over the least of stock."""
    stock = min(seconds(times, STOCK, index))
    return min(seconds(times, launcher, index)) / stock if stock else 0.0


def limit_text(launcher):
    """Return a launcher's limit for the last column."""
    if launcher not in LIMITS:
        return ""
    limit, counts = LIMITS[launcher]
    if counts is None:
        return f"<= {limit}"
    return f"<= {limit} for {', '.join(map(str, counts))}"


def ratio_text(value, launcher, ranks):
    """Return a ratio, and what its limit makes of it if it has one."""
    limit, counts = LIMITS.get(launcher, (0.0, ()))
    if counts is None or ranks in counts:
        return judged(f"{value:.2f}", value, limit)
    return f"{value:.2f}"


def add_ratios(table, launcher, times):
    """Add the rows on the ratio of one launcher's wall time to stock's.

    times: {ranks: from measure_time()}, all with this launcher
    """
    medians = {
        ranks: (statistics.median(pair_ratios(found, launcher)), ranks)
        for ranks, found in times.items()
    }
    least = {
        ranks: (least_ratio(found, launcher, 0), ranks)
        for ranks, found in times.items()
    }

    def cell(pair):
        return ratio_text(pair[0], launcher, pair[1])

    limit = limit_text(launcher)
    table.title(f"ratio of wall times, {launcher} / stock")
    table.row("median of the turns", medians, cell, limit)
    table.row(
        "least and most of the turns",
        times,
        lambda found: (
            f"{min(pair_ratios(found, launcher)):.2f} "
            f"{max(pair_ratios(found, launcher)):.2f}"
        ),
    )
    table.row("least / least", least, cell, limit)
    table.row(
        "processor time, least / least",
        times,
        lambda found: f"{least_ratio(found, launcher, 1):.2f}",
    )


def stock_noise(found):
    """Return how stock's wall time differs from turn to turn, as text."""
    ratios = turn_over_turn(seconds(found, STOCK, 0))
    return f"{min(ratios):.2f} {max(ratios):.2f}" if ratios else "-"


def add_times(table, launchers, times):
    """Add the rows on time; times: {ranks: from measure_time()}."""
    for index, what in enumerate(
        ("wall time in s", "processor time in s, all ranks")
    ):
        table.title(f"{what}: least, median, most")
        for variant in (STOCK, *launchers):
            table.row(
                variant,
                times,
                lambda found, variant=variant, index=index: spread(
                    seconds(found, variant, index)
                ),
            )
    table.title("noise: stock's wall time over that of the turn before")
    table.row("least and most", times, stock_noise)
    for launcher in launchers:
        add_ratios(table, launcher, times)
