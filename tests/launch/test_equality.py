"""A program sees of its interpreter what it sees under plain python3.

Each row of the table is a command line and an environment.  One program is
run with them by plain Python and as a job of three ranks on two nodes, and
what it finds in sys, os, locale, warnings and in the modules that were loaded
at the start is compared, rank by rank.
"""

import pathlib
import shutil
import subprocess
import sys
import sysconfig
from types import SimpleNamespace

import pytest

RANKS = 3

# The second part is a module by itself, so that it may be run in any way.
PROBE = """
import sys

# In development mode CPython looks this codec up for each extension module
# that it loads, and python-mpi.py has loaded one.
"text".encode("ascii")
START = dict(sys.modules)

import _imp
import _io
import _signal
import _tracemalloc
import builtins
import faulthandler
import gc
import locale
import warnings
from importlib.machinery import (
    BuiltinImporter,
    ExtensionFileLoader,
    FrozenImporter,
    SourceFileLoader,
    SourcelessFileLoader,
)

LOADERS = (
    SourceFileLoader,
    SourcelessFileLoader,
    ExtensionFileLoader,
)


def documented():
    '''Text that -OO takes away.'''
    return [None]


def asserts():
    try:
        assert False
    except AssertionError:
        return True
    return False


def attempt(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return repr(error)


def stream(name):
    file = getattr(sys, name)
    if file is None:
        return None
    return {
        "original": file is getattr(sys, f"__{name}__"),
        "buffer": type(file.buffer).__name__,
        **{
            attribute: getattr(file, attribute)
            for attribute in (
                "encoding",
                "errors",
                "line_buffering",
                "write_through",
                "newlines",
                "name",
                "mode",
            )
        },
    }


def loader_of(thing):
    loader = getattr(thing, "loader", getattr(thing, "__loader__", None))
    for kind in (BuiltinImporter, FrozenImporter):
        if loader is kind:
            return kind.__name__
    for kind in LOADERS:
        if isinstance(loader, kind):
            return kind.__name__, loader.name, loader.path
    return type(loader).__name__


def spec_of(spec):
    if spec is None:
        return None
    places = spec.submodule_search_locations
    return {
        "name": spec.name,
        "origin": spec.origin,
        "cached": spec.cached,
        "parent": spec.parent,
        "has_location": spec.has_location,
        "places": places if places is None else list(places),
        "loader": loader_of(spec),
        "initializing": getattr(spec, "_initializing", False),
    }


def codes_of(module):
    '''Where the functions of a module say that they come from.'''
    return sorted(
        (name, value.__code__.co_filename, value.__doc__)
        for name, value in vars(module).items()
        if isinstance(value, type(codes_of))
    )


def module_state(name, module):
    path = getattr(module, "__path__", None)
    loader = getattr(module, "__loader__", None)
    spec = getattr(module, "__spec__", None)
    return {
        "names": sorted(vars(module)),
        "is in its parent": "." not in name
        or getattr(
            sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], None
        )
        is module,
        "name": module.__name__,
        "package": getattr(module, "__package__", None),
        "doc": module.__doc__,
        "file": getattr(module, "__file__", None),
        "cached": getattr(module, "__cached__", None),
        "path": path if path is None else list(path),
        "loader": loader_of(module),
        "one loader": spec is None or spec.loader is loader,
        "spec": spec_of(spec),
        "codes": codes_of(module),
    }


def encoding_warnings():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _io.text_encoding(None)
    return [str(warning.message) for warning in caught]


def variables():
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PYTHON", "__PYVENV", "LC_", "LANG", "VIRTUAL"))
        and not name.startswith("PYTHON_MPI_")
    }


FLAGS = {
    name: getattr(sys.flags, name)
    for name in dir(sys.flags)
    if not name.startswith(("_", "n_")) and name not in ("count", "index")
}
# The number that the user has chosen is in use: -E and -R overrule it.
SEEDED = FLAGS["hash_randomization"] == 0 or (
    not sys.flags.ignore_environment
    and os.environ.get("PYTHONHASHSEED", "") not in ("", "0", "random")
)
CATEGORIES = {
    name: attempt(locale.setlocale, getattr(locale, name))
    for name in ("LC_ALL", "LC_CTYPE", "LC_NUMERIC", "LC_TIME", "LC_COLLATE")
}
NAMES = (
    "argv",
    "path",
    "prefix",
    "base_prefix",
    "exec_prefix",
    "base_exec_prefix",
    "executable",
    "_base_executable",
    "_home",
    "platlibdir",
    "_stdlib_dir",
    "warnoptions",
    "_xoptions",
    "dont_write_bytecode",
    "pycache_prefix",
    "version",
    "hexversion",
    "byteorder",
    "tracebacklimit",
)

REPORT = {
    **{name: getattr(sys, name, None) for name in NAMES},
    "orig_argv": sys.orig_argv,
    "flags": FLAGS,
    "flags as a tuple": tuple(sys.flags),
    "names of sys": sorted(vars(sys)),
    "names of builtins": sorted(vars(builtins)),
    "built-in": [
        name for name in sys.builtin_module_names if name != "mpiimport"
    ],
    "frozen": sorted(_imp._frozen_module_names()),
    "frozen encodings": _imp.is_frozen("encodings"),
    "hash-based": _imp.check_hash_based_pycs,
    "meta_path": [
        getattr(finder, "__name__", type(finder).__name__)
        for finder in sys.meta_path
    ],
    "hooks": [
        getattr(sys, name) is getattr(sys, f"__{name}__")
        for name in ("excepthook", "displayhook", "breakpointhook",
                     "unraisablehook")
    ],
    "filters": [repr(entry) for entry in warnings.filters],
    "streams": {name: stream(name) for name in ("stdout", "stderr", "stdin")},
    "filesystem": (
        sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    ),
    "default encoding": sys.getdefaultencoding(),
    "locale": CATEGORIES,
    "getlocale": attempt(locale.getlocale),
    "preferred": locale.getpreferredencoding(False),
    "warnings of encodings": encoding_warnings(),
    "getencoding": locale.getencoding(),
    "environment": variables(),
    "tracemalloc": (
        _tracemalloc.is_tracing(), _tracemalloc.get_traceback_limit()
    ),
    "faulthandler": faulthandler.is_enabled(),
    "digits": sys.get_int_max_str_digits(),
    "recursion": sys.getrecursionlimit(),
    "switching": sys.getswitchinterval(),
    "dlopen": sys.getdlopenflags(),
    "cpus": os.cpu_count(),
    "gc": (gc.isenabled(), gc.get_threshold(), gc.get_debug()),
    "signals": {
        name: repr(_signal.getsignal(getattr(_signal, name))).split(" at ")[0]
        for name in ("SIGINT", "SIGPIPE", "SIGXFSZ", "SIGTERM")
    },
    "umask": (os.umask(0o22), os.umask(0o22))[0],
    "directory": os.getcwd(),
    "columns": next(iter(documented.__code__.co_positions())),
    "doc": documented.__doc__,
    "asserts": asserts(),
    "debug": __debug__,
    "hash": hash("a string") if SEEDED else None,
    "started": sorted(START),
    "modules": {
        name: module_state(name, module)
        for name, module in START.items()
        if name not in ("__main__", "sys", "builtins")
    },
}
report(REPORT)
"""

