"""Signals, broken pipes and closed descriptors: as plain Python.

That nothing is left in the node stores' directory and no process is left
running is checked at the end of every job.
"""

import dataclasses
import os
import re
import signal
import time

import pytest

RANKS = 3
layouts = pytest.mark.parametrize("nodes", ["one", "each"])

WAIT = """
import time


def inner():
    report(os.getpid())
    time.sleep(600)


inner()
"""


@pytest.fixture
def both(start):
    """Start a single rank without mpiexec, then plain Python likewise.

    both(args, do, **options) -> (the rank's result, plain Python's).
    do(started): what the test does to each
    """

    def run(args, do=None, **options):
        results = []
        for added in ({}, {"launcher": "stock"}):
            started = start(0, args, **options, **added)
            if do is not None:
                do(started)
            results.append(started.finish())
        return results

    return run


def same(result, expected):
    """Status and both outputs are those of plain Python."""
    assert result.status == expected.status, f"{result}{expected}"
    assert result.stderr == expected.stderr, f"{result}{expected}"
    assert result.stdout == expected.stdout, f"{result}{expected}"


def when_ready(number, group=False):
    """Return what sends a signal to a rank as soon as it has reported."""

    def send(started):
        started.reports(1)
        (started.send_group if group else started.send)(number)

    return send


# --- one rank, started by hand


@pytest.mark.parametrize("group", [False, True], ids=["process", "terminal"])
def test_sigint_alone_dies_by_it_as_python(both, program, group):
    args = [program(WAIT)]
    result, expected = both(args, when_ready(signal.SIGINT, group))
    assert expected.status == -signal.SIGINT, str(expected)
    assert "KeyboardInterrupt" in expected.stderr, str(expected)
    same(result, expected)


def test_sigint_alone_in_command_as_python(both):
    text = "import os, time\n" + WAIT.replace(
        "report(os.getpid())",
        "open(os.environ['JOB_RESULTS'] + '/0', 'w').write('1')",
    )
    result, expected = both(["-c", text], when_ready(signal.SIGINT))
    assert expected.status == -signal.SIGINT, str(expected)
    same(result, expected)


def test_sigint_alone_during_import_as_python(both, program, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import __main__\n"
        "import time\n\n"
        "__main__.report('importing')\n"
        "time.sleep(600)\n"
    )
    args = [program("import slow\n")]
    result, expected = both(args, when_ready(signal.SIGINT))
    assert expected.status == -signal.SIGINT, str(expected)
    same(result, expected)


def test_sigint_alone_caught_program_goes_on(both, program):
    args = [
        program(
            """
import time

try:
    report(os.getpid())
    time.sleep(600)
except KeyboardInterrupt:
    print("caught")
import fractions
print(fractions.Fraction(1, 2))
"""
        )
    ]
    result, expected = both(args, when_ready(signal.SIGINT))
    assert expected.status == 0, str(expected)
    same(result, expected)


@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_sigterm_alone_dies_by_it_as_python(both, program, group):
    args = [program(WAIT)]
    result, expected = both(args, when_ready(signal.SIGTERM, group))
    assert expected.status == -signal.SIGTERM, str(expected)
    same(result, expected)


HANDLER = """
import atexit
import signal
import sys
import time


def handler(number, frame):
    print("handler", number, frame.f_code.co_name, flush=True)
    {action}


def main():
    signal.signal(signal.SIGTERM, handler)
    atexit.register(print, "atexit")
    try:
        report(os.getpid())
        while not DONE:
            time.sleep(0.1)
    finally:
        print("finally", flush=True)


DONE = []
main()
import fractions
print(fractions.Fraction(1, 2))
"""


@pytest.mark.parametrize(
    "action", ["sys.exit(7)", "DONE.append(1)", "raise ValueError(number)"]
)
def test_sigterm_alone_with_handler_runs_it(both, program, action):
    args = [program(HANDLER.format(action=action))]
    result, expected = both(args, when_ready(signal.SIGTERM))
    assert "handler 15 main" in expected.stdout, str(expected)
    same(result, expected)


# --- jobs


@layouts
def test_sigint_of_terminal_ends_job(start, program, nodes):
    started = start(RANKS, [program(WAIT)], nodes=nodes)
    started.reports(RANKS)
    started.send_group(signal.SIGINT)
    result = started.finish()
    assert result.status != 0, str(result)
    assert "KeyboardInterrupt" in result.stderr, str(result)
    assert result.seconds < 45, str(result)


