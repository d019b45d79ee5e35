"""Bad input: the same errors as plain Python, on every rank, and no hang.

That nothing is left in the node stores' directory and no process is left
running is checked by launch() after every job.
"""

import importlib.machinery
import importlib.util
import itertools
import marshal
import os
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest

layouts = pytest.mark.parametrize(
    ("ranks", "nodes"), [(1, "one"), (3, "one"), (3, "each")]
)
several = pytest.mark.parametrize(
    ("ranks", "nodes"), [(3, "one"), (3, "each")]
)

# Import every name in argv; leave for each of them what came of it.
TRY_ALL = """
import importlib
import sys

sys.path.insert(0, sys.argv[1])
found = {}
for name in sys.argv[2:]:
    try:
        module = importlib.import_module(name)
    except Exception as error:
        found[name] = (
            type(error).__name__,
            str(error),
            getattr(error, "name", None),
            getattr(error, "path", None),
            getattr(error, "filename", None),
            getattr(error, "lineno", None),
        )
    else:
        found[name] = ("imported", getattr(module, "VALUE", None))
report(found)
"""

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]


def same_everywhere(result, expected, ranks):
    """Each rank reported what plain Python, alone, has reported."""
    assert expected.status == 0, str(expected)
    assert result.status == 0, str(result)
    assert sorted(result.reports) == list(range(ranks)), str(result)
    for rank in range(ranks):
        for name, found in expected.reports[0].items():
            assert result.reports[rank][name] == found, (
                f"rank {rank}, {name}{result}"
            )


# --- what is not there, or cannot be compiled


@layouts
def test_missing_script_as_python(launch, stock, tmp_path, ranks, nodes):
    missing = tmp_path / "missing.py"
    expected = stock([missing])
    text = expected.stderr[expected.stderr.index("can't open file") :]
    result = launch(ranks, [missing], nodes=nodes)
    assert expected.status == 2, str(expected)
    assert result.status == 2, str(result)
    assert result.stderr.count("can't open file") == 1, str(result)
    assert text.strip() in result.stderr, str(result)
    assert "Traceback" not in result.stderr, str(result)
    assert result.stdout == "", str(result)


BROKEN_SOURCES = {
    "syntax_error": "VALUE = (1,\nthis is not Python\n",
    "indentation_error": "if True:\nVALUE = 1\n",
    "tab_error": "if True:\n        a = 1\n\tb = 2\n",
    "null_bytes": "VALUE = 1\0\n",
    "bad_coding": "# coding: no-such-coding\nVALUE = 1\n",
    "raises": "raise ValueError('on purpose')\n",
    "raises_import_error": "raise ImportError('on purpose', name='x')\n",
    "imports_missing": "import there_is_no_such_module\n",
    "from_missing_name": "from os import there_is_no_such_name\n",
    "empty": "",
    "good": "VALUE = 'good'\n",
}


def write_broken_sources(directory):
    """Write modules that cannot be imported; return their names."""
    directory.mkdir()
    for name, text in BROKEN_SOURCES.items():
        (directory / f"{name}.py").write_text(text)
    (directory / "not_utf8.py").write_bytes(b"VALUE = '\xff\xfe'\n")
    package = directory / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "wrong.py").write_text("def f(:\n")
    (directory / "directory.py").mkdir()
    (directory / "dangling.py").symlink_to(directory / "nowhere.py")
    (directory / "circle.py").symlink_to(directory / "circle.py")
    hollow = directory / "hollow"
    hollow.mkdir()
    (hollow / "__init__.py").symlink_to(directory / "nowhere.py")
    return [
        *BROKEN_SOURCES,
        "not_utf8",
        "package",
        "package.wrong",
        "package.missing",
        "good.missing",
        "there_is_no_such_module",
        "there_is_no.such_module",
        "directory",
        "dangling",
        "circle",
        "hollow",
    ]


@layouts
def test_broken_modules_same_errors_on_all_ranks(
    launch, stock, program, tmp_path, ranks, nodes
):
    main = program(TRY_ALL)
    modules = tmp_path / "modules"
    names = write_broken_sources(modules)
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    args = [main, modules, *names]
    expected = stock(args, env=env)
    result = launch(ranks, args, nodes=nodes, env=env)
    same_everywhere(result, expected, ranks)


