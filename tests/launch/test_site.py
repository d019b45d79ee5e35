"""What 'site' does is done on every rank, and comes out as in plain Python.

Each test runs one program with plain Python and as a job, with the same
arguments in the same environment, and compares what it sees of sys, site and
builtins.  The ranks are three on two nodes: a leader that reads, a mate of
its, and a leader that does not read.
"""

import re
import subprocess
import sys
import sysconfig

import pytest
from support import job

RANKS = 3

# sys.order and builtins.marker are set by files of the tests.
PROBE = """
import builtins
import sys
import site


def kind(value):
    return (type(value).__module__, type(value).__qualname__, repr(value))


names = {
    "order": getattr(sys, "order", None),
    "sys.path": sys.path,
    "sys.prefix": sys.prefix,
    "sys.exec_prefix": sys.exec_prefix,
    "sys.base_prefix": sys.base_prefix,
    "sys.base_exec_prefix": sys.base_exec_prefix,
    "sys.executable": sys.executable,
    "sys.flags": tuple(sys.flags),
    "sys.warnoptions": sys.warnoptions,
    "sys.dont_write_bytecode": sys.dont_write_bytecode,
    "site.PREFIXES": site.PREFIXES,
    "site.ENABLE_USER_SITE": site.ENABLE_USER_SITE,
    "site.USER_BASE": site.USER_BASE,
    "site.USER_SITE": site.USER_SITE,
    "site": sorted(vars(site)),
    "site.__file__": getattr(site, "__file__", None),
    "site.__name__": site.__name__,
    "site.__spec__": (site.__spec__.name, site.__spec__.origin),
    "customized": [
        (name, getattr(sys.modules.get(name), "__file__", None))
        for name in ("sitecustomize", "usercustomize")
    ],
    "builtins": {name: kind(value) for name, value in
                 sorted(vars(builtins).items())},
}
report(names)
"""

# Put a word into sys.order: who was here, and when.
NOTE = "import sys; sys.__dict__.setdefault('order', []).append({!r})"


def without_own_frames(text):
    """Return 'text' without the traceback lines of site's own functions.

    They name functions of the interpreter's site, or of ours.
    """
    return re.sub(
        r'(?m)^ *File "<(?:frozen )?(?:site|mpiimport [^>]*)>".*\n', "", text
    )


@pytest.fixture
def pair(launcher, mpiexec, repo_root, tmp_path, job_environment, program):
    """Run the probe twice: pair(...) -> (plain Python's result, the job's).

    Compares status and what is seen on all ranks.  Arguments: the
    interpreter, options, environment.
    """

    def run(python, options=(), env=None):
        runner = job.Runner(
            mpiexec, repo_root, python, tmp_path, job_environment
        )
        args = [*options, program(PROBE), "argument"]
        stock = runner.run_alone(args, env=env)
        assert stock.status == 0 and 0 in stock.reports, stock
        ours = runner.run(RANKS, args, env=env, nodes="two", launcher=launcher)
        assert ours.status == 0, ours
        assert sorted(ours.reports) == list(range(RANKS)), ours
        for rank in range(RANKS):
            differing = {
                name: (ours.reports[rank][name], value)
                for name, value in stock.reports[0].items()
                if ours.reports[rank][name] != value
            }
            assert not differing, f"rank {rank}: (job, plain): {differing}"
        return stock, ours

    return run


def same_message(stock, ours, once):
    """Check stderr: as plain Python's, with 'once' in it just once."""
    assert stock.stderr.count(once) == 1, stock
    assert ours.stderr.count(once) == 1, ours
    assert without_own_frames(ours.stderr) == without_own_frames(stock.stderr)


def seen(stock):
    """Return what plain Python's probe has reported."""
    return stock.reports[0]


@pytest.fixture(scope="session")
def base_python():
    """The interpreter that has no environment."""
    return sys._base_executable


@pytest.fixture
def make_venv(base_python, tmp_path):
    """Make an environment: make_venv(*options) -> its interpreter."""

    def make(*options):
        where = tmp_path / "venv"
        subprocess.run(
            [base_python, "-m", "venv", "--without-pip", *options, where],
            check=True,
            timeout=60,
        )
        return where / "bin" / "python"

    return make


def site_packages(prefix):
    """Return (and make) the site-packages below 'prefix'."""
    names = {"base": str(prefix), "platbase": str(prefix)}
    path = prefix.__class__(
        sysconfig.get_path("purelib", "posix_prefix", names)
    )
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
def user(tmp_path):
    """A user base: its environment variable, and its site-packages."""
    base = tmp_path / "user"
    return {"PYTHONUSERBASE": str(base)}, site_packages(base)


