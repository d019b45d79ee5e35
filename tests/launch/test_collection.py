"""Garbage collection waits for the end of imports, and is as it was then."""

import json

import pytest

RANKS = 2

ALLOCATE = "KEPT = [[] for _ in range(20_000)]\n"

# In a module: what happens while it is executed, in SEEN.
WATCH = """
import gc
import sys
SEEN = []
gc.callbacks.append(lambda phase, info: SEEN.append(phase))
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


def test_import_collects_nothing_until_its_end(reports):
    modules = {
        "watched": WATCH + "import inner\nSTARTED = list(SEEN)\n",
        "inner": ALLOCATE,
    }
    body = (
        "import watched\n"
        "more = [[] for _ in range(2000)]\n"
        "report = [watched.STARTED, 'start' in watched.SEEN]\n"
    )
    assert reports(modules, body) == [[[], True]] * RANKS


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
        + "MEANWHILE = SEEN.count('start')\n"
    }
    body = "import endless\nreport = [1 <= endless.MEANWHILE <= 4]\n"
    assert reports(modules, body) == [[True]] * RANKS


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
