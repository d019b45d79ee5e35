"""Data files of packages: rank 0 reads them, for all ranks.

Each program runs under plain Python and as a job of several ranks: all have to
report the same, and no rank but 0 may make an operation on the tree beyond
those of 'python-mpi -c pass' (none, but for the launcher's own start).
"""

import os
import pathlib
import sys

import pytest
from support import trace
from support.tree import of_the_system, own_parts

from launch.test_bad_input import small_room  # noqa: F401  a fixture

RANKS = 3
LAYOUTS = ("one", "two")

LOOK = """
import errno, glob, io, mmap, os, pathlib, stat, sys

HERE = os.path.dirname(os.__file__)
FOUND = os.path.join(HERE, "json")


def members(status):
    # Of what rank 0 reads the time of access may change.
    simple, more = status.__reduce__()[1]
    more = {k: v for k, v in more.items() if "atime" not in k}
    return simple[:7], simple[8:], more


def failure(function, *args):
    try:
        function(*args)
    except OSError as error:
        frames = 0
        traceback = error.__traceback__
        while traceback is not None:
            frames += 1
            traceback = traceback.tb_next
        name = error.filename
        context = error.__context__ is None and error.__cause__ is None
        return type(error).__name__, error.args, name, frames, context
    return None


result = []
"""

ITEMS = {}

ITEMS["stat"] = """
for path in (HERE, FOUND, os.__file__, pathlib.Path(os.__file__)):
    result.append(members(os.stat(path)))
    result.append(members(os.lstat(path)))
    result.append(members(os.stat(path, follow_symlinks=False)))
    result.append((os.access(path, os.R_OK), os.access(path, os.F_OK)))
    result.append((os.path.isdir(path), os.path.isfile(path)))
    result.append(os.path.islink(path))
result.append(repr(type(os.stat(HERE))))
"""

ITEMS["listing"] = """
result.append(os.listdir(FOUND))
result.append(sorted(glob.glob(FOUND + "/*.py")))
result.append(sorted(str(p) for p in pathlib.Path(FOUND).glob("*.py")))
for where, directories, files in os.walk(os.path.join(HERE, "xml")):
    # Others write there at any time, so it is never served.
    directories[:] = sorted({*directories} - {"__pycache__"})
    result.append((where, directories, files))
with os.scandir(FOUND) as entries:
    for entry in entries:
        result.append((entry.name, entry.path, os.fspath(entry), repr(entry)))
        result.append((entry.is_dir(), entry.is_file(), entry.is_symlink()))
        result.append(entry.is_dir(follow_symlinks=False))
        if entry.name != "__pycache__":
            result.append((entry.inode(), members(entry.stat())))
result.append(list(entries))
"""

ITEMS["reading"] = """
import linecache, tokenize, traceback
name = FOUND + "/decoder.py"
with open(name) as file:
    result.append((file.name, file.mode, file.encoding, file.read()))
with open(name, "rb") as file:
    file.seek(5)
    result.append((type(file).__name__, file.raw.name, file.read(20)))
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as block:
        result.append((len(block), block[:30]))
    status = os.fstat(file.fileno())
    result.append((status.st_size, status.st_mtime_ns))
with open(pathlib.Path(name), encoding="ascii", errors="replace") as file:
    result.append(file.name)
result.append(pathlib.Path(name).read_text())
result.append(linecache.getlines(name))
with tokenize.open(name) as file:
    result.append(file.encoding)
descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
result.append((os.read(descriptor, 50), os.get_inheritable(descriptor)))
os.close(descriptor)
with open(HERE + "/../python{}.{}/json/tool.py".format(*sys.version_info),
          "rb") as file:
    result.append(file.read())
"""

ITEMS["empty"] = """
import importlib
for name in ("urllib", "concurrent"):
    with open(os.path.join(HERE, name, "__init__.py"), "rb") as file:
        result.append((file.read(), os.fstat(file.fileno()).st_size))
"""