def traceback_of(text):
    """Return the last traceback in 'text', from its first line on."""
    return text[text.rindex("Traceback (most recent call last)") :]


@layouts
@pytest.mark.parametrize("name", ["there_is_no_such_module", "wrong"])
def test_uncaught_import_error_status_1_and_stock_traceback(
    launch, stock, program, tmp_path, ranks, nodes, name
):
    (tmp_path / "wrong.py").write_text("def f(:\n")
    main = program(f"import {name}\n")
    expected = stock([main])
    result = launch(ranks, [main], nodes=nodes)
    assert expected.status == 1, str(expected)
    assert result.status == 1, str(result)
    assert traceback_of(expected.stderr).strip() in result.stderr, (
        f"{result}{expected}"
    )
    tracebacks = result.stderr.count("Traceback (most recent call last)")
    node_count = ranks if nodes == "each" else 1
    assert 1 <= tracebacks <= node_count, str(result)


@layouts
def test_syntax_error_in_script_as_python(
    launch, stock, tmp_path, ranks, nodes
):
    main = tmp_path / "main.py"
    main.write_text("print('never')\nx = = 1\n")
    expected = stock([main])
    result = launch(ranks, [main], nodes=nodes)
    assert result.status == 1, str(result)
    assert result.stdout == "", str(result)
    assert expected.stderr.strip() in result.stderr, f"{result}{expected}"


# --- what may not be read


@pytest.fixture
def without_privilege():
    """Words under which root may read no more than its files' modes say."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("runs as root, and setpriv is not installed")
    words = [
        "setpriv",
        "--bounding-set=-dac_override,-dac_read_search",
        "--inh-caps=-dac_override,-dac_read_search",
    ]
    probe = subprocess.run([*words, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("runs as root, and setpriv may not drop capabilities")
    return words


def write_unreadable(directory):
    """Write modules without permission to read; return their names."""
    directory.mkdir()
    (directory / "secret.py").write_text("VALUE = 1\n")
    (directory / "secret.py").chmod(0)
    (directory / "secret_cache.py").write_text("VALUE = 2\n")
    write_bytecode(directory / "secret_cache.py", mode=0)
    package = directory / "package"
    package.mkdir()
    (package / "__init__.py").write_text("VALUE = 3\n")
    (package / "__init__.py").chmod(0)
    closed = directory / "closed"
    closed.mkdir()
    (closed / "__init__.py").write_text("VALUE = 4\n")
    closed.chmod(0)
    (directory / f"object{SUFFIX}").write_bytes(b"")
    (directory / f"object{SUFFIX}").chmod(0)
    (directory / "good.py").write_text("VALUE = 6\n")
    return [
        "secret",
        "secret_cache",
        "package",
        "closed",
        "object",
        "good",
    ]


@layouts
def test_unreadable_files_same_errors_on_all_ranks(
    launch, stock, program, tmp_path, without_privilege, ranks, nodes
):
    main = program(TRY_ALL)
    modules = tmp_path / "modules"
    names = write_unreadable(modules)
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    args = [main, modules, *names]
    try:
        expected = stock(args, env=env, under=without_privilege)
        assert expected.reports[0]["secret"][0] == "PermissionError", str(
            expected
        )
        result = launch(
            ranks, args, nodes=nodes, env=env, under=without_privilege
        )
    finally:
        (modules / "closed").chmod(0o755)
    same_everywhere(result, expected, ranks)


@several
def test_unreadable_script_as_python(
    launch, stock, tmp_path, without_privilege, ranks, nodes
):
    main = tmp_path / "main.py"
    main.write_text("print('never')\n")
    main.chmod(0)
    expected = stock([main], under=without_privilege)
    text = expected.stderr[expected.stderr.index("can't open file") :]
    result = launch(ranks, [main], nodes=nodes, under=without_privilege)
    assert result.status == expected.status == 2, f"{result}{expected}"
    assert result.stderr.count("can't open file") == 1, str(result)
    assert text.strip() in result.stderr, str(result)


# --- bytecode


def write_bytecode(source, value=None, change=None, mode=None, flags=0):
    """Write the cached bytecode of the file 'source'.

    value: the constant VALUE of the code; None: compile the source
    change: function from the file's bytes to other ones
    flags: 0 checked by time and size, 1 hash unchecked, 3 hash checked
    """
    text = source.read_bytes() if value is None else f"VALUE = {value!r}"
    code = compile(text, str(source), "exec")
    stat = source.stat()
    if flags:
        stamp = importlib.util.source_hash(source.read_bytes())
    else:
        stamp = (int(stat.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
        stamp += (stat.st_size & 0xFFFFFFFF).to_bytes(4, "little")
    data = importlib.util.MAGIC_NUMBER + flags.to_bytes(4, "little") + stamp
    data += marshal.dumps(code)
    target = source.parent / "__pycache__"
    target.mkdir(exist_ok=True)
    target /= f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    target.write_bytes(data if change is None else change(data))
    if mode is not None:
        target.chmod(mode)


def _with(position, data, new):
    return data[:position] + new + data[position + len(new) :]


CHANGES = {
    "as_it_is": None,
    "bad_magic": lambda data: _with(0, data, b"\0\1\2\3"),
    "other_version": lambda data: _with(0, data, b"\x61\x0d\r\n"),
    "bad_flags": lambda data: _with(4, data, b"\xff\xff\xff\xff"),
    "no_bytes": lambda data: b"",
    "short_header": lambda data: data[:7],
    "header_only": lambda data: data[:16],
    "short_code": lambda data: data[:-10],
    "one_byte_of_code": lambda data: data[:17],
    "no_marshal": lambda data: data[:16] + b"\xff" * 40,
    "no_code": lambda data: data[:16] + marshal.dumps(42),
    "trailing_bytes": lambda data: data + b"rest",
}


def write_corrupt_bytecode(directory):
    """Write modules whose bytecode is damaged; return their names.

    The bytecode says 'cached', the source says 'source'.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, change in CHANGES.items():
        source = directory / f"cached_{name}.py"
        source.write_text("VALUE = 'source'\n")
        write_bytecode(source, "cached", change)
        alone = directory / f"alone_{name}.py"
        alone.write_text("VALUE = 'source'\n")
        write_bytecode(alone, "cached", change)
        tag = sys.implementation.cache_tag
        cached = directory / "__pycache__" / f"{alone.stem}.{tag}.pyc"
        cached.rename(alone.with_suffix(".pyc"))
        alone.unlink()
    return sorted(
        f"{kind}_{name}" for name in CHANGES for kind in ("cached", "alone")
    )