# What the launchers add to sys.modules; see "Differences from plain Python".
ADDED = ("mpiimport", "atexit", "cython_runtime", "gc")
ADDED_PREFIXES = ("mpiimport.", "_cython_")


@pytest.fixture(autouse=True)
def plain_locale(monkeypatch):
    """Take away what would override a row's own locale."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place(program, tmp_path):
    """Files for all rows: place.tmp, and place.words(kind) after options."""
    text = program(PROBE).read_text()
    program(PROBE, "probe_module.py")
    program(PROBE, "app/__main__.py")
    program(PROBE, "two")
    (tmp_path / "skipped.py").write_text("no Python here:\n" + text)
    for name in ("one", "libraries"):
        (tmp_path / name).mkdir()
    words = {
        "script": [str(tmp_path / "main.py")],
        "relative": ["app/../main.py"],
        "skipped": [str(tmp_path / "skipped.py")],
        "-c": ["-c", text],
        "c": [text],
        "module": ["-m", "probe_module"],
        "m": ["probe_module"],
        "directory": [str(tmp_path / "app")],
        "stdin": ["-"],
        "nothing": [],
    }
    return SimpleNamespace(tmp=tmp_path, text=text, words=words)


def without_added(names):
    """Return the names of modules that are not the launcher's own."""
    return [
        name
        for name in names
        if name not in ADDED and not name.startswith(ADDED_PREFIXES)
    ]


