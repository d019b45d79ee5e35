"""Which Python environment the native launcher runs the program in.

PYTHON_MPI_PYTHON names an interpreter, VIRTUAL_ENV an environment; without
either it is the interpreter that the launcher was built for.  What the ranks
see is compared with that environment's own interpreter.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from support import job

RANKS = 3
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

PROBE = """
import sys
import site

try:
    import which
except ImportError:
    which = None

NAMES = (
    "path prefix exec_prefix base_prefix base_exec_prefix executable "
    "_base_executable platlibdir _stdlib_dir argv orig_argv version"
).split()
report({
    **{name: getattr(sys, name) for name in NAMES},
    "flags": tuple(sys.flags),
    "which": which and (which.VALUE, which.__file__, which.__cached__),
    "site": (site.PREFIXES, site.ENABLE_USER_SITE, site.USER_SITE),
    "home": os.environ.get("PYTHONHOME"),
    "environment": os.environ.get("VIRTUAL_ENV"),
    "encodings": sys.modules["encodings"].__file__,
})
"""


@pytest.fixture
def launcher():
    """All of this file is about the native launcher."""
    return "python-mpi"


@pytest.fixture(scope="session")
def base_python():
    """The interpreter that has no environment."""
    return pathlib.Path(sys._base_executable)


@pytest.fixture
def make_venv(base_python, tmp_path):
    """Make an environment: make_venv(name, ...) -> its directory.

    It has a module 'which' whose VALUE is the environment's name.
    """

    def make(name, *options, python=base_python):
        where = tmp_path / name
        subprocess.run(
            [python, "-m", "venv", "--without-pip", *options, where],
            env=job.clean_environment(),
            check=True,
            timeout=60,
        )
        packages = next(where.glob("lib/python*/site-packages"))
        (packages / "which.py").write_text(f"VALUE = {name!r}\n")
        return where

    return make


@pytest.fixture
def start(mpiexec, repo_root, tmp_path, job_environment, base_python):
    """Run a job: start(ranks, args, env); no environment is chosen."""

    def run(ranks, args, env=None, **options):
        runner = job.Runner(
            mpiexec, repo_root, base_python, tmp_path, job_environment
        )
        env = {"PYTHON_MPI_PYTHON": None} | (env or {})
        return runner.run(
            ranks,
            args,
            env=env,
            nodes="two",
            launcher="python-mpi",
            **options,
        )

    return run


@pytest.fixture
def compare(start, tmp_path, repo_root, job_environment, program):
    """Run the probe both ways; return what it sees, the same everywhere.

    python: what plain Python is started as
    env: the variables that lead the launcher to it
    both: variables that plain Python gets too
    """
    main = program(PROBE)

    def run(python, env, options=(), both=None):
        args = [*options, main, "one"]
        runner = job.Runner([], repo_root, python, tmp_path, job_environment)
        seen = {"VIRTUAL_ENV": env.get("VIRTUAL_ENV")} | (both or {})
        expected = runner.run_alone(args, env=seen)
        assert expected.status == 0 and 0 in expected.reports, str(expected)
        result = start(RANKS, args, env | (both or {}))
        assert result.status == 0, str(result)
        assert result.stderr == expected.stderr, f"{expected}{result}"
        assert sorted(result.reports) == list(range(RANKS)), str(result)
        plain = expected.reports[0]
        for rank, found in result.reports.items():
            differing = {
                name: (found[name], value)
                for name, value in plain.items()
                if found[name] != value
            }
            assert not differing, f"rank {rank}: (here, plain): {differing}"
        return plain

    return run


def check_refusal(result, *words, path=None):
    """One message for the whole job, with 'words' in it, and status 1."""
    assert result.status == 1, str(result)
    assert result.reports == {}, str(result)
    assert result.stdout == "", str(result)
    assert "Traceback" not in result.stderr, str(result)
    assert "Fatal Python error" not in result.stderr, str(result)
    for word in words:
        assert re.search(word, result.stderr), f"{word}{result}"
    if path is not None:
        assert str(path) in result.stderr, str(result)
    assert result.stderr.count("python-mpi: ") == 1, str(result)
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == len(set(lines)), str(result)


# ---- which one --------------------------------------------------------------


def test_nothing_chosen_is_the_one_built_for(start, program, base_python):
    main = program(PROBE)
    for env in ({}, {"PYTHON_MPI_PYTHON": "", "VIRTUAL_ENV": ""}):
        result = start(RANKS, [main], env)
        assert result.status == 0 and len(result.reports) == RANKS, result
        for found in result.reports.values():
            assert found == result.reports[0] | {"argv": found["argv"]}
            assert found["prefix"] == found["base_prefix"] == sys.base_prefix
            assert found["exec_prefix"] == sys.base_exec_prefix
            assert found["version"] == sys.version
            assert os.path.samefile(found["executable"], base_python)
            assert found["which"] is None


def test_interpreter_without_environment(compare, base_python):
    seen = compare(base_python, {"PYTHON_MPI_PYTHON": base_python})
    assert seen["prefix"] == seen["base_prefix"] == sys.base_prefix


def test_interpreter_through_a_link(compare, base_python, tmp_path):
    """A link outside of any prefix leads to the interpreter's own."""
    link = tmp_path / "links" / "other-name"
    link.parent.mkdir()
    link.symlink_to(base_python)
    seen = compare(link, {"PYTHON_MPI_PYTHON": link})
    assert seen["executable"] == str(link)
    assert seen["prefix"] == sys.base_prefix


