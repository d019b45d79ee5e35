"""The manifest: what a run has asked for is read ahead by the next one."""

import concurrent.futures
import json
import os
import re
import shutil
import stat
import struct
import sys

import pytest

NATIVE = pytest.mark.parametrize("launcher", ["python-mpi"])
RANKS = 3
GIB = 1 << 30

# Waits until the manifest has been replayed, if told to, and counts then.
MAIN = """
import time

import mpiimport

time.sleep(float(os.environ["WAIT"]))


def counts():
    phases = mpiimport.timings()["phases"]
    return [phases["IO"][1], phases["COMM"][1]]


try:
    import nothing  # lists the program's own directory
except ImportError:
    pass
before = counts()
import package.deep
from package import absent
read, waited = (b - a for a, b in zip(before, counts()))
report([package.VALUE, package.deep.VALUE, absent, read, waited])
"""
PACKAGE = """
VALUE = 1
try:
    import package.sometimes as absent
    absent = absent.VALUE
except ImportError:
    absent = None
"""


@pytest.fixture
def main(program, tmp_path):
    """The program's path; its package is beside it."""
    package = tmp_path / "package"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE)
    (package / "deep" / "__init__.py").write_text("VALUE = 2\n")
    (package / "sometimes.py").write_text("VALUE = 3\n")
    return program(MAIN)


@pytest.fixture
def run(launch, main, tmp_path):
    """Run the program: run(*options, ...) -> (result, "manifest" of the
    report).  The manifest is in tmp_path / "cache" unless 'env' says more.

    wait: seconds before it imports its package
    """

    def start(*options, ranks=RANKS, env=None, wait=0):
        timing = tmp_path / "timing.json"
        timing.unlink(missing_ok=True)
        result = launch(
            ranks,
            [f"--timing={timing}", *options, main],
            nodes="two" if ranks > 1 else "one",
            env={
                "PYTHON_MPI_MANIFEST": None,
                "XDG_CACHE_HOME": tmp_path / "cache",
                "WAIT": wait,
                **(env or {}),
            },
        )
        assert result.status == 0, str(result)
        return result, json.loads(timing.read_text())["manifest"]

    return start


def said(result):
    """The lines of 'result' that are not the report's."""
    lines = result.stderr.splitlines()
    return [line for line in lines if line.startswith("mpiimport:")]


def values(result):
    """What every rank has imported."""
    return [report[:3] for report in result.reports.values()]


def only_file(tmp_path):
    """The manifest in the cache directory, which has nothing else."""
    (found,) = (tmp_path / "cache" / "mpiimport").iterdir()
    return found


@pytest.mark.parametrize("ranks", [1, RANKS])
def test_second_run_reads_before_it_is_asked(run, tmp_path, ranks):
    first, about = run(ranks=ranks)
    assert about["known"] == about["read_ahead"] == 0 and about["written"]
    assert not said(first), str(first)
    assert about["added"] > 5, str(about)
    file = only_file(tmp_path)
    assert about["file"] == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    second, about = run(ranks=ranks, wait=0.5)
    assert values(second) == values(first) == [[1, 2, 3]] * ranks
    for rank, (*_, read, waited) in second.reports.items():
        assert (read, waited) == (0, 0), f"rank {rank}{second}"
    assert about["read_ahead"] == about["known"] > 5, str(about)
    assert about["used"] > 5, str(about)
    assert not said(second), str(second)


THREADS = """
import glob, time

def readers():
    names = [open(n).read() for n in glob.glob("/proc/self/task/*/comm")]
    return sum(name == "mpiimport-read\\n" for name in names)

end = time.monotonic() + 20
while readers() and time.monotonic() < end:
    time.sleep(0.01)
import decimal
report([readers(), mpiimport.timings()["phases"]["IO"][1]])
"""


