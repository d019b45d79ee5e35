"""Garbage collection is put off while modules are imported, and is as it was
then.
"""

import json
import subprocess

import pytest
from support import job

RANKS = 2

ALLOCATE = "KEPT = [[] for _ in range(20_000)]\n"

# In a module: the generations that are collected meanwhile, in SEEN.
WATCH = """
import gc
import sys
SEEN = []
gc.callbacks.append(
    lambda phase, info: phase == "start" and SEEN.append(info["generation"])
)
"""
# An object that only a collection can free; it needs modules for its end.
CYCLE = """
class Cycle:
    def __init__(self, name):
        self.name = name
        self.self = self
    def __del__(self):
        import colorsys, os
        os.write(1, f"{os.environ['PMI_RANK']} {self.name}\\n".encode())
"""

PROGRAM = """
import gc
import json
import sys
{0}
print(json.dumps(report))
"""


@pytest.fixture
def reports(program, launch):
    """reports(modules, body, options): 'report' of the program's body, of
    each rank.
    """

    def run(modules, body, *options, **more):
        for name, text in modules.items():
            program(text, f"{name}.py")
        main = program(PROGRAM.format(body), "main.py")
        result = launch(RANKS, [*options, str(main)], **more)
        assert result.status == 0, str(result)
        found = [
            json.loads(line)
            for line in result.stdout.splitlines()
            if line.startswith(("{", "["))
        ]
        assert len(found) == RANKS, str(result)
        return found

    return run


def test_import_is_looked_through_once_in_large_parts(reports):
    modules = {
        "watched": WATCH + "import inner\nSTARTED = list(SEEN)\n",
        "inner": ALLOCATE,
    }
    body = (
        "import watched\n"
        "more = [[] for _ in range(4 * gc.get_threshold()[0])]\n"
        "report = [watched.STARTED, len(watched.SEEN)]\n"
    )
    for started, then in reports(modules, body):
        assert started in ([0], [0, 0])
        assert then > len(started) + 1


@pytest.mark.parametrize(
    ("options", "env"),
    [
        (["--no-gc-defer"], {}),
        ([], {"PYTHON_MPI_GC_DEFER": "0"}),
        (["--strategy", "names"], {}),
    ],
)
def test_switched_off_collects_as_stock(reports, options, env):
    modules = {"watched": WATCH + ALLOCATE + "STARTED = list(SEEN)\n"}
    body = "import watched\nreport = [len(watched.STARTED) > 0]\n"
    assert reports(modules, body, *options, env=env) == [[True]] * RANKS


def test_thresholds_are_the_programs_at_all_times(reports):
    modules = {
        "looks": "import gc\nFOUND = gc.get_threshold()\n",
        "sets": "import gc\ngc.set_threshold(900, 11, 12)\nimport looks\n",
        "fails": "raise KeyError\n",
    }
    body = (
        "report = [gc.get_threshold()]\n"
        "import looks\n"
        "report += [looks.FOUND, gc.get_threshold()]\n"
        "del sys.modules['looks']\n"
        "import sets, looks\n"
        "report += [looks.FOUND, gc.get_threshold()]\n"
        "gc.set_threshold(0)\n"
        "try:\n"
        "    import fails\n"
        "except KeyError:\n"
        "    report.append(gc.get_threshold())\n"
    )
    start = [700, 10, 10]
    changed = [900, 11, 12]
    (first, second) = reports(modules, body)
    assert first == second
    assert first[0] == first[1] == first[2]
    assert first[0][1:] in (start[1:], [10, 0])
    assert first[3:] == [changed, changed, [0, *changed[1:]]]


def test_failed_import_restores_collections(reports):
    modules = {"fails": ALLOCATE + "del KEPT\nraise KeyError\n"}
    body = (
        "seen = []\n"
        "gc.callbacks.append(lambda phase, info: seen.append(phase))\n"
        "try:\n"
        "    import fails\n"
        "except KeyError:\n"
        "    pass\n"
        "more = [[] for _ in range(2000)]\n"
        "report = ['start' in seen, gc.isenabled()]\n"
    )
    assert reports(modules, body) == [[True, True]] * RANKS


