"""Nodes with every MPI at hand: who is where, with whom, with what store.

The work is done by tests/c/test_node_world.c, which forms nodes in several
ways one after the other.
"""

import os
import pathlib
import tempfile

import pytest
from support.installations import built


@pytest.fixture(scope="session")
def node(repo_root):
    """Program to be run by mpiexec."""
    return built(repo_root, "test_node_world")


@pytest.fixture
def places(tmp_path):
    """Two directories for stores, on different filesystems."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        assert os.stat(memory).st_dev != tmp_path.stat().st_dev
        yield pathlib.Path(memory), tmp_path


# Nine ranks: the leaders' tree has three levels.
@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 9])
def test_node_any_layout_is_formed_right(installation, node, places, ranks):
    status, out, err = installation.run(ranks, node, *places)
    assert status == 0, f"{out}\n{err}"
    assert out == f"ok {ranks}\n"
    assert [list(place.iterdir()) for place in places] == [[], []]
