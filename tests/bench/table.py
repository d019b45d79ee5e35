"""Tables of text, and figures with a limit."""

import statistics

MIB = 1 << 20


def many(ranks):
    """Return '1 rank' or 'N ranks'."""
    return f"{ranks} rank" if ranks == 1 else f"{ranks} ranks"


def mebibytes(size):
    """Return bytes as MiB with one decimal."""
    return f"{size / MIB:.1f}"


def judged(text, value, limit):
    """Return the text with what the limit makes of the value."""
    return f"{text} {'ok' if value <= limit else 'over'}"


def spread(values, form="{:.2f}"):
    """Return least, median and most of the values as text."""
    three = min(values), statistics.median(values), max(values)
    return " ".join(form.format(value) for value in three)


def turn_over_turn(values):
    """Return each value over the one before it: 1 on a quiet machine."""
    return [
        value / before
        for before, value in zip(values, values[1:], strict=False)
    ]


def aligned(rows):
    """Return rows of cells as lines; the first column is a label."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for label, *cells in rows:
        padded = "  ".join(
            f"{cell:>{width}}"
            for cell, width in zip(cells, widths[1:], strict=True)
        )
        lines.append(f"{label:<{widths[0]}}  {padded}".rstrip())
    return lines


class Table:
    """Rows of a label, a cell per column, and a limit.

    columns: {key: heading}
    """

    def __init__(self, columns):
        self.columns = columns
        self.rows = []

    def title(self, text):
        """Start a block of rows."""
        self.rows.append((text, [""] * len(self.columns), ""))

    def row(self, label, found, cell, limit=""):
        """Add a row: cell(found[key]) for each column that was measured."""
        cells = [
            cell(found[key]) if found.get(key) is not None else "-"
            for key in self.columns
        ]
        self.rows.append((f"  {label}", cells, limit))

    def text(self):
        """Return the table with aligned columns."""
        head = ("", list(self.columns.values()), "limit")
        rows = [head, *self.rows]
        lines = aligned([[label, *cells] for label, cells, _ in rows])
        width = max(map(len, lines))
        return "\n".join(
            f"{line:<{width}}  {limit}".rstrip()
            for line, (_, _, limit) in zip(lines, rows, strict=True)
        )
