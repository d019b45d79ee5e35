"""Modules have the names, and tracebacks the text, that plain Python gives.

Each test runs one program with plain Python and as a job, with the same
arguments in the same environment and directory.  What the program reports
must be the same.  A loader may be of a class of ours if that is derived from
plain Python's.
"""

import py_compile
import zipfile

import pytest
from support import job

RANKS = 3

# describe(module) for report(): everything that has to be equal, but for
# "loader", the names of the loader's classes (see Pair.same).
DESCRIBE = """
def classes(loader):
    kind = loader if isinstance(loader, type) else type(loader)
    return [f"{c.__module__}.{c.__qualname__}" for c in kind.__mro__]


def paths(value):
    return None if value is None else (type(value).__name__, list(value))


def describe_spec(spec):
    if spec is None:
        return None
    return {
        "type": type(spec).__name__,
        "name": spec.name,
        "origin": spec.origin,
        "cached": spec.cached,
        "parent": spec.parent,
        "has_location": spec.has_location,
        "locations": paths(spec.submodule_search_locations),
        "loader": classes(spec.loader),
    }


def describe(module):
    missing = "missing"
    result = {
        name: getattr(module, name, missing)
        for name in ("__name__", "__file__", "__cached__", "__package__",
                     "__doc__")
    }
    result["repr"] = repr(module).partition(" object at ")[0]
    if module.__spec__ is not None and module.__name__ != "__main__":
        result["same loader"] = module.__loader__ is module.__spec__.loader
    result["type"] = type(module).__name__
    result["__path__"] = paths(getattr(module, "__path__", None))
    result["__builtins__"] = type(
        getattr(module, "__builtins__", missing)).__name__
    result["loader"] = classes(module.__loader__)
    result["__spec__"] = describe_spec(module.__spec__)
    result["names"] = sorted(vars(module))
    return result
"""

# What a program sees of itself, at its end.
MAIN = """
import sys

main = sys.modules["__main__"]
class Local: pass
report({
    "main": describe(main),
    "is main": __name__ == "__main__" and vars(main) is globals(),
    "argv": sys.argv,
    "path": sys.path,
    "executable": sys.executable,
    "class": Local.__module__,
})
"""

# seen(function): the text of the exception that function() raises.
SEEN = """
import traceback


def seen(function, *args):
    try:
        function(*args)
    except BaseException as error:
        names = ("name", "path", "filename", "lineno", "offset", "text")
        return (traceback.format_exc(), {
            name: getattr(error, name, "missing") for name in names})
    return "no exception"
"""


def difference(ours, stock, where=""):
    """Return lines that say where two reports differ."""
    if where.endswith("/loader") and stock[0] in ours:
        return []
    if isinstance(stock, dict) and isinstance(ours, dict):
        pairs = [
            (name, ours.get(name), stock.get(name)) for name in stock | ours
        ]
    elif isinstance(stock, list | tuple) and len(stock) == len(ours):
        pairs = [(i, ours[i], value) for i, value in enumerate(stock)]
    elif ours == stock:
        return []
    else:
        return [f"{where}:\n  job   {ours!r}\n  plain {stock!r}"]
    return [
        line
        for name, one, two in pairs
        for line in difference(one, two, f"{where}/{name}")
    ]


class Pair:
    """Run programs with plain Python and as jobs."""

    def __init__(self, launch, stock):
        self.launch = launch
        self.stock = stock

    def same(self, args, **options):
        """Run both, compare the reports of all ranks; return plain's.

        The job comes first, when there is no bytecode yet, and once more
        after plain Python has left some.
        """
        before = self.launch(RANKS, args, nodes="two", **options)
        stock = self.stock(args, **options)
        after = self.launch(RANKS, args, nodes="two", **options)
        assert stock.status == 0 and 0 in stock.reports, stock
        for ours in (before, after):
            assert ours.status == 0, ours
            assert sorted(ours.reports) == list(range(RANKS)), ours
            for rank in range(RANKS):
                report = ours.reports[rank]
                lines = difference(report, stock.reports[0])
                assert not lines, f"rank {rank}\n" + "\n".join(lines)
        return stock.reports[0]


