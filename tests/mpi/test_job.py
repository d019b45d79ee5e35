"""The job as a program sees it: the public names, and what went wrong once."""

import os
import subprocess
import textwrap

import pytest

layouts = pytest.mark.parametrize(
    ("ranks", "nodes"),
    [(1, "one"), (2, "one"), (3, "each"), (5, "two")],
)


def lines(result):
    """Return the sorted lines of a successful job's standard output."""
    assert result.status == 0, str(result)
    return sorted(result.stdout.splitlines())


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def build(path, source, *options):
    """Compile a shared object."""
    code = write(path.with_suffix(".c"), source)
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "gcc")
    command = [compiler, "-shared", "-fPIC", "-o", path, code, *options]
    subprocess.run(command, check=True)


MODULE = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
extern int {function}(void);
static struct PyModuleDef def = {{PyModuleDef_HEAD_INIT, "{name}", 0, -1, 0}};
PyMODINIT_FUNC PyInit_{name}(void)
{{
    PyObject *module = PyModule_Create(&def);
    PyModule_AddIntConstant(module, "value", {function}());
    return module;
}}
"""


def build_module(path, name, function, *options):
    import sysconfig

    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    build(
        path / (name + suffix),
        MODULE.format(name=name, function=function),
        "-I" + sysconfig.get_paths()["include"],
        *options,
    )


# ---- the public names -------------------------------------------------------


@layouts
def test_communicator_all_calls_all_ranks(launch, tmp_path, ranks, nodes):
    program = write(
        tmp_path / "main.py",
        """
        import mpiimport
        world = mpiimport.COMM_WORLD
        world.barrier()
        last = world.size - 1
        data = world.bcast(b"x" * 100000 if world.rank == last else None, last)
        empty = world.bcast(b"" if world.rank == 0 else None)
        print(world.rank, world.size, len(data), len(empty))
        """,
    )
    result = launch(ranks, [program], nodes=nodes)
    assert lines(result) == [
        f"{rank} {ranks} 100000 0" for rank in range(ranks)
    ]


def test_communicator_root_out_of_range_refused(launch):
    code = (
        "import mpiimport\n"
        "try: mpiimport.COMM_WORLD.bcast(b'', 7)\n"
        "except ValueError as error: print(error)"
    )
    result = launch(2, ["-c", code])
    assert lines(result) == ["root 7 in a job of 2 ranks"] * 2


@layouts
def test_install_by_hand_serves_imports(
    launch, stock, tmp_path, repo_root, ranks, nodes
):
    program = write(
        tmp_path / "main.py",
        """
        import mpiimport
        mpiimport.install()
        import json, sys
        loads = mpiimport.timings()["phases"]
        print(type(json.__spec__.loader).__name__, sys.flags.no_site,
              loads["LOAD"][1] > 0, loads["SITE"][1], json.dumps([1]))
        """,
    )
    env = {"PYTHONPATH": str(repo_root / "bin")}
    result = launch(
        ranks, ["-S", program], nodes=nodes, env=env, launcher="stock"
    )
    assert lines(result) == ["StoreSourceLoader 0 True 1 [1]"] * ranks


def test_install_by_hand_uncaught_exception_ends_all(
    launch, tmp_path, repo_root
):
    program = write(
        tmp_path / "main.py",
        """
        import mpiimport
        mpiimport.install()
        if mpiimport.COMM_WORLD.rank == 1:
            raise LookupError("only here")
        mpiimport.COMM_WORLD.barrier()
        """,
    )
    env = {"PYTHONPATH": str(repo_root / "bin")}
    result = launch(3, ["-S", program], env=env, launcher="stock")
    assert result.status == 1, str(result)
    assert result.stderr.count("LookupError: only here") == 1, str(result)


def test_install_twice_refused(launch):
    code = (
        "import mpiimport\n"
        "try: mpiimport.install()\n"
        "except RuntimeError as error: print(error)"
    )
    result = launch(2, ["-c", code])
    assert lines(result) == ["mpiimport is installed already"] * 2


@layouts
def test_disjoint_and_stop_load_directly(launch, ranks, nodes, tmp_path):
    program = write(
        tmp_path / "main.py",
        """
        import mpiimport, threading
        def loader(name):
            return type(__import__(name).__spec__.loader).__name__
        found = [loader("json")]
        with mpiimport.disjoint:
            found.append(loader("csv"))
            with mpiimport.disjoint():
                found.append(loader("bisect"))
            other = threading.Thread(
                target=lambda: found.append(loader("queue")))
            other.start(); other.join()
        found.append(loader("colorsys"))
        mpiimport.stop()
        found.append(loader("sched"))
        mpiimport.resume()
        found.append(loader("wave"))
        print(*found)
        """,
    )
    result = launch(ranks, ["-W", "ignore", program], nodes=nodes)
    store, direct = "StoreSourceLoader", "DirectSourceLoader"
    expected = " ".join([store, direct, direct, store, store, direct, store])
    assert lines(result) == [expected] * ranks


# ---- what went wrong once --------------------------------------------------


def test_eight_nodes_large_objects_arrive(launch):
    """MPI receives into the buffer of a broadcast's root as well."""
    code = "import numpy.fft; print(numpy.fft.fft([1, 1]).real.tolist())"
    result = launch(8, ["-c", code], nodes="each", timeout=110)
    assert lines(result) == ["[2.0, 0.0]"] * 8
    assert "loaded directly" not in result.stderr, str(result)


