"""The command line: what plain Python does with it, and our own options."""

import json
import re
import zipfile

import pytest

several = pytest.mark.parametrize(
    ("ranks", "nodes"), [(1, "one"), (2, "one"), (3, "each")]
)

# What a program can see of how it was started.
SEEN = '''
import faulthandler
import importlib.machinery
import subprocess
import sys
import warnings


def flags():
    names = [name for name in dir(sys.flags) if not name.startswith("_")]
    skip = ("count", "index", "n_fields", "n_sequence_fields")
    skip += ("n_unnamed_fields",)
    return {
        name: getattr(sys.flags, name) for name in names if name not in skip
    }


def filters():
    return [
        (
            action,
            getattr(text, "pattern", text),
            category.__name__,
            getattr(module, "pattern", module),
            line,
        )
        for action, text, category, module, line in warnings.filters
    ]


def documented():
    """Text that -OO takes away."""


def asserts():
    try:
        assert False
    except AssertionError:
        return True
    return False


def main_module():
    main = sys.modules["__main__"]
    spec = main.__spec__
    return {
        "is main": main.__dict__ is globals(),
        "names": sorted(
            name for name in vars(main) if name.startswith("__")
        ),
        "name": main.__name__,
        "doc": main.__doc__,
        "package": main.__package__,
        "file": getattr(main, "__file__", None),
        "cached": getattr(main, "__cached__", None),
        "spec": spec and (spec.name, spec.origin, spec.cached, spec.parent),
        "source loader": isinstance(
            main.__loader__, importlib.machinery.SourceFileLoader
        ),
    }


SEEN = {
    "flags": flags(),
    "filters": filters(),
    "doc": documented.__doc__,
    "asserts": asserts(),
    "debug": __debug__,
    "main": main_module(),
    "argv": sys.argv,
    "path": sys.path,
    "executable": sys.executable,
    "prefix": sys.prefix,
    "warnoptions": sys.warnoptions,
    "xoptions": dict(sys._xoptions),
    "dont_write_bytecode": sys.dont_write_bytecode,
    "pycache_prefix": sys.pycache_prefix,
    "write_through": [sys.stdout.write_through, sys.stderr.write_through],
    "line_buffering": [sys.stdout.line_buffering, sys.stderr.line_buffering],
    "faulthandler": faulthandler.is_enabled(),
    "for children": subprocess._args_from_interpreter_flags(),
}
'''
REPORT_SEEN = SEEN + "report(SEEN)\n"


def check_seen(result, expected, ranks):
    """Every rank has seen what plain Python, alone, has seen."""
    assert expected.status == 0, str(expected)
    assert result.status == 0, str(result)
    assert sorted(result.reports) == list(range(ranks)), str(result)
    for rank in range(ranks):
        for name, value in expected.reports[0].items():
            found = result.reports[rank][name]
            assert found == value, f"rank {rank}, {name}{result}"


# --- interpreter options

