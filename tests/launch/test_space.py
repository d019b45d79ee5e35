"""Where the node's memory is, and how much of it may be taken.

That nothing is left in the node stores' directory and no process is left
running is checked by launch() after every job.
"""

import importlib.machinery
import importlib.util
import json
import os
import py_compile
import shutil
import subprocess

import pytest
from support import job

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
MIB = 1 << 20
several = pytest.mark.parametrize(
    ("ranks", "nodes"), [(3, "one"), (3, "each"), (4, "two")]
)

# Run a command where some directories are mounted anew: on DIRECTORY with the
# words of OPTIONS for mount(8), pair by pair, up to "--".
NAMESPACE = """
while [ "$1" != -- ]; do
    case $2 in
    noexec) mount --bind "$1" "$1" && mount -o remount,bind,noexec "$1" ;;
    *) mount -t tmpfs -o "$2" none "$1" ;;
    esac || exit 99
    shift 2
done
shift
"$@"
"""

# What is loaded from a mirror, as paths.
MAPPED = """
def mapped():
    with open("/proc/self/maps") as file:
        paths = {line.split(None, 5)[-1].strip() for line in file}
    return sorted(p for p in paths if "/mpiimport-" in p and "/tree/" in p)


"""
USE_BOTH = MAPPED + (
    "import cmath\nimport unicodedata\n\n"
    "report((cmath.sqrt(-4), unicodedata.name('a'), mapped(),\n"
    "        cmath.__file__, unicodedata.__file__))\n"
)


def namespace_words(mounts):
    words = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    pairs = [str(word) for pair in mounts.items() for word in pair]
    return [*words, "sh", "-c", NAMESPACE, "sh", *pairs, "--"]


@pytest.fixture
def namespace(tmp_path):
    """Words to run a command under: namespace({directory: mount option}).

    The option noexec keeps what is in the directory; others make an empty
    tmpfs.  Skips the test where that is not permitted.
    """

    def under(mounts):
        trial = tmp_path / "trial"
        trial.mkdir(exist_ok=True)
        if shutil.which("unshare") is None:
            pytest.skip("unshare(1) is not installed")
        for option in set(mounts.values()):
            done = subprocess.run(
                [*namespace_words({trial: option}), "true"],
                capture_output=True,
                timeout=30,
                check=False,
            )
            if done.returncode != 0:
                pytest.skip(f"mounts are not permitted: {done.stderr}")
        return namespace_words(mounts)

    return under


@pytest.fixture
def store():
    """A directory for node stores."""
    directory = job.make_store()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def place(tmp_path):
    """A directory that jobs may take for theirs: $TMPDIR."""
    directory = tmp_path / "place"
    directory.mkdir()
    return directory


def extension(directory, name, padding=0):
    """Put a copy of a module of the standard library into 'directory'.

    padding: bytes behind the object, which take no space on the disk.
    """
    spec = importlib.util.find_spec(name)
    if not (spec.origin or "").endswith(".so"):
        pytest.skip(f"{name} is built into this interpreter")
    copy = directory / f"{name}{SUFFIX}"
    shutil.copy(spec.origin, copy)
    if padding:
        os.truncate(copy, copy.stat().st_size + padding)
    return str(copy)


@pytest.fixture
def both(tmp_path):
    """Make cmath, a large object, and unicodedata, a small one."""
    return (
        extension(tmp_path, "cmath", 40 * MIB),
        extension(tmp_path, "unicodedata"),
    )


def used_both(result, ranks, large, small):
    """Every rank has used both modules; return the mapped objects of each."""
    assert result.status == 0, str(result)
    assert sorted(result.reports) == list(range(ranks)), str(result)
    for root, name, _, *files in result.reports.values():
        assert (root, name) == (2j, "LATIN SMALL LETTER A"), str(result)
        assert files == [large, small], str(result)
    return [found for _, _, found, *_ in result.reports.values()]


def lines_with(result, text):
    return [line for line in result.stderr.splitlines() if text in line]


# ---- noexec -----------------------------------------------------------------


@several
def test_noexec_store_objects_in_next_place(
    launch, program, namespace, store, place, both, ranks, nodes
):
    result = launch(
        ranks,
        [program(USE_BOTH)],
        nodes=nodes,
        env={"TMPDIR": place},
        store=store,
        under=namespace({store: "noexec"}),
    )
    roots = set()
    for found in used_both(result, ranks, *both):
        for path in both:
            assert [p for p in found if p.endswith(path)], str(result)
        for path in found:
            assert path.startswith(f"{place}/mpiimport-"), str(result)
            roots.add(path.partition("/tree/")[0])
    assert len(roots) == {"one": 1, "each": 3, "two": 2}[nodes], str(result)
    assert result.stderr == "", str(result)
    assert list(place.iterdir()) == []