@pytest.mark.parametrize("nodes", ["one", "each"])
def test_libraries_in_a_circle_load(launch, tmp_path, nodes):
    libs = tmp_path / "libs"
    build(libs / "liba.so", "int b(void); int a(void) { return 1; }")
    origin = "-Wl,-rpath,$ORIGIN"
    build(
        libs / "libb.so",
        "int a(void); int b(void) { return a() + 1; }",
        f"-L{libs}",
        "-la",
        origin,
    )
    build(
        libs / "liba.so",
        "int b(void); int a(void) { return 1; } int c(void) { return b(); }",
        f"-L{libs}",
        "-lb",
        origin,
    )
    build_module(
        tmp_path, "circle", "c", f"-L{libs}", "-la", "-Wl,-rpath,$ORIGIN/libs"
    )
    code = "import circle; print(circle.value)"
    result = launch(2, ["-c", code], nodes=nodes)
    assert lines(result) == ["2", "2"]
    assert "loaded directly" not in result.stderr, str(result)


@pytest.mark.parametrize("nodes", ["one", "each"])
def test_long_chain_of_libraries_loads_on_a_mate(launch, tmp_path, nodes):
    """The reader's threads have small stacks."""
    libs = tmp_path / "libs"
    build(libs / "lib0.so", "int f0(void) { return 0; }")
    for i in range(1, 30):
        build(
            libs / f"lib{i}.so",
            f"int f{i - 1}(void); int f{i}(void) {{ return f{i - 1}() + 1; }}",
            f"-L{libs}",
            f"-l{i - 1}",
            "-Wl,-rpath,$ORIGIN",
        )
    build_module(
        tmp_path,
        "chain",
        "f29",
        f"-L{libs}",
        "-l29",
        "-Wl,-rpath,$ORIGIN/libs",
    )
    program = write(
        tmp_path / "main.py",
        """
        import mpiimport
        if mpiimport.COMM_WORLD.rank == 1:
            import chain
            maps = open("/proc/self/maps").read()
            print(chain.value, maps.count("/tree/") > 60)
        """,
    )
    result = launch(2, [program], nodes=nodes)
    assert lines(result) == ["29 True"]


@pytest.mark.parametrize("nodes", ["one", "each"])
def test_rpath_of_the_loader_holds_for_what_it_needs(launch, tmp_path, nodes):
    """An RPATH, unlike a RUNPATH, is handed down (ld.so(8))."""
    libs = tmp_path / "libs"
    build(libs / "libinner.so", "int inner(void) { return 7; }")
    build(
        libs / "libouter.so",
        "int inner(void); int outer(void) { return inner(); }",
        f"-L{libs}",
        "-linner",
    )
    build_module(
        tmp_path,
        "handed",
        "outer",
        f"-L{libs}",
        "-louter",
        "-Wl,--disable-new-dtags,-rpath,$ORIGIN/libs",
    )
    code = (
        "import handed, mpiimport\n"
        "print(handed.value, mpiimport.timings()['phases']['LOADFile'][1])"
    )
    result = launch(2, ["-c", code], nodes=nodes)
    assert lines(result) == ["7 1", "7 1"]