def differing(expected, found, where=""):
    """Return [(where, expected, found)] for all that is not equal."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            entry
            for key in {**expected, **found}
            for entry in differing(
                expected.get(key, "nothing"),
                found.get(key, "nothing"),
                f"{where}[{key!r}]",
            )
        ]
    return [] if expected == found else [(where, expected, found)]


def shown(value, other):
    """Return what 'other' lacks of a list, for a message; else 'value'."""
    if isinstance(value, list) and isinstance(other, list):
        return [item for item in value if item not in other] or value
    return value


def check_words(launcher, expected, found, tail):
    """Compare sys.orig_argv, as far as the launcher keeps it.

    The one on the stock interpreter starts that one anew for options, and
    passes on what it has read of them.
    """
    if launcher == "python-mpi":
        assert found == expected
    else:
        end = len(found) - len(tail)
        assert found[end:] == expected[len(expected) - len(tail) :]


def check_ranks(launcher, expected, result, tail):
    """Every rank has reported what plain Python, alone, has reported."""
    assert expected.status == 0 and 0 in expected.reports, str(expected)
    assert result.status == 0, str(result)
    assert sorted(result.reports) == list(range(RANKS)), str(result)
    plain = dict(expected.reports[0])
    words = plain.pop("orig_argv")
    assert plain["executable"] == words[0]
    for rank, found in result.reports.items():
        check_words(launcher, words, found.pop("orig_argv"), tail)
        found["started"] = without_added(found["started"])
        found["modules"] = {
            name: found["modules"][name]
            for name in found["started"]
            if name in found["modules"]
        }
        wrong = differing(plain, found)
        text = "\n".join(
            f"{where}\n    plain: {shown(value, other)!r}"
            f"\n    here:  {shown(other, value)!r}"
            for where, value, other in wrong
        )
        assert not wrong, f"rank {rank}:\n{text}"


# ---- the table --------------------------------------------------------------

UTF8 = {"LANG": "C.UTF-8"}

# (how the program is given, options, variables); {tmp} is the directory of
# the test, {prefix} that of the interpreter.
TABLE = [
    ("script", [], {}),
    ("script", ["-O"], {"PYTHONNOUSERSITE": "1"}),
    ("-c", ["-OO"], {}),
    ("module", ["-B"], {"PYTHONPATH": "{tmp}/one"}),
    ("directory", ["-E"], {"PYTHONPATH": "one", "PYTHONOPTIMIZE": "1"}),
    ("script", ["-s"], {"PYTHONPATH": ""}),
    ("script", ["-S"], {"PYTHONPATH": "one:missing:"}),
    ("script", ["-P"], {}),
    ("-c", ["-P"], {}),
    ("directory", ["-P"], {}),
    ("script", ["-b", "-q"], {}),
    ("-c", ["-bb"], {"PYTHONSAFEPATH": ""}),
    ("script", ["-u"], {}),
    ("stdin", ["-u", "-O", "-P"], {}),
    ("nothing", [], {"PYTHONUNBUFFERED": "1"}),
    ("script", ["-R"], {"PYTHONHASHSEED": "0"}),
    ("script", ["-W", "error"], {}),
    (
        "-c",
        [
            *("-W", "ignore::DeprecationWarning", "-Wdefault", "-W", "once"),
            "-Werror:text:UserWarning:module",
        ],
        {"PYTHONWARNINGS": "always,ignore::ImportWarning"},
    ),
    ("script", ["-X", "dev"], {}),
    ("module", ["-Xdev", "-W", "ignore", "-b"], {}),
    ("script", ["-X", "importtime"], {}),
    ("script", ["-X", "utf8=0"], {}),
    ("-c", ["-X", "utf8=1"], {"LC_ALL": "C"}),
    ("script", ["-X", "utf8", "-X", "own=value", "-Xother"], {}),
    ("script", ["-X", "frozen_modules=off"], {}),
    ("-c", ["-X", "frozen_modules=on", "-X", "cpu_count=3"], {}),
    ("script", ["-X", "int_max_str_digits=0", "-X", "safe_path"], {}),
    ("script", ["-X", "tracemalloc"], {}),
    ("-c", ["-X", "tracemalloc=7", "-X", "faulthandler"], {}),
    ("script", ["-X", "no_debug_ranges", "-Xwarn_default_encoding"], {}),
    ("module", ["-X", "pycache_prefix={tmp}/cache"], {}),
    ("skipped", ["-x"], {}),
    ("skipped", ["-xOu", "-B"], {}),
    ("script", ["-OuB"], {}),
    ("c", ["-uc"], {}),
    ("c", ["-OBuWerror", "-bbsPc"], {}),
    ("m", ["-Om"], {}),
    ("script", ["--check-hash-based-pycs", "always"], {}),
    ("script", ["-O", "--check-hash-based-pycs", "never", "--"], {}),
    ("relative", ["--"], {}),
    ("script", ["-E", "-s", "-P"], {"PYTHONPATH": "one"}),
    ("-c", ["-EsP"], {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}),
    ("script", [], {"PYTHONPATH": "{tmp}/one:{tmp}/missing:two::./one"}),
    ("module", [], {"PYTHONPATH": "../one:{tmp}/one/../one/:{tmp}/two"}),
    ("script", [], {"PYTHONHOME": "{prefix}"}),
    ("-c", ["-O"], {"PYTHONHOME": "{prefix}:{prefix}", "PYTHONPATH": "one"}),
    ("script", [], {"PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}),
    ("directory", [], {"PYTHONPYCACHEPREFIX": "{tmp}/cache"}),
    ("script", [], {"PYTHONPYCACHEPREFIX": "cache", "PYTHONOPTIMIZE": "2"}),
    ("-c", ["-O"], {"PYTHONOPTIMIZE": "7", "PYTHONWARNINGS": "error"}),
    ("-c", [], {"PYTHONWARNINGS": "ignore,default::UserWarning,,once"}),
    ("script", ["-Wbogus"], {"PYTHONWARNINGS": "worse"}),
    ("script", [], {"PYTHONIOENCODING": "latin-1:replace"}),
    ("-c", ["-u"], {"PYTHONIOENCODING": "cp437"}),
    ("script", [], {"PYTHONIOENCODING": ":backslashreplace"}),
    ("-c", [], {"PYTHONIOENCODING": "utf-16", "PYTHONHASHSEED": "random"}),
    ("script", [], {"PYTHONSAFEPATH": "1", "PYTHONPATH": "one"}),
    ("script", [], {"PYTHONDEVMODE": "1"}),
    ("script", [], {"PYTHONHASHSEED": "0", "PYTHONINTMAXSTRDIGITS": "0"}),
    ("stdin", [], {"PYTHONHASHSEED": "42", "PYTHONINTMAXSTRDIGITS": "640"}),
    ("script", [], {"PYTHONNODEBUGRANGES": "1", "PYTHONFAULTHANDLER": "1"}),
    ("script", [], {"PYTHONTRACEMALLOC": "3", "PYTHONMALLOC": "debug"}),
    ("script", [], {"PYTHONMALLOC": "malloc", "PYTHONDEBUG": "1"}),
    ("script", [], {"PYTHONPROFILEIMPORTTIME": "1", "PYTHONCASEOK": "1"}),
    ("script", [], {"PYTHONVERBOSE": "1"}),
    ("script", [], {"PYTHONWARNDEFAULTENCODING": "1"}),
]

# Variables that -E takes back, but not for the interpreter which runs
# python-mpi.py before that has read its options.
TABLE_OF_THE_NATIVE_LAUNCHER = [
    ("script", ["-E"], {"PYTHONHOME": "{tmp}/missing"}),
    ("-c", ["-OE"], {"PYTHONPLATLIBDIR": "libraries"}),
    ("script", ["-E"], {"PYTHONHASHSEED": "wrong"}),
]

# What the streams, file names and arguments are encoded in.
LOCALES = [
    ("script", [], {"LC_ALL": "C"}),
    ("-c", [], {"LC_ALL": "POSIX"}),
    ("script", [], {"LC_ALL": "C.UTF-8"}),
    ("script", [], {"LC_CTYPE": "C", "LANG": "C.UTF-8"}),
    ("script", [], {"LC_CTYPE": "POSIX"}),
    ("script", [], {"LANG": "C"}),
    ("stdin", [], {"LANG": "POSIX", "LC_CTYPE": ""}),
    ("script", [], {"LANG": None}),
    ("script", [], {"LC_ALL": "", "LC_CTYPE": "C.UTF-8", "LANG": "C"}),
    ("script", [], {"LC_ALL": "xx_YY.missing"}),
    ("script", [], {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}),
    ("script", [], {"LANG": "C", "PYTHONCOERCECLOCALE": "0"}),
    ("-c", [], {"LANG": "C", "PYTHONCOERCECLOCALE": "warn"}),
    ("script", [], {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "warn"}),
    ("script", ["-E"], {"LANG": "C", "PYTHONCOERCECLOCALE": "0"}),
    ("script", [], {"LC_ALL": "C", "PYTHONUTF8": "0"}),
    ("script", [], {"LANG": "C", "PYTHONUTF8": "0"}),
    (
        "-c",
        ["-X", "utf8=0"],
        {"LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "1"},
    ),
    (
        "directory",
        ["-E", "-X", "utf8=0"],
        {"LC_ALL": "POSIX", "PYTHONIOENCODING": "latin-1"},
    ),
    ("module", ["-u"], {"LC_ALL": "C", "PYTHONUTF8": "1"}),
    ("script", [], {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}),
    ("script", [], {"LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}),
    ("script", [], {"LC_ALL": "C", "PYTHONDEVMODE": "1", "PYTHONUTF8": "0"}),
]


def name_of(value):
    """Return a row's name in the list of tests."""
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in value.items())
    return " ".join(value) if isinstance(value, list) else value


