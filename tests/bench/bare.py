"""What it costs one rank to start and end: -c pass.

A launcher does what stock Python does and what an MPI program does, so it is
compared with the sum of both.  Each program's own time is measured, from just
before its process is made until its end is known (timed.c); below mpiexec
too, so that mpiexec's own time, which a sum would have twice, is in no figure.
The start of a process is in stock's time as well as in the bare program's:
that of a process that does nothing (bare_mpi without arguments) is taken off
once.  What remains to compare with is

    sum = stock + bare MPI - nothing

which is the stricter of the possible readings of "stock plus MPI".  The bare
program opens the library as the launchers do and calls MPI_Init, which asks
for less than the launchers' MPI_Init_thread.
"""

import os
import pathlib
import shlex
import statistics
import subprocess

from jobs import STOCK, JobFailed, run_command, say
from table import Table, judged, spread, turn_over_turn

HERE = pathlib.Path(__file__).resolve().parent
LIMITS = {"python-mpi": 1.3}  # of the ratio to the sum, under mpiexec
# Key of a place: its heading.
PLACES = {"alone": "without mpiexec", "mpiexec": "under mpiexec -n 1"}
JUDGED = "mpiexec"
BARE = "bare MPI"
NOTHING = "nothing"
STEPS = ("open", "Init", "Finalize")


