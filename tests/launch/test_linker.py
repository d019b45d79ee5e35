"""What the dynamic linker would do, done without it looking at the tree.

Small libraries, compiled here: opened by an object itself, known under
several names, loaded already, found by LD_LIBRARY_PATH, or nowhere.
"""

import os
import pathlib
import shlex
import subprocess
import sysconfig

import pytest
from support import trace

RANKS = 3

# Where each library is mapped from, without the mirror's own directory.
SEEN = """
import os, re
maps = [line.split() for line in open("/proc/self/maps")]
seen = sorted({
    (re.sub(".*/mpiimport-[^/]*/tree", "@", words[-1]), words[3], words[4])
    for words in maps if os.path.basename(words[-1]).startswith("libt_")
})
files = [name for name, _, _ in seen]
report([*result, files, len({one[1:] for one in seen})])
"""


@pytest.fixture
def compile_library(tmp_path):
    """compile_library(name, source, *flags) -> the library's path."""

    def run(name, source, *flags):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        words = [
            *shlex.split(os.environ.get("CC", "gcc")),
            *("-shared", "-fPIC", "-O1", "-x", "c", "-", "-x", "none"),
            *("-o", path, *flags),
        ]
        subprocess.run(
            words, input=source, text=True, check=True, timeout=60
        )
        return path

    return run


@pytest.fixture
def check(launch, stock, program):
    """Run a program: the same 'result' as with plain Python, on every rank.

    check(text, args, files=None, env=None): text sets the list 'result';
    files are the libraries that are mapped, as SEEN names them.
    """

    def run(text, args=(), files=None, env=None, **options):
        words = [program(text + SEEN), *args]
        expected = stock(words, env=env).reports[0]
        result = launch(RANKS, words, nodes="two", env=env, **options)
        assert result.status == 0, str(result)
        for rank in range(RANKS):
            *values, found, count = result.reports[rank]
            assert values == expected[:-2], str(result)
            assert count == expected[-1], f"copies: {found}{result}"
            if files is not None:
                assert found == [f"@{path}" for path in files], str(result)
        return result

    return run


OPENER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static int value(void *library)
{
    int (*function)(void) =
        library ? (int (*)(void))dlsym(library, "value") : NULL;

    return function ? function() : -1;
}

/* Beside itself, under a name that is %s. */
int beside(void)
{
    char path[4096];
    Dl_info info;

    if (!dladdr((void *)beside, &info))
        return -2;
    strcpy(path, info.dli_fname);
    %s;
    return value(dlopen(path, RTLD_NOW));
}

int by_name(void)
{
    return value(dlopen("libt_other.so", RTLD_NOW));
}
"""
WRITTEN = """static const char *volatile name = "libt_beside.so.2";
    strcpy(strrchr(path, '/') + 1, name)"""
BUILT = """sprintf(strrchr(path, '/') + 1, "libt_%s%s.so.2", "bes", "ide")"""
OPENS = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
result = [library.beside(), library.by_name()]
"""


def test_opened_by_itself_written_name_mirrored(check, compile_library):
    files = [
        compile_library("lib/libt_beside.so.2", "int value(void){return 5;}"),
        compile_library("lib/libt_opener.so", OPENER % ("written", WRITTEN),
                        "-Wl,-rpath,$ORIGIN"),
        compile_library("lib/libt_other.so", "int value(void){return 6;}"),
    ]  # fmt: skip
    check(OPENS, [files[1]], files)


def test_opened_by_itself_name_put_together_found(check, compile_library):
    compile_library("lib/libt_beside.so.2", "int value(void){return 5;}")
    compile_library("lib/libt_other.so", "int value(void){return 6;}")
    opener = compile_library(
        "lib/libt_opener.so", OPENER % ("built", BUILT), "-Wl,-rpath,$ORIGIN"
    )
    check(OPENS, [opener])


STATE = "static int state; int next(void) { return ++state; }"


def test_one_file_under_two_names_is_one_library(
    check, compile_library, tmp_path
):
    real = compile_library("real/libt_state.so", STATE)
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "libt_link.so"
    link.symlink_to(real)
    text = """
import ctypes, sys
first, second = map(ctypes.CDLL, sys.argv[1:])
result = [first.next(), second.next(), first.next()]
"""
    check(text, [real, link], [real])
    check(text, [link, real], [link])