@pytest.mark.parametrize("name", ["python", "python3"])
def test_variable_chooses_the_interpreter(compare, make_venv, name):
    venv = make_venv("venv")
    python = venv / "bin" / name
    seen = compare(python, {"PYTHON_MPI_PYTHON": python})
    assert seen["executable"] == str(python)
    assert seen["prefix"] == seen["exec_prefix"] == str(venv)
    assert seen["base_prefix"] == sys.base_prefix
    assert seen["which"][0] == "venv"


def test_virtual_env_chooses_the_environment(compare, make_venv):
    venv = make_venv("venv")
    seen = compare(venv / "bin" / "python3", {"VIRTUAL_ENV": venv})
    assert seen["prefix"] == seen["environment"] == str(venv)
    assert seen["which"][0] == "venv"


def test_variable_wins_over_virtual_env(compare, make_venv, base_python):
    active = make_venv("active")
    python = make_venv("named") / "bin" / "python"
    env = {"VIRTUAL_ENV": active, "PYTHON_MPI_PYTHON": python}
    assert compare(python, env)["which"][0] == "named"
    env["PYTHON_MPI_PYTHON"] = base_python
    assert compare(base_python, env)["which"] is None
    # An empty one counts as not set.
    env["PYTHON_MPI_PYTHON"] = ""
    seen = compare(active / "bin" / "python3", env)
    assert seen["which"][0] == "active"


@pytest.mark.parametrize(
    "options", [["-E"], ["-E", "-s", "-P"], ["-S"], ["-OB"]], ids=" ".join
)
def test_options_of_the_interpreter_leave_the_choice(
    compare, make_venv, options
):
    venv = make_venv("venv")
    python = venv / "bin" / "python"
    seen = compare(python, {"PYTHON_MPI_PYTHON": python}, options)
    # The prefix is set by 'site'.
    assert (seen["prefix"] == str(venv)) == (
        "-S" not in options or sys.version_info >= (3, 14)
    )


# ---- kinds of environments --------------------------------------------------