def test_dots_behind_a_link_lead_where_the_kernel_goes(launch, tmp_path):
    for name, value in (("near", 1), ("far", 2)):
        build(
            tmp_path / name / "libv.so", f"int v(void) {{ return {value}; }}"
        )
        build_module(
            tmp_path / name,
            "dots",
            "v",
            f"-L{tmp_path / name}",
            "-lv",
            "-Wl,-rpath,$ORIGIN",
        )
        (tmp_path / name / "sub").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "sub")
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path / 'near' / 'link' / '..')!r})\n"
        "import dots; print(dots.value, dots.__file__.count('..'))"
    )
    result = launch(2, ["-c", code])
    assert lines(result) == ["2 1", "2 1"]


@layouts
def test_new_module_found_after_invalidate_caches(
    launch, tmp_path, ranks, nodes
):
    program = write(
        tmp_path / "main.py",
        """
        import importlib, os, mpiimport
        world = mpiimport.COMM_WORLD
        import json
        here = os.path.dirname(__file__)
        try:
            import made
        except ModuleNotFoundError:
            pass
        world.barrier()
        if world.rank == 0:
            os.mkdir(here + "/package")
            for name in ("made", "package/__init__", "package/part"):
                with open(f"{here}/{name}.py", "w") as stream:
                    stream.write("value = 5")
        world.barrier()
        importlib.invalidate_caches()
        import made, package.part
        print(made.value + package.part.value)
        """,
    )
    result = launch(ranks, [program], nodes=nodes)
    assert lines(result) == ["10"] * ranks


@layouts
def test_reload_sees_the_edited_source(launch, tmp_path, ranks, nodes):
    write(tmp_path / "edited.py", "value = 1\n")
    program = write(
        tmp_path / "main.py",
        """
        import importlib, os, mpiimport
        import edited
        world = mpiimport.COMM_WORLD
        world.barrier()
        if world.rank == 0:
            with open(edited.__file__, "w") as stream:
                stream.write("value = 20000\\n")
        world.barrier()
        print(edited.value, importlib.reload(edited).value)
        """,
    )
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    result = launch(ranks, [program], nodes=nodes, env=env)
    assert lines(result) == ["1 20000"] * ranks


@layouts
def test_module_without_source_is_read_once_from_the_store(
    launch, tmp_path, ranks, nodes
):
    import py_compile

    source = write(tmp_path / "bare.py", "value = 3\n")
    py_compile.compile(source, tmp_path / "bare.pyc")
    source.unlink()
    (tmp_path / "broken.pyc").write_bytes(b"no bytecode")
    program = write(
        tmp_path / "main.py",
        """
        import mpiimport, traceback
        before = mpiimport.timings()
        import bare
        after = mpiimport.timings()
        opened = after["bytes_read"] - before["bytes_read"]
        size = bare.__spec__.loader.get_data(bare.__file__).__len__()
        loads = [t["phases"]["LOAD"][1] for t in (before, after)]
        try:
            import broken
        except ImportError as error:
            frames = len(traceback.extract_tb(error.__traceback__))
            text = str(error).partition(" in ")[0]
        # Others may have asked for the broken one meanwhile.
        print(bare.value, opened in (0, 11, size, size + 11),
              loads[1] - loads[0], text, frames)
        """,
    )
    result = launch(ranks, [program], nodes=nodes)
    assert lines(result) == ["3 True 1 bad magic number 1"] * ranks


@pytest.mark.parametrize("nodes", ["one", "each"])
def test_root_stopped_others_are_still_compiled_for(launch, tmp_path, nodes):
    for i in range(5):
        write(tmp_path / f"fresh{i}.py", f"value = {i}\n")
    program = write(
        tmp_path / "main.py",
        """
        import mpiimport
        world = mpiimport.COMM_WORLD
        if world.rank == 0:
            mpiimport.stop()
        else:
            names = [f"fresh{i}" for i in range(5)]
            values = [__import__(name).value for name in names]
            counts = mpiimport.timings()["phases"]
            print(values, counts["LOADDirect"][1] < 6)
        """,
    )
    result = launch(2, [program], nodes=nodes)
    assert lines(result) == ["[0, 1, 2, 3, 4] True"]
    assert len(list((tmp_path / "__pycache__").glob("fresh*.pyc"))) == 5


