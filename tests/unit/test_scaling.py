"""The model of start-up times at scale (tests/bench/model.py, scaling.py)."""

import dataclasses
import json
import math
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BENCH = ROOT / "tests" / "bench"


@pytest.fixture(scope="module", autouse=True)
def modules():
    """Have the benchmark's modules at hand, and only here."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture(scope="module")
def model():
    import model

    return model


@pytest.fixture(scope="module")
def scaling():
    import scaling

    return scaling


@pytest.fixture(scope="module")
def contents():
    return json.loads((BENCH / "scaling.json").read_text(encoding="utf-8"))


@pytest.fixture
def program(model):
    return model.Program(
        cpu=1.0, cpu_ours=2.0, stock=10_000, names=5_000, per_node=800,
        per_rank=200, start=100, first_run=1_700, manifest=3_200,
        reads=0, touched=10**6, size=8 << 20,
    )  # fmt: skip


@pytest.fixture
def filesystem(model):
    """1000 requests a second, an answer in 3 ms."""
    return model.Filesystem(1000.0, 0.002, math.inf, math.inf)


@pytest.fixture
def machine(model):
    """No message takes any time."""
    return model.Machine(4, 4, 1.0, 0.0, math.inf, 0.0, 0.0, 1.0)


def test_residence_alone_is_the_service(model):
    assert model.residence(1, 5.0, 2.0) == 2.0


def test_residence_of_two_is_what_hand_calculation_gives(model):
    # Alone: 1/3 requests/s, 2/3 of the time at the server; so the second
    # finds 2/3 of a request there.
    assert model.residence(2, 1.0, 2.0) == pytest.approx(2 * (1 + 2 / 3))


def test_residence_of_many_is_the_servers_pace(model):
    assert model.residence(10**6, 0.5, 0.001) == pytest.approx(999.5)


def test_asking_alone_adds_up(model, filesystem):
    assert model.asking(100, 4.0, 1, filesystem) == pytest.approx(4.3)
    assert model.asking(0, 4.0, 9, filesystem) == 4.0


def test_reading_is_bound_by_the_server_or_by_the_threads(model, filesystem):
    assert model.reading(1000, filesystem) == pytest.approx(1.0)
    assert model.reading(1000, filesystem, 2) == pytest.approx(1.5)


def test_stock_with_many_ranks_takes_requests_over_rate(
    model, program, filesystem, machine
):
    found = model.stock(program, filesystem, machine, 64)
    assert found == pytest.approx(64 * 10_000 / 1000, rel=1e-3)


def test_stock_with_memory_shares_the_look_ups_of_a_node(
    model, program, filesystem, machine
):
    keeps = dataclasses.replace(filesystem, remembers=True)
    # 64 ranks ask 200 each, 16 nodes 800 each.
    found = model.stock(program, keeps, machine, 64)
    assert found == pytest.approx(25.6, rel=1e-3)
    # One node: its first rank waits for 1000 answers, and works for 1 s.
    assert model.stock(program, keeps, machine, 4) == pytest.approx(4.0)


def test_stock_is_bound_by_bytes_of_ranks_or_of_nodes(
    model, program, filesystem, machine
):
    slow = dataclasses.replace(filesystem, rate=1e9, rtt=0.0, bandwidth=1e6)
    assert model.stock(program, slow, machine, 64) == pytest.approx(64)
    slow = dataclasses.replace(slow, remembers=True)
    assert model.stock(program, slow, machine, 64) == pytest.approx(16)


def test_names_differs_from_stock_by_its_requests(
    model, program, filesystem, machine
):
    found = model.names(program, filesystem, machine, 64)
    assert found == pytest.approx(320, rel=1e-3)


def test_ours_is_start_and_the_longer_of_work_and_reading(
    model, program, filesystem, machine
):
    # 100 answers of 3 ms, then 1600 requests at 1 ms, or 2 s of work.
    assert model.ours(program, filesystem, machine, 64) == pytest.approx(2.3)
    slow = dataclasses.replace(program, cpu_ours=1.0)
    assert model.ours(slow, filesystem, machine, 64) == pytest.approx(1.9)


def test_ours_with_a_manifest_reads_all_from_the_beginning(
    model, program, filesystem, machine
):
    found = model.ours(program, filesystem, machine, 64, manifest=True)
    assert found == pytest.approx(3.2)


def test_ours_does_not_depend_on_ranks_but_for_messages(
    model, program, filesystem, machine
):
    few = model.ours(program, filesystem, machine, 8)
    assert model.ours(program, filesystem, machine, 1 << 20) == few
    slow = dataclasses.replace(machine, latency=0.001)
    # 16 nodes: 14 collectives of 64 ranks in 6 steps, 2 of the leaders in 4, a
    # frame in 2 x 4.
    found = model.ours(program, filesystem, slow, 64)
    assert found == pytest.approx(2.3 + 0.084 + 0.008 + 0.008)


def test_reads_wait_for_their_answers_as_well(
    model, program, filesystem, machine
):
    reader = dataclasses.replace(program, reads=1000, stock=100)
    # 1 s of work, 100 answers of 3 ms, 1000 reads of 2 ms.
    alone = model.Machine(1, 1, 1.0, 0.0, math.inf, 0.0, 0.0, 1.0)
    found = model.stock(reader, filesystem, alone, 1)
    assert found == pytest.approx(3.3)


def test_ours_with_rings_differs_by_the_stream(
    model, program, filesystem, machine
):
    slow = dataclasses.replace(machine, poll=1e-3, ranks_per_node=1 << 16)
    alone = model.ours(program, filesystem, slow, 1 << 16, rings=True)
    assert alone == model.ours(program, filesystem, slow, 1 << 16)
    # 4096 nodes: 12 steps of the scatter, 4095 of the ring.
    many = dataclasses.replace(slow, ranks_per_node=16, cores=16)
    trees = model.ours(program, filesystem, many, 1 << 16)
    found = model.ours(program, filesystem, many, 1 << 16, rings=True)
    assert found - trees == pytest.approx(4.107 - 2.0)


def test_work_grows_with_ranks_beyond_the_cores(machine):
    crowded = dataclasses.replace(machine, cores=2, slower=1.5)
    assert crowded.work(2.0) == pytest.approx(6.0)


def test_depth_is_that_of_a_binomial_tree(model):
    sizes = (1, 2, 3, 4, 5, 16384)
    assert [model.depth(n) for n in sizes] == [0, 1, 2, 2, 3, 14]


def test_stream_is_bytes_and_the_way_of_the_last_frame(model):
    machine = model.Machine(1, 1, 1.0, 0.5, 1e6, 0.5, 9.0, 9.0)
    assert model.stream(3e6, machine, 1) == 0.0
    assert model.stream(3e6, machine, 8) == pytest.approx(3 + 2 * 3)


def test_ring_needs_a_step_per_node_for_every_four_frames(model):
    machine = model.Machine(1, 1, 1.0, 0.25, 1e30, 0.75, 9.0, 2.0)
    # 3 steps of the scatter, each 1 s; 7 of the ring, two looks each.
    once = 3 + 7 * 1.75
    assert model.ring(model.FRAME, machine, 8) == pytest.approx(once)
    size = 9 * model.FRAME
    assert model.ring(size, machine, 8) == pytest.approx(3 * once)


def test_answer_after_a_pause_waits_for_pumps_that_sleep(model):
    machine = model.Machine(64, 64, 1.0, 0.0, math.inf, 1e-4, 0.0, 1.0)
    # 8 nodes, 3 steps: root's nap, one in each step, and the payload's way.
    found = model.answer(machine, 8, 0.04, 1e-6)
    assert found == pytest.approx(4 * 0.01 + 0.0003)
    assert model.answer(machine, 8, 0.0, 0) == pytest.approx(0.0011)
    assert model.answer(machine, 8, 0.9, 0) == pytest.approx(0.4003)
    # Parked: 7 messages wake all of them, at the same time.
    found = model.answer(machine, 8, 1.0, 0.001)
    assert found == pytest.approx(0.2 + 0.007 + 0.0006)


def test_costs_of_a_million_ranks_are_of_the_structures_size(model, machine):
    found = {c.name: c for c in model.costs(machine, 1 << 20, 1e-6)}
    assert found["gather of cards"].root == 16 << 20
    assert found["scatter of places"].root == 24 << 20
    assert found["scatter of places"].each == 24
    assert found["scatter of places"].node == 96
    numbers = found["gather of numbers (--timing)"]
    assert numbers.root == 280 << 20
    assert numbers.each == 280
    listed = found["list of the leaders"]
    assert (listed.each, listed.node) == (0, 1 << 20)
    ask = found["one ask by every node"]
    assert ask.messages == (1 << 18) - 1
    assert ask.seconds == pytest.approx(0.262143)


def test_costs_of_the_start_are_steps_of_trees(model):
    machine = model.Machine(64, 64, 1.0, 0.0, math.inf, 0.0, 0.001, 1.0)
    found = {c.name: c for c in model.costs(machine, 1 << 16, 1e-6)}
    assert found["scatter of signs"].seconds == pytest.approx(0.016)
    assert found["broadcast of the start"].seconds == pytest.approx(0.016)
    assert found["list of the leaders"].seconds == pytest.approx(0.010)


def constant(name, path):
    """Return a constant's value as C says it."""
    source = (ROOT / path).read_text(encoding="utf-8")
    found = re.search(
        rf"#define {name} \(*(?:size_t\))?(\d+)u?(?: << (\d+))?", source
    )
    return int(found[1]) << int(found[2] or 0)


