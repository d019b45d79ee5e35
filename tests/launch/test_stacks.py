"""Packages with many shared objects, and programs that load their own.

Each program is run by stock Python and by the launchers.  It has to print
the same; ranks other than 0 have to make no operation on the tree beyond
their start; and what is mapped of the tree's objects has to be the mirror's.
"""

import importlib.util
import os
import re

import pytest
from support import trace
from support.tree import beyond_start

RANKS = 3  # rank 0 and a mate of it on one node, rank 2 on another
NODES = "two"
# As many threads as processors for each rank are too many.  Commands that a
# package runs are searched for in PATH, which is not to be on the tree.
ENV = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
}
MIRRORED = re.compile(r"/.*/mpiimport-[^/]+/tree(/.*)")

# Comes after each program.
SEEN = """

def _objects():
    found = []
    with open("/proc/self/maps") as lines:
        for line in lines:
            fields = line.rstrip("\\n").split(None, 5)
            if len(fields) < 6 or "x" not in fields[1]:
                continue
            if ".so" in os.path.basename(fields[5]):
                found.append((fields[5], f"{fields[3]}:{fields[4]}"))
    return sorted(set(found))


def _files():
    modules = list(__import__("sys").modules.items())
    files = {name: getattr(module, "__file__", None) or ""
             for name, module in modules}
    return {name: file for name, file in files.items() if ".so" in file}


report({"objects": _objects(), "files": _files()})
"""