def test_endless_import_is_collected_all_the_same(reports):
    modules = {
        "endless": WATCH
        + "for _ in range(400_000):\n"
        + "    loop = []\n"
        + "    loop.append(loop)\n"
        + "MEANWHILE = list(SEEN)\n"
    }
    body = "import endless\nreport = endless.MEANWHILE\n"
    for meanwhile in reports(modules, body):
        assert 38 <= len(meanwhile) <= 42
        assert set(meanwhile) == {0}


def test_import_in_another_thread_changes_nothing(reports):
    modules = {"watched": WATCH + ALLOCATE + "STARTED = list(SEEN)\n"}
    body = (
        "import threading\n"
        "thread = threading.Thread(target=__import__, args=('watched',))\n"
        "thread.start()\n"
        "thread.join()\n"
        "import watched\n"
        "report = [len(watched.STARTED) > 0]\n"
    )
    assert reports(modules, body) == [[True]] * RANKS


FREEZE = """
gc.freeze = lambda: {0}
import bulky
gc.collect()
gc.collect()
report = [len(bulky.KEPT), gc.get_freeze_count() in (0, before)]
"""


@pytest.mark.parametrize("does", ["None", "gc.collect(0) and None"])
def test_program_may_replace_freeze(reports, does):
    """And nothing is lost: it is the genuine one that is called."""
    body = "before = gc.get_freeze_count()\n" + FREEZE.format(does)
    found = reports({"bulky": ALLOCATE}, body)
    assert found == [[20_000, True]] * RANKS


@pytest.fixture
def ends(program, launch):
    """ends(modules, text, options): what each rank writes, in its order."""

    def run(modules, text, *options):
        for name, source in modules.items():
            program(source, f"{name}.py")
        result = launch(RANKS, [*options, str(program(text, "main.py"))])
        assert result.status == 0, str(result)
        assert "ignored" not in result.stderr
        lines = [line.partition(" ") for line in result.stdout.splitlines()]
        return [
            [said for who, _, said in lines if who == str(rank)]
            for rank in range(RANKS)
        ]

    return run


@pytest.fixture
def ends_stock(program, python):
    """ends_stock(modules, text): what stock Python writes, as a rank."""

    def run(modules, text):
        for name, source in modules.items():
            program(source, f"{name}.py")
        stock = subprocess.run(
            [python, program(text, "main.py")],
            env=job.clean_environment() | {"PMI_RANK": "9"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert not stock.stderr
        return [line.partition(" ")[2] for line in stock.stdout.splitlines()]

    return run


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import large, late, small\n"
            "import cycle\n"
            "cycle.Cycle('program')\n"
            "kept = cycle.Cycle('kept')\n"
            "del kept\n",
            ["kept", "large", "late", "program", "small"],
        ),
        (
            "import cycle\n"
            "kept = cycle.Cycle('before')\n"
            "import late\n"
            "del kept\n",
            ["before", "late"],
        ),
        ("import app\n", ["app", "late"]),
        (
            "import atexit, cycle\n"
            "atexit.register(cycle.Cycle('atexit').__init__, 'atexit')\n",
            ["atexit"],
        ),
    ],
)
def test_garbage_ends_while_modules_are_there(ends, text, said):
    modules = {
        "cycle": CYCLE,
        "large": "import cycle\ncycle.Cycle('large')\n" + ALLOCATE,
        "late": ALLOCATE + "import cycle\ncycle.Cycle('late')\n",
        "small": "import cycle\ncycle.Cycle('small')\n",
        "app": "import cycle, sys\nkept = cycle.Cycle('app')\nimport late\n"
        "del kept\nsys.exit()\n",
    }
    for rank in ends(modules, text):
        assert sorted(rank) == said