ITEMS["errors"] = """
for function, *more in (
    (open,), (io.open,), (os.stat,), (os.lstat,), (os.listdir,),
    (os.scandir,), (os.readlink,), (os.open, os.O_RDONLY), (os.access, 0)
):
    for path in (FOUND + "/nope", pathlib.Path(FOUND) / "nope",
                 os.__file__ + "/below", HERE, os.__file__):
        if function is not os.open and function is not os.scandir:
            result.append(failure(function, path, *more))
    for path in (FOUND + "/nope", os.__file__ + "/below"):
        result.append(failure(function, path, *more))
for wrong in (("rbt",), ("rz",), ("rb", -1, "utf-8"), ("r", 0)):
    for path in (os.__file__, FOUND + "/nope"):
        try:
            open(path, *wrong)
        except (OSError, ValueError) as error:
            result.append(repr(error))
try:
    open(os.__file__, closefd=False)
except ValueError as error:
    result.append(str(error))
for call in ("os.stat()", "open()", "os.listdir(1.5)", "os.stat(None)",
             "open(os.__file__, nothing=1)", "os.stat('a\\\\0b')",
             "open(HERE + '\\\\0')"):
    try:
        eval(call)
    except (TypeError, ValueError) as error:
        result.append((call, type(error).__name__, str(error)))
"""

ITEMS["functions"] = """
import inspect, pickle
for function in (open, os.stat, os.scandir, os.open, os.unlink, os.rename):
    result.append(str(inspect.signature(function)))
    result.append((function.__name__, function.__qualname__, repr(function)))
    result.append((function.__doc__, type(function).__name__))
    result.append(inspect.isbuiltin(function))
    assert pickle.loads(pickle.dumps(function)) is function
# From 3.13 on it says _io, where the genuine one stays.
result.append((open.__module__.lstrip("_"), io.open is open))
for name in ("dir_fd", "effective_ids", "fd", "follow_symlinks"):
    result.append(sorted(one.__name__ for one in
                         (os.stat, os.access, os.open, os.scandir, os.listdir)
                         if one in getattr(os, "supports_" + name)))

class Holder:
    opens = open
    looks = os.stat

with Holder().opens(os.__file__) as file:
    result.append(file.name)
result.append(members(Holder().looks(os.__file__)))
import shutil
result.append(shutil._use_fd_functions)
"""

ITEMS["links"] = """
link = {link!r}
result.append(os.path.realpath(link))
result.append(str(pathlib.Path(link).resolve()))
result.append((os.readlink(link), os.path.islink(link)))
result.append((members(os.lstat(link)), members(os.stat(link))))
result.append(failure(os.readlink, os.__file__))
with open(link) as file:
    result.append((file.name, file.read()))
with os.scandir(os.path.dirname(link)) as entries:
    for entry in entries:
        result.append((entry.name, entry.is_symlink(), entry.inode(),
                       entry.is_file(follow_symlinks=False)))
        if entry.name != "loop":
            result.append((entry.is_file(), entry.is_dir()))
        else:
            result.append(failure(entry.is_dir)[:3])
"""

ITEMS["resources"] = """
import importlib.resources as resources
import warnings
warnings.simplefilter("ignore")
top = resources.files("tzdata")
result.append((str(top), sorted(one.name for one in top.iterdir())))
result.append((top == pathlib.Path(str(top)), isinstance(top, pathlib.Path)))
result.append((top / "zones").read_text())
result.append((top.joinpath("zones").is_file(), (top / "nope").is_file()))
result.append((top / "zoneinfo").is_dir())
with (top / "zoneinfo" / "UTC").open("rb") as file:
    result.append((type(file).__name__, file.name, file.read()))
with resources.as_file(top / "zones") as path:
    result.append((str(path), path.read_bytes(), open(path).read()))
result.append(resources.read_binary("tzdata.zoneinfo", "UTC"))
result.append(sorted(resources.contents("tzdata")))
result.append(resources.is_resource("tzdata", "zones"))
with resources.open_binary("tzdata.zoneinfo.Europe", "Rome") as file:
    result.append(file.read())
with resources.path("tzdata", "zones") as path:
    result.append(str(path))
"""

