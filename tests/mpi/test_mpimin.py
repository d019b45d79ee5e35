"""libmpi_min: finding a library, and every call under every MPI at hand.

The work is done by tests/c/test_mpimin.c and test_mpimin_world.c, which make
has built into build/tests/.  Of MPI libraries there are stubs, made here, and
the real ones of conftest.py.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from support.installations import (
    ABI,
    MPICH,
    NONE,
    OPENMPI,
    PATIENCE,
    built,
    run,
)

RANKS = (1, 2, 3, 5)
MODES = ("other", "closed", "start", "fork")

HYDRA = {"PMI_RANK": "0", "PMI_SIZE": "1", "HYDI_CONTROL_FD": "7"}
OPENMPI_MPIEXEC = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}
PMIX = {"PMIX_RANK": "0"}
BATCH = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}

OPENMPI_HANDLES = (
    "ompi_mpi_comm_world",
    "ompi_mpi_comm_self",
    "ompi_mpi_comm_null",
    "ompi_mpi_byte",
    "ompi_mpi_int64_t",
    "ompi_mpi_op_max",
    "ompi_mpi_info_null",
    "ompi_request_null",
    "ompi_mpi_errors_return",
)

# As mpiexec does: run a program as a child.
LAUNCHER = """
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int status = 0;

    if (argc > 1 && fork() == 0) {
        execv(argv[1], argv + 1);
        _exit(127);
    }
    wait(&status);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}
"""


@pytest.fixture(scope="session")
def alone(repo_root):
    """Program with the tests that need no MPI."""
    return built(repo_root, "test_mpimin")


@pytest.fixture(scope="session")
def world(repo_root):
    """Program with the tests to be run by mpiexec."""
    return built(repo_root, "test_mpimin_world")


def test_mpimin_without_mpi_all_checks_pass(alone):
    status, out, err = run([alone])
    assert status == 0, err
    assert re.search(r"[1-9]\d* passed, 0 failed", out)


# ---- finding a library: stubs ---------------------------------------------


class Stubs:
    """Maker of shared objects that look like MPI libraries.

    All functions return 0 and do nothing.
    """

    def __init__(self, functions, directory):
        self.functions = functions
        self.directory = directory

    def make(self, name, version="stub", lacks=(), abi=None, handles=()):
        """Compile DIRECTORY/name and return its path.

        version -- what MPI_Get_library_version says
        lacks -- functions to leave out
        abi -- the major version that MPI_Abi_get_version gives; 0 makes it
            return -1; None leaves it out
        handles -- symbols of data
        """
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        source = path.with_suffix(".c")
        lines = ["#include <string.h>"]
        for function in self.functions:
            if function in lacks:
                continue
            if function == "MPI_Get_library_version":
                lines.append(
                    f"int {function}(char *text, int *length)"
                    f'{{ strcpy(text, "{version}");'
                    " *length = (int)strlen(text); return 0; }"
                )
            else:
                lines.append(f"int {function}(void) {{ return 0; }}")
        if abi is not None:
            lines.append(
                "int MPI_Abi_get_version(int *major, int *minor)"
                f"{{ *major = {abi or -1}; *minor = 0;"
                f" return {0 if abi else -1}; }}"
            )
        lines += [f"long {handle}[8];" for handle in handles]
        source.write_text("\n".join(lines) + "\n")
        compiler = os.environ.get("CC", "gcc").split()
        subprocess.run(
            [*compiler, "-shared", "-fPIC", "-o", path, source]
            + [f"-Wl,-soname,{path.name}"],
            check=True,
            timeout=PATIENCE,
        )
        return path


@pytest.fixture
def stubs(repo_root, tmp_path):
    """Maker of stub libraries in the lib/ of an environment."""
    text = (repo_root / "libmpi_min" / "calls.c").read_text()
    functions = re.findall(r'"(MPI_\w+)"', text)
    assert len(functions) > 20
    return Stubs(functions, tmp_path / "env" / "lib")


@pytest.fixture(scope="session")
def launcher(tmp_path_factory):
    """A program that runs another one."""
    path = tmp_path_factory.mktemp("launcher") / "launcher"
    source = path.with_suffix(".c")
    source.write_text(LAUNCHER)
    compiler = os.environ.get("CC", "gcc").split()
    subprocess.run(
        [*compiler, "-o", path, source], check=True, timeout=PATIENCE
    )
    return path


def install(launcher, prefix):
    """Make 'launcher' the mpiexec of an environment; return its path."""
    path = prefix / "bin" / "mpiexec"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(launcher, path)
    return path


def result_of_open(status, out):
    """Return (family, name, version), or the error's text."""
    if status:
        return out.strip()
    family, name, version = out.rstrip("\n").split("|")
    return int(family), name, version


