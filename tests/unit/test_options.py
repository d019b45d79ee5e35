"""The launchers' command line and environment (src/options.py)."""

import ast
import importlib.util
import itertools
import pathlib
import re
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(__file__).parents[2] / "src" / "options.py"


def load():
    spec = importlib.util.spec_from_file_location("options", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


options = load()
parse, UsageError = options.parse, options.UsageError

PYTHON_CASES = [
    (["-b", "x.py"], ["-b"]),
    (["-bb", "x.py"], ["-b", "-b"]),
    (["-BEiOPqsux", "x.py"], "-B -E -i -O -P -q -s -u -x".split()),
    (["-OO", "x.py"], ["-O", "-O"]),
    (
        ["-O", "-W", "error", "-Xdev", "-u", "x.py"],
        ["-O", "-W", "error", "-X", "dev", "-u"],
    ),
    (["-Wignore", "-Wdefault", "x.py"], ["-W", "ignore", "-W", "default"]),
    (["-uWignore", "x.py"], ["-u", "-W", "ignore"]),
    (["-OX", "dev", "x.py"], ["-O", "-X", "dev"]),
    (["-W", "-O", "x.py"], ["-W", "-O"]),
    (["-W", "", "x.py"], ["-W", ""]),
    (
        ["--check-hash-based-pycs", "never", "x.py"],
        ["--check-hash-based-pycs", "never"],
    ),
    (["-Rt", "x.py"], ["-R", "-t"]),
]


@pytest.mark.parametrize("argv, expected", PYTHON_CASES)
def test_options_of_python_are_normalised_in_order(argv, expected):
    found = parse(argv, {})
    assert found.python_options == expected
    assert (found.program, found.value) == ("script", "x.py")


STATE = (
    "import sys; print(sys.flags, sys.argv, sys.warnoptions, sys._xoptions)"
)


@pytest.mark.parametrize(
    "argv",
    [
        ["-OuBc", STATE, "-O", "arg"],
        ["-bbsE", "-Wignore", "-XdevX", "-c", STATE],
        ["-Xutf8=1", "-W", "error", "-P", "-q", "-c" + STATE, "--", "-"],
        ["--check-hash-based-pycs", "always", "-OOc", STATE],
        ["-X", "dev", "-BRt", "-c", STATE, "-c", "x"],
    ],
)
def test_options_normalised_mean_the_same_to_python(argv):
    found = parse(argv, {})
    again = [*found.python_options, "-c", found.value, *found.args]
    outputs = [
        subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for words in (argv, again)
    ]
    assert outputs[0] and outputs[0] == outputs[1]


@pytest.mark.parametrize(
    "argv, program, value, args",
    [
        ([], "none", None, []),
        (["-O"], "none", None, []),
        (["--"], "none", None, []),
        (["a.py"], "script", "a.py", []),
        (
            ["a.py", "-O", "-v", "--", "-"],
            "script",
            "a.py",
            ["-O", "-v", "--", "-"],
        ),
        (["--", "-c", "x"], "script", "-c", ["x"]),
        (["-u", "--", "a.py", "-u"], "script", "a.py", ["-u"]),
        ([""], "script", "", []),
        (["-"], "stdin", None, []),
        (["-u", "-", "a", "-"], "stdin", None, ["a", "-"]),
        (["--", "-", "a"], "stdin", None, ["a"]),
        (["-c", "code", "-m", "x"], "command", "code", ["-m", "x"]),
        (["-ccode"], "command", "code", []),
        (["-Ouc", "code", "a"], "command", "code", ["a"]),
        (["-Oucu"], "command", "u", []),
        (["-c", ""], "command", "", []),
        (["-c", "-", "--"], "command", "-", ["--"]),
        (
            ["-m", "pkg.mod", "-v", "--help"],
            "module",
            "pkg.mod",
            ["-v", "--help"],
        ),
        (["-mfoo", "a"], "module", "foo", ["a"]),
        (["-umfoo"], "module", "foo", []),
    ],
)
def test_options_program_and_arguments(argv, program, value, args):
    found = parse(argv, {})
    assert (found.program, found.value, found.args) == (program, value, args)


def test_options_defaults_without_anything():
    found = parse([], {})
    assert found.python_options == [] and found.no_site is False
    assert found.mpi is None and found.tmpdir is None
    assert found.verbose == 0 and found.direct is False
    assert found.timing is None and found.strategy == "all"
    assert found.share == [] and found.local == []
    assert found.version_level == 0


def test_options_parse_leaves_its_inputs_alone():
    argv, environ = ["-O", "a.py", "b"], {"PYTHON_MPI_MPI": "abi"}
    parse(argv, environ)
    assert argv == ["-O", "a.py", "b"]
    assert environ == {"PYTHON_MPI_MPI": "abi"}


def test_options_results_are_independent():
    parse([], {}).python_options.append("-O")
    assert parse([], {}).python_options == []


@pytest.mark.parametrize("argv", [["-S", "a.py"], ["-OSu", "a.py"]])
def test_options_no_site_is_kept_from_python(argv):
    found = parse(argv, {})
    assert found.no_site is True
    assert "-S" not in found.python_options


@pytest.mark.parametrize(
    "argv, level",
    [
        (["-V"], 1),
        (["--version"], 1),
        (["-VV"], 2),
        (["-V", "--version"], 2),
        (["-VVV"], 2),
        (["-qV"], 1),
        (["-V", "a.py"], 1),
        (["-V", "-c", "x"], 1),
    ],
)
def test_options_version_levels(argv, level):
    found = parse(argv, {})
    assert (found.program, found.version_level) == ("version", level)
    assert found.value is None


@pytest.mark.parametrize(
    "argv",
    [
        ["-h"],
        ["-?"],
        ["--help"],
        ["-Vh"],
        ["-hV"],
        ["--help-all"],
        ["--help-env"],
        ["--help-xoptions"],
        ["-Oh", "a.py"],
    ],
)
def test_options_help_comes_before_everything(argv):
    assert parse(argv, {}).program == "help"


@pytest.mark.parametrize("argv", [["-h"], ["-V"]])
def test_options_bad_variable_does_not_hide_the_help(argv):
    parse(argv, {"PYTHON_MPI_STRATEGY": "bogus"})
    with pytest.raises(UsageError):
        parse(["a.py"], {"PYTHON_MPI_STRATEGY": "bogus"})


VALUE_FORMS = {
    "mpi": (
        ["-I", "VALUE"],
        ["-IVALUE"],
        ["--mpi", "VALUE"],
        ["--mpi=VALUE"],
        ["-OIVALUE"],
        ["-uvI", "VALUE"],
    ),
    "tmpdir": (
        ["-T", "VALUE"],
        ["-TVALUE"],
        ["--tmpdir", "VALUE"],
        ["--tmpdir=VALUE"],
        ["-dT", "VALUE"],
    ),
    "strategy": (["--strategy", "VALUE"], ["--strategy=VALUE"]),
    "share": (["--share", "VALUE"], ["--share=VALUE"]),
    "local": (["--local", "VALUE"], ["--local=VALUE"]),
    "timing": (["--timing=VALUE"],),
}
VALUES = {
    "mpi": ["mpich", "/opt/mpi=5/libmpi.so"],
    "tmpdir": ["/dev/shm", "relative=dir"],
    "strategy": ["none", "names", "all"],
    "share": ["/a=b"],
    "local": ["/a=b"],
    "timing": ["out.json", "a=b.json"],
}
FORMS = [
    (name, form, value)
    for name in VALUE_FORMS
    for form, value in itertools.product(VALUE_FORMS[name], VALUES[name])
]


@pytest.mark.parametrize("name, form, value", FORMS)
def test_options_values_in_every_form(name, form, value):
    argv = [word.replace("VALUE", value) for word in form]
    found = parse([*argv, "a.py", "x"], {})
    expected = [value] if name in ("share", "local") else value
    assert getattr(found, name) == expected
    assert (found.value, found.args) == ("a.py", ["x"])


@pytest.mark.parametrize("name, form, value", FORMS)
def test_options_win_over_variables(name, form, value):
    other = {
        "mpi": "abi",
        "tmpdir": "/else",
        "strategy": "names",
        "timing": "else.json",
        "share": "/else",
        "local": "/else",
    }[name]
    argv = [word.replace("VALUE", value) for word in form]
    environ = {"PYTHON_MPI_" + name.upper(): other}
    found = getattr(parse([*argv, "a.py"], environ), name)
    if name in ("share", "local"):
        assert found == [other, value]
    else:
        assert found == value


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("mpi", "openmpi", "openmpi"),
        ("tmpdir", "/dev/shm", "/dev/shm"),
        ("verbose", "0", 0),
        ("verbose", "3", 3),
        ("direct", "0", False),
        ("direct", "1", True),
        ("timing", "1", True),
        ("timing", "0", None),
        ("timing", "t.json", "t.json"),
        ("strategy", "none", "none"),
        ("share", "/a:/b/c", ["/a", "/b/c"]),
        ("local", "/a:/b/c", ["/a", "/b/c"]),
    ],
)
def test_options_from_variables(name, text, expected):
    for argv in (["a.py"], ["-E", "a.py"], ["-c", "x"], []):
        found = parse(argv, {"PYTHON_MPI_" + name.upper(): text})
        assert getattr(found, name) == expected
        assert type(getattr(found, name)) is type(expected)