@pytest.fixture
def pair(launch, stock):
    return Pair(launch, stock)


def write(directory, files):
    """Write {name: text} below 'directory'."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def write_zip(path, files):
    """Write {name: text} into the archive 'path'."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


# ---- modules --------------------------------------------------------------

PACKAGE = {
    "single.py": '"""A module."""\nVALUE = 1\n',
    "package/__init__.py": '"""A package."""\nfrom . import inner\n',
    "package/inner.py": "X = 1\n",
    "package/data.txt": "data\n",
    "package/sub/__init__.py": "",
    "package/sub/deep.py": "from ..inner import X\n",
    "bare/leaf.py": "",
}


def test_attributes_of_modules(pair, program, tmp_path):
    write(tmp_path, PACKAGE)
    names = [
        "single", "package", "package.inner", "package.sub",
        "package.sub.deep", "bare", "bare.leaf",
    ]  # fmt: skip
    path = program(
        DESCRIBE
        + f"""
import importlib
report({{n: describe(importlib.import_module(n)) for n in {names}}})
"""
    )
    stock = pair.same([path])
    assert stock["single"]["__file__"] == str(tmp_path / "single.py")
    assert stock["bare"]["__file__"] in (None, "missing")


@pytest.mark.parametrize(
    "names",
    [
        ["json", "json.decoder", "email.mime.text", "this_is_absent"],
        ["sys", "builtins", "os", "zipimport", "importlib._bootstrap"],
        ["_json", "math", "_ctypes", "ctypes", "_decimal"],
        ["numpy", "numpy.linalg", "numpy.linalg._umath_linalg"],
        ["mpi4py", "mpi4py.MPI", "mpi4py.util.pkl5"],
        ["scipy.interpolate._rbfinterp_pythran", "scipy.fft"],
    ],
    ids=" ".join,
)
def test_attributes_of_installed_modules(pair, program, names):
    path = program(
        DESCRIBE
        + f"""
import importlib

result = {{}}
for name in {names}:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        result[name] = (type(error).__name__, str(error), error.name)
    else:
        result[name] = describe(module)
report(result)
"""
    )
    pair.same([path])


def test_find_spec_does_not_import(pair, program, tmp_path):
    write(tmp_path, PACKAGE)
    path = program(
        DESCRIBE
        + """
import importlib.util
import sys
names = ["single", "package", "package.inner", "bare", "absent", "math"]
report({
    "specs": {n: describe_spec(importlib.util.find_spec(n)) for n in names},
    "imported": [n for n in names if n in sys.modules and n != "math"],
})
"""
    )
    pair.same([path])


def test_bytecode_only(pair, program, tmp_path):
    """A .pyc beside where its source was, without the source."""
    write(tmp_path, {"lonely.py": "def f():\n    1 / 0\n"})
    py_compile.compile(
        str(tmp_path / "lonely.py"), cfile=str(tmp_path / "lonely.pyc")
    )
    (tmp_path / "lonely.py").unlink()
    path = program(
        DESCRIBE
        + SEEN
        + """
import lonely
report((describe(lonely)["__file__"], lonely.__spec__.origin,
        lonely.__cached__, seen(lonely.f)))
"""
    )
    stock = pair.same([path])
    assert stock[0] == str(tmp_path / "lonely.pyc")