# Name: source text.
STACKS = {
    "numpy": """
import numpy as np

matrix = np.arange(3600.0).reshape(60, 60) % 17
print(int((matrix @ matrix.T).sum()))
values = np.linalg.svd(matrix, compute_uv=False)
print(values[:5].round(6).tolist())
print(np.fft.rfft(matrix[3])[:3].round(6).tolist())
print(np.random.default_rng(5).integers(1000, size=5).tolist())
""",
    "scipy": """
import numpy as np
from scipy import interpolate, linalg, special

matrix = np.arange(400.0).reshape(20, 20) % 7 + np.eye(20) * 9
lower, upper = linalg.lu(matrix)[1:]
print(np.abs(np.diag(upper)).round(6).tolist())
print(linalg.expm(matrix / 400)[0].round(8).tolist())
x = np.linspace(0, 3, 20)
spline = interpolate.CubicSpline(x, np.sin(x))
print(spline([0.5, 1.5, 2.5]).round(9).tolist())
print(special.jv(1, x[:5]).round(9).tolist(), special.gamma(4.5).round(9))
""",
    "pandas": """
import io
import pandas as pd

frame = pd.DataFrame({"key": list("abcab") * 4, "value": range(20)})
print(frame.groupby("key")["value"].agg(["sum", "mean", "max"]).to_dict())
frame["when"] = pd.date_range(
    "2026-03-28 20:00", periods=20, freq="h", tz="Europe/Berlin"
)
text = io.StringIO()
frame.to_csv(text, index=False)
print(text.getvalue().splitlines()[:8])
print(pd.Timestamp("2026-07-01 12:00", tz="America/New_York").isoformat())
print(frame.set_index("when")["value"].resample("4h").sum().tolist())
""",
    "matplotlib": """
import hashlib
import io
import os

os.chdir("/")  # it looks for a matplotlibrc of the user's where it is
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

figure, axes = pyplot.subplots(figsize=(3, 2))
axes.plot([0, 1, 4, 9, 16], label="squares")
axes.set_title("$x^2$")
axes.legend()
image = io.BytesIO()
figure.savefig(image, format="png", metadata={"Software": None})
print(len(image.getvalue()), hashlib.sha256(image.getvalue()).hexdigest())
""",
    "h5py": """
import io
import tempfile
import h5py
import numpy as np

data = np.arange(1000).reshape(10, 100)
image = io.BytesIO()
with h5py.File(image, "w") as file:
    file.create_dataset("group/data", data=data, compression="gzip")
    file["group"].attrs["name"] = "text"
with h5py.File(image, "r") as file:
    read = file["group/data"][:]
    print(int(read.sum()), bool((read == data).all()), file["group"].attrs
          ["name"], file["group/data"].compression)
core = os.path.join(tempfile.gettempdir(), "core.h5")
with h5py.File(core, "w", driver="core", backing_store=False) as file:
    file["data"] = data
    print(file["data"].shape, file["data"].dtype)
""",
    "pyarrow": """
import hashlib
import pyarrow as pa
import pyarrow.parquet as pq

table = pa.table({"n": list(range(100)), "s": [f"{n:03}" for n in range(100)]})
out = pa.BufferOutputStream()
pq.write_table(table, out, compression="zstd")
read = pq.read_table(pa.BufferReader(out.getvalue()))
print(read.equals(table), read.schema, read.num_rows)
print(hashlib.sha256(out.getvalue()).hexdigest())
""",
}
# The same, with a tree of dlstorm as sys.argv[1].
LOADERS = {
    "cffi": """
import sys
import cffi

ffi = cffi.FFI()
ffi.cdef("uint32_t util_001_f002(uint32_t x, int depth);")
library = ffi.dlopen(f"{sys.argv[1]}/lib/libutil_001.so")
print([library.util_001_f002(number, 2) for number in range(5)])
process = cffi.FFI()
process.cdef("int abs(int number); size_t strlen(const char *text);")
whole = process.dlopen(None)
print(whole.abs(-7), whole.strlen(b"seven"))
""",
    "ctypes": """
import ctypes
import sys

sys.path.insert(0, sys.argv[1])
import storm

def call(library, name):
    function = getattr(library, name)
    function.argtypes = [ctypes.c_uint32, ctypes.c_int]
    function.restype = ctypes.c_uint32
    return [function(number, 2) for number in range(5)]

absolute = ctypes.CDLL(f"{sys.argv[1]}/lib/libutil_000.so")
print(call(absolute, "util_000_f001"))
here = os.path.dirname(storm.__file__)
beside = ctypes.CDLL(os.path.join(here, "..", "lib", "libutil_001.so"))
print(call(beside, "util_001_f003"))
loaded = ctypes.cdll.LoadLibrary(f"{here}/../lib/libutil_002.so")
print(call(loaded, "util_002_f004"))
again = ctypes.CDLL(f"{sys.argv[1]}/lib/libutil_000.so", ctypes.RTLD_GLOBAL)
print(again._handle == absolute._handle, call(again, "util_000_f001"))
print(call(ctypes.CDLL(None), "util_000_f001"))
""",
    "ctypes of the system": """
import ctypes

math = ctypes.CDLL("libm.so.6")
math.cos.restype = ctypes.c_double
math.cos.argtypes = [ctypes.c_double]
print(math.cos(0.5))
""",
    "ctypeslib": """
import ctypes
import sys
import numpy as np

library = np.ctypeslib.load_library("libutil_003", f"{sys.argv[1]}/lib")
array = np.ctypeslib.ndpointer(dtype=np.float64, ndim=1)
function = library.util_003_f005
function.argtypes = [ctypes.c_uint32, ctypes.c_int]
function.restype = ctypes.c_uint32
print([function(number, 2) for number in range(5)], array.__name__)
""",
}
MISSING = """
import ctypes
import sys

for name in (
    f"{sys.argv[1]}/lib/libmissing.so",
    "lib/missing.so",
    "libmissing.so.6",
    f"{sys.argv[1]}/lib",
    f"{sys.argv[1]}/storm/__init__.py",
):
    try:
        print(ctypes.CDLL(name))
    except OSError as error:
        print(error)
"""
VARIANTS = [
    {"search": search, "soname": soname}
    for search in ("absolute", "origin", "rpath-absolute", "needed-paths")
    for soname in (False, True)
]
VARIANTS += [{"needs": "utilities"}, {"needs": "all"}]
# An object that each of them has to map.
MAPPED = {
    "numpy": "libscipy_openblas",
    "scipy": "/_ufuncs.",
    "pandas": "/groupby.",
    "matplotlib": "/_backend_agg.",
    "h5py": "libhdf5",
    "pyarrow": "libarrow.so",
    "cffi": "/libutil_001.so",
    "ctypes": "/libutil_002.so",
    "ctypes of the system": "/_ctypes.",
    "ctypeslib": "/libutil_003.so",
    "dlstorm": "/mod_011.",
    "torch": "libtorch_cpu",
}