@pytest.fixture
def find(alone, launcher, tmp_path):
    """find(which, libdir, env, loaded) -> (family, name, version), or text.

    The mpiexec of the stubs' environment runs it, unless 'under' has other
    words to put before the command.
    """
    inside = [install(launcher, tmp_path / "env")]

    def run_open(which="", libdir="", env=None, loaded=None, under=None):
        command = [*(inside if under is None else under)]
        command += [alone, "open", which, libdir]
        if loaded is not None:
            command.append(loaded)
        status, out, err = run(command, env)
        assert err == ""
        assert status in (0, 1)
        return result_of_open(status, out)

    return run_open


def test_find_incomplete_library_names_every_function(find, stubs):
    path = stubs.make("libmpi.so.12", lacks=("MPI_Ibcast", "MPI_Igather"))
    text = find(path)
    assert f"{path} lacks MPI_Ibcast MPI_Igather" in text
    assert "PYTHON_MPI_MPI" in text


def test_find_other_library_refused(find, stubs):
    path = stubs.make("libmpi.so.12", lacks=("MPI_Init_thread",))
    assert "is not an MPI library" in find(path)


def test_find_draft_of_standard_abi_refused(find, stubs):
    path = stubs.make("libmpi_abi.so.0", version="MPICH Version: 4.3.0")
    text = find(path)
    assert "draft of the MPI standard ABI" in text
    assert "MPI_Abi_get_version" in text
    stubs.make("libmpi_abi.so.1")
    assert "draft" in find("abi", stubs.directory)


@pytest.mark.parametrize(
    ("options", "family"),
    [
        ({}, MPICH),
        ({"abi": 0}, MPICH),
        ({"abi": 1}, ABI),
        ({"handles": OPENMPI_HANDLES}, OPENMPI),
        ({"handles": OPENMPI_HANDLES, "abi": 0}, OPENMPI),
        ({"handles": OPENMPI_HANDLES, "abi": 1}, ABI),
    ],
)
def test_find_path_family_detected(find, stubs, options, family):
    version = r"Some\tMPI:  \t1.0\nsecond line"
    path = stubs.make("libother.so", version=version, **options)
    assert find(path) == (family, str(path), "Some MPI: 1.0")


def test_find_openmpi_without_a_handle_named(find, stubs):
    handles = [name for name in OPENMPI_HANDLES if name != "ompi_mpi_byte"]
    path = stubs.make("libmpi.so.40", handles=handles)
    assert find(path) == f"{path} lacks ompi_mpi_byte"


def test_find_word_takes_only_its_family(find, stubs):
    mpich = stubs.make("libmpi.so.12")
    openmpi = stubs.make("libmpi.so.40", handles=OPENMPI_HANDLES)
    abi = stubs.make("libmpi_abi_mpich.so.1", abi=1)
    assert find("mpich", stubs.directory)[:2] == (MPICH, str(mpich))
    assert find("openmpi", stubs.directory)[:2] == (OPENMPI, str(openmpi))
    assert find("abi", stubs.directory)[:2] == (ABI, str(abi))
    stubs.make("libmpi.so.40", version="Masked MPI")
    text = find("openmpi", stubs.directory)
    assert f"{openmpi} is Masked MPI, not Open MPI" in text
    assert "libmpi.so.40: not found" in text


def test_find_intel_takes_only_intel(find, stubs):
    path = stubs.make("libmpi.so.12", version="MPICH Version: 4.2")
    text = find("intel", stubs.directory)
    assert f"{path} is MPICH Version: 4.2, not Intel MPI" in text
    stubs.make("libmpi.so.12", version="Intel(R) MPI Library 2021.13")
    assert find("intel", stubs.directory)[:2] == (MPICH, str(path))


def test_find_file_name_in_libdir_first(find, stubs):
    path = stubs.make("libmpi_mine.so.3")
    assert find("libmpi_mine.so.3", stubs.directory)[1] == str(path)
    assert "not found" in find("libmpi_mine.so.3")