ITEMS["zoneinfo"] = """
import datetime, zoneinfo
zoneinfo.reset_tzpath(())
zone = zoneinfo.ZoneInfo("America/New_York")
result.append(str(datetime.datetime(2024, 7, 1, tzinfo=zone)))
result.append(len(zoneinfo.available_timezones()) > 100)
"""

ITEMS["metadata"] = """
import importlib.metadata as metadata
result.append(metadata.version("numpy"))
result.append([str(point) for point in metadata.entry_points()])
result.append([one.metadata["Name"] for one in metadata.distributions()])
found = metadata.distribution("cycler")
result.append([str(path) for path in found.files])
result.append(found.read_text("METADATA"))
path = next(one for one in found.files if one.name == "WHEEL")
result.append((path.read_text(), path.read_binary(), str(path.locate())))
"""

ITEMS["pkgutil"] = """
import pkgutil, json, concurrent
result.append([one.name for one in pkgutil.iter_modules(json.__path__)])
walked = pkgutil.walk_packages(concurrent.__path__, "concurrent.")
result.append([(one.name, one.ispkg) for one in walked])
result.append(pkgutil.get_data("json", "decoder.py"))
"""


@pytest.fixture(scope="module")
def tree(python, repo_root):
    """What counts as installed: prefixes, with and without links."""
    prefixes = [sys.base_prefix, sys.prefix, python.parent.parent]
    prefixes = [pathlib.Path(prefix) for prefix in prefixes]
    prefixes += [prefix.resolve() for prefix in prefixes]
    parts = [part for prefix in prefixes for part in own_parts(prefix)]
    return list(dict.fromkeys(parts))


@pytest.fixture
def runner(launch):
    """What starts the jobs and the plain Python of a test."""
    return launch.runner


@pytest.fixture
def touched(launch, tree, tmp_path):
    """Run 'args' below strace: touched(args, nodes, ranks) -> (result, what
    each rank does on the tree).
    """

    def run(args, nodes="one", ranks=RANKS, **options):
        result = launch(ranks, args, nodes=nodes, strace=True, **options)
        assert result.status == 0, str(result)
        found = []
        for rank in range(ranks):
            done = trace.operations_of_rank(result.traces, rank, tmp_path)
            assert done, f"no trace of rank {rank}{result}"
            here = trace.below(done, tree)
            found.append([one for one in here if not of_the_system(one)])
        return result, found

    return run


@pytest.fixture
def check(touched, runner, program):
    """Run a program: all ranks report what plain Python does, and those other
    than 0 touch nothing: check(text, nodes, ranks, ...) -> the job's result.
    """

    def run(text, nodes="one", ranks=RANKS, **options):
        main = program(LOOK + text + "\nreport(result)\n")
        env = options.get("env")
        alone = runner.run_alone([main], env=env)
        assert alone.status == 0, str(alone)
        _, start = touched(["-c", "pass"], nodes, ranks, env=env)
        result, found = touched([main], nodes, ranks, **options)
        assert sorted(result.reports) == list(range(ranks)), str(result)
        for rank in range(ranks):
            pairs = zip(alone.reports[0], result.reports[rank], strict=True)
            for number, (wanted, got) in enumerate(pairs):
                assert got == wanted, f"rank {rank}, item {number}{result}"
        for rank in range(1, ranks):
            more = trace.beyond(found[rank], start[rank])
            assert not more, (
                f"rank {rank}: {len(more)} operations:\n"
                f"{trace.listing(more)}{result}"
            )
        return result

    return run


@pytest.fixture
def packages(runner, python, tree, tmp_path):
    """A virtual environment of the test's own, in which it may write, becomes
    that of its jobs: its site-packages.
    """
    where = tmp_path / "venv"
    (where / "bin").mkdir(parents=True)
    (where / "bin" / "python").symlink_to(os.path.realpath(python))
    (where / "pyvenv.cfg").write_text(
        f"home = {sys.base_prefix}/bin\ninclude-system-site-packages = false\n"
    )
    version = "python{}.{}".format(*sys.version_info)
    found = where / "lib" / version / "site-packages"
    (found / "pack" / "data").mkdir(parents=True)
    (found / "pack" / "__init__.py").write_text("")
    (found / "pack" / "data" / "one.txt").write_text("first\nsecond\n")
    runner.python = str(where / "bin" / "python")
    tree.append(where)
    yield found
    tree.remove(where)


