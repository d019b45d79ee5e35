"""bin/python-mpi-bench, and the slow filesystem that it measures on."""

import contextlib
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "tests" / "bench"))

import contenders  # noqa: E402
import emulation  # noqa: E402
import judge  # noqa: E402
import thousand  # noqa: E402
from support import job  # noqa: E402

PATIENCE = 10.0
# Starts slowfs, says so, and waits to be killed.
HOLDER = """
import os, sys
sys.path[:0] = {path!r}
import emulation
kept = emulation.Emulation({source!r}, {mount!r}, emulation.parse(""))
open_file = open({mount!r} + "/file")
print(kept.process.pid, flush=True)
sys.stdin.read()
"""


def is_mounted(directory):
    """Whether something is mounted there, also if it does not answer."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return str(directory) in [line.split()[4] for line in lines]


def ends(condition):
    """Whether a condition ends to be true soon."""
    deadline = time.monotonic() + PATIENCE
    while condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not condition()


def is_running(pid):
    """Whether a process is there, and no zombie."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture
def source(tmp_path):
    """A directory to serve: file, link and directory/inner."""
    top = tmp_path / "source"
    (top / "directory").mkdir(parents=True)
    (top / "file").write_text("x" * 1000)
    (top / "directory" / "inner").write_text("inner")
    (top / "link").symlink_to("file")
    return top


@pytest.fixture
def slow(source, tmp_path):
    """Mount slowfs over the source: slow("meta-us=5") -> Emulation."""
    mount = tmp_path / "mount"
    mount.mkdir()
    with contextlib.ExitStack() as stack:

        def start(options=""):
            try:
                found = emulation.Emulation(
                    source, mount, emulation.parse(options)
                )
            except emulation.NotEmulated as why:
                pytest.skip(f"no FUSE here: {why}")
            stack.callback(found.end)
            return found

        yield start
    assert not is_mounted(mount)


def counted(slow, action):
    """Return what this process asks for in an action, without zeros."""
    slow.reset()
    action()
    own = [p for p in slow.counts()["processes"] if p["pid"] == os.getpid()]
    assert len(own) <= 1
    return {
        kind: count
        for process in own
        for kind, count in process.items()
        if count and kind not in ("pid", "name", "rank")
    }


