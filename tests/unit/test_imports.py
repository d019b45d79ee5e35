"""src/imports.c against the module dis: what the standard library imports.

The C program prints the imports of .pyc files.  Here the same is told from
what dis says of the instructions, with everything computed that C has in
tables: their numbers, and where jumps lead to.
"""

import dis
import pathlib
import py_compile
import subprocess
import sys
import sysconfig

import pytest

ENDS = ("RETURN", "RAISE", "RERAISE", "JUMP_BACKWARD", "JUMP_FORWARD")
UNSEEN = ("CACHE", "EXTENDED_ARG", "NOP", "TO_BOOL")
NEWEST = (3, 13)  # that src/imports.c knows

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] > NEWEST, reason="its bytecode is not known"
)


@pytest.fixture(scope="module")
def printed(repo_root):
    """What the C program prints of some files: {path: [line, ...]}."""
    subprocess.run(
        ["make", "-s", "build/tests/test_imports"],
        cwd=repo_root,
        check=True,
        timeout=100,
        stdout=subprocess.DEVNULL,
    )

    def run(paths):
        done = subprocess.run(
            [repo_root / "build/tests/test_imports", *paths],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        found = {}
        for line in done.stdout.splitlines():
            if line.startswith("= "):
                lines = found[line[2:]] = []
            else:
                lines.append(line)
        return found

    return run


def looks_at(past, place, *names):
    """Are these instructions there, from 'place' backwards?"""
    seen = [one.argval for one in past[: place + 1][-len(names) :]]
    return place >= -len(past) and seen == list(names)


def condition(past):
    """True or False of what is known of the condition, or None."""
    if past and past[-1].opname in ("LOAD_NAME", "LOAD_ATTR"):
        return False if past[-1].argval == "TYPE_CHECKING" else None
    if len(past) < 3 or past[-1].opname != "COMPARE_OP":
        return None
    constant = past[-2].argval
    if past[-2].opname != "LOAD_CONST":
        return None
    names = [str(one.argval) for one in past[-4:-2]]
    if names[-1] == "__name__" and past[-3].opname == "LOAD_NAME":
        value = "a module"
    elif past[-3].opname != "LOAD_ATTR":
        return None
    elif names == ["sys", "version_info"] and isinstance(constant, tuple):
        value = sys.version_info
        if len(constant) > 2 and constant[:2] == value[:2]:
            return None
    elif names in (["sys", "platform"], ["os", "name"]):
        value = {"sys": "linux", "os": "posix"}[names[0]]
    else:
        return None
    compare = past[-1].argrepr.removeprefix("bool(").rstrip(")")
    return eval(f"value {compare} constant")


def line_of(past, instruction):
    """The line that the C program is to print for an import."""
    level, names = past[-2].argval, past[-1].argval or ()
    words = [name for name in names if name != "*"]
    return " ".join([f"{level} {instruction.argval}", *words])


def expected(code):
    """What the C program is to print for a module's code."""
    live, landings, past, lines = True, set(), [], []
    jumps = {dis.opname[number] for number in dis.hasjrel}
    for one in dis.get_instructions(code):
        if one.offset in landings:
            live, past = True, []
        if not live or one.opname in UNSEEN:
            continue
        truth = None
        if one.opname == "IMPORT_NAME":
            lines.append(line_of(past, one))
        elif one.opname.startswith("POP_JUMP") and "NONE" not in one.opname:
            truth = condition(past)
            if truth is not None and one.opname.endswith("TRUE"):
                truth = not truth
        if one.opname in jumps and truth is not True:
            landings.add(one.argval)
        live = truth is not False and not one.opname.startswith(ENDS)
        past = [*past[-5:], one]
    return lines


def code_of(path):
    return compile(path.read_bytes(), str(path), "exec", dont_inherit=True)


def test_scan_standard_library_as_dis_says(printed, tmp_path):
    """Compiled here, so that nothing depends on what is cached."""
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    sources = [*library.glob("*.py"), *library.glob("[ac-hj-su-z]*/*.py")]
    compiled = {}
    for number, source in enumerate(sorted(sources)[::3]):
        if "lib2to3" in source.parts or "site-packages" in source.parts:
            continue
        target = tmp_path / f"{number}.pyc"
        py_compile.compile(str(source), str(target), doraise=True)
        compiled[str(target)] = source
    found = printed(compiled)
    imports = 0
    for target, source in compiled.items():
        want = expected(code_of(source))
        imports += len(want)
        assert found[target] == want, source
    assert imports > 500


PROGRAM = """
import sys
import os, a.b as c
from .. import up
if sys.version_info >= (3, 8):
    import modern
else:
    import ancient
if sys.platform == "win32" or os.name == "nt":
    import windows
try:
    import wanted
except ImportError:
    import instead
finally:
    import finally_
with open("x") as stream:
    import within
while os:
    import looped
    if stream:
        break
else:
    import exhausted
def function():
    import inner
class Class:
    import inside
if __name__ == "__main__":
    import main
raise SystemExit
import unreachable
"""


def test_scan_statements_what_can_be_reached(printed, tmp_path):
    """By hand, so that the other test cannot be wrong as C is."""
    source, target = tmp_path / "m.py", tmp_path / "m.pyc"
    source.write_text(PROGRAM)
    py_compile.compile(str(source), str(target), doraise=True)
    names = "sys os a.b .. modern wanted finally_ within looped exhausted"
    lines = [f"0 {name}" for name in names.split()]
    lines[3] = "2  up"
    assert printed([str(target)])[str(target)] == lines


def test_scan_damaged_file_says_so(printed, tmp_path):
    """Cut, and of another version."""
    source, target = tmp_path / "m.py", tmp_path / "m.pyc"
    source.write_text("import a")
    py_compile.compile(str(source), str(target), doraise=True)
    whole = target.read_bytes()
    for data in (whole[:-1], whole[:10], b"\1\1" + whole[2:]):
        target.write_bytes(data)
        (line,) = printed([str(target)])[str(target)]
        assert line.startswith("! ")
