"""What the pumps do after the last import: nothing, or as good as nothing.

Their wake-ups are counted by the kernel: proc(5), /proc/pid/task/tid/status.
"""

import pytest

PROGRAM = """
import os, time
import json, mpiimport
world = mpiimport.COMM_WORLD


def pump():
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/comm") as file:
            if file.read() == "mpiimport-pump\\n":
                return task


def wake_ups(task):
    with open(f"/proc/self/task/{task}/status") as file:
        return sum(int(line.split()[1]) for line in file
                   if line.startswith("voluntary_ctxt"))


def sent():
    return mpiimport.timings()["bytes_sent"]


def idle_second(task):
    before = wake_ups(task)
    time.sleep(1)
    return wake_ups(task) - before
"""
PACKET = 3968  # bytes of a frame without payload: format.h


def test_one_node_pump_sleeps_for_good(launch, program):
    path = program(
        PROGRAM
        + "world.barrier(); time.sleep(0.3); task = pump()\n"
        + "report(idle_second(task) if task else time.sleep(1))\n"
        + "world.barrier()\n"
        + "if world.rank == 1: import csv; print(csv.__name__)\n"
    )
    result = launch(2, [path])
    assert result.status == 0, str(result)
    assert result.reports == {0: 0, 1: None}, str(result)
    assert result.lines() == ["csv"]


@pytest.mark.parametrize(("ranks", "nodes"), [(3, "each"), (4, "two")])
def test_several_nodes_stream_parks_and_wakes_up(
    launch, program, ranks, nodes
):
    """Twice: a stream that wakes up has to be able to park again."""
    path = program(
        PROGRAM
        + """
task = pump()
found = []
for late in ("csv", "colorsys"):
    world.barrier()
    time.sleep(1.5)  # root parks the stream after a second
    before = sent()
    found.append((idle_second(task) if task else time.sleep(1),
                  sent() - before))
    world.barrier()
    if world.rank == world.size - 1:
        start = time.monotonic()
        __import__(late)
        print(late, time.monotonic() - start < 5)
    world.barrier()
    found.append(sent() - before)
report(found)
"""
    )
    result = launch(ranks, [path], nodes=nodes)
    assert result.status == 0, str(result)
    assert result.lines() == ["colorsys True", "csv True"]
    for rank, (first, late, second, _) in result.reports.items():
        for woken, sent in (first, second):
            leads = nodes == "each" or rank % 2 == 0
            assert (woken is not None) == leads, str(result)
            # Ten, and what a loaded machine may have put off until then.
            assert woken is None or woken <= 20, str(result)
            assert sent == 0, str(result)
        assert rank > 0 or late >= PACKET, str(result)


def test_idle_stream_is_parked_once(launch, program):
    path = program(
        PROGRAM
        + """
world.barrier()
import csv
time.sleep(0.5)
before = sent()
time.sleep(2)
report(sent() - before)
"""
    )
    result = launch(2, [path], nodes="each")
    assert result.status == 0, str(result)
    assert result.reports == {0: PACKET, 1: 0}, str(result)