@pytest.fixture
def modules(tmp_path):
    """A directory for PYTHONPATH: its environment variable and its path."""
    path = tmp_path / "modules"
    path.mkdir()
    return {"PYTHONPATH": str(path)}, path


# ---- prefixes -------------------------------------------------------------


def test_base_interpreter(pair, base_python):
    pair(base_python)


def test_interpreter_of_the_tests(pair, python):
    stock, _ = pair(python)
    assert seen(stock)["sys.prefix"] == sys.prefix


def test_venv_has_own_packages_only(pair, make_venv, tmp_path):
    stock, _ = pair(make_venv())
    assert seen(stock)["sys.prefix"] == str(tmp_path / "venv")
    assert seen(stock)["site.ENABLE_USER_SITE"] is False
    assert seen(stock)["site.PREFIXES"] == [str(tmp_path / "venv")]


def test_venv_with_system_site_packages(pair, make_venv, user):
    stock, _ = pair(make_venv("--system-site-packages"), env=user[0])
    assert sys.base_prefix in seen(stock)["site.PREFIXES"]
    assert str(user[1]) in seen(stock)["sys.path"]


def test_venv_through_a_link_to_its_directory(pair, make_venv, tmp_path):
    make_venv()
    (tmp_path / "link").symlink_to("venv")
    stock, _ = pair(tmp_path / "link" / "bin" / "python")
    assert seen(stock)["sys.prefix"] == str(tmp_path / "link")


def test_venv_with_path_files(pair, make_venv, tmp_path):
    python = make_venv()
    packages = site_packages(tmp_path / "venv")
    (packages / "extra").mkdir()
    (packages / "a.pth").write_text("extra\n" + NOTE.format("a") + "\n")
    stock, _ = pair(python)
    assert str(packages / "extra") in seen(stock)["sys.path"]
    # Plain Python reads it twice, once for the environment.
    assert set(seen(stock)["order"]) == {"a"}


# ---- user site, options and variables -------------------------------------


def test_user_site_exists(pair, base_python, user):
    stock, _ = pair(base_python, env=user[0])
    assert str(user[1]) in seen(stock)["sys.path"]
    assert seen(stock)["site.ENABLE_USER_SITE"] is True


def test_user_site_does_not_exist(pair, base_python, tmp_path):
    stock, _ = pair(base_python, env={"PYTHONUSERBASE": tmp_path / "none"})
    assert str(tmp_path / "none") == seen(stock)["site.USER_BASE"]


@pytest.mark.parametrize(
    "options",
    [
        ["-s"],
        ["-E"],
        ["-E", "-s"],
        ["-P"],
        ["-O"],
        ["-OO"],
        ["-B"],
        ["-u"],
        ["-b"],
        ["-q"],
        ["-S"],
        ["-W", "default", "-W", "ignore::UserWarning"],
        ["-X", "utf8"],
        ["-X", "dev"],
        ["-X", "importtime"],
        ["-X", "int_max_str_digits=5000"],
    ],
    ids=" ".join,
)
def test_option(pair, base_python, user, modules, options):
    (user[1] / "a.pth").write_text(NOTE.format("user") + "\n")
    (modules[1] / "sitecustomize.py").write_text(NOTE.format("custom"))
    pair(base_python, options, env=user[0] | modules[0])