OPTIONS = [
    [],
    ["-O"],
    ["-OO"],
    ["-u"],
    ["-B"],
    ["-W", "error"],
    ["-Werror"],
    ["-W", "ignore::DeprecationWarning", "-W", "error::UserWarning"],
    ["-X", "dev"],
    ["-X", "dev", "-W", "ignore"],
    ["-X", "own=value", "-Xother"],
    ["-X", "pycache_prefix=/nonexistent/cache", "-B"],
    ["-b"],
    ["-bb"],
    ["-q"],
    ["-s"],
    ["-E"],
    ["-P"],
    ["-OB"],
    ["-uOO", "-W", "error"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_interpreter_option_same_effect_as_stock(
    launch, stock, program, options
):
    args = [*options, program(REPORT_SEEN), "one", "two"]
    check_seen(launch(2, args, nodes="each"), stock(args), 2)


ENVIRONMENTS = [
    {"PYTHONOPTIMIZE": "2"},
    {"PYTHONDONTWRITEBYTECODE": "1"},
    {"PYTHONUNBUFFERED": "1"},
    {"PYTHONWARNINGS": "error"},
    {"PYTHONDEVMODE": "1"},
    {"PYTHONSAFEPATH": "1"},
]


@pytest.mark.parametrize("env", ENVIRONMENTS, ids=lambda env: next(iter(env)))
def test_python_variable_same_effect_as_stock(launch, stock, program, env):
    args = [program(REPORT_SEEN)]
    result = launch(2, args, nodes="each", env=env)
    check_seen(result, stock(args, env=env), 2)


@pytest.mark.parametrize("option", ["-O", "-OO", "-B"])
def test_interpreter_option_same_bytecode_written(
    launch, stock, program, tmp_path, option
):
    """The same files in __pycache__, and asserts gone in modules too."""
    text = (
        "'''Text.'''\n\n"
        "def asserts():\n"
        "    try:\n        assert False\n"
        "    except AssertionError:\n        return True\n"
        "    return False\n"
    )
    main = program(
        "import module\n\n"
        "report((module.asserts(), module.__doc__, module.__cached__))\n"
    )
    (tmp_path / "module.py").write_text(text)
    cache = tmp_path / "__pycache__"

    def written():
        files = sorted(path.name for path in cache.glob("*"))
        for name in files:
            (cache / name).unlink()
        return files

    expected = stock([option, main])
    files = written()
    result = launch(2, [option, main], nodes="each")
    assert result.status == 0, str(result)
    assert result.reports == dict.fromkeys(range(2), expected.reports[0])
    assert written() == files, str(result)


def test_warning_as_error_in_module_raises(launch, stock, program, tmp_path):
    (tmp_path / "module.py").write_text(
        "import warnings\n\nwarnings.warn('on purpose')\n"
    )
    main = program(
        "try:\n    import module\n"
        "except UserWarning as error:\n    report(repr(error))\n"
    )
    result = launch(2, ["-W", "error", main])
    assert result.status == 0, str(result)
    assert result.reports == dict.fromkeys(
        range(2), "UserWarning('on purpose')"
    ), str(result)


# --- what to run


@several
def test_script_with_arguments_as_stock(launch, stock, program, ranks, nodes):
    """What follows the script is the script's, whatever it looks like."""
    args = [
        program(REPORT_SEEN),
        "--timing", "-d", "-T", "--help", "-c", "", "a b", "--", "-",
    ]  # fmt: skip
    check_seen(launch(ranks, args, nodes=nodes), stock(args), ranks)


@several
def test_script_by_relative_path_and_link_as_stock(
    launch, stock, program, tmp_path, ranks, nodes
):
    program("import neighbour\n" + REPORT_SEEN, "deep/main.py")
    (tmp_path / "deep" / "neighbour.py").write_text("")
    (tmp_path / "link.py").symlink_to("deep/main.py")
    for name in ("deep/main.py", "deep/../link.py", "link.py"):
        args = [name, "one"]
        check_seen(launch(ranks, args, nodes=nodes), stock(args), ranks)


TEXTS = {
    "cookie": b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\n",
    "mark": b"\xef\xbb\xbfprint(ascii('\xc3\xa9'))\n",
    "dos": b'print(1)\r\nif True:\r\n    print(ascii("""a\r\nb"""))\r\n',
    "no end": b"print(1)",
    "nothing": b"",
    "future": b"from __future__ import annotations\n"
    b"def f(a: nothing): pass\nprint(f.__annotations__)\n",
}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("text", TEXTS)
def test_text_of_a_script_as_stock(launch, stock, tmp_path, text, ranks):
    (tmp_path / "main.py").write_bytes(TEXTS[text])
    expected = stock(["main.py"])
    result = launch(ranks, ["main.py"])
    assert expected.status == 0 and result.status == 0, str(result)
    assert result.lines() == sorted(expected.stdout.splitlines() * ranks)


@pytest.mark.parametrize(
    "text",
    [b"print('\xe9')\n", b"# coding: nope\n", b"print(1)\0\n", b"print((\n"],
)
@pytest.mark.parametrize("ranks", [1, 2])
def test_script_that_is_no_program_is_an_error(launch, tmp_path, text, ranks):
    (tmp_path / "main.py").write_bytes(text)
    result = launch(ranks, ["main.py"])
    assert result.status == 1 and not result.stdout, str(result)
    assert result.stderr.count("SyntaxError: ") == 1, str(result)


def test_script_without_suffix_as_stock(launch, stock, program):
    args = [program(REPORT_SEEN, "main")]
    check_seen(launch(2, args, nodes="each"), stock(args), 2)


@several
def test_command_as_stock(launch, stock, program, ranks, nodes):
    text = program(REPORT_SEEN).read_text()
    args = ["-c", text, "-O", "--timing", "two"]
    result = launch(ranks, args, nodes=nodes)
    check_seen(result, stock(args), ranks)
    assert result.reports[0]["argv"] == ["-c", "-O", "--timing", "two"]


def test_command_joined_with_other_options_as_stock(launch, stock, program):
    text = program(REPORT_SEEN).read_text()
    args = ["-OBc", text, "one"]
    check_seen(launch(2, args), stock(args), 2)


@several
def test_stdin_as_stock(launch, stock, program, ranks, nodes):
    """Rank 0 reads the program, and all ranks run it."""
    text = program(REPORT_SEEN).read_text()
    args = ["-", "one", "--timing"]
    result = launch(ranks, args, nodes=nodes, stdin=text)
    check_seen(result, stock(args, stdin=text), ranks)
    assert result.reports[0]["argv"] == args


def test_stdin_of_a_script_is_left_to_rank_0(launch, program):
    main = program(
        "import sys\n\nif RANK == 0:\n    report(sys.stdin.read())\n"
    )
    text = "a line\nand another\n"
    result = launch(3, [main], stdin=text)
    assert result.reports == {0: text}, str(result)


@several
@pytest.mark.parametrize(
    "name", ["package", "package.module", "package.inner", "single"]
)
def test_module_as_stock(launch, stock, program, tmp_path, ranks, nodes, name):
    program(REPORT_SEEN, "package/__main__.py")
    program(REPORT_SEEN, "package/module.py")
    program(REPORT_SEEN, "package/inner/__main__.py")
    program(REPORT_SEEN, "single.py")
    (tmp_path / "package" / "__init__.py").write_text("")
    args = ["-m", name, "one", "-m", "--timing"]
    check_seen(launch(ranks, args, nodes=nodes), stock(args), ranks)


@pytest.mark.parametrize(
    "name", ["there_is_no_such_module", "bare", "bare.missing", "no.such"]
)
def test_module_not_found_as_stock(launch, stock, tmp_path, name):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "__init__.py").write_text("")
    args = ["-m", name]
    expected = stock(args)
    result = launch(3, args, nodes="two")
    assert result.status == expected.status == 1, f"{result}{expected}"
    message = expected.stderr.strip().rpartition("python")[2]
    message = message[message.index(": ") + 2 :]
    assert message in result.stderr, f"{result}{expected}"
    assert "Traceback" not in result.stderr, str(result)


@several
@pytest.mark.parametrize("kind", ["directory", "zip"])
def test_directory_and_zip_as_stock(
    launch, stock, program, tmp_path, ranks, nodes, kind
):
    main = program("import beside\n" + REPORT_SEEN, "directory/__main__.py")
    beside = main.with_name("beside.py")
    beside.write_text("VALUE = 1\n")
    target = tmp_path / "directory"
    if kind == "zip":
        target = tmp_path / "archive.zip"
        with zipfile.ZipFile(target, "w") as archive:
            archive.write(main, "__main__.py")
            archive.write(beside, "beside.py")
    args = [target, "one", "--timing"]
    check_seen(launch(ranks, args, nodes=nodes), stock(args), ranks)


@pytest.mark.parametrize("kind", ["directory", "zip"])
def test_directory_and_zip_without_main_as_stock(
    launch, stock, tmp_path, kind
):
    target = tmp_path / kind
    if kind == "zip":
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("other.py", "")
    else:
        target.mkdir()
    expected = stock([target])
    message = expected.stderr[expected.stderr.index("can't find") :].strip()
    result = launch(3, [target], nodes="two")
    assert result.status == expected.status == 1, f"{result}{expected}"
    assert message in result.stderr, f"{result}{expected}"
    assert "Traceback" not in result.stderr, str(result)


# --- our own options


def test_help_is_on_stdout(launch):
    result = launch(1, ["--help"])
    assert result.status == 0, str(result)
    assert "usage" in result.stdout.lower(), str(result)
    for option in ("--timing", "--strategy", "--share", "--local", "-T"):
        assert option in result.stdout, str(result)
    assert result.stderr == "", str(result)


def test_version_is_on_stdout(launch):
    result = launch(1, ["--version"])
    assert result.status == 0, str(result)
    assert re.search(r"\b\d+\.\d+", result.stdout), str(result)
    assert result.stderr == "", str(result)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--frobnicate", "-c", "pass"], "--frobnicate"),
        (["-Z", "-c", "pass"], "Z"),
        (["--strategy", "bogus", "-c", "pass"], "bogus"),
        (["--strategy=bogus", "-c", "pass"], "bogus"),
        (["-c"], "-c"),
        (["-m"], "-m"),
        (["-T"], "-T"),
        (["--strategy"], "--strategy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("ranks", [1, 3])
def test_bad_option_status_2_and_message(launch, ranks, args, named):
    result = launch(ranks, args)
    assert result.status == 2, str(result)
    assert result.stdout == "", str(result)
    assert named in result.stderr, str(result)
    assert "Traceback" not in result.stderr, str(result)


def test_bad_variable_status_2_and_message(launch):
    env = {"PYTHON_MPI_STRATEGY": "bogus"}
    result = launch(2, ["-c", "pass"], env=env)
    assert result.status == 2, str(result)
    assert "bogus" in result.stderr, str(result)
    assert "Traceback" not in result.stderr, str(result)


STRATEGIES = [
    (["--strategy", "none"], {}),
    (["--strategy=names"], {}),
    (["--strategy", "all"], {}),
    (["-d"], {}),
    ([], {"PYTHON_MPI_STRATEGY": "none"}),
    ([], {"PYTHON_MPI_STRATEGY": "names"}),
    ([], {"PYTHON_MPI_STRATEGY": "all"}),
    (["--strategy", "all"], {"PYTHON_MPI_STRATEGY": "names"}),
]


@pytest.mark.parametrize(("options", "env"), STRATEGIES)
def test_strategy_right_result(launch, stock_job, apps, options, env):
    app = apps / "spectrum.py"
    result = launch(3, [*options, app], nodes="two", env=env)
    expected = stock_job(1, [app])
    assert result.status == 0, str(result)
    assert result.stdout == expected.stdout, f"{result}{expected}"
    assert result.stderr == "", str(result)


@pytest.mark.parametrize(
    "options",
    [["--strategy=none"], ["--strategy=names"], ["-d"]],
    ids=" ".join,
)
def test_strategy_alone_right_result(launch, stock_job, apps, options):
    app = apps / "spectrum.py"
    result = launch(1, [*options, app])
    assert result.status == 0, str(result)
    assert result.stdout == stock_job(1, [app]).stdout, str(result)


@pytest.mark.parametrize(
    "options", [["--strategy=names"], ["-d"]], ids=" ".join
)
def test_strategy_diverging_imports_right_result(
    launch, stock_job, apps, options
):
    app = apps / "diverge.py"
    result = launch(3, [*options, app], nodes="each")
    expected = stock_job(3, [app])
    assert result.status == 0, str(result)
    assert result.stdout == expected.stdout, f"{result}{expected}"


LOADS = """
import mpiimport


def loads():
    return {
        name: count
        for name, (seconds, count) in mpiimport.timings()["phases"].items()
    }


before = loads()
import package.one
import package.two

after = loads()
report({name: after[name] - before[name] for name in after})
"""


@pytest.fixture
def loads(launch, program, tmp_path):
    """How a rank that is not root loads a package of three modules.

    loads(options, env) -> phase -> count.
    """
    package = tmp_path / "package"
    package.mkdir()
    for name in ("__init__", "one", "two"):
        (package / f"{name}.py").write_text("")
    main = program(LOADS)

    def run(options, env=None):
        result = launch(2, [*options, main], nodes="each", env=env)
        assert result.status == 0, str(result)
        return result.reports[1]

    return run


@pytest.mark.parametrize(
    ("options", "env", "kind"),
    [
        ([], {}, "LOAD"),
        (["--strategy", "all"], {}, "LOAD"),
        (["--strategy", "names"], {}, "LOADDirect"),
        ([], {"PYTHON_MPI_STRATEGY": "names"}, "LOADDirect"),
        (["--strategy=all"], {"PYTHON_MPI_STRATEGY": "names"}, "LOAD"),
    ],
)
def test_strategy_decides_how_modules_are_loaded(loads, options, env, kind):
    found = loads(options, env)
    assert found[kind] == 3, found
    other = {"LOAD": "LOADDirect", "LOADDirect": "LOAD"}[kind]
    assert found[other] == 0, found


def test_share_and_local_decide_what_is_shared(loads, launch, tmp_path):
    """The longest prefix wins; an option wins over its variable."""
    shared = ":".join(launch.runner.shared_prefixes())
    unset = {"PYTHON_MPI_SHARE": None}
    package = str(tmp_path / "package")
    assert loads(["--share", shared], unset)["LOAD"] == 3
    found = loads(["--share", shared, "--local", package], unset)
    assert found["LOAD"] == 1, found
    env = {"PYTHON_MPI_LOCAL": package}
    assert loads([], env)["LOAD"] == 1
    env = {"PYTHON_MPI_LOCAL": str(tmp_path), "PYTHON_MPI_SHARE": package}
    found = loads([], env)
    assert found["LOAD"] == 2, found
    found = loads([f"--local={package}"], {"PYTHON_MPI_LOCAL": "/nowhere"})
    assert found["LOAD"] == 1, found


def test_timing_by_option_and_variable_same_file(launch, program, tmp_path):
    main = program("import csv\n")
    files = [tmp_path / f"{number}.json" for number in range(2)]
    first = launch(2, [f"--timing={files[0]}", main])
    second = launch(2, [main], env={"PYTHON_MPI_TIMING": files[1]})
    assert first.status == second.status == 0, f"{first}{second}"
    data = [json.loads(file.read_text()) for file in files]
    counts = [
        [entry["phases"]["LOAD"][1] for entry in job["ranks"]] for job in data
    ]
    assert counts[0] == counts[1], f"{data}{first}{second}"


@pytest.mark.parametrize("how", ["option", "joined", "variable", "both"])
def test_directory_of_stores_by_option_and_variable(
    launch, program, tmp_path, how
):
    """The files of a mirror are mapped from where the store has to be."""
    place = tmp_path / "place"
    place.mkdir()
    main = program(
        "import mpi4py.MPI\n\n"
        "with open('/proc/self/maps') as maps:\n"
        f"    report(any({str(place)!r} in line for line in maps))\n"
    )
    options, env = {
        "option": (["-T", place], None),
        "joined": ([f"-T{place}"], None),
        "variable": ([], place),
        "both": (["-T", place], "/nonexistent"),
    }[how]
    result = launch(
        2,
        [*options, main],
        nodes="each",
        env={"PYTHON_MPI_TMPDIR": env},
        store=place,
    )
    assert result.status == 0, str(result)
    assert result.reports[1] is True, str(result)