def row_name(row):
    """Return the name of a test, as somebody would type its command."""
    kind, options, env = row
    words = [name_of(env), name_of(options), kind]
    return " ".join(word for word in words if word)


@pytest.fixture
def compare(launch, launcher, stock, place):
    """Run the probe both ways; return both results.  Arguments: a row."""

    def run(kind, options, env, args=("one", "-O", "--timing", "é")):
        known = {"tmp": place.tmp, "prefix": sys.base_prefix}
        options = [word.format(**known) for word in options]
        env = {
            name: None if text is None else text.format(**known)
            for name, text in env.items()
        }
        tail = [*place.words[kind], *(args if kind != "nothing" else ())]
        words = [*options, *tail]
        if kind in ("c", "m"):
            # The option of the program shares a word with the others.
            tail = tail[1:]
        stdin = place.text if kind in ("stdin", "nothing") else None
        expected = stock(words, env=env, stdin=stdin)
        shutil.rmtree(place.tmp / "cache", ignore_errors=True)
        result = launch(RANKS, words, nodes="two", env=env, stdin=stdin)
        check_ranks(launcher, expected, result, tail)
        if not expected.stderr:
            assert result.stderr == "", str(result)
        return expected, result

    return run


@pytest.mark.parametrize("row", TABLE, ids=row_name)
def test_row_as_stock(compare, row):
    kind, options, env = row
    expected, result = compare(kind, options, UTF8 | env)
    for line in expected.stderr.splitlines():
        if line.startswith(("Invalid", "Could not find")):
            assert line in result.stderr.splitlines(), str(result)
    imports = "import time:" in expected.stderr
    assert ("import time:" in result.stderr) == imports, str(result)


