"""Where the environment under test is: found, copied, or behind slowfs."""

import subprocess
import sys

from emulation import Emulation, NotEmulated
from jobs import say
from prefix import (
    NoEnvironment,
    copy_environment,
    inquire,
    is_free,
    is_whole,
    packages_of,
)
from thousand import NAME, generate


class Place:
    """Where the environment under test is.

    tree: the directory that jobs use; local: the same on the local disk, or
    None; emulation: the slow filesystem, or None; notes: what to tell
    """

    def __init__(self, options, scratch):
        self.options = options
        self.scratch = scratch
        self.local = None
        self.emulation = None
        self.notes = []
        self.ours = False
        self.tree = self._find()
        self.python = self.tree / "bin" / "python3"

    def _copy(self, python, target):
        say(f"environment of {python} to {target}")
        copy_environment(python, target)
        self.ours = True
        return target

    def _find(self):
        """Return the directory of the environment, made if need be."""
        tree = self.options.tree
        if tree is None:
            return self._copy(sys.executable, self.scratch / "tree")
        if is_whole(tree):
            return tree
        if (tree / "bin" / "python3").exists():
            if self.options.emulate is None:
                self.notes.append(
                    f"{tree} is a virtual environment: its standard library "
                    "is read where its Python is installed"
                )
                return tree
            return self._copy(tree / "bin/python3", self.scratch / "tree")
        if not is_free(tree):
            raise NoEnvironment(f"{tree}: neither empty nor with bin/python3")
        self.notes.append(f"{tree} was made, and is kept")
        return self._copy(sys.executable, tree)

    def add_thousand(self):
        """Put the package of --program thousand into the tree."""
        whole = is_whole(self.tree)
        if whole and (packages_of(self.tree) / NAME).exists():
            return
        if not self.ours:
            raise NoEnvironment(
                f"--program {NAME} writes into the environment, and "
                f"{self.tree} is not ours: give an empty --tree, or none"
            )
        top = generate(packages_of(self.tree))
        try:
            subprocess.run(
                [self.python, "-I", "-m", "compileall", "-q", top],
                stdin=subprocess.DEVNULL,
                timeout=300,
                check=True,
            )
        except subprocess.SubprocessError as error:
            raise NoEnvironment(f"{top}: {error}") from error

    def emulate(self):
        """Mount the slow filesystem, or note why not."""
        mount = self.scratch / "mount"
        mount.mkdir()
        try:
            self.emulation = Emulation(self.tree, mount, self.options.emulate)
        except NotEmulated as why:
            self.notes.append(f"measured without emulation: {why}")
            say(self.notes[-1])
            return
        self.local, self.tree = self.tree, mount

    def prefixes(self):
        """Return the directories that the environment is read from."""
        return tuple({str(self.tree), inquire(self.python)["base"]})

    def end(self):
        """Unmount."""
        if self.emulation is not None:
            self.emulation.end()