@pytest.mark.parametrize(
    "name, value",
    [
        ("PYTHONNOUSERSITE", "1"),
        ("PYTHONSAFEPATH", "1"),
        ("PYTHONOPTIMIZE", "2"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONHASHSEED", "0"),
        ("PYTHONHASHSEED", "17"),
        ("PYTHONUTF8", "1"),
        ("PYTHONDEVMODE", "1"),
        ("PYTHONWARNINGS", "ignore,default::UserWarning"),
        ("PYTHONUNBUFFERED", "1"),
    ],
)
@pytest.mark.parametrize("options", [[], ["-E"]], ids=["", "-E"])
def test_variable(pair, base_python, user, name, value, options):
    pair(base_python, options, env=user[0] | {name: value})


def test_pythonpath_of_several_entries(pair, base_python, tmp_path):
    """Missing, relative, empty, doubled entries, and a file."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "file").touch()
    entries = [
        tmp_path / "one",
        tmp_path / "missing",
        "two",
        "",
        tmp_path / "one",
        f"{tmp_path}/two/../two/",
        tmp_path / "file",
    ]
    pair(base_python, env={"PYTHONPATH": ":".join(map(str, entries))})


def test_pythonpath_of_an_empty_string(pair, base_python):
    pair(base_python, env={"PYTHONPATH": ""})


def test_pythonhome(pair, base_python):
    prefix = sys.base_prefix
    pair(base_python, env={"PYTHONHOME": prefix})


# ---- path files -----------------------------------------------------------


def test_pth_of_paths_and_comments(pair, base_python, user, tmp_path):
    env, packages = user
    for name in ("inside", "later", "x y"):
        (packages / name).mkdir()
    (tmp_path / "outside").mkdir()
    (packages / "b.pth").write_text(
        "# comment\n\ninside\nmissing\n"
        f"{tmp_path / 'outside'}\n  \ninside\nx y   \n"
        "inside/../later\n#inside\n"
    )
    # Earlier in the alphabet, without a newline at its end.
    (packages / "a.pth").write_text("later")
    (packages / "c.PTH").write_text("missing")
    (packages / "d.pth").mkdir()
    (packages / ".hidden.pth").write_text(NOTE.format("hidden") + "\n")
    (packages / "crlf.pth").write_bytes(b"inside\r\nx y\r\n")
    stock, _ = pair(base_python, env=env)
    path = seen(stock)["sys.path"]
    path = path[path.index(str(packages)) + 1 :]
    names = [packages / "later", packages / "inside", tmp_path / "outside"]
    assert [p for p in path if p in map(str, names)] == [*map(str, names)]
    assert str(packages / "x y") in path
    assert str(packages / "missing") not in path


def test_pth_of_import_lines(pair, base_python, user):
    env, packages = user
    (packages / "helper.py").write_text("import json\nVALUE = 'helped'\n")
    (packages / "a.pth").write_text(
        NOTE.format("a1") + "\n"
        "# import nothing\n"
        "import helper, sys; sys.order.append(helper.VALUE)\n"
        "import\tbuiltins; builtins.marker = 'set'\n"
    )
    (packages / "b.pth").write_text(NOTE.format("b1") + "\n")
    stock, _ = pair(base_python, env=env)
    assert seen(stock)["order"] == ["a1", "helped", "b1"]
    assert "marker" in seen(stock)["builtins"]


def test_pth_whose_import_line_edits_sys_path(pair, base_python, user):
    """As easy-install.pth does it: the order of the lines matters."""
    env, packages = user
    for name in ("one", "two", "three"):
        (packages / name).mkdir()
        (packages / name / "which.py").write_text(f"VALUE = {name!r}\n")
    (packages / "easy.pth").write_text(
        "import sys; sys.__plen = len(sys.path)\n"
        "one\n"
        "two\n"
        "import sys; new = sys.path[sys.__plen:]; del sys.path[sys.__plen:]; "
        "p = getattr(sys, '__egginsert', 0); sys.path[p:p] = new\n"
        "import which, sys; sys.order = [which.VALUE]\n"
        "three\n"
    )
    stock, _ = pair(base_python, env=env)
    path = seen(stock)["sys.path"]
    # In front there is only the program's directory, which comes after site.
    assert path[1:3] == [str(packages / "one"), str(packages / "two")]
    assert path.index(str(packages / "three")) > path.index(str(packages))
    assert seen(stock)["order"] == ["one"]


def test_pth_whose_import_line_removes_a_path(pair, base_python, user):
    """A path that went away may be added again by a later line."""
    env, packages = user
    (packages / "one").mkdir()
    (packages / "a.pth").write_text(
        "one\nimport sys; sys.path.pop()\none\n"
        "import sys; sys.path.append('appended')\n"
    )
    pair(base_python, env=env)


def test_pth_whose_import_line_adds_a_site_directory(
    pair, base_python, user, tmp_path
):
    env, packages = user
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    (other / "z.pth").write_text("deep\n" + NOTE.format("z") + "\n")
    (packages / "a.pth").write_text(
        f"import site; site.addsitedir({str(other)!r})\n"
    )
    stock, _ = pair(base_python, env=env)
    assert str(other / "deep") in seen(stock)["sys.path"]


@pytest.mark.parametrize(
    "line, error",
    [
        ("import nosuchmodule", "ModuleNotFoundError"),
        ("import sys; raise RuntimeError('boom')", "RuntimeError"),
        ("import sys; 1 +", "SyntaxError"),
        ("import broken", "ZeroDivisionError"),
    ],
)
def test_pth_with_a_broken_line(pair, base_python, user, line, error):
    """One message; the rest of this file is left out, others are read."""
    env, packages = user
    (packages / "one").mkdir()
    (packages / "broken.py").write_text("def f():\n    1 / 0\n\n\nf()\n")
    (packages / "a.pth").write_text(
        f"one\n{line}\n" + NOTE.format("never") + "\n"
    )
    (packages / "b.pth").write_text(NOTE.format("b") + "\n")
    stock, ours = pair(base_python, env=env)
    assert seen(stock)["order"] == ["b"]
    assert error in stock.stderr
    same_message(stock, ours, once="Error processing line 2 of")


def test_pth_with_two_broken_files(pair, base_python, user):
    env, packages = user
    (packages / "a.pth").write_text("import nosuchmodule1\n")
    (packages / "b.pth").write_text("import nosuchmodule2\n")
    stock, ours = pair(base_python, env=env)
    for name in ("a", "b"):
        same_message(stock, ours, once=str(packages / f"{name}.pth"))


# ---- sitecustomize, usercustomize -----------------------------------------


def test_sitecustomize(pair, base_python, modules):
    env, path = modules
    (path / "sitecustomize.py").write_text(
        NOTE.format("sitecustomize")
        + "\nsys.path.append('/added/by/sitecustomize')\n"
        "import builtins\nbuiltins.marker = sys.flags.no_site\n"
    )
    stock, _ = pair(base_python, env=env)
    assert seen(stock)["order"] == ["sitecustomize"]


def test_usercustomize(pair, base_python, user):
    env, packages = user
    (packages / "usercustomize.py").write_text(NOTE.format("usercustomize"))
    stock, _ = pair(base_python, env=env)
    assert seen(stock)["order"] == ["usercustomize"]


def test_usercustomize_without_user_site(pair, base_python, user):
    env, packages = user
    (packages / "usercustomize.py").write_text(NOTE.format("usercustomize"))
    stock, _ = pair(base_python, ["-s"], env=env)
    assert seen(stock)["order"] is None


def test_all_in_the_order_of_plain_python(pair, base_python, user, modules):
    env, packages = user
    (packages / "a.pth").write_text(NOTE.format("pth") + "\n")
    (packages / "usercustomize.py").write_text(NOTE.format("user"))
    (modules[1] / "sitecustomize.py").write_text(NOTE.format("site"))
    stock, _ = pair(base_python, env=env | modules[0])
    assert seen(stock)["order"] == ["pth", "site", "user"]


def test_sitecustomize_changes_what_usercustomize_sees(
    pair, base_python, user, modules
):
    (modules[1] / "sitecustomize.py").write_text(
        "import site, sys\nsite.ENABLE_USER_SITE = False\n"
    )
    (user[1] / "usercustomize.py").write_text(NOTE.format("user"))
    stock, _ = pair(base_python, env=user[0] | modules[0])
    assert seen(stock)["order"] is None


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize"])
@pytest.mark.parametrize(
    "text, error",
    [
        ("raise RuntimeError('boom')", "RuntimeError: boom"),
        ("import nosuchmodule", "ModuleNotFoundError"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_customization_that_fails(
    pair, base_python, user, modules, name, text, error
):
    where = {"sitecustomize": modules[1], "usercustomize": user[1]}[name]
    (where / f"{name}.py").write_text(text + "\n")
    stock, ours = pair(base_python, env=user[0] | modules[0])
    assert error in stock.stderr
    same_message(stock, ours, once=f"Error in {name}")


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize"])
def test_customization_that_prints(pair, base_python, user, modules, name):
    """What it prints is the program's own output: each rank's."""
    where = {"sitecustomize": modules[1], "usercustomize": user[1]}[name]
    (where / f"{name}.py").write_text("print('hello')\n")
    stock, ours = pair(base_python, env=user[0] | modules[0])
    assert stock.stdout == "hello\n"
    assert ours.stdout == "hello\n" * RANKS


# ---- children -------------------------------------------------------------


def test_children_are_plain_python(launch, stock, user, tmp_path, program):
    """A child that the flags of sys are handed to sees what ours sees."""
    path = program(
        """
import subprocess
import sys

if RANK == 0:
    code = "import site, sys; print(sys.flags.no_site, sys.path)"
    args = subprocess._args_from_interpreter_flags()
    command = [sys.executable, *args, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report((args, done.stdout))
"""
    )
    plain = stock([path], env=user[0])
    ours = launch(RANKS, [path], env=user[0])
    assert ours.status == 0, ours
    assert ours.reports[0] == plain.reports[0]