@pytest.mark.parametrize("launcher", ["python-mpi"])
@pytest.mark.parametrize("row", TABLE_OF_THE_NATIVE_LAUNCHER, ids=row_name)
def test_row_of_the_native_launcher_as_stock(compare, row):
    compare(*row)


def test_platlibdir_as_stock(compare, tmp_path):
    """A prefix whose library is in a directory of another name."""
    stdlib = pathlib.Path(sysconfig.get_path("stdlib"))
    libraries = tmp_path / "home" / "libraries"
    libraries.mkdir(parents=True)
    (libraries / stdlib.name).symlink_to(stdlib)
    env = {
        "PYTHONHOME": str(tmp_path / "home"),
        "PYTHONPLATLIBDIR": "libraries",
    }
    expected, _ = compare("script", [], env)
    assert expected.reports[0]["platlibdir"] == "libraries"
    assert expected.reports[0]["base_prefix"] == str(tmp_path / "home")


@pytest.mark.parametrize("row", LOCALES, ids=row_name)
def test_locale_as_stock(compare, row):
    expected, result = compare(*row)
    for line in expected.stderr.splitlines():
        assert line in result.stderr, str(result)


def test_locale_with_a_codec_of_its_own_as_stock(compare, tmp_path):
    """One whose codec is neither UTF-8 nor ASCII is read at the start."""
    localedef = shutil.which("localedef")
    if localedef is None:
        pytest.skip("localedef is not installed")
    name = "de_DE.ISO-8859-15"
    command = [localedef, "-i", "de_DE", "-f", "ISO-8859-15", tmp_path / name]
    done = subprocess.run(command, capture_output=True, timeout=60)
    if done.returncode != 0:
        pytest.skip("localedef has no sources of locales")
    env = {"LOCPATH": str(tmp_path), "LC_ALL": name}
    expected, _ = compare("script", [], env)
    assert "encodings.iso8859_15" in expected.reports[0]["started"]