@layouts
@pytest.mark.parametrize("write", ["write", "keep"])
def test_corrupt_bytecode_same_as_stock(
    launch, stock, program, tmp_path, ranks, nodes, write
):
    main = program(TRY_ALL)
    modules = tmp_path / "modules"
    env = {"PYTHONDONTWRITEBYTECODE": "1"} if write == "keep" else {}
    args = [main, modules, *write_corrupt_bytecode(modules)]
    expected = stock(args, env=env)
    kinds = {found[0] for found in expected.reports[0].values()}
    assert {"imported", "EOFError", "ValueError", "ImportError"} <= kinds
    write_corrupt_bytecode(modules)
    result = launch(ranks, args, nodes=nodes, env=env)
    same_everywhere(result, expected, ranks)


def write_stale_bytecode(directory):
    """Write modules whose bytecode is of another source.

    Returns their names.  As above, the bytecode says 'cached'.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()

    def make(name, flags=0):
        source = directory / f"{name}.py"
        source.write_text("VALUE = 'source'\n")
        os.utime(source, (1_600_000_000, 1_600_000_000))
        write_bytecode(source, "cached", flags=flags)
        return source

    make("fresh")
    os.utime(make("later"), (1_600_000_100, 1_600_000_100))
    os.utime(make("earlier"), (1_500_000_000, 1_500_000_000))
    source = make("longer")
    source.write_text("VALUE = 'source'  # edited\n")
    os.utime(source, (1_600_000_000, 1_600_000_000))
    source = make("same_time_and_size")
    source.write_text("VALUE = 'SOURCE'\n")
    os.utime(source, (1_600_000_000, 1_600_000_000))
    make("hash_checked_fresh", flags=3)
    make("hash_checked_stale", flags=3).write_text("VALUE = 'source' + ''\n")
    make("hash_unchecked", flags=1).write_text("VALUE = 'source' + ''\n")
    source = make("link_target")
    (directory / "link.py").symlink_to(source)
    return sorted(path.stem for path in directory.glob("*.py"))


@layouts
@pytest.mark.parametrize("write", ["write", "keep"])
def test_stale_bytecode_same_as_stock(
    launch, stock, program, tmp_path, ranks, nodes, write
):
    main = program(TRY_ALL)
    modules = tmp_path / "modules"
    env = {"PYTHONDONTWRITEBYTECODE": "1"} if write == "keep" else {}
    args = [main, modules, *write_stale_bytecode(modules)]
    expected = stock(args, env=env)
    values = {name: found[1] for name, found in expected.reports[0].items()}
    assert values["fresh"] == values["same_time_and_size"] == "cached"
    assert values["later"] == values["longer"] == "source"
    assert values["hash_unchecked"] == "cached"
    assert values["hash_checked_stale"] == "source"
    write_stale_bytecode(modules)
    result = launch(ranks, args, nodes=nodes, env=env)
    same_everywhere(result, expected, ranks)


@several
def test_source_edited_between_two_runs_new_code_runs(
    launch, program, tmp_path, ranks, nodes
):
    """Whatever the first run has kept in the user's cache is no excuse."""
    main = program("import changing\n\nreport(changing.VALUE)\n")
    module = tmp_path / "changing.py"
    env = {"XDG_CACHE_HOME": tmp_path / "cache"}
    for value in ("first", "the second"):
        module.write_text(f"VALUE = {value!r}\n")
        result = launch(ranks, [main], nodes=nodes, env=env)
        assert result.status == 0, str(result)
        assert result.reports == dict.fromkeys(range(ranks), value), str(
            result
        )
    module.unlink()
    result = launch(ranks, [main], nodes=nodes, env=env)
    assert result.status == 1, str(result)
    assert "No module named 'changing'" in result.stderr, str(result)


