"""The timing report: its lines, its sums, its counts, its JSON file."""

import json
import re

import pytest

PHASES = (
    "FIND",
    "IO",
    "COMM",
    "LOAD",
    "LOADFile",
    "LOADDirect",
    "SITE",
    "BOOT",
)
LOADS = ("LOAD", "LOADFile", "LOADDirect")
COUNTERS = (
    "operations",
    "avoided",
    "bytes_read",
    "bytes_sent",
    "store_bytes",
    "mirror_bytes",
)
NUMERIC = "import numpy.fft\nimport scipy.interpolate\n"

layouts = pytest.mark.parametrize(
    ("ranks", "nodes"), [(1, "one"), (3, "one"), (3, "each"), (5, "two")]
)
several = pytest.mark.parametrize(
    ("ranks", "nodes"), [(3, "one"), (3, "each")]
)

# What is loaded, told without importing anything more: distinct modules
# that a file loader has made.
COUNT = """

def modules_from_files():
    import sys
    from importlib import machinery

    loaders = (
        machinery.SourceFileLoader,
        machinery.SourcelessFileLoader,
        machinery.ExtensionFileLoader,
    )
    found = set()
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__dict__", {}).get("__spec__")
        if name == "__main__" or spec is None or not spec.has_location:
            continue
        if isinstance(spec.loader, loaders):
            found.add(id(module))
    # From 3.13 on this one is loaded, and puts another in its place.
    replaced = "collections.abc" in sys.modules and sys.version_info >= (3, 13)
    return len(found) + replaced


def loads():
    import mpiimport

    phases = mpiimport.timings()["phases"]
    return {
        name: phases[name][1] for name in ("LOAD", "LOADFile", "LOADDirect")
    }


"""
# scipy tries to import cython, which puts another module in its own place.
WITHOUT_CYTHON = "import sys\n\nsys.modules['cython'] = None\n" + NUMERIC
AT_END = "report((modules_from_files(), loads()))\n"


def line_of(name):
    """Return the pattern of the report's line 'name'."""
    number = r"\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
    return re.compile(
        rf"^[^:\n]*\b{name}:\s+({number})\s+\((\d+)\)", re.MULTILINE
    )


@pytest.fixture
def timed(launch, tmp_path):
    """Run with --timing=FILE: timed(...) -> (result, the file's ranks)."""

    def run(ranks, args, status=0, **options):
        file = tmp_path / "timing.json"
        file.unlink(missing_ok=True)
        result = launch(ranks, [f"--timing={file}", *args], **options)
        assert result.status == status, str(result)
        assert file.exists(), str(result)
        data = json.loads(file.read_text(encoding="utf-8"))
        assert data["schema"] == 1, data
        return result, data["ranks"]

    return run


def count_of(entry):
    """Return how many modules one rank has loaded, of whatever kind."""
    return sum(entry["phases"][name][1] for name in LOADS)


# --- on stderr


@layouts
def test_lines_on_stderr_have_the_format(launch, program, ranks, nodes):
    main = program("import csv\n\nprint(RANK)\n")
    result = launch(ranks, ["--timing", main], nodes=nodes)
    assert result.status == 0, str(result)
    assert result.lines() == [str(rank) for rank in range(ranks)], str(result)
    for name in (*PHASES, "ALL"):
        found = line_of(name).search(result.stderr)
        assert found, f"no line {name}: seconds (count){result}"
        assert 0.0 <= float(found.group(1)) <= result.seconds, str(result)
    if ranks > 1:
        for word in ("min", "mean", "max"):
            assert re.search(rf"\b{word}\b", result.stderr), str(result)


def test_lines_on_stderr_come_once_for_any_number_of_ranks(launch, program):
    """The job's report is one: not one per rank."""
    main = program("report(1)\n")
    lines = {}
    for ranks in (2, 5):
        result = launch(ranks, ["--timing", main])
        assert result.status == 0, str(result)
        lines[ranks] = len(line_of("ALL").findall(result.stderr))
    assert lines[2] == lines[5] >= 1, str(result)


@several
def test_no_timing_asked_stderr_is_empty(launch, program, ranks, nodes):
    result = launch(ranks, [program("report(1)\n")], nodes=nodes)
    assert result.status == 0, str(result)
    assert result.stderr == "", str(result)