@pytest.mark.parametrize("utf8", ["0", "1"])
def test_arguments_that_are_not_text_as_stock(compare, utf8):
    """Bytes that the locale cannot decode come out as plain Python's."""
    env = {"LC_ALL": "C", "PYTHONUTF8": utf8, "PYTHONCOERCECLOCALE": "0"}
    args = ("\udcff\udcfe", "é\udcff", "日本", "")
    expected, _ = compare("script", ["-X", "own=é\udcff"], env, args)
    assert len(expected.reports[0]["argv"]) == 5


def test_script_whose_name_is_not_text_as_stock(compare, place):
    name = str(place.tmp / "skript-é-\udcff.py")
    shutil.copy(place.tmp / "main.py", name)
    place.words["script"] = [name]
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    compare("script", [], env)
    compare("script", [], UTF8)


# ---- modules that the interpreter reads at its start ------------------------

ENCODINGS = """
import encodings
import encodings.aliases
import importlib
import importlib.resources
import importlib.util
import inspect
import pkgutil
import sys

NAMES = sorted(name for name in sys.modules if name.startswith("encodings"))


def seen(name):
    module = sys.modules[name]
    spec = importlib.util.find_spec(name)
    loader = module.__loader__
    return {
        "source": inspect.getsource(module),
        "file": inspect.getfile(module),
        "by the loader": loader.get_source(name),
        "code": loader.get_code(name).co_filename,
        "filename": loader.get_filename(name),
        "is package": loader.is_package(name),
        "found": spec is module.__spec__,
        "names": sorted(vars(module)),
    }


def reload(name):
    module = sys.modules[name]
    again = importlib.reload(module)
    return {
        "same": again is module is sys.modules[name],
        "spec": (again.__spec__.name, again.__spec__.origin),
        "cached": again.__cached__,
        "names": sorted(vars(again)),
    }


def fresh(name):
    old = sys.modules.pop(name)
    new = importlib.import_module(name)
    return {
        "new": new is not old,
        "file": new.__file__,
        "names": sorted(vars(new)) == sorted(vars(old)),
    }


report({
    "names": NAMES,
    "modules": {name: seen(name) for name in NAMES},
    "function": inspect.getsource(encodings.search_function),
    "parts": sorted(
        part.name for part in pkgutil.iter_modules(encodings.__path__)
    ),
    "data": len(pkgutil.get_data("encodings", "aliases.py")),
    "resource": importlib.resources.files("encodings")
    .joinpath("aliases.py").read_text("utf-8"),
    "reloaded": {name: reload(name) for name in NAMES},
    "fresh": fresh("encodings.aliases"),
    "still": ["é".encode(name) for name in ("utf-8", "latin-1", "utf-16")],
})
"""