def test_namespace_package_over_two_entries(pair, program, tmp_path):
    write(
        tmp_path,
        {
            "one/space/a.py": "W = 1\n",
            "two/space/b.py": "W = 2\n",
            "three/space/c.py": "W = 3\n",
            "two/space/deep/x.py": "",
            "three/space/deep/y.py": "",
        },
    )
    path = program(
        DESCRIBE
        + f"""
import sys
import space.a, space.b
first = list(space.__path__)
sys.path.append({str(tmp_path / "three")!r})
import space.c
import space.deep.x, space.deep.y
modules = [space, space.a, space.b, space.c, space.deep, space.deep.y]
report((first, list(space.__path__),
        {{m.__name__: describe(m) for m in modules}}))
"""
    )
    env = {"PYTHONPATH": f"{tmp_path / 'one'}:{tmp_path / 'two'}"}
    stock = pair.same([path], env=env)
    assert len(stock[0]) == 2 and len(stock[1]) == 3


def test_package_wins_over_namespace_portion(pair, program, tmp_path):
    write(
        tmp_path,
        {
            "one/both/a.py": "",
            "two/both/__init__.py": "VALUE = 'package'\n",
            "three/both.py": "VALUE = 'module'\n",
        },
    )
    path = program(
        DESCRIBE + "import both\nreport((both.VALUE, describe(both)))\n"
    )
    entries = [str(tmp_path / name) for name in ("one", "two", "three")]
    stock = pair.same([path], env={"PYTHONPATH": ":".join(entries)})
    assert stock[0] == "package"


def test_module_in_a_zip_on_sys_path(pair, program, tmp_path):
    write_zip(
        tmp_path / "archive.zip",
        {
            "zipped.py": "def f():\n    1 / 0  # here\n",
            "zpackage/__init__.py": "from . import inner\n",
            "zpackage/inner.py": "VALUE = 5\n",
            "deep/er/lower.py": "VALUE = 6\n",
        },
    )
    path = program(
        DESCRIBE
        + SEEN
        + """
import zipped, zpackage.inner, lower
modules = [zipped, zpackage, zpackage.inner, lower]
report(({m.__name__: describe(m) for m in modules}, seen(zipped.f)))
"""
    )
    archive = tmp_path / "archive.zip"
    env = {"PYTHONPATH": f"{archive}:{archive}/deep/er"}
    stock = pair.same([path], env=env)
    assert "# here" in stock[1][0]


def test_relative_entry_of_sys_path(pair, program, tmp_path):
    write(tmp_path, {"there/mod.py": ""})
    path = program(
        DESCRIBE
        + """
import sys
sys.path.insert(0, "there")
import mod
report(describe(mod))
"""
    )
    pair.same([path])


def test_module_through_a_link(pair, program, tmp_path):
    write(tmp_path, {"real/mod.py": "", "real/pack/__init__.py": ""})
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "other.py").symlink_to("mod.py")
    path = program(
        DESCRIBE
        + f"""
import sys
sys.path.insert(0, {str(tmp_path / "link")!r})
import mod, other, pack
report({{m.__name__: describe(m) for m in (mod, other, pack)}})
"""
    )
    pair.same([path])


def test_reload_and_second_loading(pair, program, tmp_path):
    write(tmp_path, PACKAGE)
    path = program(
        DESCRIBE
        + """
import importlib, importlib.util, sys
import single
again = importlib.reload(single)
spec = importlib.util.spec_from_file_location("named", single.__file__)
named = importlib.util.module_from_spec(spec)
spec.loader.exec_module(named)
del sys.modules["single"]
import single as fresh
report({
    "reload": again is single,
    "fresh": fresh is not single,
    "modules": {m.__name__: describe(m) for m in (again, named, fresh)},
})
"""
    )
    pair.same([path])


# ---- source ---------------------------------------------------------------