stacks = pytest.mark.parametrize("name", STACKS)
loaders = pytest.mark.parametrize("name", LOADERS)
variants = pytest.mark.parametrize(
    "variant",
    VARIANTS,
    ids=lambda given: " ".join(f"{key}={given[key]}" for key in given),
)


# ---- what has to hold -----------------------------------------------------


def expected_lines(expected, ranks):
    """Return the sorted lines that 'ranks' ranks have to print."""
    return sorted(
        line.replace("rank 0:", f"rank {rank}:")
        for rank in range(ranks)
        for line in expected.stdout.splitlines()
    )


def same_result(result, expected, ranks):
    """The output of stock Python, and the same files of modules."""
    assert result.status == expected.status == 0, f"{result}{expected}"
    assert expected.stdout, str(expected)
    assert result.lines() == expected_lines(expected, ranks), (
        f"{result.stdout}\n{result.stderr}\nexpected:\n{expected.stdout}"
    )
    assert result.stderr == expected.stderr, f"{result.stderr}"
    files = expected.reports[0]["files"]
    for rank in range(ranks):
        seen = result.reports[rank]["files"]
        for module, file in files.items():
            assert seen.get(module) == file, f"rank {rank}: {module}"


def reads_nothing(result, found, start):
    """Ranks other than 0 do nothing on the tree beyond their start.

    found, start: {rank: operations}
    """
    for rank in range(1, RANKS):
        more = beyond_start(found[rank], start[rank], result)
        assert not more, (
            f"rank {rank}: {len(more)} operations beyond "
            f"{len(start[rank])}:\n{trace.listing(more)}\n{result.stderr}"
        )
    assert len(found[0]) > 20, str(result)


def is_below(path, prefixes):
    """Tell whether a path is below one of the directories."""
    return any(path.startswith(f"{prefix}/") for prefix in prefixes)


def only_mirrored(objects, prefixes, root, rank):
    """Return {real path on the tree: (mapped path, device and inode)}.

    Nothing is mapped from the tree, but for the launcher and libpython, and
    nothing that is mirrored is missing there, or mapped from two places.
    objects: of a rank's report; root: of the checkout
    """
    found, wrong = {}, []
    for path, number in objects:
        mirrored = MIRRORED.fullmatch(path)
        original = mirrored[1] if mirrored else path
        if mirrored:
            if not is_below(original, prefixes) or (
                os.path.realpath(original) in found
            ):
                wrong.append(path)
            assert os.path.exists(original), f"rank {rank}: {path}"
            found[os.path.realpath(original)] = (path, number)
        elif is_below(path, prefixes):
            if not is_below(path, [root / "bin"]) and not os.path.basename(
                path
            ).startswith("libpython"):
                wrong.append(path)
    text = "\n".join(wrong)
    assert not wrong, f"rank {rank} maps {len(wrong)} objects:\n{text}"
    return found