def test_venv_with_system_site_packages(compare, make_venv, tmp_path):
    venv = make_venv("venv", "--system-site-packages")
    user = {"PYTHONUSERBASE": tmp_path / "user"}
    packages = tmp_path / "user" / "lib" / f"python{VERSION}" / "site-packages"
    packages.mkdir(parents=True)
    python = venv / "bin" / "python"
    seen = compare(python, {"PYTHON_MPI_PYTHON": python}, both=user)
    assert str(packages) in seen["path"]
    assert sys.base_prefix in seen["site"][0]
    without = make_venv("without") / "bin" / "python"
    seen = compare(without, {"PYTHON_MPI_PYTHON": without}, both=user)
    assert str(packages) not in seen["path"]


def test_venv_with_copied_interpreter(compare, make_venv):
    python = make_venv("venv", "--copies") / "bin" / "python"
    assert not python.is_symlink()
    seen = compare(python, {"PYTHON_MPI_PYTHON": python})
    assert seen["which"][0] == "venv"


def test_venv_of_a_venv(compare, make_venv):
    outer = make_venv("outer")
    inner = make_venv("inner", python=outer / "bin" / "python")
    seen = compare(inner / "bin" / "python3", {"VIRTUAL_ENV": inner})
    assert seen["base_prefix"] == sys.base_prefix
    assert seen["which"][0] == "inner"


def test_venv_whose_home_is_a_venv(compare, make_venv):
    """As tools other than venv write it: the outer one is not resolved."""
    outer = make_venv("outer")
    inner = make_venv("inner")
    file = inner / "pyvenv.cfg"
    text = re.sub(
        "(?m)^home = .*", f"home = {outer / 'bin'}", file.read_text()
    )
    file.write_text(text)
    python = inner / "bin" / "python"
    python.unlink()
    python.symlink_to(outer / "bin" / "python")
    seen = compare(python, {"PYTHON_MPI_PYTHON": python})
    assert seen["prefix"] == str(inner)


def test_venv_through_links(compare, make_venv, tmp_path):
    """The name in use is kept, as in plain Python."""
    make_venv("venv")
    link = tmp_path / "link"
    link.symlink_to("venv")
    python = link / "bin" / "python"
    assert compare(python, {"PYTHON_MPI_PYTHON": python})["prefix"] == str(
        link
    )
    seen = compare(link / "bin" / "python3", {"VIRTUAL_ENV": link})
    assert seen["prefix"] == str(link)


def test_venv_whose_name_is_odd(compare, make_venv):
    venv = make_venv("a venv, größer")
    seen = compare(venv / "bin" / "python3", {"VIRTUAL_ENV": venv})
    assert seen["prefix"] == str(venv)
    assert seen["which"][0] == venv.name


def test_venv_whose_configuration_is_written_by_hand(
    compare, make_venv, base_python
):
    """Spaces, capitals, unknown keys, no version, no newline at the end."""
    venv = make_venv("venv")
    (venv / "pyvenv.cfg").write_text(
        "# by hand\n\nother=1\n"
        f"  HOME={base_python.parent}  \n"
        "Include-System-Site-Packages  =  TRUE"
    )
    python = venv / "bin" / "python"
    seen = compare(python, {"PYTHON_MPI_PYTHON": python})
    assert seen["prefix"] == str(venv)
    assert sys.base_prefix in seen["site"][0]


def test_pythonhome_beside_the_choice(compare, make_venv):
    """As in plain Python: the home is the base, the environment remains."""
    python = make_venv("venv") / "bin" / "python"
    home = {"PYTHONHOME": sys.base_prefix}
    seen = compare(python, {"PYTHON_MPI_PYTHON": python}, both=home)
    assert seen["home"] == seen["base_prefix"] == sys.base_prefix
    assert seen["executable"] == str(python)


def test_pythonpath_beside_the_choice(compare, make_venv, tmp_path):
    venv = make_venv("venv")
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "which.py").write_text("VALUE = 'before'\n")
    path = {"PYTHONPATH": tmp_path / "before"}
    python = venv / "bin" / "python3"
    assert compare(python, {"VIRTUAL_ENV": venv}, both=path)["which"][0] == (
        "before"
    )