def test_source_of_a_module(pair, program, tmp_path):
    write(
        tmp_path,
        {
            "mod.py": "# coding: latin-1\nimport json\n\n\n"
            "class C:\n    def m(self):\n        return 1\n",
            "package/__init__.py": "def f(): return 2\n",
            "package/data.txt": "text of a file\n",
        },
    )
    path = program(
        """
import inspect, pkgutil
import importlib.resources
import json, mod, package

def here():
    return "x"

loader = mod.__loader__
report({
    "getsource": [inspect.getsource(x) for x in
                  (mod, mod.C, mod.C.m, package.f, json.dumps, here)],
    "getfile": [inspect.getfile(x) for x in (mod, mod.C, package, here)],
    "lines": inspect.getsourcelines(mod.C.m),
    "module": [inspect.getmodule(x).__name__ for x in (mod.C, here)],
    "get_source": loader.get_source("mod"),
    "get_filename": loader.get_filename("mod"),
    "path": loader.path,
    "is_package": (loader.is_package("mod"),
                   package.__loader__.is_package("package")),
    "code": loader.get_code("mod").co_filename,
    "get_data": loader.get_data(mod.__file__),
    "pkgutil": pkgutil.get_data("package", "data.txt"),
    "resources": importlib.resources.files("package").joinpath(
        "data.txt").read_text(),
    "walk": sorted(m.name for m in pkgutil.iter_modules(package.__path__)),
})
"""
    )
    pair.same([path])


def test_code_names_its_file(pair, program, tmp_path):
    write(tmp_path, {"mod.py": "def f():\n    return lambda: 1\n"})
    path = program(
        """
import sys
import json, mod
report([c.co_filename for c in (
    mod.f.__code__, mod.f().__code__, json.dumps.__code__,
    report.__code__, sys._getframe().f_code)])
"""
    )
    pair.same([path])


# ---- tracebacks -----------------------------------------------------------

FAILING = {
    "fails.py": "def inner():\n    return 1 / 0  # reason\n\n\ninner()\n",
    "outer.py": "import middle\n",
    "middle.py": "X = 1\nfrom fails import inner\n",
    "syntax.py": "x = 1\ndef f(:\n    pass\n",
    "indent.py": "def f():\npass\n",
    "tabs.py": "if 1:\n        x = 1\n\ty = 2\n",
    "nul.py": "x = '\0'\n",
    "coding.py": "# coding: nonsense\n",
    "imports_syntax.py": "import syntax\n",
    "missing_name.py": "from string import nosuchname\n",
    "missing_module.py": "import nosuchmodule.sub\n",
    "missing_sub.py": "import string.nosuch\n",
    "beyond.py": "from . import x\n",
    "circular.py": "from circular2 import y\nx = 1\n",
    "circular2.py": "from circular import x\ny = 2\n",
    "shadow.py": "from fine import nosuch\n",
    "fine.py": "def later():\n    raise ValueError('é in text')  # é\n",
    "bad/__init__.py": "raise RuntimeError('in a package')\n",
    "good/__init__.py": "",
    "good/above.py": "from ... import x\n",
    "good/sub.py": "from . import nosuch\n",
    "good/broken.py": "from .deeper import x\n",
    "good/deeper.py": "raise OSError(2, 'none', 'file')\n",
    "stops.py": "import sys\nsys.exit(3)\n",
    "chained.py": "try:\n    import fails\nexcept ZeroDivisionError as e:\n"
    "    raise KeyError('k') from e\n",
    "removed.py": "import sys\ndel sys.modules[__name__]\n",
}


@pytest.mark.parametrize(
    "names",
    [
        ["fails", "outer", "bad", "chained", "bad.sub"],
        ["syntax", "imports_syntax", "indent", "tabs", "nul", "coding"],
        ["missing_name", "missing_module", "missing_sub", "shadow"],
        ["beyond", "circular", "good.above", "good.sub", "good.broken"],
        ["nosuch", "good.nosuch", "fine.sub", "stops", "removed"],
        ["", ".x", "a..b"],
    ],
    ids=["code", "syntax", "missing", "relative", "absent", "names"],
)
def test_traceback_of_an_import(pair, program, tmp_path, names):
    write(tmp_path, FAILING)
    path = program(
        SEEN
        + f"""
import importlib, sys

def statement(name):
    exec(f"import {{name}}", {{}})

result = {{}}
for name in {names}:
    for function in (statement, importlib.import_module, __import__):
        key = f"{{function.__name__}} {{name}}"
        value = seen(function, name)
        result[key] = value
        left = name in sys.modules
        result[key + " left"] = left
        for module in {sorted(FAILING)}:
            module = module.partition("/")[0].removesuffix(".py")
            for key in list(sys.modules):
                if key.partition(".")[0] == module:
                    del sys.modules[key]
report(result)
"""
    )
    stock = pair.same([path])
    assert any(value != "no exception" for value in stock.values())