@pytest.mark.parametrize(
    "name",
    [
        "mpi",
        "tmpdir",
        "verbose",
        "direct",
        "timing",
        "strategy",
        "share",
        "local",
    ],
)
def test_options_empty_variable_counts_as_unset(name):
    found = parse([], {"PYTHON_MPI_" + name.upper(): ""})
    assert getattr(found, name) == getattr(parse([], {}), name)


def test_options_verbose_and_direct_count_and_win():
    environ = {"PYTHON_MPI_VERBOSE": "5", "PYTHON_MPI_DIRECT": "0"}
    found = parse(["-vv", "-v", "--verbose", "-d"], environ)
    assert (found.verbose, found.direct) == (4, True)
    assert parse(["--direct"], environ).direct is True
    assert found.python_options == []


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["--timing"], True),
        (["--timing=0"], None),
        (["--timing=1"], True),
        (["--timing", "a.json"], True),
        (["--timing=x", "--timing"], True),
    ],
)
def test_options_timing_takes_no_separate_file(argv, expected):
    assert parse(argv, {"PYTHON_MPI_TIMING": "env.json"}).timing == expected


def test_options_last_value_wins():
    assert parse(["-Iabi", "--mpi=mpich"], {}).mpi == "mpich"


def test_options_prefixes_are_joined_and_normalised():
    found = parse(
        ["--share=/b//c/./:/d/", "--share", "/e::/d", "--local=/"],
        {"PYTHON_MPI_SHARE": "/z:/d", "PYTHON_MPI_LOCAL": "/y/"},
    )
    assert found.share == ["/z", "/b/c", "/d", "/e"]
    assert found.local == ["/y", "/"]