def test_sigint_of_one_rank_ends_job(start, program):
    """One that gets it by kill(1): as any exception that is not caught."""
    started = start(RANKS, [program(WAIT)])
    pids = started.reports(RANKS)
    os.kill(pids[1], signal.SIGINT)
    result = started.finish()
    assert result.status != 0, str(result)
    assert "KeyboardInterrupt" in result.stderr, str(result)


def test_sigint_caught_on_all_ranks_job_goes_on(start, program):
    """MPI's launcher passes it on; a program may take it as it likes.

    Sent to the ranks, as launchers kill those that do not end at once.
    """
    args = [
        program(
            """
import time

try:
    report(os.getpid())
    time.sleep(600)
except KeyboardInterrupt:
    print("caught", RANK, flush=True)
import fractions
"""
        )
    ]
    started = start(RANKS, args)
    for pid in started.reports(RANKS).values():
        os.kill(pid, signal.SIGINT)
    result = started.finish()
    assert result.status == 0, str(result)
    assert result.lines() == [f"caught {rank}" for rank in range(RANKS)]


@layouts
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_to_mpiexec_ends_job(start, program, nodes, number):
    started = start(RANKS, [program(WAIT)], nodes=nodes)
    started.reports(RANKS)
    started.send(number)
    result = started.finish()
    # Hydra's status is 0 now and then, also with stock Python.
    assert sorted(result.reports) == list(range(RANKS)), str(result)


SLEEP = ["-c", "import time; time.sleep(600)"]


def send_until_end(started, number):
    """Send a signal to the group of a job, again and again if need be."""
    for _ in range(20):
        if started.process.poll() is not None:
            break
        started.send_group(number)
        time.sleep(0.5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0, 0.03, 0.1, 0.3])
def test_signal_during_start_leaves_nothing(start, number, delay):
    """As soon as the ranks are there, and fractions of a second later.

    Before, MPI's launcher crashes or hangs, with plain Python as well.  Its
    status is its own affair, too: with plain Python it may be 0.
    """
    started = start(RANKS, SLEEP)
    # mpiexec's own command line has the words as well.
    started.wait_for_processes(SLEEP[1], RANKS + 1)
    time.sleep(delay)
    send_until_end(started, number)
    started.finish(20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.01, 0.05, 0.1, 0.2])
def test_signal_during_start_alone_leaves_nothing(start, number, delay):
    """Plain Python loses a SIGINT while it looks at its argv[0], too."""
    started = start(0, SLEEP)
    time.sleep(delay)
    send_until_end(started, number)
    result = started.finish(20)
    assert result.status in (-number, 1), str(result)


def test_sigterm_with_handler_in_job_runs_it(start, program):
    started = start(RANKS, [program(HANDLER.format(action="DONE.append(1)"))])
    for pid in started.reports(RANKS).values():
        os.kill(pid, signal.SIGTERM)
    result = started.finish()
    assert result.status == 0, str(result)
    lines = ["handler 15 main", "finally", "1/2", "atexit"]
    assert result.lines() == sorted(lines * RANKS), str(result)


def test_sigterm_with_exit_in_job_keeps_status(start, program):
    started = start(RANKS, [program(HANDLER.format(action="sys.exit(7)"))])
    for pid in started.reports(RANKS).values():
        os.kill(pid, signal.SIGTERM)
    result = started.finish()
    assert result.status == 7, str(result)
    lines = ["handler 15 main", "finally", "atexit"]
    assert result.lines() == sorted(lines * RANKS), str(result)


# --- what a program sees of signals

TABLE = """
import faulthandler
import signal


def name(handler):
    if handler is None or isinstance(handler, signal.Handlers):
        return repr(handler)
    return handler.__qualname__


def masks(kinds):
    with open("/proc/self/status") as lines:
        pairs = [line.split() for line in lines]
    found = {pair[0]: pair[1] for pair in pairs if len(pair) > 1}
    return {kind: found[kind] for kind in kinds}


SEEN = {
    "handlers": {
        int(number): name(signal.getsignal(number))
        for number in sorted(signal.valid_signals())
    },
    "masks": masks(["SigBlk:", "SigIgn:"]),
    "blocked": sorted(map(int, signal.pthread_sigmask(0, []))),
    "pending": sorted(map(int, signal.sigpending())),
    "wakeup": signal.set_wakeup_fd(-1),
    "timers": [signal.getitimer(kind) for kind in (0, 1, 2)],
    "faulthandler": faulthandler.is_enabled(),
    "main thread": __import__("threading").current_thread()
    is __import__("threading").main_thread(),
}
report(SEEN)
"""
CAUGHT = """
from mpi4py import MPI
""" + TABLE.replace('"SigIgn:"', '"SigIgn:", "SigCgt:"')