def test_traceback_of_import_statements(pair, program, tmp_path):
    """The statement stands in the program itself, in another thread too."""
    write(tmp_path, FAILING)
    path = program(
        SEEN
        + """
import threading

def one():
    import outer

def two():
    from string import nosuch

def three():
    from good import sub

result = {f.__name__: seen(f) for f in (one, two, three)}

def run():
    result["thread"] = seen(one)

thread = threading.Thread(target=run)
thread.start()
thread.join()
report(result)
"""
    )
    stock = pair.same([path])
    assert "# reason" in stock["one"][0]


def test_traceback_of_a_call(pair, program, tmp_path):
    write(tmp_path, FAILING)
    path = program(
        SEEN
        + """
import fine, json

def own():
    raise LookupError("own")  # source text

report([seen(fine.later), seen(json.loads, "{"), seen(own),
        traceback.format_stack()])
"""
    )
    stock = pair.same([path])
    assert "# é" in stock[0][0]
    assert "# source text" in stock[2][0]


def test_warning_names_the_line(pair, program, tmp_path):
    write(
        tmp_path,
        {"warns.py": "import warnings\n\n\ndef f():\n"
                     "    warnings.warn('old', stacklevel=2)\n",
         "uses.py": "import warns\nwarns.f()\n"},
    )  # fmt: skip
    path = program(
        """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import uses
    import warns
    warns.f()
report([(w.filename, w.lineno, str(w.message)) for w in caught])
"""
    )
    pair.same([path])


# ---- __main__ -------------------------------------------------------------

ARGUMENTS = ["one", "-x", "--timing", "", "two words"]


def test_main_of_a_script(pair, program):
    path = program(DESCRIBE + MAIN)
    stock = pair.same([path, *ARGUMENTS])
    assert stock["argv"] == [str(path), *ARGUMENTS]
    assert stock["is main"]


@pytest.mark.parametrize("name", ["main.py", "./main.py", "sub/../main.py"])
def test_main_of_a_script_with_a_relative_path(pair, program, tmp_path, name):
    (tmp_path / "sub").mkdir()
    program(DESCRIBE + MAIN)
    assert pair.same([name])["argv"] == [name]


def test_main_of_a_script_through_a_link(pair, program, tmp_path):
    program(DESCRIBE + MAIN, name="real/main.py")
    (tmp_path / "link.py").symlink_to("real/main.py")
    stock = pair.same(["link.py"])
    assert stock["path"][0] == str(tmp_path / "real")


def test_main_without_suffix(pair, program):
    pair.same([program(DESCRIBE + MAIN, name="program")])


def test_main_of_bytecode(pair, program, tmp_path):
    path = program(DESCRIBE + MAIN)
    py_compile.compile(str(path), cfile=str(tmp_path / "main.pyc"))
    pair.same([tmp_path / "main.pyc"])


@pytest.mark.parametrize(
    "head",
    ["#!/usr/bin/env python3\n# coding: latin-1\n", "\ufeff", "\r\n"],
    ids=["coding", "mark", "crlf"],
)
def test_main_with_a_head(pair, program, tmp_path, head):
    text = head + job.PRELUDE + DESCRIBE + MAIN
    encoding = "latin-1" if "latin" in head else "utf-8"
    if head == "\r\n":
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    (tmp_path / "main.py").write_bytes(text.encode(encoding))
    pair.same(["main.py"])