@pytest.mark.parametrize("nodes", LAYOUTS)
@pytest.mark.parametrize("item", [name for name in ITEMS if name != "links"])
def test_item_equals_stock_and_rank_0_reads(check, item, nodes):
    check(ITEMS[item], nodes)


@pytest.mark.parametrize(("ranks", "nodes"), [(1, "one"), (5, "two")])
def test_all_items_any_number_of_ranks(check, ranks, nodes):
    names = [name for name in ITEMS if name not in ("links", "functions")]
    check("".join(ITEMS[name] for name in names), nodes, ranks)


@pytest.mark.parametrize("nodes", LAYOUTS)
def test_links_equal_stock(check, packages, nodes):
    data = packages / "pack" / "data"
    (data / "link.txt").symlink_to("one.txt")
    (data / "gone.txt").symlink_to("nowhere")
    (data / "up").symlink_to("..")
    (data / "loop").symlink_to("loop")
    link = data / "link.txt"
    text = ITEMS["links"].format(link=str(link))
    text += f"""
for name in ("gone.txt", "up", "loop", "up/data/one.txt", "up/../nope"):
    path = {str(data)!r} + "/" + name
    result.append(os.path.realpath(path))
    result.append((os.path.lexists(path), os.path.exists(path)))
    result.append(failure(os.stat, path))
    result.append(failure(os.readlink, path))
"""
    check(text, nodes)


def test_resources_of_the_program_equal_stock(check, tree, tmp_path):
    """Packages beside the program, and those without __init__.py."""
    for top in ("one", "two"):
        (tmp_path / top / "spread").mkdir(parents=True)
        (tmp_path / top / "spread" / f"{top}.txt").write_text(top)
    (tmp_path / "whole" / "deep").mkdir(parents=True)
    (tmp_path / "whole" / "__init__.py").write_text("")
    (tmp_path / "whole" / "deep" / "x.txt").write_text("x")
    own = [tmp_path / name for name in ("one", "two", "whole")]
    tree.extend(own)
    check(
        f"""
sys.path[1:1] = {[str(path) for path in own[:2]]!r}
import importlib.resources as resources
import pkgutil
import spread, whole
top = resources.files(spread)
result.append(sorted(one.name for one in top.iterdir()))
result.append([(top / f"{{one}}.txt").read_text() for one in ("one", "two")])
top = resources.files(whole)
result.append(str(top))
result.append((top / "deep" / "x.txt").read_bytes())
result.append((top / "deep").is_dir())
with (top / "deep" / "x.txt").open() as file:
    result.append((file.name, file.read()))
result.append([one.name for one in pkgutil.walk_packages(whole.__path__)])
""",
        "two",
    )
    for path in own:
        tree.remove(path)


PLOT = """
import hashlib
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy

x = numpy.linspace(0, 7, 50)
plt.style.use("ggplot")
figure, axes = plt.subplots()
axes.plot(x, numpy.sin(x), label="$\\\\sin(x)$")
axes.set_title("Title")
axes.legend()
stream = io.BytesIO()
figure.savefig(stream, format="png")
result.append(stream.getvalue())
"""


@pytest.mark.parametrize("nodes", LAYOUTS)
def test_plot_same_bytes_and_rank_0_reads(check, nodes):
    check(PLOT, nodes)


def test_none_every_rank_reads(touched, program):
    main = program(LOOK + ITEMS["reading"] + "report(os.stat is not None)\n")
    _, start = touched(["-c", "pass"])
    _, found = touched(["--data", "none", main])
    for rank in range(1, RANKS):
        more = trace.beyond(found[rank], start[rank])
        assert any(one.path.endswith("/decoder.py") for one in more)
    _, found = touched([main], env={"PYTHON_MPI_DATA": "none"})
    assert trace.beyond(found[1], start[1])