@several
def test_noexec_everywhere_said_once(
    launch, program, namespace, store, place, ranks, nodes
):
    places = [store, place, "/tmp", "/var/tmp"]
    result = launch(
        ranks,
        [program(USE_BOTH)],
        nodes=nodes,
        env={"TMPDIR": place},
        store=store,
        under=namespace(dict.fromkeys(places, "noexec")),
    )
    files = result.reports[0][3:]
    if not all(file.endswith(".so") for file in files):
        pytest.skip("cmath is built into this interpreter")
    assert used_both(result, ranks, *files) == [[]] * ranks
    (line,) = lines_with(result, "does not allow execution")
    for directory in places:
        assert f"{directory} does not allow execution" in line, str(result)
    assert "-T DIR" in line and "loaded directly" in line, str(result)
    assert result.stderr.splitlines() == [line], str(result)
    assert list(place.iterdir()) == []


def test_no_directory_can_be_made_next_place(
    launch, program, namespace, store, place, both
):
    """A full tmpfs (of inodes) is passed over as well: no room for one."""
    # The store's directory takes the last ones, and is gone by then.
    mounts = {store: "nr_inodes=5", place: "noexec"}
    result = launch(
        3,
        [program(USE_BOTH)],
        env={"TMPDIR": place},
        store=store,
        under=namespace(mounts),
    )
    for found in used_both(result, 3, *both):
        for path in found:
            assert path.startswith("/tmp/mpiimport-"), str(result)
        assert len(found) == 2, str(result)


# ---- --max-store ------------------------------------------------------------


@several
def test_max_store_0_nothing_mirrored(
    launch, program, tmp_path, both, ranks, nodes
):
    file = tmp_path / "timing.json"
    result = launch(
        ranks,
        [f"--timing={file}", "--max-store", "0", program(USE_BOTH)],
        nodes=nodes,
    )
    assert used_both(result, ranks, *both) == [[]] * ranks
    report = json.loads(file.read_text())
    for path in both:
        assert [path, "--max-store 0"] in report["refused"], str(result)
    assert all(node["mirror_bytes"] == 0 for node in report["nodes"])
    # The rest came through the store, and nobody had to be told anything.
    assert all(rank["phases"]["LOAD"][1] > 0 for rank in report["ranks"])
    assert not lines_with(result, "mpiimport: rank"), str(result)


@several
def test_max_store_small_large_object_left_out(
    launch, program, tmp_path, both, ranks, nodes
):
    large, small = both
    file = tmp_path / "timing.json"
    result = launch(
        ranks,
        [f"--timing={file}", "--max-store=32M", program(USE_BOTH)],
        nodes=nodes,
    )
    for found in used_both(result, ranks, *both):
        assert [path for path in found if path.endswith(small)], str(result)
        assert not [path for path in found if path.endswith(large)]
    (line,) = lines_with(result, "mpiimport: rank")
    assert "--max-store 33554432 would be exceeded" in line, str(result)
    assert large in line, str(result)
    (shown,) = lines_with(result, "loaded directly: ")
    assert shown.startswith(f"loaded directly: {large} (--max-store 33554432")
    report = json.loads(file.read_text())
    ((path, why),) = report["refused"]
    assert path == large and why in line, str(result)
    for node in report["nodes"]:
        taken = node["store_bytes"] + node["mirror_bytes"]
        assert 0 < taken <= 32 * MIB, str(result)
        assert node["mirror_bytes"] > 0, str(result)


def test_max_store_tiny_everything_direct_said_once(launch, program, both):
    result = launch(3, [program(USE_BOTH)], env={"PYTHON_MPI_MAX_STORE": "1K"})
    assert used_both(result, 3, *both) == [[]] * 3
    line = result.stderr.rstrip("\n")
    assert "\n" not in line, str(result)
    assert "--max-store 1024 would be exceeded" in line, str(result)