def test_main_of_a_command(pair):
    text = job.PRELUDE + DESCRIBE + MAIN
    stock = pair.same(["-c", text, *ARGUMENTS])
    assert stock["argv"] == ["-c", *ARGUMENTS]


def test_main_of_stdin(pair):
    text = job.PRELUDE + DESCRIBE + MAIN
    stock = pair.same(["-", *ARGUMENTS], stdin=text)
    assert stock["argv"] == ["-", *ARGUMENTS]


def test_main_of_stdin_without_a_word(pair):
    stock = pair.same([], stdin=job.PRELUDE + DESCRIBE + MAIN)
    assert stock["argv"] == [""]


IN_PACKAGE = "import sys\nARGV = list(sys.argv)\nPATH = list(sys.path)\n"
REPORT_PACKAGE = """
import package
report((package.ARGV, package.PATH, describe(package)))
"""


def test_main_of_a_package(pair, tmp_path):
    text = job.PRELUDE + DESCRIBE + MAIN
    write(
        tmp_path,
        {
            "package/__init__.py": IN_PACKAGE,
            "package/__main__.py": "from . import other\n" + text,
            "package/other.py": "",
        },
    )
    stock = pair.same(["-m", "package", *ARGUMENTS])
    assert stock["argv"][0] == str(tmp_path / "package" / "__main__.py")


def test_main_of_a_module_of_a_package(pair, tmp_path):
    text = job.PRELUDE + DESCRIBE + MAIN
    write(
        tmp_path,
        {
            "package/__init__.py": IN_PACKAGE,
            "package/module.py": "from .other import X\n" + text,
            "package/other.py": "X = 1\n",
        },
    )
    stock = pair.same(["-m", "package.module", *ARGUMENTS])
    assert stock["argv"][0] == str(tmp_path / "package" / "module.py")


def test_package_sees_what_it_sees_before_its_main(pair, tmp_path):
    """While -m looks for its module, sys.argv[0] is "-m"."""
    text = job.PRELUDE + DESCRIBE + REPORT_PACKAGE
    write(
        tmp_path,
        {"package/__init__.py": IN_PACKAGE, "package/__main__.py": text},
    )
    stock = pair.same(["-m", "package", "word"])
    assert stock[0] == ["-m", "word"]


def test_main_of_a_namespace_package(pair, tmp_path):
    write(tmp_path, {"space/__main__.py": job.PRELUDE + DESCRIBE + MAIN})
    pair.same(["-m", "space"])


def test_main_of_a_module_that_is_in_a_zip(pair, tmp_path):
    text = job.PRELUDE + DESCRIBE + MAIN
    write_zip(tmp_path / "archive.zip", {"zipped.py": text})
    pair.same(["-m", "zipped"], env={"PYTHONPATH": tmp_path / "archive.zip"})


def test_main_of_a_directory(pair, tmp_path):
    text = job.PRELUDE + "import beside\n" + DESCRIBE + MAIN
    write(tmp_path, {"app/__main__.py": text, "app/beside.py": ""})
    stock = pair.same(["app", *ARGUMENTS])
    assert stock["argv"][0] == "app"


def test_main_of_a_zip(pair, tmp_path):
    text = job.PRELUDE + "import beside\n" + DESCRIBE + MAIN
    write_zip(tmp_path / "app.zip", {"__main__.py": text, "beside.py": ""})
    stock = pair.same(["app.zip", *ARGUMENTS])
    assert stock["argv"][0] == "app.zip"