# --- what is not there, or is being changed


WRITES = {
    "open": "open(DATA + '/new.txt', 'w').write('new')",
    "append": "open(DATA + '/new.txt', 'ab').write(b'new')",
    "os.open": "os.close(os.open(DATA + '/new.txt', os.O_CREAT | os.O_RDWR))",
    "rename": "os.rename({other!r}, DATA + '/new.txt')",
    "replace": "os.replace({other!r}, bytes(DATA + '/new.txt', 'ascii'))",
    "link": "os.link({other!r}, DATA + '/new.txt')",
    "symlink": "os.symlink({other!r}, DATA + '/new.txt')",
    "mkdir": "os.makedirs(DATA + '/new.txt/deep')",
    "path": "pathlib.Path(DATA, 'new.txt').write_text('new')",
    "relative": "os.chdir(DATA); open('new.txt', 'x').close()",
    "copy": "import shutil; shutil.copy({other!r}, DATA + '/new.txt')",
}


@pytest.mark.parametrize("how", WRITES)
def test_write_of_this_rank_is_seen_by_it(launch, program, packages, how):
    """The store has said that it is not there, and what is."""
    write = WRITES[how].format(other="other")
    main = program(f"""
import os, pathlib
DATA = {str(packages / "pack" / "data")!r} + f"/{{RANK}}"
os.listdir(os.path.dirname(DATA))
before = os.path.exists(DATA + "/new.txt"), os.listdir(DATA)
open("other", "w").close()
{write}
report([before, os.path.lexists(DATA + "/new.txt"), os.listdir(DATA)])
""")
    for rank in range(RANKS):
        (packages / "pack" / "data" / str(rank)).mkdir()
        (launch.runner.scratch / str(rank)).mkdir()
    main.write_text(
        main.read_text().replace(
            "import os, pathlib\n", "import os, pathlib\nos.chdir(str(RANK))\n"
        )
    )
    result = launch(RANKS, [main])
    wanted = [(False, []), True, ["new.txt"]]
    assert result.reports == dict.fromkeys(range(RANKS), wanted), str(result)


@pytest.mark.parametrize(
    "how",
    [
        "os.remove(NAME)",
        "os.unlink(NAME)",
        "pathlib.Path(NAME).unlink()",
        "os.rename(NAME, 'away')",
        "import shutil; shutil.rmtree(DATA)",
    ],
)
def test_removal_by_this_rank_is_seen_by_it(launch, program, packages, how):
    for rank in range(RANKS):
        where = packages / "pack" / "data" / str(rank)
        where.mkdir()
        (where / "x").write_text("x")
        (launch.runner.scratch / str(rank)).mkdir()
    main = program(f"""
import os, pathlib
os.chdir(str(RANK))
DATA = {str(packages / "pack" / "data")!r} + f"/{{RANK}}"
NAME = DATA + "/x"
before = os.path.exists(NAME), open(NAME).read()
{how}
report([before, os.path.exists(NAME)])
""")
    result = launch(RANKS, [main])
    wanted = [(True, "x"), False]
    assert result.reports == dict.fromkeys(range(RANKS), wanted), str(result)


def test_removal_of_all_is_seen(launch, program, packages):
    """Rank 1 removes the directory above; rank 0 has looked before."""
    main = program(f"""
import os, shutil
import mpiimport
name = {str(packages / "pack" / "data" / "one.txt")!r}
before = os.path.exists(name), os.path.isdir({str(packages)!r})
mpiimport.COMM_WORLD.barrier()
if RANK == 1:
    shutil.rmtree({str(packages.parent.parent.parent / "lib")!r})
mpiimport.COMM_WORLD.barrier()
report([before, os.path.exists(name), os.path.isdir({str(packages)!r})])
""")
    result = launch(2, [main])
    wanted = [(True, True), False, False]
    assert result.reports == dict.fromkeys(range(2), wanted), str(result)


