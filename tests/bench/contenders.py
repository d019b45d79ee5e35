"""What is compared: stock Python and the launchers with their strategies."""

import dataclasses
import os
import pathlib
import subprocess

from jobs import Setting

STOCK = "stock"
LOCAL = "local"
FIRST = "first run"
LAUNCHERS = ("python-mpi", "python-mpi.py")
STRATEGIES = ("stock", "none", "names", "all", "manifest")
# Ours to set, or in the way of the tree that is measured.
DROPPED = (
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "PYTHON_MPI_DIRECT",
    "PYTHON_MPI_LOCAL",
    "PYTHON_MPI_MANIFEST",
    "PYTHON_MPI_STRATEGY",
    "PYTHON_MPI_VERBOSE",
)


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to run the program.

    launcher: None for plain Python; strategy: one of STRATEGIES, or LOCAL
    tree: the directory that its Python lies in
    """

    launcher: str | None
    strategy: str
    tree: pathlib.Path

    @property
    def label(self):
        """How tables call it; a key in the JSON file."""
        if self.launcher is None:
            return self.strategy
        return f"{self.launcher} {self.strategy}"


@dataclasses.dataclass(frozen=True)
class Contest(Setting):
    """The setting of all jobs; their variants are contenders' labels.

    contenders: {label: Contender}; words: the program, as python3 takes it
    manifests: directory of the manifests
    known: the launchers' options about manifests
    prefixes: directories that the environment is read from
    """

    contenders: dict = dataclasses.field(default_factory=dict)
    words: tuple = ()
    manifests: pathlib.Path | None = None
    known: tuple = ()
    prefixes: tuple = ()

    def manifest_of(self, contender, ranks, first):
        """Return the words that choose a manifest."""
        if not self.known:
            return []
        if contender.strategy != "manifest":
            return ["--manifest", "none"]
        name = f"{contender.launcher}-{ranks}"
        words = ["--manifest", str(self.manifests / name)]
        # Else a single rank records nothing.
        return words + list(self.known[1:] if first else ())

    def options(self, label, ranks, report, first=False):
        """Return a launcher's options.

        report: file for its report; first: whether to make the manifest
        """
        contender = self.contenders[label]
        if contender.launcher is None:
            return []
        strategy = contender.strategy
        if strategy == "manifest":
            strategy = "all"
        return [
            "--strategy",
            strategy,
            "--share",
            str(contender.tree),
            f"--timing={report}",
            *self.manifest_of(contender, ranks, first),
        ]

    def start_of_rank(self, label):
        """Return the words before a rank's options."""
        contender = self.contenders[label]
        if contender.launcher is None:
            return [str(contender.tree / "bin" / "python3")]
        return [str(self.bin / contender.launcher)]

    def words_of_program(self, probe):
        """Return the program as python3 takes it."""
        return list(self.words)

    def tree_prefixes(self):
        """Return the directories that are the tree under test."""
        return list(self.prefixes)

    def environment(self, label, added):
        """Return a job's whole environment."""
        contender = self.contenders[label]
        variables = super().environment(label, {})
        for name in DROPPED:
            variables.pop(name, None)
        variables["PATH"] = os.environ.get("PATH", os.defpath)
        binaries = str(contender.tree / "bin")
        if contender.launcher == "python-mpi":
            variables["PYTHON_MPI_PYTHON"] = f"{binaries}/python3"
        elif contender.launcher is not None:
            path = f"{binaries}{os.pathsep}{variables['PATH']}"
            variables["PATH"] = path
        variables["PYTHON_MPI_SHARE"] = str(contender.tree)
        return variables | added


def manifest_options(launcher):
    """Return those of a launcher's options that are about manifests."""
    try:
        done = subprocess.run(
            [launcher, "--help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    known = ("--manifest", "--manifest-build")
    return tuple(word for word in known if word in done.stdout.split())


def contenders(launchers, strategies, tree, local):
    """Return {label: Contender} in the order of a turn.

    local: a tree on this machine's own disk, or None
    """
    found = []
    if local is not None:
        found.append(Contender(None, LOCAL, local))
    if STOCK in strategies:
        found.append(Contender(None, STOCK, tree))
    found += [
        Contender(launcher, strategy, tree)
        for launcher in launchers
        for strategy in strategies
        if strategy != STOCK
    ]
    return {contender.label: contender for contender in found}