def test_max_store_exceeded_in_site_is_not_what_site_says(
    launch, program, tmp_path
):
    directory = tmp_path / "large"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text("import large\n")
    large = directory / "large.py"
    large.write_text(f"TEXT = {'x' * 5 * MIB!r}\n")
    py_compile.compile(str(large))
    env = {"PYTHONPATH": str(directory), "PYTHON_MPI_MAX_STORE": "4M"}
    result = launch(3, [program("")], env=env)
    line = result.stderr.rstrip("\n")
    assert "\n" not in line, str(result)
    assert "would be exceeded" in line, str(result)


@pytest.mark.parametrize(
    ("args", "limit"),
    [(["--max-store", "10%"], 20 * MIB), ([], 50 * MIB), (["-T"], 50 * MIB)],
    ids=["10%", "default", "default-T"],
)
def test_max_store_part_of_filesystem(
    launch, program, namespace, store, tmp_path, args, limit
):
    large = extension(tmp_path, "cmath", limit + MIB)
    small = extension(tmp_path, "unicodedata")
    args = [*args, store] if args == ["-T"] else args
    result = launch(
        3,
        [*args, program(USE_BOTH)],
        store=store,
        under=namespace({store: "size=200m"}),
    )
    for found in used_both(result, 3, large, small):
        assert [path for path in found if path.endswith(small)], str(result)
        assert len(found) == 1, str(result)
    line = result.stderr.rstrip("\n")
    assert "\n" not in line, str(result)
    assert f"--max-store {limit} would be exceeded" in line, str(result)


@pytest.mark.parametrize("value", ["x", "-1", "101%", "1KB", "1.5G"])
def test_max_store_bad_value_refused(launch, value):
    result = launch(2, [f"--max-store={value}", "-c", "pass"])
    assert result.status == 2, str(result)
    assert "--max-store takes bytes" in result.stderr, str(result)
    assert f"'{value}'" in result.stderr, str(result)


# ---- files ------------------------------------------------------------------

# What importing a module adds to the modules counted by phase.
READ_LARGE = """
import pkgutil

import mpiimport
import package


def loads():
    phases = mpiimport.timings()["phases"]
    return [phases[name][1] for name in ("LOAD", "LOADDirect")]


data = pkgutil.get_data("package", "data.bin")
before = loads()
import package.after

added = [new - old for new, old in zip(loads(), before)]
report((len(data), data[:4], data[-4:], package.after.VALUE, added))
"""


@pytest.mark.parametrize(
    ("ranks", "nodes"), [(1, "one"), (3, "one"), (3, "each")]
)
def test_file_larger_than_max_store_read_directly(
    launch, program, tmp_path, ranks, nodes
):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "after.py").write_text("VALUE = 7\n")
    data = package / "data.bin"
    data.write_bytes(b"head")
    os.truncate(data, 40 * MIB)
    with open(data, "ab") as stream:
        stream.write(b"tail")
    file = tmp_path / "timing.json"
    result = launch(
        ranks,
        [f"--timing={file}", "--max-store", "32M", program(READ_LARGE)],
        nodes=nodes,
    )
    assert result.status == 0, str(result)
    expected = (40 * MIB + 4, b"head", b"tail", 7, [1, 0])
    assert result.reports == dict.fromkeys(range(ranks), expected)
    assert not lines_with(result, "mpiimport: rank"), str(result)
    refused = [path for path, _ in json.loads(file.read_text())["refused"]]
    assert refused == ([str(data)] if ranks > 1 else []), str(result)


def test_max_store_library_left_out_module_mirrored(launch, stock, program):
    """The largest object of a closure is left out, the others are not."""
    text = """
import numpy
maps = {line.split()[-1] for line in open("/proc/self/maps")}
value = numpy.linalg.svd(numpy.arange(9.0).reshape(3, 3))[1].round(9).tolist()
report([value, sorted(
    (os.path.basename(path), "/mpiimport-" in path)
    for path in maps if "/numpy" in path and ".so" in path
)])
"""
    main = program(text)
    value, objects = stock([main]).reports[0]
    result = launch(3, ["--max-store=24M", main], nodes="two")
    assert result.status == 0, str(result)
    for rank in range(3):
        found, mapped = result.reports[rank]
        assert found == value, str(result)
        # Nothing twice, nothing missing.
        assert [name for name, _ in mapped] == [name for name, _ in objects]
        direct = [name for name, mirrored in mapped if not mirrored]
        assert direct, str(result)
        assert len(direct) < len(mapped) / 2, str(result)
        assert [name for name in direct if "openblas" in name], str(result)