@pytest.mark.parametrize(
    "args",
    [
        ["-m", "nosuch"],
        ["-m", "package"],
        ["-m", "package.nosuch"],
        ["-m", "nosuch.sub"],
        ["-m", "broken"],
        ["-m", "broken.sub"],
        ["directory"],
        ["empty.zip"],
    ],
    ids=" ".join,
)
def test_main_that_is_not_there(launch, stock, tmp_path, args):
    """Plain Python's status and last line."""
    write(
        tmp_path,
        {
            "package/__init__.py": "",
            "broken/__init__.py": "import nosuch\n",
            "directory/other.py": "",
        },
    )
    write_zip(tmp_path / "empty.zip", {"other.py": ""})
    plain = stock(args)
    assert plain.status == 1
    ours = launch(RANKS, args)
    assert ours.status == 1, ours
    assert plain.stderr.splitlines()[-1] in ours.stderr, ours


def test_package_sees_isolated_options(pair, program):
    """-P leaves the program's directory out."""
    path = program(DESCRIBE + MAIN)
    stock = pair.same(["-P", path])
    assert str(path.parent) not in stock["path"]


def test_docstring_annotations_and_future(pair, tmp_path):
    text = (
        '"""The doc."""\nfrom __future__ import annotations\n'
        + job.PRELUDE
        + "x: nosuchtype = 1\n"
        + DESCRIBE
        + MAIN
    )
    write(tmp_path, {"main.py": text})
    assert pair.same(["main.py"])["main"]["__doc__"] == "The doc."


@pytest.mark.parametrize("options", [[], ["-O"], ["-OO"]], ids=str)
def test_optimisation_reaches_main_and_modules(
    pair, program, tmp_path, options
):
    write(tmp_path, {"mod.py": "'doc'\nDEBUG = __debug__\nassert True\n"})
    path = program(
        DESCRIBE + "import mod\n"
        "report((__debug__, mod.DEBUG, mod.__doc__, describe(mod)))\n"
    )
    pair.same([*options, path])


def test_main_does_not_inherit_a_future_statement(pair, program):
    """Flags of the launcher's own source must not reach the program's."""
    pair.same(
        [
            program(
                "import sys\n"
                "def f(x: sys): pass\n"
                "report((f.__annotations__['x'] is sys,"
                " sys._getframe().f_code.co_flags))\n"
            )
        ]
    )


# ---- pickle ---------------------------------------------------------------

PICKLE = """
import pickle, sys


class Point:
    def __init__(self, x):
        self.x = x


def function():
    return 1


data = pickle.dumps((Point(3), function, Point))
back = pickle.loads(data)
report((data, back[0].x, back[1] is function, back[2] is Point,
        sys.modules["__main__"].Point is Point))
"""


def test_pickle_of_a_class_of_a_script(pair, program):
    pair.same([program(PICKLE)])


def test_pickle_of_a_class_of_a_command(pair):
    pair.same(["-c", job.PRELUDE + PICKLE])


def test_pickle_of_a_class_of_a_module(pair, tmp_path):
    write(tmp_path, {"package/__init__.py": "",
                     "package/main.py": job.PRELUDE + PICKLE})  # fmt: skip
    pair.same(["-m", "package.main"])


def test_processes_of_multiprocessing(pair, program):
    """A spawned child imports __main__ again, from its file."""
    path = program(
        """
import multiprocessing


def square(x):
    return x * x


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        report(pool.map(square, [2, 3]))
"""
    )
    assert pair.same([path]) == [4, 9]


def test_globals_outlive_the_end_of_main(pair, program):
    """atexit functions and destructors still see the program's names."""
    path = program(
        """
import atexit, sys
VALUE = "still here"


@atexit.register
def last():
    main = sys.modules.get("__main__")
    report((VALUE, main is not None and vars(main) is globals()))
"""
    )
    assert pair.same([path]) == ("still here", True)


def test_stdin_is_left_to_the_program(launch, program):
    path = program("import sys\nif RANK == 0:\n    report(sys.stdin.read())\n")
    ours = launch(RANKS, [path], stdin="some\ntext\n")
    assert ours.status == 0, ours
    assert ours.reports[0] == "some\ntext\n"