@pytest.mark.parametrize("nodes", ["one", "each"])
def test_children_and_exit_handlers_can_import(launch, tmp_path, nodes):
    program = write(
        tmp_path / "main.py",
        """
        import atexit, os, sys
        import mpiimport
        rank = mpiimport.COMM_WORLD.rank
        def last():
            import colorsys
            print(rank, "exit handler", colorsys.__name__, flush=True)
        child = os.fork()
        if child == 0:
            import csv
            print(rank, "child", csv.__name__, flush=True)
            sys.exit(4)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        atexit.register(last)
        print(rank, "parent", status, flush=True)
        """,
    )
    result = launch(3, [program], nodes=nodes)
    expected = []
    for rank in range(3):
        expected += [
            f"{rank} child csv",
            f"{rank} exit handler colorsys",
            f"{rank} parent 4",
        ]
    assert lines(result) == expected


def test_finalize_by_the_program_then_imports(launch, tmp_path):
    program = write(
        tmp_path / "main.py",
        """
        from mpi4py import MPI
        rank = MPI.COMM_WORLD.rank
        MPI.Finalize()
        import csv, xml.dom.minidom
        print(rank, csv.__name__)
        """,
    )
    for nodes in ("one", "each"):
        result = launch(3, [program], nodes=nodes)
        assert lines(result) == ["0 csv", "1 csv", "2 csv"]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_low_thread_level_one_reader_per_node(launch, level):
    code = (
        "import json, mpiimport\n"
        "t = mpiimport.timings()\n"
        "print(t['rank'], t['operations'] > 0, json.dumps(1))"
    )
    env = {"PYTHON_MPI_THREAD_LEVEL": str(level)}
    result = launch(4, ["-c", code], nodes="two", env=env)
    assert lines(result) == [
        "0 True 1",
        "1 False 1",
        "2 True 1",
        "3 False 1",
    ]
    assert result.stderr.count("MPI_THREAD_MULTIPLE") == 1, str(result)


@pytest.mark.parametrize("nodes", ["one", "each"])
def test_ranks_that_end_at_different_times_all_report(launch, tmp_path, nodes):
    code = "import time, mpiimport; time.sleep(3 * mpiimport.COMM_WORLD.rank)"
    target = tmp_path / "times.json"
    result = launch(3, [f"--timing={target}", "-c", code], nodes=nodes)
    assert result.status == 0, str(result)
    import json

    ranks = json.loads(target.read_text())["ranks"]
    assert [rank["rank"] for rank in ranks] == [0, 1, 2]


def test_one_rank_without_tmpdir_the_others_share(launch, tmp_path):
    """A rank whose -T is bad must not shrink everybody's store."""
    result = launch(
        3,
        ["-c", "import json; print(json.dumps(1))"],
        env={"PYTHON_MPI_TMPDIR": str(tmp_path / "absent")},
    )
    assert lines(result) == ["1"] * 3
    assert result.stderr.count("no node store") == 1, str(result)


def test_metadata_read_through_the_store(launch, stock, tmp_path):
    program = write(
        tmp_path / "main.py",
        """
        import importlib.metadata as metadata, pickle
        path = metadata.distribution("numpy")._path
        print(metadata.version("numpy"), len(list(metadata.distributions())),
              len(metadata.files("numpy")), len(metadata.entry_points()),
              pickle.loads(pickle.dumps(path)) == path, repr(path))
        """,
    )
    expected = stock([program]).stdout.splitlines()
    for nodes in ("one", "each"):
        assert lines(launch(3, [program], nodes=nodes)) == expected * 3


def test_many_modules_any_order_threads(launch, tmp_path):
    for i in range(200):
        body = f"value = {i}\n"
        if i % 3 == 0 and i > 0:
            body = f"from wide.m{i - 1} import value as below\n" + body
        write(tmp_path / "wide" / f"m{i}.py", body)
    write(tmp_path / "wide" / "__init__.py", "")
    program = write(
        tmp_path / "main.py",
        """
        import importlib, random, threading, mpiimport
        rank = mpiimport.COMM_WORLD.rank
        total = []
        def work(seed):
            order = list(range(200))
            random.Random(seed).shuffle(order)
            total.append(sum(
                importlib.import_module(f"wide.m{i}").value for i in order))
        threads = [threading.Thread(target=work, args=(rank * 10 + i,))
                   for i in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(rank, total)
        """,
    )
    for nodes in ("one", "two", "each"):
        result = launch(5, [program], nodes=nodes, timeout=100)
        assert lines(result) == [f"{rank} {[19900] * 4}" for rank in range(5)]