@pytest.mark.parametrize("ranks", [0, RANKS])
@pytest.mark.parametrize(
    "options", [[], ["-X", "faulthandler"], ["-X", "dev"]], ids=" ".join
)
def test_table_of_signals_as_python(start, program, ranks, options):
    args = [*options, program(TABLE)]
    expected = start(ranks, args, launcher="stock").finish()
    result = start(ranks, args).finish()
    assert result.status == expected.status == 0, f"{result}{expected}"
    assert expected.reports[0]["handlers"][signal.SIGINT] == (
        "default_int_handler"
    )
    assert len(result.reports) == max(ranks, 1), str(result)
    for rank, seen in result.reports.items():
        for name, value in expected.reports[0].items():
            assert seen[name] == value, f"rank {rank}, {name}{result}"


def test_signals_caught_as_python_with_mpi(start, program):
    """What the system has of handlers: no more than MPI itself brings."""
    args = [program(CAUGHT)]
    expected = start(2, args, launcher="stock").finish()
    result = start(2, args).finish()
    assert result.status == expected.status == 0, f"{result}{expected}"
    for rank in range(2):
        seen, plain = result.reports[rank], expected.reports[rank]
        assert seen["masks"] == plain["masks"], f"{result}{expected}"


def test_signals_ignored_by_the_parent_stay_so(start, program):
    """As below nohup: SIGINT and SIGHUP are ignored, and Python knows."""
    words = ["sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh"]
    args = [program(TABLE)]
    expected = start(0, args, launcher="stock", under=words).finish()
    result = start(0, args, under=words).finish()
    assert expected.reports[0]["handlers"][signal.SIGINT] == (
        repr(signal.SIG_IGN)
    )
    assert result.reports == expected.reports, f"{result}{expected}"


MASKED = """
import signal
import time
import decimal

NUMBERS = {signal.SIGUSR1, signal.SIGTERM, signal.SIGALRM}
signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
for number in NUMBERS:
    os.kill(os.getpid(), number)
time.sleep(0.5)
waiting = sorted(map(int, signal.sigpending()))
taken = sorted(int(signal.sigwait(NUMBERS)) for _ in NUMBERS)


class Alarm(Exception):
    pass


def ring(number, frame):
    raise Alarm


signal.signal(signal.SIGALRM, ring)
signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
signal.setitimer(signal.ITIMER_REAL, 0.3)
begin = time.monotonic()
try:
    time.sleep(30)
except Alarm:
    woken = True
import json.tool
report((waiting, taken, woken, time.monotonic() - begin < 20))
"""


@layouts
def test_blocked_signals_wait_for_the_program(start, program, nodes):
    """No thread of ours takes what the program has blocked or waits for."""
    result = start(RANKS, [program(MASKED)], nodes=nodes).finish()
    assert result.status == 0, str(result)
    numbers = sorted(
        map(int, (signal.SIGUSR1, signal.SIGTERM, signal.SIGALRM))
    )
    value = (numbers, numbers, True, True)
    assert result.reports == dict.fromkeys(range(RANKS), value), str(result)


DUMP = """
import faulthandler
import signal


def inner():
    faulthandler.dump_traceback()
    faulthandler.register(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)


inner()
"""


def without_addresses(result):
    """Return 'result' without the numbers of threads in its stderr."""
    text = re.sub(r"thread 0x[0-9a-f]+", "thread", result.stderr)
    return dataclasses.replace(result, stderr=text)


def test_faulthandler_shows_the_program_only(both, program):
    result, expected = map(without_addresses, both([program(DUMP)]))
    assert "in inner" in expected.stderr, str(expected)
    same(result, expected)