def test_invalidate_caches_shows_what_is_new(launch, program, packages):
    name = str(packages / "pack" / "data" / "late.txt")
    main = program(f"""
import importlib, os
import mpiimport
before = os.path.exists({name!r})
mpiimport.COMM_WORLD.barrier()
if RANK == 0:
    open({name!r}, "w").write("late")
mpiimport.COMM_WORLD.barrier()
importlib.invalidate_caches()
report([before, os.path.exists({name!r}), open({name!r}).read()])
""")
    result = launch(RANKS, [main], nodes="two")
    wanted = [False, True, "late"]
    assert result.reports == dict.fromkeys(range(RANKS), wanted), str(result)


def test_outside_of_the_environment_always_fresh(launch, program, tmp_path):
    """The program's directory, PYTHONPATH, the working directory."""
    (tmp_path / "path").mkdir()
    main = program("""
import os, sys
import mpiimport
found = []
for where in (os.path.dirname(__file__), os.environ["PYTHONPATH"]):
    name = where + "/late.txt"
    before = os.path.exists(name)
    mpiimport.COMM_WORLD.barrier()
    if RANK == 0:
        with open(name, "w") as file:
            file.write("one")
    mpiimport.COMM_WORLD.barrier()
    one = open(name).read(), os.path.exists(name)
    mpiimport.COMM_WORLD.barrier()
    if RANK == 0:
        with open(name, "w") as file:
            file.write("other")
    mpiimport.COMM_WORLD.barrier()
    found.append([before, *one, open(name).read()])
report(found)
""")
    env = {"PYTHONPATH": str(tmp_path / "path")}
    result = launch(RANKS, [main], nodes="two", env=env)
    wanted = [[False, "one", True, "other"]] * 2
    assert result.reports == dict.fromkeys(range(RANKS), wanted), str(result)


def test_program_inside_the_prefix_always_fresh(launch, program, packages):
    """A program that lies in the environment, but in no library."""
    where = packages.parent.parent.parent / "project"
    where.mkdir()
    main = program(
        """
import os
import mpiimport
name = os.path.dirname(__file__) + "/late.txt"
before = os.path.exists(name)
mpiimport.COMM_WORLD.barrier()
if RANK == 0:
    open(name, "w").close()
mpiimport.COMM_WORLD.barrier()
report([before, os.path.exists(name)])
""",
        "venv/project/main.py",
    )
    result = launch(RANKS, [main])
    wanted = [False, True]
    assert result.reports == dict.fromkeys(range(RANKS), wanted), str(result)


def test_forbidden_same_error_as_on_rank_0(launch, program, packages):
    """Rank 0 has stock's functions, and its error."""
    name = packages / "pack" / "data" / "one.txt"
    name.chmod(0)
    main = program(
        LOOK
        + f"""
import mpiimport
if os.geteuid() == 0:
    os.seteuid(65534)
mpiimport.COMM_WORLD.barrier()
for function, *more in ((open,), (open, "rb"), (os.open, os.O_RDONLY)):
    result.append(failure(function, {str(name)!r}, *more))
result.append(os.access({str(name)!r}, os.R_OK))
mpiimport.COMM_WORLD.barrier()
if os.getuid() == 0:
    os.seteuid(0)
report(result)
"""
    )
    result = launch(RANKS, [main], nodes="two")
    error = result.reports[0][0]
    assert error[0] == "PermissionError", str(result)
    assert result.reports[0][:3] == [error] * 3, str(result)
    for rank in range(1, RANKS):
        assert result.reports[rank] == result.reports[0], str(result)


def test_fifo_is_opened_by_the_rank_itself(launch, program, packages):
    name = packages / "pack" / "data" / "fifo"
    os.mkfifo(name)
    main = program(f"""
import os, stat
import mpiimport
name = {str(name)!r}
kind = stat.S_ISFIFO(os.stat(name).st_mode)
descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
also = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
report([kind, also, mpiimport.mirror(name) == name])
""")
    result = launch(RANKS, [main])
    wanted = [True] * 3
    assert result.reports == dict.fromkeys(range(RANKS), wanted), str(result)