def build_program(setting, name):
    """Compile HERE/name.c into our own directory; return its path."""
    target = setting.scratch / name
    command = shlex.split(os.environ.get("CC") or "cc")
    command += ["-std=c11", "-D_GNU_SOURCE", "-O2", "-o", str(target)]
    command += [str(HERE / f"{name}.c"), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise JobFailed(f"$ {shlex.join(command)}\n{done.stderr}")
    return str(target)


def library_names(mpiexec):
    """Return the MPI libraries that fit mpiexec, the first choice first."""
    done = subprocess.run(
        [*mpiexec, "--version"], capture_output=True, text=True, check=False
    )
    names = ["libmpi.so.12", "libmpich.so.12", "libmpi.so.40"]
    is_open = "Open MPI" in done.stdout or "OpenRTE" in done.stdout
    return names[::-1] if is_open else names


def programs_of(setting):
    """Build what is missing; return {name: command}, in a turn's order."""
    bare = build_program(setting, "bare_mpi")
    steps = str(setting.scratch / "steps")
    found = {
        STOCK: [*setting.start_of_rank(STOCK), "-c", "pass"],
        BARE: [bare, steps, *library_names(setting.mpiexec)],
        NOTHING: [bare],
    }
    for launcher in setting.launchers:
        found[launcher] = [*setting.start_of_rank(launcher), "-c", "pass"]
    return found


def read_numbers(path):
    """Return the numbers in a file, which is removed."""
    numbers = [float(word) for word in path.read_text().split()]
    path.unlink()
    return numbers


def time_program(setting, timed, place, name, command):
    """Run a program once; return its figures, in seconds.

    own, processor: of the program's process; whole: the command's, with
    mpiexec if there is one; steps: of the bare MPI program, else None
    """
    file = setting.scratch / "times"
    words = [*setting.mpiexec, "-n", "1"] if place == "mpiexec" else []
    words += [timed, str(file), *command]
    whole, _ = run_command(
        setting, words, setting.environment(name, {}), words
    )
    own, processor = read_numbers(file)
    steps = read_numbers(setting.scratch / "steps") if name == BARE else None
    return {
        "own": own,
        "processor": processor,
        "whole": whole,
        "steps": steps,
    }


def measure_pass(setting, turns):
    """Return {place: {program: list of time_program(), a turn each}}.

    The first turn does not count.
    """
    timed = build_program(setting, "timed")
    programs = programs_of(setting)
    found = {place: {name: [] for name in programs} for place in PLACES}
    for turn in range(-1, turns):
        if turn < 0:
            say("-c pass: warm")
        elif (turn + 1) % 5 == 0:
            say(f"-c pass: turn {turn + 1}/{turns}")
        for place, name in ((p, n) for p in PLACES for n in programs):
            taken = time_program(setting, timed, place, name, programs[name])
            if turn >= 0:
                found[place][name].append(taken)
    return found


# ---- table ----------------------------------------------------------------


def column(place, name, field):
    """Return a program's milliseconds of all turns, in one place."""
    return [1000 * taken[field] for taken in place[name]]


def sums(place):
    """Return stock + bare MPI - nothing in milliseconds, for each turn."""
    return [
        stock + bare - nothing
        for stock, bare, nothing in zip(
            *(column(place, name, "own") for name in (STOCK, BARE, NOTHING)),
            strict=True,
        )
    ]


def statistic_ratio(place, launcher, statistic, field="own"):
    """Return a statistic of the launcher over the same of the three."""
    stock, bare, nothing, ours = (
        statistic(column(place, name, field))
        for name in (STOCK, BARE, NOTHING, launcher)
    )
    return ours / (stock + bare - nothing)


def turn_ratios(place, launcher):
    """Return the launcher over the sum, for each turn."""
    ours = column(place, launcher, "own")
    return [our / its for our, its in zip(ours, sums(place), strict=True)]


def add_ratios(table, launcher, places):
    """Add the rows on the ratio of one launcher to the sum."""
    limit = LIMITS.get(launcher)
    text = "" if limit is None else f"<= {limit} under mpiexec"

    def row(label, value):
        def cell(pair):
            place, ratio = pair[0], value(pair[1])
            if limit is None or place != JUDGED:
                return f"{ratio:.2f}"
            return judged(f"{ratio:.2f}", ratio, limit)

        table.row(
            label, {p: (p, found) for p, found in places.items()}, cell, text
        )

    table.title(
        f"ratio of own times, {launcher} / (stock + bare MPI - nothing)"
    )
    row("least / least", lambda f: statistic_ratio(f, launcher, min))
    row(
        "median / median",
        lambda f: statistic_ratio(f, launcher, statistics.median),
    )
    table.row(
        "turns: least, median, most",
        places,
        lambda found: spread(turn_ratios(found, launcher)),
    )
    table.row(
        "processor time, least / least",
        places,
        lambda found: (
            f"{statistic_ratio(found, launcher, min, 'processor'):.2f}"
        ),
    )


def add_field(table, places, names, field):
    """Add a row of milliseconds for each program."""
    for name in names:
        table.row(
            name,
            places,
            lambda found, name=name: spread(
                column(found, name, field), "{:.1f}"
            ),
        )


def add_steps(table, places):
    """Add the rows on the steps of the bare MPI program."""
    table.title("of bare MPI, in ms: least, median, most")
    for index, step in enumerate(STEPS):
        table.row(
            step,
            places,
            lambda found, index=index: spread(
                [1000 * taken["steps"][index] for taken in found[BARE]],
                "{:.1f}",
            ),
        )


def pass_text(found):
    """Return the table of what measure_pass() found."""
    names = list(found[JUDGED])
    launchers = [n for n in names if n not in (STOCK, BARE, NOTHING)]
    turns = len(found[JUDGED][STOCK])
    table = Table(PLACES)
    table.title("own time of the process in ms: least, median, most")
    add_field(table, found, names, "own")
    table.row(
        "sum = stock + bare MPI - nothing",
        found,
        lambda place: spread(sums(place), "{:.1f}"),
    )
    table.title("noise: stock's own time over that of the turn before")
    table.row(
        "least, median, most",
        found,
        lambda place: (
            spread(ratios)
            if (ratios := turn_over_turn(column(place, STOCK, "own")))
            else "-"
        ),
    )
    for launcher in launchers:
        add_ratios(table, launcher, found)
    table.title("processor time of the process in ms: least, median, most")
    add_field(table, found, names, "processor")
    add_steps(table, found)
    table.title("whole command in ms, with mpiexec's own time")
    add_field(table, found, names, "whole")
    return "\n".join(
        [
            f"-c pass, 1 rank, {turns} turns of {', '.join(names)}",
            "Own time: from before the process is made until its end is",
            "known, measured below mpiexec, whose own time is in none.  The",
            "start of a process is in stock's and in bare MPI's time; that of",
            "one that does nothing is taken off once.  Without mpiexec the",
            "launchers leave MPI alone.  The limit is for",
            "    launcher / (stock + bare MPI - nothing), under mpiexec",
            table.text(),
        ]
    )