# --- sums


@layouts
def test_phases_numeric_add_up_to_all(timed, program, ranks, nodes):
    result, entries = timed(ranks, [program(NUMERIC)], nodes=nodes)
    for entry in entries:
        phases = entry["phases"]
        total = sum(phases[name][0] for name in PHASES)
        whole = phases["ALL"][0]
        assert 0.0 < whole <= result.seconds, f"{entry}{result}"
        assert total == pytest.approx(whole, rel=0.05), f"{entry}{result}"


@several
def test_phases_nested_imports_count_time_once(
    timed, program, tmp_path, ranks, nodes
):
    """A module's own half second is in LOAD once, however deep it is."""
    for number in range(4):
        (tmp_path / f"nested{number}.py").write_text(
            f"import nested{number + 1}\n"
        )
    (tmp_path / "nested4.py").write_text("import time\n\ntime.sleep(0.5)\n")
    result, entries = timed(ranks, [program("import nested0\n")], nodes=nodes)
    for entry in entries:
        seconds = entry["phases"]["LOAD"][0]
        assert 0.5 <= seconds < 0.9, f"{entry}{result}"


@several
def test_phases_program_time_is_in_none_of_them(timed, program, ranks, nodes):
    """What the program itself does is no start-up time."""
    main = program("import time\n\ntime.sleep(1.5)\n")
    result, entries = timed(ranks, [main], nodes=nodes)
    for entry in entries:
        assert entry["phases"]["LOAD"][0] < 1.0, f"{entry}{result}"
        assert entry["phases"]["ALL"][0] < 1.5, f"{entry}{result}"


# --- counts


@pytest.mark.parametrize(
    ("ranks", "nodes", "strategy"),
    [
        (1, "one", "all"),
        (3, "one", "all"),
        (5, "two", "all"),
        (3, "each", "names"),
    ],
)
def test_counts_numeric_equal_modules_loaded(
    timed, program, ranks, nodes, strategy
):
    main = program(COUNT + WITHOUT_CYTHON + AT_END)
    result, entries = timed(ranks, ["--strategy", strategy, main], nodes=nodes)
    assert sorted(result.reports) == list(range(ranks)), str(result)
    for rank, (modules, loads) in result.reports.items():
        assert sum(loads.values()) == modules, f"rank {rank}{result}"
        assert count_of(entries[rank]) == modules, f"rank {rank}{result}"
        assert modules > 500, f"rank {rank}{result}"


PACKAGE = """
import importlib


def step(*names):
    before = loads()
    modules = modules_from_files()
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    after = loads()
    return (
        modules_from_files() - modules,
        {name: after[name] - before[name] for name in after},
    )


step("sys")
report([
    step("first"),
    step("first", "first.second"),
    step("first.second.third", "first.second.fourth"),
    step("space", "space.leaf"),
    step("there_is_no_such_module", "first.no_such_module"),
    step("bytecode_only"),
    step("math", "builtins", "sys"),
    step("_lsprof"),
])
"""


@layouts
def test_counts_of_single_imports_are_exact(
    launch, program, stock, tmp_path, ranks, nodes
):
    second = tmp_path / "first" / "second"
    second.mkdir(parents=True)
    for directory in (second.parent, second):
        (directory / "__init__.py").write_text("")
    (second / "third.py").write_text("from . import fourth\n")
    (second / "fourth.py").write_text("")
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "leaf.py").write_text("")
    source = tmp_path / "source.py"
    source.write_text("")
    compiled = stock(
        ["-c", "import py_compile, sys; py_compile.compile(*sys.argv[1:])",
         source, tmp_path / "bytecode_only.pyc"]
    )  # fmt: skip
    assert compiled.status == 0, compiled
    result = launch(ranks, [program(COUNT + PACKAGE)], nodes=nodes)
    assert result.status == 0, str(result)
    assert sorted(result.reports) == list(range(ranks)), str(result)
    for rank, steps in result.reports.items():
        where = f"rank {rank}: {steps}{result}"
        assert [modules for modules, _ in steps[:6]] == [1, 1, 2, 1, 0, 1]
        for modules, loads in steps:
            assert sum(loads.values()) == modules, where
        for modules, loads in steps[:6]:
            if ranks > 1:
                assert loads["LOAD"] == modules, where
        _, object_loads = steps[7]
        if rank > 0:
            assert object_loads["LOADDirect"] == 0, where
            assert object_loads["LOADFile"] == steps[7][0], where