def test_forked_child_reads_itself(touched, program):
    main = program("""
import os
os.stat(os.__file__)
pid = os.fork()
if pid == 0:
    status = os.stat(os.__file__)
    with open(os.__file__) as file:
        status = len(file.read()) != status.st_size
    os._exit(status)
report(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""")
    result, found = touched([main])
    assert result.reports == dict.fromkeys(range(RANKS), 0), str(result)
    for rank in range(1, RANKS):
        assert any(one.path.endswith("/os.py") for one in found[rank])


def test_disjoint_reads_itself(touched, program):
    main = program("""
import os
import mpiimport
with mpiimport.disjoint:
    os.stat(os.__file__)
report(0)
""")
    result, found = touched([main])
    for rank in range(1, RANKS):
        assert any(one.path.endswith("/os.py") for one in found[rank])


def test_after_finalize_reads_itself(launch, program):
    main = program("""
import atexit, os
import mpiimport

def last():
    with open(os.__file__) as file:
        report([len(file.read()) > 100, os.path.exists(os.__file__),
                os.path.exists(os.__file__ + "/nope")])

atexit.register(last)
mpiimport._module("launch").core.finish()
""")
    result = launch(RANKS, [main], nodes="two")
    wanted = [True, True, False]
    assert result.reports == dict.fromkeys(range(RANKS), wanted), str(result)


# --- mpiimport.open() and mirror()


def test_open_any_path_equals_builtin(launch, program, tmp_path):
    (tmp_path / "input.txt").write_text("one\ntwo\n")
    (tmp_path / "empty").write_text("")
    main = program(f"""
import mmap, os, pathlib
import mpiimport
where = {str(tmp_path)!r}
os.chdir(where)
found = []
for name in ("input.txt", where + "/input.txt", pathlib.Path("input.txt"),
             b"input.txt", "empty"):
    for how in (("r",), ("rb",), ("rb", 0), ("rt", -1, "ascii", "strict")):
        with mpiimport.open(name, *how) as one, open(name, *how) as other:
            same = [type(one) is type(other), one.name == other.name]
            same.append(one.read() == other.read())
            same.append(os.fstat(one.fileno()).st_mtime_ns
                        == os.fstat(other.fileno()).st_mtime_ns)
            found.append(all(same))
with mpiimport.open("input.txt", "rb") as file:
    block = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    found.append(block[:] == b"one\\ntwo\\n")
for mode in ("w", "a", "x", "r+", "rb+"):
    try:
        mpiimport.open("other.txt", mode)
    except ValueError as error:
        found.append(mode in str(error))
for name in ("nope", where, "input.txt/below"):
    for function in (mpiimport.open, mpiimport.mirror):
        try:
            function(name)
        except OSError as error:
            one = type(error), error.errno, error.strerror, error.filename
        try:
            open(name)
        except OSError as error:
            other = type(error), error.errno, error.strerror, error.filename
        found.append(one == other)
found.append(os.path.exists("other.txt"))
report(found)
""")
    for nodes in LAYOUTS:
        result = launch(RANKS, [main], nodes=nodes)
        wanted = [True] * 32 + [False]
        assert result.reports == dict.fromkeys(range(RANKS), wanted), str(
            result
        )
    result = launch(1, [main])
    assert result.reports == {0: wanted}, str(result)


def test_open_program_file_read_by_rank_0(touched, program, tree, tmp_path):
    (tmp_path / "input").mkdir()
    name = tmp_path / "input" / "a.txt"
    name.write_text("a")
    tree.append(tmp_path / "input")
    main = program(f"""
import mpiimport
with mpiimport.open({str(name)!r}) as file:
    report([file.read(), file.name])
""")
    result, found = touched([main], "two")
    tree.remove(tmp_path / "input")
    wanted = ["a", str(name)]
    assert result.reports == dict.fromkeys(range(RANKS), wanted), str(result)
    opened = [
        [one for one in done if one.path == str(name) and one.call == "openat"]
        for done in found
    ]
    assert [len(one) for one in opened] == [1, 0, 0], str(result)