@NATIVE
def test_one_rank_keeps_no_thread(launch, program, tmp_path):
    """Whoever forks is not warned because of what has been read ahead."""
    args = ["--manifest", tmp_path / "manifest"]
    main = program("import mpiimport\n" + THREADS)
    first, second = (launch(1, [*args, main]).reports[0] for _ in range(2))
    assert first[0] == second[0] == 0
    assert second[1] < first[1]


@NATIVE
def test_first_run_knows_what_others_ask(run, tmp_path):
    """Not only if they have asked before rank 0 had read it for them."""
    run()
    for prefix in (sys.prefix, sys.base_prefix):
        path = os.fsencode(prefix)
        sizes = struct.pack("=HH", len(path), 0)
        # The query, flags and age, sizes, the path, and nothing more.
        question = b"\x06.{3}" + re.escape(sizes + path + b"\0")
        found = re.findall(question, only_file(tmp_path).read_bytes(), re.S)
        assert len(found) == 1, prefix


@NATIVE
def test_same_program_written_once(run, tmp_path):
    run()
    run()  # what other ranks ask may be learnt only now
    before = only_file(tmp_path).stat()
    result, about = run()
    after = only_file(tmp_path).stat()
    assert not about["written"] and about["added"] == 0, str(about)
    assert after.st_ino == before.st_ino, str(result)
    assert after.st_mtime_ns == before.st_mtime_ns


@NATIVE
@pytest.mark.parametrize("ranks", [1, RANKS])
def test_changed_between_runs_new_code(run, main, tmp_path, ranks):
    """Contents are never remembered; nor is that there is something."""
    run(ranks=ranks)
    package = tmp_path / "package"
    (package / "deep" / "__init__.py").write_text("VALUE = 'changed'\n")
    (package / "sometimes.py").unlink()
    result, _ = run(ranks=ranks, wait=0.2)
    assert values(result) == [[1, "changed", None]] * ranks, str(result)
    (package / "sometimes.py").write_text("VALUE = 'again'\n")
    result, _ = run(ranks=ranks, wait=0.2)
    assert values(result) == [[1, "changed", "again"]] * ranks, str(result)
    assert not said(result), str(result)


GENERATE = """
import pathlib
import sys

import mpiimport

top = pathlib.Path(__file__).with_name("generated")
made = top / "made"
if RANK == 0 and sys.argv[1] != "keep":
    made.mkdir(parents=True, exist_ok=True)
    (made / "__init__.py").write_text(f"VALUE = {sys.argv[1]!r}\\n")
mpiimport.COMM_WORLD.barrier()
sys.path.append(str(top))
import made
report(made.VALUE)
"""


@NATIVE
@pytest.mark.parametrize("ranks", [1, RANKS])
def test_generated_by_the_program_read_when_imported(
    launch, program, tmp_path, ranks
):
    """What each run makes anew is not in the manifest; what was there before
    may be, and is missed only when it is asked for.
    """
    file = tmp_path / "manifest"
    main = program(GENERATE)

    def run(value):
        args = ["--manifest", file, main, value]
        result = launch(ranks, args, nodes="two" if ranks > 1 else "one")
        assert result.status == 0, str(result)
        return result.reports

    for value in ("one", "another"):
        assert run(value) == dict.fromkeys(range(ranks), value)
        assert b"/made/__init__.py" not in file.read_bytes()
    assert run("keep") == dict.fromkeys(range(ranks), "another")
    assert b"/made/__init__.py" in file.read_bytes()
    shutil.rmtree(tmp_path / "generated")
    assert run("again") == dict.fromkeys(range(ranks), "again")


def cut(file):
    os.truncate(file, file.stat().st_size - 1)


def other_version(file):
    data = bytearray(file.read_bytes())
    data[8] += 1
    file.write_bytes(data)


def fifo(file):
    file.unlink()
    os.mkfifo(file, 0o600)


def foreign(file):
    os.chown(file, 12345, -1)


def no_manifest(file):
    file.write_text("print('mine')\n")