@several
def test_counts_other_ranks_load_next_to_nothing_directly(
    timed, stock, program, ranks, nodes
):
    """Only what the interpreter has loaded before the launcher runs, and
    the launcher's own files, at most three."""
    before = stock(["-S", program(COUNT + "report(modules_from_files())\n")])
    assert before.status == 0, before
    main = program(COUNT + WITHOUT_CYTHON + AT_END)
    result, _ = timed(ranks, [main], nodes=nodes)
    for rank in range(1, ranks):
        _, loads = result.reports[rank]
        assert loads["LOADDirect"] <= before.reports[0] + 3, str(result)
        assert loads["LOADFile"] > 50, str(result)


# --- JSON


@layouts
def test_json_has_the_schema(timed, program, ranks, nodes):
    result, entries = timed(ranks, [program("import csv\n")], nodes=nodes)
    assert [entry["rank"] for entry in entries] == list(range(ranks)), str(
        result
    )
    for entry in entries:
        assert set(entry["phases"]) >= {*PHASES, "ALL"}, f"{entry}{result}"
        for name, (seconds, count) in entry["phases"].items():
            assert isinstance(seconds, float), f"{name}{result}"
            assert seconds >= 0.0, f"{name}{result}"
            assert type(count) is int, f"{name}{result}"
            assert count >= 0, f"{name}{result}"
        for name in COUNTERS:
            assert type(entry[name]) is int, f"{name}: {entry}{result}"
            assert entry[name] >= 0, f"{name}: {entry}{result}"


@several
def test_json_only_root_reads(timed, program, tmp_path, ranks, nodes):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("VALUE = 1\n" * 20_000)
    main = program(NUMERIC + "import package\n")
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    result, entries = timed(ranks, [main], nodes=nodes, env=env)
    size = (package / "__init__.py").stat().st_size
    root, others = entries[0], entries[1:]
    assert root["operations"] > 0, str(result)
    assert root["bytes_read"] > size, str(result)
    for entry in others:
        assert entry["operations"] == 0, f"{entry}{result}"
        assert entry["bytes_read"] == 0, f"{entry}{result}"
        assert entry["avoided"] > 500, f"{entry}{result}"
        assert entry["phases"]["IO"][1] == 0, f"{entry}{result}"
    if nodes == "each":
        assert root["bytes_sent"] > 1_000_000, str(result)
    assert max(entry["store_bytes"] for entry in entries) > 1_000_000, str(
        result
    )
    assert max(entry["mirror_bytes"] for entry in entries) > 1_000_000, str(
        result
    )


@pytest.mark.parametrize("value", [0, 3])
def test_json_exit_status_is_kept(timed, program, value):
    main = program(f"import sys\n\nsys.exit({value})\n")
    _, entries = timed(3, [main], status=value, nodes="two")
    assert len(entries) == 3


def test_json_file_cannot_be_written_message_and_status_kept(
    launch, program, tmp_path
):
    file = tmp_path / "nowhere" / "timing.json"
    result = launch(2, [f"--timing={file}", program("report(1)\n")])
    assert result.status == 0, str(result)
    assert result.reports == {0: 1, 1: 1}, str(result)
    assert str(file) in result.stderr, str(result)
    assert "Traceback" not in result.stderr, str(result)


# --- a rank that is gone


@several
@pytest.mark.parametrize(
    "end",
    [
        "os.kill(os.getpid(), 9)",
        "os._exit(5)",
        "raise RuntimeError('on purpose')",
    ],
    ids=["sigkill", "_exit", "exception"],
)
def test_report_rank_died_job_ends(
    launch, program, tmp_path, ranks, nodes, end
):
    """The others stand at their end already, and wait for the report."""
    main = program(
        f"import time\n\nif RANK == 1:\n    time.sleep(1)\n    {end}\n"
    )
    file = tmp_path / "timing.json"
    result = launch(ranks, [f"--timing={file}", main], nodes=nodes)
    assert result.status != 0, str(result)