def test_faulthandler_of_a_crash_as_python(both, program):
    text = "import signal\n\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    args = ["-X", "faulthandler", program(text)]
    result, expected = map(without_addresses, both(args))
    assert expected.status == -signal.SIGSEGV, str(expected)
    assert "Fatal Python error" in expected.stderr, str(expected)
    assert result.status == expected.status, f"{result}{expected}"
    # After the stack come the extension modules that are loaded.
    stack, _, _ = expected.stderr.partition("\nExtension modules")
    assert stack.strip() in result.stderr, f"{result}{expected}"


# --- broken pipes

PRINTS = {
    "loop": "for number in range(10**6):\n    print('line', number)\n",
    "unbuffered": (
        "for number in range(10**6):\n    print('line', number, flush=True)\n"
    ),
    "exit": "print('line')\n",
    "exit status": "import sys\n\nprint('line')\nsys.exit(3)\n",
    "exception": "print('line')\nraise ValueError('on purpose')\n",
    "caught": (
        "import sys\n\n"
        "try:\n"
        "    for number in range(10**6):\n        print('line', number)\n"
        "except BrokenPipeError:\n"
        "    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)\n"
        "    sys.exit(5)\n"
    ),
    "default": (
        "import signal\n\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "for number in range(10**6):\n    print('line', number)\n"
    ),
}


@pytest.fixture
def to_head(start):
    """Run a job whose standard output is a pipe that is closed early.

    to_head(ranks, args, lines=..., ...): after the first line (1), or
    before the job starts (0).
    """

    def run(ranks, args, lines, **options):
        read, write = os.pipe()
        with open(read, "rb") as head, open(write, "wb") as pipe:
            if not lines:
                head.close()
            started = start(ranks, args, stdout=pipe, **options)
            pipe.close()
            if lines:
                head.readline()
        return started.finish()

    return run


@pytest.mark.parametrize("lines", [1, 0])
@pytest.mark.parametrize("kind", ["loop", "unbuffered", "caught", "default"])
def test_broken_pipe_alone_in_loop_as_python(to_head, program, kind, lines):
    args = [program(PRINTS[kind])]
    expected = to_head(0, args, lines, launcher="stock")
    result = to_head(0, args, lines)
    assert expected.status != 0, str(expected)
    same(result, expected)


@pytest.mark.parametrize("options", [[], ["-u"]], ids=["", "-u"])
@pytest.mark.parametrize("kind", ["exit", "exit status", "exception"])
def test_broken_pipe_alone_at_exit_as_python(to_head, program, kind, options):
    args = [*options, program(PRINTS[kind])]
    expected = to_head(0, args, 0, launcher="stock")
    result = to_head(0, args, 0)
    assert expected.status != 0, str(expected)
    same(result, expected)


def test_broken_pipe_alone_in_command_as_python(to_head):
    args = ["-c", PRINTS["loop"]]
    expected = to_head(0, args, 1, launcher="stock")
    assert "BrokenPipeError" in expected.stderr, str(expected)
    same(to_head(0, args, 1), expected)


TO_HEAD = ["sh", "-c", '"$@" | head -n 1', "sh"]


@pytest.mark.parametrize("kind", ["loop", "unbuffered"])
def test_broken_pipe_of_each_rank_ends_job(start, program, kind):
    """The first exception that is not caught ends all."""
    args = [program(PRINTS[kind])]
    result = start(RANKS, args, around=TO_HEAD).finish()
    assert "BrokenPipeError: [Errno 32]" in result.stderr, str(result)
    assert set(result.lines()) <= {"line 0"}, str(result)


def test_broken_pipe_of_each_rank_at_exit_as_python(start, program):
    """Every rank says it: nobody's end is an exception."""
    around = ["sh", "-c", '{ sleep 0.2; exec "$@"; } | true', "sh"]
    args = [program(PRINTS["exit"])]
    expected = start(RANKS, args, launcher="stock", around=around).finish()
    result = start(RANKS, args, around=around).finish()
    assert expected.stderr.count("BrokenPipeError") == RANKS, str(expected)
    assert sorted(result.stderr.splitlines()) == sorted(
        expected.stderr.splitlines()
    ), f"{result}{expected}"


@pytest.mark.parametrize("lines", [1, 0])
def test_broken_pipe_of_mpiexec_leaves_nothing(to_head, program, lines):
    text = PRINTS["unbuffered"].replace("10**6", "20_000")
    to_head(RANKS, [program(text)], lines)


# --- closed descriptors