# --- shared objects


def write_truncated_objects(directory):
    """Write extension modules that are cut off; return name -> path."""
    directory.mkdir()
    dynload = sysconfig.get_config_var("DESTSHARED")
    whole = next(
        path
        for path in (
            os.path.join(dynload, f"{name}{SUFFIX}")
            for name in ("_lsprof", "_bisect", "_json")
        )
        if os.path.exists(path)
    )
    with open(whole, "rb") as file:
        data = file.read()
    sizes = {
        "no_bytes": 0,
        "part_of_magic": 3,
        "part_of_header": 40,
        "header": 64,
        "part_of_table": 100,
        "one_page": 4096,
    }
    made = {}
    for name, size in sizes.items():
        made[name] = directory / f"{name}{SUFFIX}"
        made[name].write_bytes(data[:size])
    made["text"] = directory / f"text{SUFFIX}"
    made["text"].write_text("VALUE = 1  # no shared object at all\n" * 9)
    return made


@layouts
def test_truncated_object_import_error_names_it(
    launch, program, tmp_path, ranks, nodes
):
    """The error names the original file, not a copy of it.

    Not compared with plain Python, which is killed by a signal where the
    file ends inside a segment.
    """
    main = program(TRY_ALL)
    modules = tmp_path / "modules"
    made = write_truncated_objects(modules)
    result = launch(ranks, [main, modules, *made], nodes=nodes)
    assert result.status == 0, str(result)
    assert sorted(result.reports) == list(range(ranks)), str(result)
    for rank in range(ranks):
        for module, path in made.items():
            kind, text, name, its_path, *_ = result.reports[rank][module]
            where = f"rank {rank}, {module}: {text}{result}"
            assert kind == "ImportError", where
            assert str(path) in text, where
            assert str(result.store) not in text, where
            assert (name, its_path) == (module, str(path)), where


# --- no room, or no place


ROOM = """\
mount -t tmpfs -o size="$1",mode=1777 none "$2" || exit 77
place=$2 list=$3
shift 3
"$@"
status=$?
i=0
while [ -n "$(ls -A "$place")" ] && [ $i -lt 50 ]; do
    sleep 0.1
    i=$((i + 1))
done
ls -A "$place" > "$list"
exit $status
"""