# How to spoil a manifest, what is said about it, and is it replaced?
BAD = [
    (cut, "cut off", True),
    (other_version, "another version", True),
    (lambda file: file.chmod(0o666), "others may write", False),
    (foreign, "another user", False),
    (fifo, "not a regular file", False),
    (lambda file: os.truncate(file, 10 * GIB), "too large", False),
    (no_manifest, "other content", False),
]


@NATIVE
def test_bad_manifest_one_line_right_result(run, tmp_path):
    file = tmp_path / "manifest"
    env = {"PYTHON_MPI_MANIFEST": file}
    run(env=env, ranks=2)
    good = file.read_bytes()
    for spoil, word, replaced in BAD:
        if spoil is foreign and os.geteuid() != 0:
            continue
        file.unlink()
        file.write_bytes(good)
        spoil(file)
        before = file.lstat()
        result, about = run(env=env, ranks=2)
        (line,) = said(result)
        assert word in line and str(file) in line, str(result)
        assert "--manifest none" in line, str(result)
        assert values(result) == [[1, 2, 3]] * 2, str(result)
        assert about["read_ahead"] == 0, str(about)
        assert about["written"] == replaced, str(about)
        assert (file.lstat().st_ino != before.st_ino) == replaced
    assert not (tmp_path / "cache").exists()


@NATIVE
@pytest.mark.parametrize("cache", ["/proc/self", "FILE"])
def test_unwritable_cache_one_line_no_failure(run, tmp_path, cache):
    (tmp_path / "file").write_text("")
    env = {"XDG_CACHE_HOME": cache.replace("FILE", str(tmp_path / "file"))}
    result, about = run(env=env)
    (line,) = said(result)
    assert "/mpiimport/" in line and "--manifest FILE" in line, str(result)
    assert values(result) == [[1, 2, 3]] * RANKS, str(result)
    assert not about["written"]


@NATIVE
def test_two_jobs_at_once_one_whole_manifest(run, launch, main, tmp_path):
    file = tmp_path / "manifest"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(launch, 2, ["--manifest", file, main], env={"WAIT": 0})
            for _ in range(2)
        ]
        for job in jobs:
            assert job.result().status == 0, str(job.result())
    left = [path.name for path in tmp_path.iterdir()]
    assert not any("mpiimport-" in name for name in left), left
    result, about = run("--manifest", file, ranks=2)
    assert about["read_ahead"] > 5 and not said(result), str(result)


@NATIVE
def test_none_writes_nothing(run, tmp_path):
    result, about = run("--manifest", "none")
    assert about is None and not said(result), str(result)
    assert not (tmp_path / "cache").exists()


@NATIVE
def test_uncaught_exception_writes_nothing(launch, program, tmp_path):
    file = tmp_path / "manifest"
    main = program("import json\nraise ValueError('on purpose')\n")
    result = launch(RANKS, ["--manifest", file, main], env={"WAIT": 0})
    assert result.status != 0 and "on purpose" in result.stderr, str(result)
    assert not file.exists()


@NATIVE
def test_forked_child_writes_nothing(launch, program, tmp_path):
    """It neither writes at its end, nor waits for the record's lock."""
    file = tmp_path / "manifest"
    main = program(
        "child = os.fork()\n"
        "if child == 0:\n"
        "    import json, email.message\n"
        "    raise SystemExit(7)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        f"report(os.path.exists({str(file)!r}))\n"
    )
    result = launch(2, ["-W", "ignore", "--manifest", file, main])
    assert result.status == 0, str(result)
    assert result.reports == {0: False, 1: False}, str(result)
    assert file.exists() and b"/email/message.py" not in file.read_bytes()


def test_built_on_one_rank_first_job_reads_ahead(run, tmp_path):
    result, about = run("--manifest-build", ranks=1)
    assert about["written"] and values(result) == [[1, 2, 3]], str(result)
    only_file(tmp_path)
    result, about = run(wait=0.5)
    assert values(result) == [[1, 2, 3]] * RANKS, str(result)
    assert result.reports[0][3] == 0, str(result)
    assert about["read_ahead"] > 5, str(result)