# What the interpreter's last collections find: each line of a rank begins
# with its number.  An extension module that the interpreter itself holds keeps
# most of the rest, if it refers to a package.
HELD = "import numpy\nnumpy._core._multiarray_umath.package = numpy\n"
LAST = """
import gc, os, sys, weakref
import decimal, email.message, http.client, unittest.mock
RANK = os.environ["PMI_RANK"]
def say(*words):
    os.write(1, (" ".join(map(str, (RANK, *words))) + "\\n").encode())
class Cycle:
    def __init__(self, name, **others):
        self.__dict__.update(others, name=name, self=self)
    def __del__(self):
        say(self.name, sys.is_finalizing(), "colorsys" in sys.modules,
            sys.modules is not None)
old = [Cycle("of old objects"), []]
old.append(old)
import colorsys
"""


OTHER = """
import os
RANK = os.environ["PMI_RANK"]
class Local:
    def __del__(self):
        os.write(1, f"{RANK} of a class {__name__}\\n".encode())
"""


@pytest.mark.parametrize("imports", ["", HELD], ids=["not held", "held"])
@pytest.mark.parametrize(
    "text",
    [
        "for name in 'abc':\n    Cycle(name)\n",
        "old[1].append(Cycle('young', old=old))\ndel old\n",
        "kept = Cycle('at module level')\n",
        "import atexit\natexit.register(Cycle('registered').__init__, 'x')\n",
        "gone = Cycle('gone')\n"
        "ref = weakref.ref(gone, lambda ref: say('callback'))\n"
        "del gone\n",
        "gone = Cycle('gone')\n"
        "gone.ref = weakref.ref(gone, lambda ref: say('never'))\n"
        "del gone\n",
        "weakref.finalize(Cycle('watched'), say, 'finalized')\n",
        "class Back(Cycle):\n"
        "    def __del__(self):\n"
        "        say('back')\n"
        "        old.append(self)\n"
        "Back('back')\n",
        "def generate(it):\n"
        "    try:\n"
        "        yield\n"
        "    finally:\n"
        "        say('closed')\n"
        "cycle = Cycle('around')\n"
        "cycle.generator = generate(cycle)\n"
        "next(cycle.generator)\n"
        "del cycle\n",
        "import threading\n"
        "local = threading.local()\n"
        "local.kept = Cycle('of a thread')\n"
        "del local\n",
        "gc.disable()\nCycle('late')\n",
        "Cycle('frozen')\ngc.freeze()\nCycle('not frozen')\n",
        "Cycle('counted')\n"
        "gc.callbacks.append(lambda phase, info: say(\n"
        "    phase, info['generation'], info['uncollectable']))\n",
        "sys.modules = dict(sys.modules)\nCycle('other modules')\n",
        "del sys.modules['decimal'], decimal\nCycle('fewer')\n",
        "import ctypes\n"
        "kept = ctypes.py_object(Cycle('of C'))\n"
        "ctypes.pythonapi.Py_IncRef(kept)\n"
        "del kept\n",
        "import other\nother.kept = Cycle('of a module')\n",
        "import other\n"
        "other.kept = Cycle('of a module', other=other)\n"
        "other.Local.kept = other.Local()\n"
        "del other\n",
        "decimal.kept = Cycle('of a module of the library')\n",
        "if 'numpy' in sys.modules:\n"
        "    sys.modules['numpy'].kept = Cycle('of what is held')\n"
        "    sys.modules['numpy.linalg'].kept = Cycle('of more')\n",
        "import builtins\nbuiltins.kept = Cycle('of built-in names')\n",
        "sys.kept = Cycle('of the interpreter')\n",
        "class Collector:\n"
        "    def __del__(self, gc=gc, say=say):\n"
        "        Cycle('while modules end')\n"
        "        gc.collect()\n"
        "        say('collected')\n"
        "kept = Collector()\n"
        "other = Cycle('beside it')\n",
        "for name in 'ab':\n"
        "    setattr(sys.modules[__name__], name, Cycle('old ' + name))\n"
        "gc.collect()\n"
        "for name in 'cd':\n"
        "    setattr(sys.modules[__name__], name, Cycle('young ' + name))\n",
        "gc.disable()\n"
        "class Collector:\n"
        "    def __del__(self, collect=gc.collect, write=os.write, r=RANK):\n"
        "        collect()\n"
        "        write(1, f'{r} collected\\n'.encode())\n"
        "os.kept = Collector()\n"
        "kept = Collector()\n",
        "class Freezer:\n"
        "    def __del__(self, gc=gc, say=say):\n"
        "        gc.freeze()\n"
        "        gc.unfreeze()\n"
        "        say('thawed')\n"
        "kept = Freezer()\n",
    ],
)
def test_end_finds_what_stock_finds(ends, ends_stock, text, imports):
    modules = {"other": OTHER}
    stock = ends_stock(modules, imports + LAST + text)
    for rank in ends(modules, imports + LAST + text):
        # In which order is a matter of generations, and so of when others
        # have been collected.
        assert sorted(rank) == sorted(stock)