def test_children_run_in_the_environment(start, make_venv, program):
    """They are ordinary Python, of the same environment."""
    venv = make_venv("venv")
    main = program(
        """
import subprocess
import sys

import which

code = "import sys, which; print([sys.prefix, sys.executable, which.VALUE])"
done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
)
report((done.stdout.strip(), str([sys.prefix, sys.executable, which.VALUE])))
"""
    )
    result = start(RANKS, [main], {"VIRTUAL_ENV": venv})
    assert result.status == 0 and len(result.reports) == RANKS, str(result)
    for child, own in result.reports.values():
        assert child == own, str(result)


# ---- another version --------------------------------------------------------


def interpreters():
    """Return the interpreters of other versions that are on this machine.

    In PATH, or beside the prefix of the one in use.
    """
    names = [f"python3.{minor}" for minor in range(6, 20)]
    found = [shutil.which(name) for name in names]
    prefix = pathlib.Path(sys.base_prefix)
    found += sorted(prefix.parent.glob("*/bin/python3"))
    others = {}
    for path in found:
        version = path and version_of(path)
        if version and version != VERSION:
            others.setdefault(version, pathlib.Path(path))
    return others


def version_of(python):
    """Return "3.N" for an interpreter that works, or None."""
    done = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        env=job.clean_environment(),
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    return done.stdout.strip() if done.returncode == 0 else None


@pytest.fixture(scope="session")
def other():
    """An interpreter of another version: (version, path)."""
    found = interpreters()
    if not found:
        pytest.skip("there is no interpreter of another version")
    # The nearest: the hardest to tell apart.
    mine = sys.version_info.minor
    return min(
        found.items(), key=lambda pair: abs(int(pair[0][2:]) - mine - 0.1)
    )


@pytest.fixture
def old_venv(tmp_path):
    """An environment of 3.9.1 whose interpreter does not do anything."""
    old = tmp_path / "old"
    (old / "bin").mkdir(parents=True)
    (old / "lib" / "python3.9").mkdir(parents=True)
    (old / "lib" / "python3.9" / "os.py").touch()
    python = old / "bin" / "python3.9"
    python.write_text("#!/bin/sh\necho Python 3.9.1\n")
    python.chmod(0o755)
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "lib" / "python3.9" / "site-packages").mkdir(parents=True)
    for name in ("python", "python3", "python3.9"):
        (venv / "bin" / name).symlink_to(python)
    (venv / "pyvenv.cfg").write_text(
        f"home = {old / 'bin'}\n"
        "include-system-site-packages = false\n"
        "version = 3.9.1\n"
    )
    return venv


both_ways = pytest.mark.parametrize(
    "how", ["PYTHON_MPI_PYTHON", "VIRTUAL_ENV"]
)
few_and_more = pytest.mark.parametrize("ranks", [1, RANKS])


def chosen(how, venv):
    """Return the environment variable that leads to 'venv'."""
    value = venv if how == "VIRTUAL_ENV" else venv / "bin" / "python"
    return {how: value}


@few_and_more
@both_ways
def test_other_version_is_refused(start, old_venv, program, ranks, how):
    main = program("report('started')\n")
    result = start(ranks, [main], chosen(how, old_venv))
    check_refusal(result, r"\b3\.9\b", rf"\b{re.escape(VERSION)}\b", how)
    assert str(old_venv) in result.stderr, str(result)


def test_other_version_named_by_the_configuration_only_is_refused(
    start, make_venv, program
):
    """An environment that was left behind when the base was updated.

    Its link leads to the right version by now, its packages do not.
    """
    venv = make_venv("venv")
    (venv / "lib" / f"python{VERSION}").rename(venv / "lib" / "python3.9")
    file = venv / "pyvenv.cfg"
    text = re.sub("(?m)^version = .*", "version = 3.9.1", file.read_text())
    file.write_text(text)
    main = program("report('started')\n")
    result = start(RANKS, [main], {"VIRTUAL_ENV": venv})
    check_refusal(result, r"\b3\.9\b", rf"\b{re.escape(VERSION)}\b")