@pytest.fixture
def linked(stubs, tmp_path):
    """Variables with which the linker finds a libmpi.so.12 ("linker's")."""
    elsewhere = Stubs(stubs.functions, tmp_path / "linker")
    elsewhere.make("libmpi.so.12", version="linker's")
    return {"LD_LIBRARY_PATH": str(elsewhere.directory)}


LINKERS = (MPICH, "libmpi.so.12", "linker's")
every_search = pytest.mark.parametrize(
    "which", ["", "mpich", "libmpi.so.12"], ids=["auto", "word", "file"]
)


@every_search
def test_find_launcher_of_environment_libdir_first(find, stubs, linked, which):
    path = stubs.make("libmpi.so.12")
    found = find(which, stubs.directory, HYDRA | linked)
    assert found == (MPICH, str(path), "stub")


@every_search
def test_find_other_launcher_linker_first(find, stubs, linked, which):
    stubs.make("libmpi.so.12")
    env = HYDRA | linked
    assert find(which, stubs.directory, env, under=[]) == LINKERS


@every_search
def test_find_other_launcher_libdir_if_linker_finds_none(
    find, stubs, linked, which
):
    path = stubs.make("libmpi.so.12")
    broken = pathlib.Path(linked["LD_LIBRARY_PATH"]) / "libmpi.so.12"
    broken.write_text("no library\n")
    broken.with_name("libmpich.so.12").write_text("no library\n")
    found = find(which, stubs.directory, HYDRA | linked, under=[])
    assert found == (MPICH, str(path), "stub")


def test_find_path_is_opened_whatever_the_launcher(find, stubs, linked):
    path = str(stubs.make("libmpi.so.12"))
    assert find(path, stubs.directory, linked)[1] == path
    assert find(path, stubs.directory, linked, under=[])[1] == path


def test_find_nearest_launcher_decides(
    find, stubs, linked, launcher, tmp_path
):
    stubs.make("libmpi.so.12")
    outer = install(launcher, tmp_path / "env")
    inner = install(launcher, tmp_path / "linker")
    env = HYDRA | linked
    assert find("", stubs.directory, env, under=[outer, inner]) == LINKERS
    found = find("", stubs.directory, env, under=[inner, outer])
    assert found[2] == "stub"


def test_find_launcher_reached_through_wrappers(find, stubs, linked, tmp_path):
    path = stubs.make("libmpi.so.12")
    shell = [shutil.which("sh"), "-c", '"$@"; exit "$?"', "sh"]
    under = [tmp_path / "env" / "bin" / "mpiexec", *shell, *shell]
    found = find("", stubs.directory, HYDRA | linked, under=under)
    assert found[1] == str(path)


@pytest.mark.parametrize("name", ["same", "other"])
def test_find_environment_by_symbolic_link(
    find, stubs, linked, launcher, tmp_path, name
):
    """Known by the directory's name, or by the name it was called by."""
    real = tmp_path / "data" / "same"
    mpiexec = install(launcher, real)
    Stubs(stubs.functions, real / "lib").make("libmpi.so.12")
    link = tmp_path / name
    link.symlink_to(real)
    if name == "other":
        mpiexec = link / "bin" / "mpiexec"
    found = find("", link / "lib", HYDRA | linked, under=[mpiexec])
    assert found == (MPICH, f"{link}/lib/libmpi.so.12", "stub")


def test_find_auto_without_launcher_is_world_of_one(find, stubs):
    stubs.make("libmpi.so.12")
    assert find("", stubs.directory) == (NONE, "", "no MPI")


def test_find_auto_follows_launcher(find, stubs):
    mpich = str(stubs.make("libmpi.so.12"))
    openmpi = str(stubs.make("libmpi.so.40", handles=OPENMPI_HANDLES))
    libdir = stubs.directory
    assert find("", libdir, HYDRA)[1] == mpich
    assert find("", libdir, OPENMPI_MPIEXEC)[1] == openmpi
    assert find("", libdir, PMIX)[1] == openmpi
    assert find("", libdir, BATCH)[1] == mpich