@pytest.mark.parametrize("imports", ["", HELD], ids=["not held", "held"])
@pytest.mark.parametrize(
    "where", ["sys.modules[__name__]", "decimal", "email"]
)
def test_end_is_in_the_order_of_age(ends, ends_stock, imports, where):
    """As far as the program itself has collected."""
    text = (
        imports
        + LAST
        + (
            "del old\n"
            "gc.collect()\n"
            f"{where}.a, {where}.b = Cycle('a'), Cycle('b')\n"
            "gc.collect()\n"
            f"{where}.c, {where}.d = Cycle('c'), Cycle('d')\n"
        )
    )
    stock = ends_stock({}, text)
    assert [line[0] for line in stock] == list("oabcd")
    assert ends({}, text) == [stock] * RANKS


@pytest.mark.parametrize(
    ("options", "aside"), [([], True), (["--no-gc-defer"], False)]
)
def test_last_collection_looks_at_the_rest(ends, options, aside):
    text = LAST + (
        "gc.callbacks.append(lambda phase, info: say(\n"
        "    phase, gc.get_freeze_count(), len(gc.get_objects())))\n"
        "kept = [[] for _ in range(20_000)]\n"
        "gc.collect()\n"
    )
    for rank in ends({}, text, *options):
        start, stop = (line.split() for line in rank[-2:])
        assert (start[0], stop[0]) == ("start", "stop")
        assert int(start[2]) > 25_000
        assert (int(stop[1]) > 25_000) == aside
        assert (int(stop[2]) < 10_000) == aside


@pytest.mark.parametrize(
    ("imports", "options", "aside"),
    [
        (HELD, [], True),
        (HELD, ["--no-gc-defer"], False),
        ("import decimal, unittest.mock\n", [], False),
    ],
)
def test_second_collection_looks_at_the_rest(ends, imports, options, aside):
    """What is at module level ends before the second, or in it, and what
    modules of the interpreter's refer to after it.
    """
    sees = (
        "import gc, os\n"
        "class Sees:\n"
        "    def __init__(self, name):\n"
        "        self.name = os.environ['PMI_RANK'] + ' ' + name\n"
        "    def __del__(self, frozen=gc.get_freeze_count, write=os.write):\n"
        "        write(1, f'{self.name} {frozen()}\\n'.encode())\n"
    )
    text = imports + (
        "import os, sees\n"
        "kept = sees.Sees('before')\n"
        "os.kept = sees.Sees('after')\n"
    )
    for rank in ends({"sees": sees}, text, *options):
        ended = dict(line.split() for line in rank)
        assert (int(ended["before"]) > 5_000) == aside
        assert int(ended["after"]) < 1_000