def read_by_descriptor(path):
    """Read a file by three system calls."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.pread(file, 1000, 0)
    finally:
        os.close(file)


def test_slowfs_operations_count_exactly_and_each_time(slow):
    slow = slow()
    mount = slow.mount
    for _ in range(2):
        stat = counted(slow, lambda: os.stat(mount / "file"))
        assert stat == {"lookup": 1}
        inner = counted(slow, lambda: os.stat(mount / "directory/inner"))
        assert inner == {"lookup": 2}
        absent = counted(slow, lambda: os.path.exists(mount / "absent"))
        assert absent == {"lookup": 1}
        link = counted(slow, lambda: os.readlink(mount / "link"))
        assert link == {"lookup": 1, "readlink": 1}
        read = counted(slow, lambda: read_by_descriptor(mount / "file"))
        assert (read["lookup"], read["open"], read["read"]) == (1, 1, 1)
        assert read["bytes"] == 1000
        listed = counted(slow, lambda: os.listdir(mount))
        assert (listed["opendir"], listed["readdir"]) == (1, 2)


def test_slowfs_attributes_come_with_each_look_up(slow, source):
    slow = slow()
    file = slow.mount / "file"

    def open_and_fstat():
        with file.open("rb") as opened:
            os.fstat(opened.fileno())

    assert counted(slow, open_and_fstat) == {"lookup": 1, "open": 1}
    with file.open("rb"):
        (source / "file").write_bytes(b"y" * 7)
        assert file.stat().st_size == 7


def test_slowfs_with_cache_remembers_names_and_absence(slow):
    slow = slow("cache-ms=60000")

    def twice():
        for _ in range(2):
            os.stat(slow.mount / "file")
            os.path.exists(slow.mount / "absent")

    assert counted(slow, twice) == {"lookup": 2}


@pytest.mark.parametrize(
    ("options", "bytes_read"), [("", 1000), ("cache-ms=60000", 0)]
)
def test_slowfs_reset_drops_pages_that_are_not_kept(slow, options, bytes_read):
    slow = slow(options)
    with open(slow.mount / "file", "rb", buffering=0) as file:
        assert len(file.read()) == 1000
        found = counted(slow, lambda: os.pread(file.fileno(), 1000, 0))
    assert found.get("bytes", 0) == bytes_read


def test_slowfs_contents_are_the_source_s_and_read_only(slow, source):
    mount = slow().mount
    assert sorted(os.listdir(mount)) == ["directory", "file", "link"]
    assert (mount / "link").read_text() == "x" * 1000
    assert os.readlink(mount / "link") == "file"
    assert (mount / "file").stat().st_mtime_ns == (
        (source / "file").stat().st_mtime_ns
    )
    for action in (
        lambda: (mount / "new").touch(),
        lambda: (mount / "file").write_text(""),
        lambda: (mount / "file").unlink(),
    ):
        with pytest.raises(OSError) as caught:
            action()
        assert caught.value.errno == errno.EROFS
    assert (source / "file").stat().st_size == 1000


def test_slowfs_knows_the_rank_of_a_process(slow):
    slow = slow()
    slow.reset()
    for variable in ("PMI_RANK", "OMPI_COMM_WORLD_RANK"):
        for rank in ("0", "3"):
            subprocess.run(
                ["cat", slow.mount / "file"],
                env={"PATH": os.defpath, variable: rank},
                stdout=subprocess.DEVNULL,
                timeout=PATIENCE,
                check=True,
            )
    found = emulation.by_rank(slow.counts()["processes"])
    assert found["first"]["open"] == found["others"]["open"] == 2
    assert found["others"]["bytes"] == 2000
    assert found["unknown"].get("open", 0) == 0


def wall_of_four(path):
    """Return the seconds that four threads take to look for a name each."""
    names = [path / f"absent{i}" for i in range(4)]
    threads = [
        threading.Thread(target=os.path.exists, args=(name,)) for name in names
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def test_slowfs_metadata_is_served_one_after_the_other(slow):
    slow = slow("meta-us=50000")
    slow.reset()
    assert wall_of_four(slow.mount) > 0.19
    assert slow.counts()["meta_busy"] == pytest.approx(0.2)


def test_slowfs_round_trips_are_beside_each_other(slow):
    slow = slow("rtt-us=400000")
    assert 0.39 < wall_of_four(slow.mount) < 1.2


def test_slowfs_reads_take_the_bandwidth(slow, source):
    (source / "large").write_bytes(bytes(1_000_000))
    slow = slow("mbps=10")
    slow.reset()
    start = time.perf_counter()
    (slow.mount / "large").read_bytes()
    assert time.perf_counter() - start > 0.099
    counts = slow.counts()
    assert counts["data_busy"] == pytest.approx(0.1, rel=1e-3)
    assert counts["meta_busy"] == 0


def test_slowfs_large_files_are_read_in_large_pieces(slow, source):
    """A mebibyte at once, where this user may have the kernel do so."""
    (source / "large").write_bytes(bytes(8 << 20))
    slow = slow()
    device = (slow.mount).stat().st_dev
    ahead = pathlib.Path(
        f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
    )
    kibibytes = int(ahead.read_text())
    assert kibibytes == 1024 or not os.access(ahead, os.W_OK)
    found = counted(slow, (slow.mount / "large").read_bytes)
    assert found["bytes"] == 8 << 20
    pieces = (8 << 10) // kibibytes
    assert pieces <= found["read"] <= pieces + 4


def test_slowfs_look_up_does_not_wait_for_large_reads(slow, source):
    (source / "large").write_bytes(bytes(1 << 20))
    slow = slow("mbps=1")
    reader = threading.Thread(target=(slow.mount / "large").read_bytes)
    reader.start()
    while slow.counts()["data_busy"] == 0:
        time.sleep(0.01)
    assert (slow.mount / "directory/inner").exists()
    assert reader.is_alive()
    reader.join()


def test_slowfs_many_clients_at_once_read_what_is_there(slow, source):
    sizes = [1, 4096, 65536, 65537, 300_000, 3_000_001]
    random = Random(7)
    for size in sizes:
        (source / str(size)).write_bytes(random.randbytes(size))
    mount = slow("meta-us=100,rtt-us=50,mbps=1000").mount

    def read(number):
        """Read all files, in an order of the client's own."""
        order = Random(number).sample(sizes * 5, len(sizes) * 5)
        for size in order:
            wanted = (source / str(size)).read_bytes()
            if (mount / str(size)).read_bytes() != wanted:
                return False
            if not (mount / "directory/inner").exists():
                return False
        return True

    with ThreadPoolExecutor(12) as clients:
        assert all(clients.map(read, range(12), timeout=PATIENCE))


@pytest.mark.parametrize("who", ["holder", "slowfs"])
def test_slowfs_when_killed_or_left_leaves_no_mount(source, tmp_path, who):
    """Its holder dies, or it is ended, while a file is open."""
    mount = tmp_path / "mount"
    mount.mkdir()
    path = [str(ROOT / "tests" / "bench"), str(ROOT / "tests")]
    text = HOLDER.format(path=path, source=str(source), mount=str(mount))
    holder = subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        line = holder.stdout.readline()
        if not line:
            error = holder.stderr.read().decode()
            assert "NotEmulated" in error, error
            pytest.skip("no FUSE here")
        slowfs = int(line)
        assert is_mounted(mount)
        if who == "holder":
            holder.kill()
        else:
            os.kill(slowfs, signal.SIGINT)
        assert ends(lambda: is_mounted(mount))
        assert ends(lambda: is_running(slowfs))
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize("text", ["meta-us", "meta-us=x", "speed=3", "mbps="])
def test_emulate_wrong_value_is_refused(text):
    with pytest.raises(ValueError, match="KEY=NUMBER"):
        emulation.parse(text)