def test_find_auto_standard_abi_of_the_launchers_maker(find, stubs):
    mpich = str(stubs.make("libmpi_abi_mpich.so.1", abi=1))
    openmpi = str(stubs.make("libmpi_abi_openmpi.so.1", abi=1))
    libdir = stubs.directory
    assert find("abi", libdir, HYDRA)[:2] == (ABI, mpich)
    assert find("abi", libdir, OPENMPI_MPIEXEC)[:2] == (ABI, openmpi)
    assert find("abi", libdir)[1] == mpich
    plain = str(stubs.make("libmpi_abi.so.1", abi=1))
    assert find("", libdir, OPENMPI_MPIEXEC)[1] == plain


def test_find_auto_nothing_fits_lists_all_names(find, tmp_path):
    text = find("", tmp_path, OPENMPI_MPIEXEC)
    if not isinstance(text, str):
        pytest.skip("this machine has an Open MPI in the linker's path")
    assert "Open MPI (mpiexec)" in text
    assert "-I mpich|openmpi|intel|abi|PATH or PYTHON_MPI_MPI" in text
    for name in ("libmpi.so.40", "libmpi_abi.so.1"):
        assert f"{tmp_path}/{name}: not found" in text
        assert f" {name}: not found" in text
    assert " libmpi_abi_openmpi.so.1: not found" in text
    assert f"{tmp_path}/libmpi_abi_openmpi.so.1" not in text


def test_find_auto_incomplete_library_passed_over(find, stubs):
    stubs.make("libmpi.so.40", lacks=("MPI_Ibcast",), handles=OPENMPI_HANDLES)
    path = stubs.make("libmpi_abi.so.1", abi=1)
    found = find("", stubs.directory, OPENMPI_MPIEXEC)
    assert found[:2] == (ABI, str(path))


@pytest.mark.parametrize("env", [{}, HYDRA, BATCH])
def test_find_auto_preloaded_library_wins(find, stubs, env):
    path = stubs.make("libmpi.so.40", handles=OPENMPI_HANDLES)
    stubs.make("libmpi.so.12")
    found = find("", stubs.directory, env | {"LD_PRELOAD": str(path)})
    assert found[:2] == (OPENMPI, str(path))


def test_find_auto_serial_stand_in_passed_over(find, stubs):
    serial = stubs.make("libmpiseq.so", lacks=("MPI_Ibcast",))
    path = stubs.make("libmpi.so.12")
    preload = {"LD_PRELOAD": str(serial)}
    assert find("", stubs.directory, preload)[0] == NONE
    assert find("", stubs.directory, preload | HYDRA)[1] == str(path)


@pytest.mark.parametrize("env", [{}, HYDRA])
def test_find_auto_library_loaded_with_local_symbols_wins(find, stubs, env):
    path = stubs.make("libmpi.so.40", handles=OPENMPI_HANDLES)
    stubs.make("libmpi.so.12")
    found = find("", stubs.directory, env, loaded=path)
    assert found[:2] == (OPENMPI, str(path))


def test_find_word_overrules_loaded_library(find, stubs):
    loaded = stubs.make("libmpi.so.40", handles=OPENMPI_HANDLES)
    path = stubs.make("libmpi.so.12")
    found = find("mpich", stubs.directory, HYDRA, loaded=loaded)
    assert found[:2] == (MPICH, str(path))
    assert find("none", stubs.directory, HYDRA, loaded=loaded)[0] == NONE


# ---- real libraries -------------------------------------------------------


def check_done(result, family, ranks):
    status, out, err = result
    assert status == 0, f"{out}\n{err}"
    lines = [line for line in out.splitlines() if line.startswith("ok ")]
    assert len(lines) == 1, f"not one world of {ranks}:\n{out}\n{err}"
    _, got_family, got_size, callbacks, version = lines[0].split(" ", 4)
    assert (int(got_family), int(got_size)) == (family, ranks)
    assert int(callbacks) == 1
    assert version.startswith("Open MPI") == (family == OPENMPI)


@pytest.mark.parametrize("ranks", RANKS)
def test_world_every_call_works(installation, world, ranks):
    result = installation.run(ranks, world, "calls")
    check_done(result, installation.family, ranks)


@pytest.mark.parametrize("ranks", (1, 3))
@pytest.mark.parametrize("mode", MODES)
def test_world_begin_and_end(installation, world, mode, ranks):
    result = installation.run(ranks, world, mode)
    check_done(result, installation.family, ranks)


