"""A package of a thousand small modules, to be imported by a program.

It stands for an application whose start is many small files: 100 packages of
10 modules, each module about thirty lines that import some of the others.
"""

import pathlib

NAME = "thousand"
PACKAGES = 100
MODULES = 10
PROGRAM = (
    f"from mpi4py import MPI; import {NAME}; "
    f"assert {NAME}.COUNT == {PACKAGES * MODULES}"
)

MODULE = '''\
"""Module {m} of package {p}."""

{imports}

LIMIT = {value}
TABLE = {{"name": "part{p:03}", "number": {m}, "limit": LIMIT}}


def scaled(values, factor=LIMIT):
    """Return the values times a factor."""
    return [value * factor for value in values]


def clipped(value, low=0, high=LIMIT):
    """Return the value within bounds."""
    return max(low, min(value, high))


class Reader:
    """Hands out its values one by one."""

    def __init__(self, values):
        self.values = scaled(values)
        self.place = 0

    def following(self):
        """Return the next value, None behind the last."""
        if self.place >= len(self.values):
            return None
        self.place += 1
        return clipped(self.values[self.place - 1])
'''


def imports_of(p, m):
    """Return the import lines of a module: the one before it in its package,
    and one of an earlier package.
    """
    lines = []
    if m > 0:
        lines.append(f"from . import module{m - 1}")
    if p > 0:
        other = (7 * p + m) % p
        lines.append(f"from ..part{other:03} import module{m}")
    return "\n".join(lines) or "import sys"


def generate(directory, packages=PACKAGES):
    """Write the package into a directory; return its path."""
    top = pathlib.Path(directory, NAME)
    top.mkdir()
    lines = [f'"""{packages} packages."""', f"COUNT = {packages * MODULES}"]
    for p in range(packages):
        package = top / f"part{p:03}"
        package.mkdir()
        text = [f'"""Package {p}."""']
        for m in range(MODULES):
            text.append(f"from . import module{m}")
            module = MODULE.format(
                p=p, m=m, imports=imports_of(p, m), value=p * MODULES + m
            )
            (package / f"module{m}.py").write_text(module)
        (package / "__init__.py").write_text("\n".join(text) + "\n")
        lines.append(f"from . import part{p:03}")
    (top / "__init__.py").write_text("\n".join(lines) + "\n")
    return top