@pytest.mark.parametrize(
    ("options", "env"),
    [
        ([], UTF8),
        (["-O", "-B"], UTF8 | {"PYTHONPYCACHEPREFIX": "cache"}),
        (["-S"], {"PYTHONIOENCODING": "cp437"}),
        ([], {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        (["-X", "frozen_modules=off"], UTF8),
    ],
)
def test_modules_of_the_start_as_stock(launch, stock, program, options, env):
    """Their source, loaders and reloading: nothing shows what was special."""
    args = [*options, program(ENCODINGS)]
    expected = stock(args, env=env)
    result = launch(RANKS, args, nodes="two", env=env)
    assert expected.status == 0 and result.status == 0, f"{expected}{result}"
    assert expected.reports[0]["names"][0] == "encodings", expected
    assert sorted(result.reports) == list(range(RANKS)), str(result)
    for rank, found in result.reports.items():
        wrong = differing(expected.reports[0], found)
        assert not wrong, f"rank {rank}: (where, plain, here): {wrong}"


# ---- what stays in memory ---------------------------------------------------

KEPT = """
import sys

TREES = [kind for kind in object.__subclasses__() if kind.__name__ == "AST"]
import colorsys

code = colorsys.rgb_to_yiq.__code__
report({
    "file": colorsys.__file__,
    "once": colorsys.__file__
        is colorsys.__spec__.origin
        is colorsys.__loader__.path
        is code.co_filename,
    "trees": len(TREES),
    "ours": sorted(m[10:] for m in sys.modules if m.startswith("mpiimport.")),
})
"""


@pytest.mark.parametrize("way", ["script", "-c"])
def test_nothing_is_kept_that_the_program_does_not_need(
    launch, stock, program, way
):
    """Modules of the start, types of syntax trees, names of one file."""
    args = [program(KEPT)]
    if way == "-c":
        text = pathlib.Path(args[0]).read_text(encoding="utf-8")
        args = ["-c", text]
    (expected,) = stock(args).reports.values()
    result = launch(RANKS, args, nodes="two")
    assert result.status == 0 and len(result.reports) == RANKS, str(result)
    for rank, found in result.reports.items():
        assert found["file"] == expected["file"], rank
        assert found["once"], rank
        assert found["trees"] == expected["trees"] == 0, rank
        assert "loaders" in found["ours"], rank
        assert set(found["ours"]) <= {"data", "launch", "loaders", "views"}


ODD = """
import sys


class Text(str):
    pass


class Odd(type(sys)):
    @property
    def __dict__(self):
        raise RuntimeError("nobody asks for it")


__file__ = Text(__file__)
sys.modules[__name__].__class__ = Odd
"""


def test_module_that_becomes_something_else_is_left_alone(
    launch, stock, program, tmp_path
):
    (tmp_path / "odd.py").write_text(ODD, encoding="utf-8")
    args = [
        program(
            "import odd\n\n"
            "report((type(odd).__name__, type(odd.__file__).__name__))\n"
        )
    ]
    result = launch(RANKS, args, nodes="two")
    assert stock(args).reports == {0: ("Odd", "Text")}
    assert result.reports == dict.fromkeys(range(RANKS), ("Odd", "Text"))


# ---- the hash seed ----------------------------------------------------------

SEED = """
import sys

report((
    hash("x"), hash("a string"), hash(b"bytes"),
    sys.flags.hash_randomization, os.environ.get("PYTHONHASHSEED"),
))
"""


@pytest.fixture
def hashes(launch, program):
    """Return [what rank 0 reports, rank 1, ...] of hashes and the flag."""
    main = program(SEED)

    def run(options=(), env=None):
        result = launch(RANKS, [*options, main], nodes="two", env=env)
        assert result.status == 0, str(result)
        assert sorted(result.reports) == list(range(RANKS)), str(result)
        return [result.reports[rank] for rank in range(RANKS)]

    return run


@pytest.mark.parametrize("launcher", ["python-mpi"])
@pytest.mark.parametrize("value", [None, "random", ""])
def test_seed_is_one_for_the_job(hashes, value):
    """The same on all ranks, another one in the next job."""
    env = {"PYTHONHASHSEED": value}
    jobs = [hashes(env=env) for _ in range(2)]
    for job in jobs:
        assert job == [job[0]] * RANKS
        assert job[0][3:] == (1, value)
    assert jobs[0][0][:3] != jobs[1][0][:3]


@pytest.mark.parametrize("launcher", ["python-mpi"])
@pytest.mark.parametrize(
    ("options", "value"), [(["-E"], "42"), (["-R"], "0")], ids=str
)
def test_seed_of_the_user_is_overruled_by_option(
    hashes, stock, program, options, value
):
    env = {"PYTHONHASHSEED": value}
    found = hashes(options, env)
    fixed = stock([program(SEED)], env=env).reports[0]
    plain = stock([*options, program(SEED)], env=env).reports[0]
    assert found == [found[0]] * RANKS
    assert found[0][3:] == plain[3:] == (1, value)
    assert found[0][:3] != fixed[:3]


@pytest.mark.parametrize("value", ["0", "1", "42"])
def test_seed_of_the_user_is_respected(hashes, stock, program, value):
    env = {"PYTHONHASHSEED": value}
    expected = stock([program(SEED)], env=env).reports[0]
    assert expected[3] == (0 if value == "0" else 1)
    assert hashes(env=env) == [expected] * RANKS


# ---- starts that fail -------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "env", "message"),
    [
        ([], {"PYTHONHASHSEED": "abc"}, "PYTHONHASHSEED must be"),
        ([], {"PYTHONHASHSEED": "-1"}, "PYTHONHASHSEED must be"),
        ([], {"PYTHONUTF8": "2"}, "PYTHONUTF8"),
        ([], {"PYTHONINTMAXSTRDIGITS": "1"}, "PYTHONINTMAXSTRDIGITS"),
        ([], {"PYTHONIOENCODING": "nonsense"}, "nonsense"),
        ([], {"PYTHONHOME": "{tmp}/missing"}, "encodings"),
        (["-X", "utf8=2"], {}, "utf8"),
        (["-X", "int_max_str_digits=1"], {}, "int_max_str_digits"),
        (["-X", "tracemalloc=-1"], {}, "tracemalloc"),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("ranks", [1, RANKS])
def test_start_that_fails_ends_all(
    launch, stock, program, tmp_path, ranks, options, env, message
):
    """As in plain Python, for all ranks alike, and nothing hangs."""
    env = {name: text.format(tmp=tmp_path) for name, text in env.items()}
    args = [*options, program("report('started')\n")]
    expected = stock(args, env=env)
    assert expected.status == 1 and message in expected.stderr, expected
    result = launch(ranks, args, nodes="two", env=env)
    assert result.status == 1, str(result)
    assert message in result.stderr, str(result)
    assert result.reports == {}, str(result)