def test_two_users_of_one_library_share_its_state(check, compile_library):
    """By paths through a link, without SONAME, with an absolute RUNPATH."""
    real = compile_library("real/libt_state.so", STATE)
    (real.parent.parent / "link").symlink_to(real.parent)
    users = [
        compile_library(
            f"libt_{name}.so",
            f"int next(void); int {name}(void) {{ return next(); }}",
            f"-L{real.parent}", "-l:libt_state.so",
            f"-Wl,-rpath,{real.parent.parent / directory}",
        )
        for name, directory in [("a", "real"), ("b", "link")]
    ]  # fmt: skip
    text = """
import ctypes, sys
a, b = map(ctypes.CDLL, sys.argv[1:])
result = [a.a(), b.b(), a.a()]
"""
    check(text, users)


def test_loaded_interpreter_is_not_loaded_again(
    check, compile_library, tmp_path
):
    """An extension module that is linked to libpython, with its directory."""
    library = sysconfig.get_config_var("INSTSONAME") or ""
    directory = sysconfig.get_config_var("LIBDIR") or ""
    if ".so" not in library or not pathlib.Path(directory, library).exists():
        pytest.skip("this Python has no shared library")
    source = """
    #include <Python.h>
    static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "linked"};
    PyMODINIT_FUNC PyInit_linked(void) { return PyModule_Create(&module); }
    """
    compile_library(
        "linked" + sysconfig.get_config_var("EXT_SUFFIX"), source,
        "-I" + sysconfig.get_path("include"), f"-L{directory}",
        f"-l:{library}", f"-Wl,-rpath,{directory}",
    )  # fmt: skip
    text = """
import linked
names = {line.split()[-1] for line in open("/proc/self/maps")}
# None at all if the interpreter is part of the executable.
result = [linked.__file__, len([n for n in names if "libpython" in n]) < 2]
"""
    check(text)


@pytest.fixture
def library_path(compile_library, tmp_path, mpi_environment):
    """LD_LIBRARY_PATH with two directories of the tree, and what is there."""
    (tmp_path / "empty").mkdir()
    compile_library(
        "path/libt_path.so", STATE, "-Wl,-soname,libt_path.so"
    )
    user = compile_library(
        "libt_user.so",
        "int next(void); int use(void) { return next(); }",
        f"-L{tmp_path / 'path'}", "-lt_path",
    )  # fmt: skip
    others = mpi_environment.get("LD_LIBRARY_PATH")
    places = [tmp_path / "empty", tmp_path / "path", *filter(None, [others])]
    return user, {"LD_LIBRARY_PATH": ":".join(map(str, places))}


USES = """
import ctypes, lzma, sqlite3, sys
result = [ctypes.CDLL(sys.argv[1]).use(), ctypes.CDLL("libt_path.so").next()]
"""


def test_library_path_same_as_stock(check, library_path, tmp_path):
    user, env = library_path
    check(USES, [user], [user, tmp_path / "path" / "libt_path.so"], env)


def test_library_path_not_looked_through_by_imports(
    observe, library_path, program, tmp_path
):
    """What the launcher and MPI look for there is theirs: the same without
    any import."""
    user, env = library_path

    def looks(args):
        _, found = observe(args, "two", ranks=RANKS, env=env)
        places = [tmp_path / "empty", tmp_path / "path"]
        return {
            rank: trace.below(found[rank], places) for rank in range(RANKS)
        }

    bare = looks([program("pass", name="bare.py")])
    used = looks([program(USES), user])
    for rank in range(1, RANKS):
        more = trace.beyond(used[rank], bare[rank])
        assert not more, trace.listing(more)


def test_library_nowhere_same_words_without_a_look(
    check, observe, program, tmp_path, fixed_starts, launcher
):
    text = """
import ctypes, traceback
try:
    ctypes.CDLL("libt_nowhere.so.7")
except OSError as error:
    frames = traceback.extract_tb(error.__traceback__)
    result = [str(error), [frame.name for frame in frames], error.errno]
"""
    check(text)
    _, found = observe([program(text)], "two", ranks=RANKS)
    for rank in range(1, RANKS):
        looks = [one for one in found[rank] if "libt_nowhere" in one.path]
        assert not looks, trace.listing(looks)


