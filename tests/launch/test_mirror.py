"""The mirrors of several jobs of one user in one directory.

Each job removes what is its own, and what a job that was killed has left;
and nothing else.
"""

import os
import shutil
import stat

import pytest
from support import job

RANKS = 3
NODES = "two"

# Waits for a file, between imports of shared objects.
TWO_STEPS = """
import sys
import time
import numpy.linalg


def wait_for(path):
    end = time.monotonic() + 60
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.02)


def tops():
    with open("/proc/self/maps") as lines:
        paths = {line.split(None, 5)[-1].strip() for line in lines}
    return sorted({path.partition("/tree/")[0] for path in paths
                   if "/mpiimport-" in path and "/tree/" in path})


report(tops())
wait_for(sys.argv[1])
import scipy.linalg

matrix = numpy.eye(4) * 2
print(numpy.linalg.det(matrix).round(6), scipy.linalg.inv(matrix).sum())
"""
LINE = "16.0 2.0"
SLEEP = TWO_STEPS.replace("wait_for(sys.argv[1])", "time.sleep(600)")


@pytest.fixture
def store():
    """A directory for the node stores of several jobs."""
    directory = job.make_store()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def signs(tmp_path_factory):
    """A directory of the node's own, for the files that jobs wait for."""
    return tmp_path_factory.mktemp("signs")


def tops_of(started):
    """Wait for all ranks; return the set of their mirrors' directories."""
    found = started.reports(RANKS)
    assert all(len(tops) == 1 for tops in found.values()), str(found)
    return {tops[0] for tops in found.values()}


def contents(tops):
    """Return all names below the directories, with what the files are."""
    found = {}
    for top in tops:
        for name in job.files_below(top):
            status = os.stat(os.path.join(top, name), follow_symlinks=False)
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            found[top, name] = (status.st_ino, size)
    return found


def all_right(result):
    """Every rank printed the result."""
    assert result.status == 0, str(result)
    assert result.lines() == [LINE] * RANKS, str(result)


def leaves(store, names):
    """At last there are these names in the store, and no others."""
    left = job.wait_until_empty(
        lambda: set(job.files_below(store)) ^ set(names)
    )
    assert not left, sorted(left)


def test_two_jobs_at_once_keep_out_of_each_other(start, program, store, signs):
    main = program(TWO_STEPS)

    def begin(name):
        return start(RANKS, [main, signs / name], nodes=NODES, store=store)

    first = begin("first")
    its = tops_of(first)
    before = contents(its)
    assert len(its) == 2 and any(".so" in name for _, name in before)
    second = begin("second")
    others = tops_of(second)
    assert len(others) == 2 and not its & others
    assert contents(its) == before
    before = contents(others)
    (signs / "first").touch()
    all_right(first.finish())
    assert not any(map(os.path.exists, its))
    assert contents(others) == before
    (signs / "second").touch()
    all_right(second.finish())
    leaves(store, [])


def test_killed_job_leaves_what_the_next_one_removes(
    start, program, store, signs
):
    """And only that: not what another one has that still runs."""
    waiting = start(
        RANKS,
        [program(TWO_STEPS, "waiting.py"), signs / "go"],
        nodes=NODES,
        store=store,
    )
    living = contents(tops_of(waiting))
    killed = start(RANKS, [program(SLEEP)], nodes=NODES, store=store)
    abandoned = tops_of(killed)
    assert killed.kill(abandoned) == 2  # one on each node
    left = contents(abandoned)
    assert any(name.endswith(".so") for _, name in left), str(left)
    foreign = f"mpiimport-{os.geteuid() + 1}-0123456789abcdef"
    (store / foreign / "tree").mkdir(parents=True)
    (store / "other").write_text("")
    after = start(
        RANKS, ["-c", "import fractions"], nodes=NODES, store=store
    ).finish()
    assert after.status == 0, str(after)
    assert not any(map(os.path.exists, abandoned))
    assert contents({top for top, _ in living}) == living
    (signs / "go").touch()
    all_right(waiting.finish())
    leaves(store, ["other", foreign, f"{foreign}/tree"])


def test_killed_job_with_its_guard_leaves_nothing(start, program, store):
    """The guard does by itself what the job cannot do any more."""
    killed = start(RANKS, [program(SLEEP)], nodes=NODES, store=store)
    tops = tops_of(killed)
    assert all(map(os.path.isdir, tops))
    killed.clear()
    leaves(store, [])


def test_link_in_place_of_a_mirror_is_not_followed(
    start, program, store, signs
):
    """It has the name of one of this user's, and leads to his files."""
    precious = signs / "precious"
    precious.mkdir()
    (precious / "lock").write_text("")
    (precious / "data").write_text("")
    link = store / f"mpiimport-{os.geteuid()}-0123456789abcdef"
    link.symlink_to(precious)
    (signs / "go").touch()
    args = [program(TWO_STEPS), signs / "go"]
    all_right(start(RANKS, args, nodes=NODES, store=store).finish())
    assert job.files_below(precious) == ["data", "lock"]
    leaves(store, [link.name])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give it away")
def test_directory_of_another_user_is_left_alone(start, program, store, signs):
    """It has the name of one of this user's, and nobody holds its lock."""
    place = store / f"mpiimport-{os.geteuid()}-x"
    (place / "tree").mkdir(parents=True)
    (place / "lock").write_text("")
    (place / "tree" / "data.so").write_text("data")
    names = [place, place / "tree", place / "lock", place / "tree" / "data.so"]
    for name in names:
        os.chown(name, 65534, 65534)
    before = contents([place])
    assert len(before) == 3
    (signs / "go").touch()
    args = [program(TWO_STEPS), signs / "go"]
    all_right(start(RANKS, args, nodes=NODES, store=store).finish())
    assert contents([place]) == before
    assert all(os.stat(name).st_uid == 65534 for name in names)
    leaves(store, [str(name.relative_to(store)) for name in names])
