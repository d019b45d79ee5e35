"""The example programs: same output and status as with plain Python."""

import re

import pytest

NODES = ("one", "each", "two")
# With one rank there is one node, whatever its size; with two, "two" is
# the same as "each".
ALL = [
    (ranks, nodes)
    for ranks in (1, 2, 3, 5)
    for nodes in NODES
    if not (ranks == 1 and nodes != "one")
    and not (ranks == 2 and nodes == "two")
]
SOME = [(1, "one"), (2, "each"), (3, "one"), (5, "two")]
layouts = pytest.mark.parametrize(("ranks", "nodes"), ALL)
some_layouts = pytest.mark.parametrize(("ranks", "nodes"), SOME)


def check_same(result, expected):
    """Same lines in any order, same status, and a silent stderr."""
    assert result.status == expected.status, str(result)
    assert result.lines() == expected.lines(), f"{result}{expected}"
    if expected.status == 0:
        assert result.stderr == expected.stderr, f"{result}{expected}"


@layouts
def test_hello_any_layout_same_as_stock(launch, stock_job, apps, ranks, nodes):
    args = [apps / "hello.py"]
    result = launch(ranks, args, nodes=nodes)
    check_same(result, stock_job(ranks, args))
    assert len(result.lines()) == ranks, str(result)


@layouts
def test_ring_any_layout_same_as_stock(launch, stock_job, apps, ranks, nodes):
    args = [apps / "ring.py"]
    result = launch(ranks, args, nodes=nodes)
    check_same(result, stock_job(ranks, args))
    assert len(result.lines()) == ranks, str(result)


@some_layouts
def test_spectrum_some_layouts_same_as_stock(
    launch, stock_job, apps, ranks, nodes
):
    args = [apps / "spectrum.py"]
    result = launch(ranks, args, nodes=nodes)
    check_same(result, stock_job(ranks, args))


@pytest.mark.parametrize(
    ("ranks", "nodes"), [(3, "each"), (3, "two"), (5, "each")]
)
def test_spectrum_other_layouts_same_checksum(
    launch, stock_job, apps, ranks, nodes
):
    args = [apps / "spectrum.py"]
    check_same(launch(ranks, args, nodes=nodes), stock_job(1, args))


@pytest.mark.parametrize(
    ("ranks", "nodes"), [(2, "each"), (3, "one"), (5, "two")]
)
def test_diverge_some_layouts_same_as_stock(
    launch, stock_job, apps, ranks, nodes
):
    args = [apps / "diverge.py"]
    result = launch(ranks, args, nodes=nodes)
    check_same(result, stock_job(ranks, args))


@pytest.mark.parametrize(("ranks", "nodes"), [(3, "each")])
def test_diverge_run_twice_same_as_stock(
    launch, stock_job, apps, ranks, nodes
):
    """Run twice: the second time root may know what the first one read."""
    args = [apps / "diverge.py"]
    expected = stock_job(ranks, args)
    cache = launch.runner.scratch / "cache"
    env = {"XDG_CACHE_HOME": cache}
    check_same(launch(ranks, args, nodes=nodes, env=env), expected)
    check_same(launch(ranks, args, nodes=nodes, env=env), expected)


@pytest.mark.parametrize(
    ("ranks", "nodes"), [(1, "one"), (2, "one"), (2, "each"), (3, "two")]
)
def test_bandwidth_some_layouts_same_table(
    launch, stock_job, apps, ranks, nodes
):
    def without_rates(result):
        return re.sub(r"[0-9.]+ MB/s", "* MB/s", result.stdout)

    args = [apps / "bandwidth.py"]
    result = launch(ranks, args, nodes=nodes)
    expected = stock_job(ranks, args)
    assert result.status == expected.status, str(result)
    assert without_rates(result) == without_rates(expected), str(result)
    if ranks == 1:
        assert result.stderr == expected.stderr, str(result)
    else:
        assert len(result.lines()) == 16, str(result)


def test_shebang_with_python_in_path_same_as_stock(launch, stock_job, apps):
    args = [apps / "hello.py"]
    result = launch(2, args, launcher="shebang")
    check_same(result, stock_job(2, args))


def test_without_mpiexec_is_one_rank(launch, apps, stock):
    """The launcher run by hand, with no MPI launcher around it."""
    runner = launch.runner
    words = runner.start_of_rank("python-mpi.py")[1:]
    result = stock([*words, apps / "hello.py"])
    assert result.status == 0, str(result)
    assert result.lines() == ["hello from rank 0 of 1"], str(result)