def test_mirror_gives_a_copy_or_the_path(launch, program, tmp_path):
    """An object's libraries are beside the copy, too."""
    (tmp_path / "a.txt").write_text("a")
    main = program(f"""
import os
import mpiimport
import numpy
name = {str(tmp_path / "a.txt")!r}
copy = mpiimport.mirror(name)
core = numpy._core._multiarray_umath.__file__
other = mpiimport.mirror(core)
libs = os.path.join(os.path.dirname(numpy.__file__), "..", "numpy.libs")
there = other.partition("/tree/")[0] + "/tree" + os.path.normpath(libs)
report([open(copy).read(), copy != name, copy.endswith(name),
        other != core, bool(os.listdir(there)),
        mpiimport.mirror("/etc/../proc/self/status")])
""")
    result = launch(RANKS, [main], nodes="two")
    wanted = ["a", True, True, True, True, "/etc/../proc/self/status"]
    for rank in range(RANKS):
        assert result.reports[rank][:5] == wanted[:5], str(result)
    result = launch(
        1,
        [
            "-c",
            "import mpiimport, os; "
            "assert mpiimport.mirror(os.__file__) == os.__file__",
        ],
    )
    assert result.status == 0, str(result)


# --- no room


BIG = """
import os, sys
import mpiimport
found = []
for name in {names!r}:
    with open(name, "rb") as one, mpiimport.open(name, "rb") as other:
        for file in (one, other):
            file.seek(-3, os.SEEK_END)
            found.append((file.tell() + 3, file.read()))
    found.append(mpiimport.mirror(name) == name)
report(found)
"""


def write_big(packages, name, size):
    """Write a sparse file of that size that ends in b"end"."""
    path = packages / "pack" / "data" / name
    with open(path, "wb") as file:
        file.seek(size - 3)
        file.write(b"end")
    return str(path)


@pytest.mark.parametrize("nodes", LAYOUTS)
def test_no_room_for_a_file_read_directly(
    launch,
    program,
    packages,
    small_room,  # noqa: F811
    nodes,
):
    words, place, left = small_room("6m")
    size = 8 << 20
    main = program(BIG.format(names=[write_big(packages, "big", size)]))
    result = launch(RANKS, [main], nodes=nodes, under=words, store=place)
    wanted = [(size, b"end"), (size, b"end"), True]
    assert result.reports == dict.fromkeys(range(RANKS), wanted), str(result)
    assert "is not mirrored" in result.stderr, str(result)
    assert left() == [], str(result)


def test_huge_file_read_directly(launch, program, packages):
    size = (1 << 30) + 1
    main = program(BIG.format(names=[write_big(packages, "huge", size)]))
    result = launch(RANKS, [main])
    wanted = [(size, b"end"), (size, b"end"), True]
    assert result.reports == dict.fromkeys(range(RANKS), wanted), str(result)


def test_many_sizes_arrive_on_all_nodes(launch, program, packages):
    """Around the size of a frame of the stream, and none at all."""
    sizes = (0, 1, 15, 4095, 4 << 20, (4 << 20) + 1, 9_000_001)
    data = packages / "pack" / "data"
    for size in sizes:
        block = bytes(range(256)) * (size // 256 + 1)
        (data / str(size)).write_bytes(block[:size])
    main = program(f"""
import os, zlib
found = []
for size in {sizes!r}:
    with open({str(data)!r} + f"/{{size}}", "rb") as file:
        place = os.readlink(f"/proc/self/fd/{{file.fileno()}}")
        found.append((len(block := file.read()), zlib.crc32(block)))
        assert RANK == 0 or "/tree/" in place
report(found)
""")
    result = launch(RANKS, [main], nodes="each")
    assert sorted(result.reports) == list(range(RANKS)), str(result)
    assert [size for size, _ in result.reports[0]] == list(sizes)
    for rank in range(1, RANKS):
        assert result.reports[rank] == result.reports[0], str(result)
