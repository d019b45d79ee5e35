"""The plot of python-mpi-bench: wall time against ranks."""

import statistics

from figures import measured, options_text, walls


def draw(result, path):
    """Write the plot as an image; its kind is that of the name's end.

    Raises ImportError without matplotlib.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(7, 5))
    lines = {}
    for ranks, found in result["counts"].items():
        for label, runs in measured(found).items():
            lines.setdefault(label, []).append((int(ranks), walls(runs)))
    for label, points in lines.items():
        middle = [statistics.median(times) for _, times in points]
        below = [m - min(p[1]) for m, p in zip(middle, points, strict=True)]
        above = [max(p[1]) - m for m, p in zip(middle, points, strict=True)]
        axes.errorbar(
            [ranks for ranks, _ in points],
            middle,
            yerr=[below, above],
            label=label,
            marker="o",
            capsize=3,
        )
    counts = sorted(map(int, result["counts"]))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel("ranks")
    axes.set_ylabel("wall time in s")
    emulated = result["emulate"]
    axes.set_title(options_text(emulated) if emulated else result["tree"])
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