@few_and_more
def test_interpreter_of_another_version_is_refused(
    start, other, program, ranks
):
    version, python = other
    main = program("report('started')\n")
    result = start(ranks, [main], {"PYTHON_MPI_PYTHON": python})
    words = [rf"\b{re.escape(text)}\b" for text in (version, VERSION)]
    check_refusal(result, *words, path=python)


@both_ways
def test_venv_of_another_version_is_refused(
    start, other, make_venv, program, how
):
    version, python = other
    venv = make_venv("venv", python=python)
    main = program("report('started')\n")
    result = start(RANKS, [main], chosen(how, venv))
    words = [rf"\b{re.escape(text)}\b" for text in (version, VERSION)]
    check_refusal(result, *words, how, path=venv)


# ---- choices that are not there ---------------------------------------------


@pytest.fixture
def wrong(tmp_path, base_python):
    """Return what PYTHON_MPI_PYTHON is set to, for each mistake."""
    directory = tmp_path / "directory"
    (directory / "bin").mkdir(parents=True)
    plain = tmp_path / "not-executable"
    plain.write_text("#!/bin/sh\nexit 0\n")
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "gone" / "python3")
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    return {
        "missing": tmp_path / "missing" / "bin" / "python",
        "directory": directory,
        "not executable": plain,
        "dangling link": dangling,
        "loop": loop,
        "below a file": plain / "bin" / "python",
    }


@few_and_more
@pytest.mark.parametrize(
    "mistake",
    [
        "missing",
        "directory",
        "not executable",
        "dangling link",
        "loop",
        "below a file",
    ],
)
def test_interpreter_that_cannot_be_used(
    start, wrong, program, ranks, mistake
):
    main = program("report('started')\n")
    path = wrong[mistake]
    result = start(ranks, [main], {"PYTHON_MPI_PYTHON": path})
    check_refusal(result, "PYTHON_MPI_PYTHON", path=path)


@few_and_more
@pytest.mark.parametrize("left", ["nothing", "directory", "no interpreter"])
def test_virtual_env_that_is_gone(start, make_venv, program, ranks, left):
    venv = make_venv("venv")
    if left == "no interpreter":
        for link in (venv / "bin").glob("python*"):
            link.unlink()
    else:
        shutil.rmtree(venv)
    if left == "directory":
        venv.mkdir()
    main = program("report('started')\n")
    result = start(ranks, [main], {"VIRTUAL_ENV": venv})
    check_refusal(result, "VIRTUAL_ENV", path=venv)


def test_base_of_a_venv_that_is_gone(start, make_venv, program, tmp_path):
    """The interpreter that it was made from was taken away."""
    venv = make_venv("venv")
    for name in ("python", "python3", f"python{VERSION}"):
        (venv / "bin" / name).unlink(missing_ok=True)
        (venv / "bin" / name).symlink_to(tmp_path / "gone" / name)
    file = venv / "pyvenv.cfg"
    text = re.sub(
        "(?m)^home = .*", f"home = {tmp_path}/gone", file.read_text()
    )
    file.write_text(text)
    main = program("report('started')\n")
    result = start(RANKS, [main], {"VIRTUAL_ENV": venv})
    check_refusal(result, "VIRTUAL_ENV", path=venv)


def test_help_needs_no_environment(start):
    """A bad variable does not keep anybody from reading the help."""
    env = {"PYTHON_MPI_PYTHON": "/nonexistent/python"}
    result = start(1, ["--help"], env)
    assert result.status == 0, str(result)
    assert "usage" in result.stdout.lower(), str(result)