@pytest.mark.parametrize("ranks", (1, 3))
def test_world_one_aborts_all_end(installation, world, ranks):
    status, out, _ = installation.run(ranks, world, "abort")
    assert status != 0
    assert "ok " not in out


def test_world_auto_finds_the_launchers_library(installation, world):
    """Preferring libdir; the old ABI before the standard one."""
    family = MPICH if installation.family == ABI else installation.family
    result = installation.run(2, world, "start", which="auto")
    check_done(result, family, 2)


def test_world_auto_prefers_libdir_to_the_linkers_library(
    installation, alone, mpich
):
    if not installation.libdir:
        pytest.skip("where the library is, only the linker knows")
    status, out, _ = run([alone, "open", mpich.which, ""])
    assert status == 0, out  # the linker's
    status, out, err = installation.run(2, alone, "open", which="auto")
    assert status == 0, f"{out}\n{err}"
    name = {MPICH: "libmpi.so.12", OPENMPI: "libmpi.so.40"}[
        MPICH if installation.family == ABI else installation.family
    ]
    libraries = [line.split("|")[1] for line in out.splitlines()]
    assert libraries == [f"{installation.libdir}/{name}"] * 2


@pytest.mark.parametrize("which", ["auto", "mpich"])
def test_world_other_launcher_no_operation_in_environment(
    alone, mpich, tmp_path, which
):
    strace = shutil.which("strace")
    assert strace, "strace is not installed"
    libdir = pathlib.Path(sys.executable).parent.parent / "lib"
    command = [*mpich.mpiexec, "-n", 2, strace, "-ff", "-s", 4096]
    command += ["-o", tmp_path / "rank", "-e", "trace=%file"]
    status, out, err = run([*command, alone, "open", which, libdir])
    assert status == 0, f"{out}\n{err}"
    traces = [path.read_text() for path in tmp_path.glob("rank.*")]
    assert len(traces) >= 2
    for trace in traces:
        lines = trace.splitlines()
        operations = [line for line in lines if "execve(" not in line]
        assert "libmp" in trace and "/proc/self/stat" in trace
        assert not [x for x in operations if str(libdir.parent) in x]


def test_world_path_of_library_works(installation, world):
    if not installation.libdir:
        pytest.skip("where the library is, only the linker knows")
    names = {
        MPICH: "libmpi.so.12",
        OPENMPI: "libmpi.so.40",
        ABI: "libmpi_abi.so.1",
    }
    path = installation.libdir / names[installation.family]
    result = installation.run(2, world, "start", which=path, libdir="")
    check_done(result, installation.family, 2)


# ---- wrong pairs ----------------------------------------------------------


def check_wrong_pair(status, out, launcher, library, ranks):
    assert status == 3
    assert f"{launcher} started {ranks} ranks" in out
    assert library in out
    assert "-I mpich|openmpi|intel|abi|PATH or PYTHON_MPI_MPI" in out
    assert "ok " not in out


def test_pair_mpich_under_faked_openmpi_stops(world, mpich):
    env = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}
    status, out, _ = run([world, "start", mpich.which], env)
    check_wrong_pair(status, out, "Open MPI (mpiexec)", ".so.12 (MPICH", 4)


def test_pair_openmpi_library_missing_stops(world, tmp_path):
    status, out, _ = run([world, "start", "openmpi", tmp_path], HYDRA)
    if status == 0:
        pytest.skip("this machine has an Open MPI in the linker's path")
    assert status == 3
    assert "libmpi.so.40: not found" in out


def test_pair_without_promise_starts_alone(world, mpich):
    result = run([world, "start", mpich.which])
    check_done(result, MPICH, 1)


def test_pair_mpich_under_openmpi_stops(world, mpich, openmpi):
    """MPICH 4 runs into our message, MPICH 5 stops with one of its own."""
    status, out, err = openmpi.run(
        2, world, "start", which=mpich.which, libdir=""
    )
    assert status != 0
    if "unsupported PMI version" not in err:
        check_wrong_pair(status, out, "Open MPI (mpiexec)", ".so.12 (MPICH", 2)


def test_pair_openmpi_under_hydra_stops(world, mpich, openmpi):
    status, out, _ = mpich.run(
        2, world, "start", which="openmpi", libdir=openmpi.libdir
    )
    check_wrong_pair(
        status, out, "Hydra (MPICH's mpiexec)", "libmpi.so.40 (Open MPI", 2
    )