def test_variants_for_processors_as_the_linker_chooses(
    check, compile_library, tmp_path
):
    value = "int value(void) {{ return {}; }}"
    library = compile_library("lib/libt_value.so", value.format(1))
    for level in (2, 3, 4):
        compile_library(
            f"lib/glibc-hwcaps/x86-64-v{level}/libt_value.so",
            value.format(level),
        )
    user = compile_library(
        "libt_user.so", "int value(void); int use(void) { return value(); }",
        f"-L{library.parent}", "-lt_value", f"-Wl,-rpath,{library.parent}",
    )  # fmt: skip
    text = """
import ctypes, sys
result = [ctypes.CDLL(sys.argv[1]).use()]
"""
    check(text, [user])


def test_unknown_to_root_reported_and_right(
    launch, stock, program, compile_library, tmp_path
):
    """A search path that is relative to the working directory."""
    library = compile_library("here/libt_here.so", STATE)
    user = compile_library(
        "libt_user.so", "int next(void); int use(void) { return next(); }",
        f"-L{library.parent}", "-lt_here", "-Wl,-rpath,here",
    )  # fmt: skip
    text = """
import ctypes, sys
report(ctypes.CDLL(sys.argv[1]).use())
"""
    result = launch(
        RANKS, [program(text), user], nodes="two",
        env={"PYTHON_MPI_TIMING": "1"},
    )  # fmt: skip
    assert result.status == 0, str(result)
    assert set(result.reports.values()) == {1}, str(result)
    assert "libt_here.so" in result.stderr, str(result)
    assert str(user) in result.stderr, str(result)


def test_opened_as_data_first_still_one_library(
    check, compile_library, tmp_path
):
    """A copy that was made for open() must not become a second library."""
    real = compile_library("lib/libt_state.so.1", STATE)
    link = tmp_path / "lib" / "libt_state.so"
    link.symlink_to(real.name)
    text = """
import ctypes, sys
try:
    import mpiimport
    mpiimport.open(sys.argv[2], "rb").close()
except ModuleNotFoundError:
    pass
first, second = map(ctypes.CDLL, sys.argv[1:])
result = [first.next(), second.next(), first.next()]
"""
    check(text, [real, link])


def test_loaded_from_the_tree_not_loaded_again(check, compile_library):
    """The linker knows it by its path on the tree: C code has opened it."""
    library = compile_library("lib/libt_state.so", STATE)
    text = """
import ctypes, sys
c = ctypes.CDLL(None)
c.dlopen.restype = ctypes.c_void_p
c.dlsym.restype = ctypes.c_void_p
c.dlsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
handle = c.dlopen(os.fsencode(sys.argv[1]), 2)
first = ctypes.CFUNCTYPE(ctypes.c_int)(c.dlsym(handle, b"next"))
second = ctypes.CDLL(sys.argv[1])
result = [first(), second.next(), first()]
"""
    check(text, [library])


def test_closed_and_opened_again_as_stock(check, compile_library):
    """What is unloaded takes its names along."""
    library = compile_library("lib/libt_state.so", STATE)
    users = [
        compile_library(
            f"libt_{name}.so",
            f"int next(void); int {name}(void) {{ return next(); }}",
            f"-L{library.parent}", "-l:libt_state.so",
            f"-Wl,-rpath,{library.parent}",
        )
        for name in "ab"
    ]  # fmt: skip
    text = """
import _ctypes, ctypes, sys
a = ctypes.CDLL(sys.argv[1])
result = [a.a(), a.a()]
_ctypes.dlclose(a._handle)
b = ctypes.CDLL(sys.argv[2])
result += [b.b(), b.b()]
"""
    check(text, users, [library, users[1]])



LIBRARIES = """
import ctypes, os
from mpi4py import MPI
words = [line.split() for line in open("/proc/self/maps")]
names = {os.path.basename(line[-1]) for line in words if "/" in line[-1]}
libraries = sorted(name for name in names if ".so" in name)
report([libraries, hasattr(ctypes.CDLL(None), "MPI_Init")])
"""


def test_mpi_brings_the_libraries_that_it_brings_with_stock(launch, program):
    """MPI's own plugins look whether its symbols are global, for instance."""
    words = [program(LIBRARIES)]
    expected, is_global = launch(RANKS, words, launcher="stock").reports[0]
    for names, same in launch(RANKS, words).reports.values():
        assert same == is_global
        more = [
            name
            for name in set(names) - set(expected)
            if not name.startswith(("libpython", "mpiimport."))
        ]
        assert more == []