def test_constants_are_those_of_the_source(model):
    assert model.READERS == constant("READERS", "src/job.c")
    assert model.AHEAD == constant("AHEAD", "src/receiver.c")
    assert model.FRAME == constant("MI_FRAME_MAX", "src/format.h")
    assert model.PIECE == constant("PIECE", "libmpi_min/collective.c")
    assert model.PIECE < model.RING_ODD
    assert model.PART == constant("SLEEP_PART", "src/pump.c")
    assert model.IDLE * 1e6 == constant("SLEEP_IDLE", "src/pump.c")
    assert model.PARK * 1e6 == constant("PARK_AFTER", "src/pump.c")


def test_prediction_of_the_runs_that_had_no_part_in_the_fit(
    scaling, contents
):
    from scaling_fit import predict

    checked = [
        run
        for run in contents["runs"]
        if run["role"] == "check" and run["others"] <= scaling.QUIET
    ]
    assert len(checked) >= 10
    errors = []
    for run in checked:
        given = predict(run, contents["programs"], contents["fitted"])
        assert given == pytest.approx(run["wall"], rel=0.3), run
        errors.append(abs(given / run["wall"] - 1))
    assert sum(errors) / len(errors) < 0.15


def test_requests_follow_from_the_servers_busy_time(contents):
    for run in contents["runs"]:
        if run["kind"] == "stock":
            busy = run["requests"] * run["ranks"] * run["meta_us"] * 1e-6
            assert busy == pytest.approx(run["busy"], rel=0.01), run


def test_tables_are_the_documents(scaling, contents):
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for block in scaling.text(contents).split("\n\n"):
        assert block in page, block.splitlines()[0]


def test_line_goes_through_the_first_and_the_last_point(scaling):
    found = scaling.line([[2, 10.0], [5, 99.0], [12, 30.0]])
    assert found == (pytest.approx(6.0), pytest.approx(2.0))


def test_implied_rate_is_requests_over_the_published_time(scaling, program):
    assert scaling.implied(program, False, 100, 10, 50) == 20_000
    # 100 ranks ask 200, 10 nodes 800.
    assert scaling.implied(program, True, 100, 10, 50) == 560