def test_options_prefix_on_the_line_overrides_the_opposite_variable():
    environ = {"PYTHON_MPI_SHARE": "/a:/b", "PYTHON_MPI_LOCAL": "/c"}
    found = parse(["--local=/a/", "--share=/c"], environ)
    assert (found.share, found.local) == (["/b", "/c"], ["/a"])


@pytest.mark.parametrize(
    "argv, environ, words",
    [
        (["--share=/a", "--local=/b:/a/"], {}, ["/a", "--share", "--local"]),
        (
            [],
            {"PYTHON_MPI_SHARE": "/a", "PYTHON_MPI_LOCAL": "/a"},
            ["/a", "PYTHON_MPI_SHARE", "PYTHON_MPI_LOCAL"],
        ),
        (["--share=lib"], {}, ["--share", "absolute", "'lib'", "relative"]),
        (["--local=/a:lib"], {}, ["--local", "absolute", "'lib'", "relative"]),
        (
            [],
            {"PYTHON_MPI_SHARE": "~/x"},
            ["PYTHON_MPI_SHARE", "absolute", "'~/x'", "relative"],
        ),
        (
            [],
            {"PYTHON_MPI_LOCAL": "./x"},
            ["PYTHON_MPI_LOCAL", "absolute", "'./x'", "relative"],
        ),
        (["--share=/a/../b"], {}, ["--share", "'..'", "/a/../b"]),
        ([], {"PYTHON_MPI_VERBOSE": "yes"}, ["PYTHON_MPI_VERBOSE", "'yes'"]),
        ([], {"PYTHON_MPI_VERBOSE": "-1"}, ["PYTHON_MPI_VERBOSE", "'-1'"]),
        ([], {"PYTHON_MPI_VERBOSE": "\u0663"}, ["PYTHON_MPI_VERBOSE"]),
        (
            [],
            {"PYTHON_MPI_DIRECT": "yes"},
            ["PYTHON_MPI_DIRECT", "'0' or '1'", "'yes'"],
        ),
        (
            [],
            {"PYTHON_MPI_STRATEGY": "some"},
            ["PYTHON_MPI_STRATEGY", "'none', 'names', or 'all'", "'some'"],
        ),
        (["--strategy=All"], {}, ["--strategy", "'none', 'names', or 'all'"]),
        (["-I", "-c", "x"], {}, ["-I ", "'-c'", "-E -s -P"]),
        (["-I", "app.py"], {}, ["-I ", "'app.py'", "-E -s -P"]),
        ([], {"PYTHON_MPI_MPI": "-x"}, ["PYTHON_MPI_MPI", "'-x'"]),
    ],
)
def test_options_bad_value_is_refused_by_name(argv, environ, words):
    with pytest.raises(UsageError) as caught:
        parse([*argv, "a.py"], environ)
    for word in words:
        assert word in str(caught.value)