def maps_mirror_only(result, expected, prefixes, root, name):
    """Every rank maps what stock Python maps, all of it from the mirror.

    The ranks of a node map the same files.
    """
    wanted = {
        os.path.realpath(path)
        for path, _ in expected.reports[0]["objects"]
        if is_below(path, prefixes) and "/libpython" not in path
    }
    assert any(MAPPED[name] in path for path in wanted), str(wanted)
    nodes = {}
    for rank in range(RANKS):
        objects = result.reports[rank]["objects"]
        found = only_mirrored(objects, prefixes, root, rank)
        missing = wanted - set(found)
        assert not missing, f"rank {rank} maps no {missing}"
        its = nodes.setdefault(rank // 2, {})
        for original, mapped in found.items():
            assert its.setdefault(original, mapped) == mapped, f"rank {rank}"
    assert len(nodes) == 2


# ---- how it is tried ------------------------------------------------------


@pytest.fixture
def same(launch, stock, program):
    """Run a program on 'ranks' ranks: same(text, ranks, args, more).

    more: further directories of the tree
    """

    def run(text, ranks, args=(), more=()):
        words = [program(text + SEEN), *args]
        prefixes = [*launch.runner.shared_prefixes(), *map(str, more)]
        env = ENV | {"PYTHON_MPI_SHARE": ":".join(prefixes)}
        expected = stock(words, env=ENV)
        result = launch(ranks, words, nodes=NODES, env=env)
        same_result(result, expected, ranks)

    return run


@pytest.fixture
def traced(
    observe, stock, program, launcher, fixed_starts, tree, repo_root, tmp_path
):
    """Run a program below strace: traced(name, text, args, more)."""

    def run(name, text, args=(), more=()):
        words = [program(text + SEEN), *args]
        expected = stock(words, env=ENV)
        result, found = observe(
            words, NODES, ranks=RANKS, more=more, env=ENV, timeout=100
        )
        same_result(result, expected, RANKS)
        prefixes = [*tree, *more, tmp_path]
        maps_mirror_only(result, expected, prefixes, repo_root, name)
        reads_nothing(result, found, fixed_starts(launcher, RANKS, NODES))

    return run


# On more ranks: with the trace, below.
@pytest.mark.parametrize("ranks", [1])
@stacks
def test_stack_same_as_stock(same, name, ranks):
    same(STACKS[name], ranks)


@stacks
def test_stack_others_read_nothing_and_map_the_mirror(traced, name):
    traced(name, STACKS[name])


# On more ranks: with the trace, below.
@pytest.mark.parametrize("ranks", [1])
@loaders
def test_loader_same_as_stock(same, storm, name, ranks):
    directory = storm(search="absolute")
    same(LOADERS[name], ranks, [directory], [directory])


@pytest.mark.parametrize("ranks", [1, RANKS])
def test_loader_of_what_is_no_library_same_as_stock(same, storm, ranks):
    directory = storm(search="absolute")
    same(MISSING, ranks, [directory], [directory])


@loaders
def test_loader_others_read_nothing_and_map_the_mirror(traced, storm, name):
    directory = storm(search="absolute")
    traced(name, LOADERS[name], [directory], [directory])


@pytest.fixture
def dlstorm(apps):
    """The source text of the program."""
    return (apps / "dlstorm" / "main.py").read_text(encoding="utf-8")


# On more ranks: with the trace, below.
@pytest.mark.parametrize("ranks", [1])
@variants
def test_dlstorm_same_as_stock(same, storm, dlstorm, variant, ranks):
    directory = storm(**variant)
    same(dlstorm, ranks, [directory], [directory])


@variants
def test_dlstorm_others_read_nothing_and_map_the_mirror(
    traced, storm, dlstorm, variant
):
    directory = storm(**variant)
    traced("dlstorm", dlstorm, [directory], [directory])


# ---- what the dynamic linker says -----------------------------------------

LINKS = """
import ctypes
import numpy.linalg
import scipy.linalg


class Info(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]


NAMES = []
KIND = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p
)


@KIND
def note(info, size, data):
    NAMES.append(os.fsdecode(info.contents.name or b""))
    return 0


ctypes.CDLL(None).dl_iterate_phdr(note, None)
report([name for name in NAMES if ".so" in os.path.basename(name)])
"""


def test_names_for_debuggers_are_the_mirrors(
    launch, stock, program, tree, repo_root
):
    """What gdb's 'info sharedlibrary' shows: the linker's own list."""
    words = [program(LINKS)]
    expected = stock(words).reports[0]
    result = launch(RANKS, words, nodes=NODES)
    assert result.status == 0, str(result)
    wanted = {os.path.realpath(path) for path in expected}
    wanted = {path for path in wanted if "/scipy/" in path}
    assert len(wanted) > 5, str(expected)
    for rank in range(RANKS):
        objects = [(path, None) for path in result.reports[rank]]
        found = only_mirrored(objects, tree, repo_root, rank)
        assert wanted <= set(found), f"rank {rank}"


# ---- more than is installed by default ------------------------------------

TORCH = """
import torch

torch.manual_seed(3)
matrix = torch.arange(64, dtype=torch.float64).reshape(8, 8) % 5
print((matrix @ matrix.T).sum().item())
print(torch.linalg.svdvals(matrix)[:3].numpy().round(6).tolist())
layer = torch.nn.Linear(4, 2)
print(tuple(layer(torch.ones(3, 4)).shape))
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)
def test_torch_others_read_nothing_and_map_the_mirror(traced):
    traced("torch", TORCH)