@pytest.fixture
def small_room(tmp_path):
    """Words under which a directory is a tmpfs of some size.

    small_room(size) -> (words, directory, what_was_left()).
    """
    place = tmp_path / "room"
    place.mkdir()
    left = tmp_path / "left"

    def words(size):
        return [
            "unshare", "-m", "sh", "-c", ROOM, "room",
            size, str(place), str(left),
        ]  # fmt: skip

    try:
        probe = subprocess.run(
            [*words("16k"), "true"], capture_output=True, check=False
        )
    except OSError:
        pytest.skip("unshare is not installed")
    if probe.returncode != 0:
        pytest.skip("may not mount a tmpfs of its own")

    def room(size):
        left.unlink(missing_ok=True)
        return words(size), place, lambda: left.read_text().split()

    return room


def check_fallback(result, expected, ranks, place):
    """The right result, and a message that names the directory."""
    assert result.status == 0, str(result)
    assert result.lines() == expected.lines(), f"{result}{expected}"
    if ranks > 1:
        assert str(place) in result.stderr, str(result)
    assert "Traceback" not in result.stderr, str(result)


@pytest.mark.parametrize(
    ("ranks", "nodes", "size"),
    [
        (1, "one", "8k"),  # has no store there
        *itertools.product([2], ["one"], ["8k", "1m", "6m"]),
        *itertools.product([3], ["each"], ["8k", "1m", "6m"]),
    ],
)
def test_store_too_small_message_and_right_result(
    launch, stock_job, apps, small_room, ranks, nodes, size
):
    """No room for the store (8k), or for what it has to hold (others)."""
    words, place, left = small_room(size)
    args = [apps / "spectrum.py"]
    result = launch(ranks, args, nodes=nodes, under=words, store=place)
    check_fallback(result, stock_job(1, args), ranks, place)
    assert left() == [], str(result)


@pytest.mark.parametrize("size", ["8k", "1m"])
def test_store_too_small_strategy_names_right_result(
    launch, stock_job, apps, small_room, size
):
    words, place, left = small_room(size)
    args = ["--strategy", "names", apps / "spectrum.py"]
    result = launch(2, args, under=words, store=place)
    assert result.status == 0, str(result)
    assert result.lines() == stock_job(1, args[2:]).lines(), str(result)
    assert left() == [], str(result)


@several
@pytest.mark.parametrize("kind", ["missing", "file", "closed"])
def test_unusable_directory_message_and_right_result(
    launch, stock_job, apps, tmp_path, without_privilege, ranks, nodes, kind
):
    place = tmp_path / kind
    if kind == "file":
        place.write_text("")
    elif kind == "closed":
        place.mkdir()
        place.chmod(0o555)
    args = [apps / "spectrum.py"]
    result = launch(
        ranks,
        ["-T", place, *args],
        nodes=nodes,
        env={"PYTHON_MPI_TMPDIR": None},
        under=without_privilege,
    )
    check_fallback(result, stock_job(1, args), ranks, place)


# --- the ways in which a rank ends

RAISE_ON_ONE = """
import time

def inner():
    raise RuntimeError(f"on purpose on rank {RANK}")

if RANK == 1:
    inner()
time.sleep(600)
"""

RAISE_BESIDE_MPI = """
from mpi4py import MPI

if RANK == 1:
    raise RuntimeError(f"on purpose on rank {RANK}")
MPI.COMM_WORLD.Barrier()
"""


@several
@pytest.mark.parametrize(
    "text", [RAISE_ON_ONE, RAISE_BESIDE_MPI], ids=["sleeping", "in_mpi"]
)
def test_uncaught_exception_on_one_rank_ends_all(
    launch, program, ranks, nodes, text
):
    main = program(text, "raising.py")
    result = launch(ranks, [main], nodes=nodes)
    assert result.status == 1, str(result)
    assert result.stderr.count("Traceback (most recent call last)") == 1, (
        result
    )
    traceback = traceback_of(result.stderr)
    assert "RuntimeError: on purpose on rank 1" in traceback, str(result)
    assert f'File "{main}", line ' in traceback, str(result)
    before = result.stderr[: result.stderr.index("Traceback")]
    header = before.splitlines()[-1] if before else ""
    assert re.search(r"\brank 1\b", header, re.IGNORECASE), str(result)