def test_options_bad_variable_is_no_matter_where_an_option_wins():
    environ = {"PYTHON_MPI_STRATEGY": "some", "PYTHON_MPI_VERBOSE": "x"}
    found = parse(["--strategy=none", "-v"], environ)
    assert (found.strategy, found.verbose) == ("none", 1)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["-Z"], "Unknown option: -Z"),
        (["-OZu", "a.py"], "Unknown option: -Z"),
        (["-V", "-Z"], "Unknown option: -Z"),
        (["-h", "-Z"], "Unknown option: -Z"),
        (["-J"], "Unknown option: -J"),
        (["-O-"], "expected long option"),
        (["--zzz"], "unknown option --zzz"),
        (["--zzz=1", "a.py"], "unknown option --zzz=1"),
        (["--manifest", "none"], "unknown option --manifest"),
        (["--manifest=none"], "unknown option --manifest=none"),
        (["--version=1"], "unknown option --version=1"),
        (["--verbose=2"], "unknown option --verbose=2"),
        (
            ["--check-hash-based-pycs=never"],
            "unknown option --check-hash-based-pycs=never",
        ),
        (["-c"], "Argument expected for the -c option"),
        (["-Ouc"], "Argument expected for the -c option"),
        (["-m"], "Argument expected for the -m option"),
        (["-W"], "Argument expected for the -W option"),
        (["-O", "-uX"], "Argument expected for the -X option"),
        (["-I"], "Argument expected for the -I option"),
        (["-I", "", "a.py"], "Argument expected for the -I option"),
        (["-vT"], "Argument expected for the -T option"),
        (["--tmpdir"], "Argument expected for the --tmpdir option"),
        (["--tmpdir=", "a.py"], "Argument expected for the --tmpdir option"),
        (["--mpi="], "Argument expected for the --mpi option"),
        (["--share", ""], "Argument expected for the --share option"),
        (["--timing="], "Argument expected for the --timing option"),
        (
            ["--check-hash-based-pycs"],
            "Argument expected for the --check-hash-based-pycs option",
        ),
        (
            ["--check-hash-based-pycs", "x"],
            "--check-hash-based-pycs must be one of 'default', 'always', or "
            "'never', not 'x'",
        ),
    ],
)
def test_options_errors_read_as_pythons(argv, message):
    with pytest.raises(UsageError) as caught:
        parse(argv, {})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "argv",
    [
        ["-Z"],
        ["-OZu"],
        ["--zzz"],
        ["--zzz=1"],
        ["-c"],
        ["-Ouc"],
        ["-m"],
        ["-W"],
        ["-uX"],
        ["--version=1"],
        ["--check-hash-based-pycs=never"],
        ["-V", "-Z"],
        ["-O-"],
    ],
)
def test_options_errors_equal_those_of_the_interpreter(argv):
    with pytest.raises(UsageError) as caught:
        parse(argv, {})
    stock = subprocess.run(
        [sys.executable, *argv],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    assert stock.stderr.splitlines()[0] == str(caught.value)


def test_options_repr_names_every_attribute():
    shown = repr(parse(["-O", "a.py"], {}))
    assert all(f"{name}=" in shown for name in options.Options.__slots__)


def test_options_import_nothing():
    tree = ast.parse(SOURCE.read_text())
    imported = {
        getattr(node, "module", None) or alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert imported <= {"sys"}


def test_help_fits_and_ends_with_one_newline():
    text = options.help_text()
    assert max(map(len, text.splitlines())) <= 79
    assert text.isascii() and "\t" not in text
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_help_names_every_option_and_variable():
    text = options.help_text()
    listed = set(re.findall(r"(?<![\w-])--?[A-Za-z?][a-z-]*", text))
    for letter in options._PYTHON_FLAGS + "WXcmITvdShV?":
        if letter not in "Rt":
            assert f"-{letter}" in listed, letter
    words = {*options._VALUE_WORDS, *options._COUNT_WORDS}
    words -= {"--help-env", "--help-xoptions"}
    assert words | {"--timing", "--check-hash-based-pycs"} <= listed
    for name in options._VARIABLES:
        assert f"PYTHON_MPI_{name.upper()}=" in text
    assert "--manifest" not in text


def test_help_explains_the_options_that_are_taken():
    text = options.help_text()
    assert "Python's -I, -v and -d are not available" in text
    assert "use -E -s -P" in text


def test_help_examples_parse():
    lines = options.help_text().partition("Examples:\n")[2].splitlines()
    assert len(lines) == 3
    for line in lines:
        command = line.partition("python-mpi.py ")[2]
        assert parse(command.split(), {}).program != "none"


def test_help_lists_all_short_options_of_the_running_python():
    stock = subprocess.run(
        [sys.executable, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    letters = re.findall(r"^-([A-Za-z])\b", stock, re.MULTILINE)
    assert len(set(letters)) > 15
    for letter in letters:
        try:
            parse([f"-{letter}", "default", "a.py"], {})
        except UsageError as error:
            pytest.fail(f"-{letter}: {error}")