CLOSED = {
    "stdin": "<&-",
    "stdout": ">&-",
    "stderr": "2>&-",
    "both outputs": ">&- 2>&-",
    "all": "<&- >&- 2>&-",
}
STREAMS = """
import errno
import sys
import numpy.fft


def outcome(function, *args):
    try:
        return repr(function(*args))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError as error:
        return errno.errorcode[error.errno]
    return True


SEEN = {
    "streams": [
        stream and (stream.name, stream.mode, stream.fileno())
        for stream in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "originals": [
        stream is None
        for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    ],
    "open": [is_open(descriptor) for descriptor in range(3)],
    "input": outcome(input),
    "print": outcome(print, "text"),
    "write": outcome(os.write, 1, b""),
}
report(SEEN)
if sys.stderr is not None:
    sys.stderr.write("message\\n")
"""


def closed(kind):
    """Return the words under which descriptors are closed."""
    return ["sh", "-c", f'exec "$@" {CLOSED[kind]}', "sh"]


@pytest.mark.parametrize("kind", CLOSED)
def test_closed_alone_as_python(both, program, kind):
    result, expected = both([program(STREAMS)], around=closed(kind))
    assert expected.status == 0, str(expected)
    assert result.reports == expected.reports, f"{result}{expected}"
    same(result, expected)


@pytest.mark.parametrize("end", ["sys.exit(4)", "sys.exit('bye')", "1 / 0"])
@pytest.mark.parametrize("kind", CLOSED)
def test_closed_alone_ends_as_python(both, program, kind, end):
    text = f"import sys\n\nprint('text')\n{end}\n"
    result, expected = both([program(text)], around=closed(kind))
    assert expected.status != 0, str(expected)
    same(result, expected)


@pytest.mark.parametrize("kind", ["stdin", "all"])
def test_closed_alone_command_as_python(both, kind):
    args = ["-c", "import sys; print(sys.stdin); sys.exit(6)"]
    result, expected = both(args, around=closed(kind))
    assert expected.status == 6, str(expected)
    same(result, expected)


@layouts
@pytest.mark.parametrize("kind", CLOSED)
def test_closed_on_all_ranks_as_python(start, program, kind, nodes):
    """Whatever else is open under such a number is MPI's own affair."""
    text = STREAMS.replace("import numpy.fft", "from mpi4py import MPI")
    text = text.replace('    "write": outcome(os.write, 1, b""),\n', "")
    args = [program(re.sub('    "open": .*', "", text))]
    words = closed(kind)
    expected = start(RANKS, args, launcher="stock", around=words).finish()
    result = start(RANKS, args, around=words, nodes=nodes).finish(20)
    assert expected.status == 0, str(expected)
    assert result.status == 0, str(result)
    assert result.reports == expected.reports, f"{result}{expected}"
    assert result.lines() == expected.lines(), f"{result}{expected}"
    assert sorted(result.stderr.splitlines()) == sorted(
        expected.stderr.splitlines()
    ), f"{result}{expected}"


TARGETS = """
def target(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None


report([target(descriptor) for descriptor in range(3)])
"""


@pytest.mark.parametrize("ranks", [0, RANKS])
@pytest.mark.parametrize("kind", CLOSED)
def test_closed_numbers_are_not_those_of_the_stores(
    start, program, ranks, kind
):
    """Whoever prints there without Python must not write into a store."""
    result = start(ranks, [program(TARGETS)], around=closed(kind)).finish(20)
    assert result.status == 0, str(result)
    for targets in result.reports.values():
        for target in filter(None, targets):
            assert str(result.store) not in target, str(result)
            assert "mpiimport" not in target, str(result)


@pytest.mark.parametrize("kind", CLOSED)
def test_closed_on_all_ranks_uncaught_exception_ends_job(start, program, kind):
    text = "import time\n\nif RANK == 1:\n    1 / 0\ntime.sleep(600)\n"
    result = start(RANKS, [program(text)], around=closed(kind)).finish(20)
    assert result.status == 1, str(result)


def test_closed_stdin_of_mpiexec_as_python(start, program):
    args = [program("import sys\n\nreport(sys.stdin is None)\n")]
    words = closed("stdin")
    expected = start(RANKS, args, launcher="stock", under=words).finish()
    result = start(RANKS, args, under=words).finish()
    assert result.status == expected.status, f"{result}{expected}"
    assert result.reports == expected.reports, f"{result}{expected}"