def test_program_words_are_taken_out_of_the_command_line():
    split = judge.split_program
    assert split(["--ranks", "2"]) == (
        ["--ranks", "2"],
        ("-c", judge.PROGRAM),
    )
    assert split(["--program", "-c", "pass", "--ranks", "2"]) == (
        ["--ranks", "2"],
        ("-c", "pass"),
    )
    assert split(["--repeat", "1", "--program=app.py"]) == (
        ["--repeat", "1"],
        ("app.py",),
    )
    with pytest.raises(SystemExit):
        split(["--program", "-m"])


def test_manifest_is_recorded_once_and_none_for_other_strategies():
    tree = pathlib.Path("/tree")
    contest = contenders.Contest(
        mpiexec=[], launchers=[], bin=tree, program="", timeout=1,
        scratch=tree, store=tree, manifests=pathlib.Path("/manifests"),
        known=("--manifest", "--manifest-build"),
        contenders=contenders.contenders(
            ["python-mpi"], ["stock", "all", "manifest"], tree, None
        ),
    )  # fmt: skip
    assert contest.options("stock", 4, "report") == []
    both = ["--share", "/tree", "--timing=report", "--manifest"]
    assert contest.options("python-mpi all", 4, "report") == [
        "--strategy", "all", *both, "none",
    ]  # fmt: skip
    later = ["--strategy", "all", *both, "/manifests/python-mpi-4"]
    assert contest.options("python-mpi manifest", 4, "report") == later
    first = contest.options("python-mpi manifest", 4, "report", first=True)
    assert first == [*later, "--manifest-build"]


def test_thousand_modules_are_a_thousand(tmp_path):
    top = thousand.generate(tmp_path)
    assert len(list(top.rglob("module*.py"))) == 1000


def test_thousand_modules_import_each_other(tmp_path, python):
    thousand.generate(tmp_path, packages=7)
    lines = [
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})",
        f"import {thousand.NAME}; assert {thousand.NAME}.COUNT == 70",
        "print(len([name for name in sys.modules if '.module' in name]))",
    ]
    done = subprocess.run(
        [python, "-I", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "70\n"


def bench(tmp_path, *words, **variables):
    """Run python-mpi-bench on an environment without packages; return (what
    it printed, JSON).
    """
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True, with_pip=False)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    file = tmp_path / "result.json"
    command = [ROOT / "bin" / "python-mpi-bench", "--repeat", "1"]
    command += [
        "--tree",
        environment,
        "--warm-up",
        "0",
        "--scratch",
        scratch,
        "--json",
        file,
    ]
    done = subprocess.run(
        [*command, *words, "--program", "-c", "import json.tool"],
        env=job.clean_environment() | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(scratch.iterdir()) == []
    return done, json.loads(file.read_text())


@pytest.mark.skipif(
    not (ROOT / "bin" / "python-mpi").exists(), reason="no native launcher"
)
def test_bench_emulated_attributes_operations_to_ranks(tmp_path, slow):
    slow().end()  # skips without FUSE
    done, found = bench(
        tmp_path, "--ranks", "2", "--strategies", "stock,all",
        "--emulate", "meta-us=0", "--plot", str(tmp_path / "plot.png"),
    )  # fmt: skip
    assert found["schema"] == judge.SCHEMA
    assert found["counted_by"] == "slowfs"
    runs = found["counts"]["2"]
    assert list(runs) == ["local", "stock", "python-mpi all"]
    stock, ours = (runs[label][0]["operations"] for label in list(runs)[1:])
    # Each stock rank does the same, the interpreter's own start included.
    assert stock["first"]["open"] == stock["others"]["open"] > 20
    assert stock["first"]["lookup"] == stock["others"]["lookup"] > 200
    # The others ask for nothing under python-mpi.
    assert ours["first"]["lookup"] > 100
    assert ours["others"] == {}
    assert "operations" not in runs["local"][0]
    assert runs["python-mpi all"][0]["report"]["size"] == 2
    assert "2 ranks" in done.stdout and "/ local" in done.stdout
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_bench_without_fuse_says_so_and_measures(tmp_path):
    done, found = bench(
        tmp_path, "--ranks", "1", "--strategies", "stock",
        "--emulate", "meta-us=1",
        MPIIMPORT_SLOWFS=str(tmp_path / "absent"),
    )  # fmt: skip
    assert done.stdout.count("measured without emulation") == 1
    assert found["emulate"] is None
    assert found["counted_by"] != "slowfs"
    assert len(found["counts"]["1"]["stock"]) == 1