def test_uncaught_exception_traceback_lists_the_program_only(
    launch, stock, program
):
    """The frames are those of plain Python: none of the launcher's."""
    main = program(RAISE_ON_ONE.replace("RANK == 1", "True"), "raising.py")
    expected = stock([main])
    result = launch(1, [main])
    assert result.status == expected.status == 1, str(result)
    assert traceback_of(expected.stderr) in result.stderr, (
        f"{result}{expected}"
    )


@layouts
def test_uncaught_keyboard_interrupt_ends_all(launch, program, ranks, nodes):
    main = program(
        "import time\n\n"
        f"if RANK == {ranks - 1}:\n    raise KeyboardInterrupt\n"
        "time.sleep(600)\n"
    )
    result = launch(ranks, [main], nodes=nodes)
    assert result.status != 0, str(result)
    assert "KeyboardInterrupt" in result.stderr, str(result)


EXIT = """
import sys
import time

time.sleep(0.2 * RANK)
print("still here", RANK, flush=True)
sys.exit({value})
"""
EXIT_AFTER_MPI = "from mpi4py import MPI\n" + EXIT


@layouts
@pytest.mark.parametrize("text", [EXIT, EXIT_AFTER_MPI], ids=["", "mpi"])
@pytest.mark.parametrize("value", ["3", "0", "None", "'farewell'"])
def test_sys_exit_on_all_ranks_keeps_status(
    launch, program, ranks, nodes, text, value
):
    main = program(text.format(value=value))
    expected = {"3": 3, "0": 0, "None": 0, "'farewell'": 1}[value]
    result = launch(ranks, [main], nodes=nodes)
    assert result.status == expected, str(result)
    assert result.lines() == [f"still here {rank}" for rank in range(ranks)]
    assert "Traceback" not in result.stderr, str(result)
    farewells = ranks if "farewell" in value else 0
    assert result.stderr.count("farewell") == farewells, str(result)


@several
def test_sys_exit_on_one_rank_keeps_status(launch, program, ranks, nodes):
    main = program("import sys\n\nsys.exit(3 if RANK == 1 else 0)\n")
    result = launch(ranks, [main], nodes=nodes)
    assert result.status == 3, str(result)
    assert "Traceback" not in result.stderr, str(result)


KILL = """
import os
import signal
import time

import numpy.fft
import scipy.interpolate

time.sleep(0.3)
if RANK == {rank}:
    os.kill(os.getpid(), signal.{name})
time.sleep(600)
"""


@several
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_sigkill_of_one_rank_ends_all_and_leaves_nothing(
    launch, program, ranks, nodes, rank
):
    main = program(KILL.format(rank=rank, name="SIGKILL"))
    result = launch(ranks, [main], nodes=nodes)
    assert result.status != 0, str(result)


KILL_EARLY = """
import os
import signal

if RANK == {rank}:
    os.kill(os.getpid(), signal.SIGKILL)
import numpy.fft
import scipy.interpolate
import late_module
"""


@several
@pytest.mark.parametrize("rank", [0, 2])
def test_sigkill_while_others_import_ends_all_and_leaves_nothing(
    launch, program, tmp_path, ranks, nodes, rank
):
    (tmp_path / "late_module.py").write_text(
        "import time\n\ntime.sleep(600)\n"
    )
    main = program(KILL_EARLY.format(rank=rank))
    result = launch(ranks, [main], nodes=nodes)
    assert result.status != 0, str(result)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGTERM"])
def test_other_signals_of_one_rank_end_all_and_leave_nothing(
    launch, program, name
):
    main = program(KILL.format(rank=1, name=name))
    result = launch(3, [main])
    assert result.status != 0, str(result)


@several
def test_os_exit_of_one_rank_leaves_nothing(launch, program, ranks, nodes):
    """os._exit() without MPI_Finalize: MPI's launcher ends the others."""
    main = program(
        "import time\nimport numpy.fft\n\n"
        "time.sleep(0.3)\n"
        "if RANK == 1:\n    os._exit(5)\n"
        "time.sleep(600)\n"
    )
    result = launch(ranks, [main], nodes=nodes)
    assert result.status != 0, str(result)
