"""Generate and compile a package of many shared objects that need others.

    python3 generate.py DIR --modules 100 --utilities 40 --needs several

In the manner of LLNL's Pynamic: extension modules of a package, and utility
libraries beside them, that call each other, also in circles:

    DIR/storm/__init__.py       MODULES, the names of the modules
    DIR/storm/mod_000<SUFFIX>   extension modules, each with run() -> int
    DIR/lib/libutil_000.so      utility libraries
    DIR/build/                  their sources

An object needs (DT_NEEDED) those whose functions it calls; a module calls
utilities and other modules, a utility other utilities.  The same options
and seed give the same sources.

run() returns a number that goes through the calls, and through a counter in
each object: where an object is there twice, numbers differ.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import random
import shlex
import subprocess
import sysconfig

SEARCHES = ("absolute", "origin", "rpath-absolute", "needed-paths")
NEEDS = ("several", "all", "utilities")
JOBS = 2  # compilers at a time
UTILITIES_CALLED = 4  # by an object, with "several"
MODULES_CALLED = 2
CALLS_DEPTH = 2  # of a call of run()
WORDS = (32, 96)  # of the table of a function, least and most
FLAGS = ("-O1", "-g0", "-fPIC", "-fvisibility=hidden", "-fno-plt")

HEAD = """\
#include <stdint.h>

#define PUBLIC __attribute__((visibility("default")))

static uint32_t calls;

"""
FUNCTION = """\
static const uint32_t table_{name}[{size}] = {{
{words}
}};

PUBLIC uint32_t {name}(uint32_t x, int depth)
{{
    x = (x ^ {key}u) * 2654435761u;
    x ^= table_{name}[(x >> 7) % {size}] + ++calls;
    x = (x << 13 | x >> 19) + {key}u;
    if (depth > 0) {{
{calls}
    }}
    return x ^ x >> 15;
}}

"""
MODULE = """\
extern void *storm_module(void);
const char storm_name[] __attribute__((visibility("hidden"))) = "{name}";

__attribute__((visibility("hidden"))) int32_t storm_run(void)
{{
    uint32_t x = {key}u;

{calls}
    return (int32_t)(x & 0x7fffffff);
}}

PUBLIC void *PyInit_{name}(void)
{{
    return storm_module();
}}
"""
# All that is Python's, compiled once and linked into every module.
GLUE = """\
#include <Python.h>

extern const char storm_name[];
extern int32_t storm_run(void);

static PyObject *run(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromLong(storm_run());
}

static PyMethodDef methods[] = {
    {"run", run, METH_NOARGS, "Return a number that all calls went into."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, storm_name, NULL, 0, methods,
    NULL, NULL, NULL, NULL,
};

PyObject *storm_module(void);
PyObject *storm_module(void)
{
    return PyModuleDef_Init(&module);
}
"""
PACKAGE = '''\
"""Generated: extension modules that need each other."""

MODULES = (
{names}
)
'''


class CompileError(Exception):
    """The compiler failed; the text is its command and what it said."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is made; seed: of all that is random.

    functions: per object
    needs: "several" objects, or "all", are needed by each; "utilities": as
        "several", and no module needs another
    soname: whether objects have a DT_SONAME
    search: how they are found: by a RUNPATH that is absolute or has $ORIGIN,
        by an absolute RPATH, or by absolute paths in DT_NEEDED, which are
        their sonames as well then
    """

    modules: int = 100
    utilities: int = 40
    functions: int = 40
    seed: int = 1
    needs: str = "several"
    soname: bool = False
    search: str = "absolute"


@dataclasses.dataclass(frozen=True)
class Thing:
    """One shared object: its name, path and the things that it needs."""

    name: str
    path: pathlib.Path
    needed: tuple = ()

    @property
    def is_module(self):
        return self.name.startswith("mod_")

    def functions(self, count):
        """Return the names of its functions."""
        return [f"{self.name}_f{number:03}" for number in range(count)]


# ---- what there is --------------------------------------------------------


def chosen(rng, things, name, count):
    """Return some of the others, the one after 'name' always first.

    So that there is a circle through all of them.
    """
    names = [thing.name for thing in things]
    after = names.index(name) + 1 if name in names else 0
    others = [*things[after:], *things[:after]]
    others = [thing for thing in others if thing.name != name]
    if count >= len(others):
        return others
    rest = rng.sample(others[1:], max(count - 1, 0))
    return others[: min(count, 1)] + rest


def objects_of(directory, options):
    """Return (utilities, modules) as lists of Things."""
    rng = random.Random(options.seed)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    utilities = [
        Thing(f"util_{n:03}", directory / "lib" / f"libutil_{n:03}.so")
        for n in range(options.utilities)
    ]
    modules = [
        Thing(f"mod_{n:03}", directory / "storm" / f"mod_{n:03}{suffix}")
        for n in range(options.modules)
    ]
    counts = {
        "several": (UTILITIES_CALLED, MODULES_CALLED),
        "all": (len(utilities), len(modules)),
        "utilities": (UTILITIES_CALLED, 0),
    }[options.needs]

    def needed(thing):
        found = chosen(rng, utilities, thing.name, counts[0])
        if thing.is_module:
            found = found + chosen(rng, modules, thing.name, counts[1])
        return dataclasses.replace(thing, needed=tuple(found))

    return [needed(one) for one in utilities], [needed(o) for o in modules]


# ---- sources --------------------------------------------------------------


def function_text(rng, name, callees):
    """Return the source of one function, which calls two of 'callees'."""
    size = rng.randint(*WORDS)
    words = [f"{rng.getrandbits(32)}u," for _ in range(size)]
    lines = [" ".join(words[at : at + 6]) for at in range(0, size, 6)]
    calls = [
        f"        x += {callee}(x, depth - 1);"
        for callee in rng.sample(callees, min(2, len(callees)))
    ]
    return FUNCTION.format(
        name=name,
        size=size,
        words="\n".join(f"    {line}" for line in lines),
        key=rng.getrandbits(32),
        calls="\n".join(calls) or "        x++;",
    )


def object_text(thing, options):
    """Return the source of one object.

    Its first functions call each of the objects that it needs.
    """
    rng = random.Random(f"{options.seed} {thing.name}")
    count = options.functions
    foreign = [rng.choice(one.functions(count)) for one in thing.needed]
    declared = "".join(
        f"extern uint32_t {name}(uint32_t x, int depth);\n" for name in foreign
    )
    own = thing.functions(count)
    parts = [HEAD, declared, "\n"]
    parts += [function_text(rng, name, foreign) for name in own]
    if thing.is_module:
        calls = [
            f"    x = {name}(x, {CALLS_DEPTH});" for name in own + foreign
        ]
        parts.append(
            MODULE.format(
                name=thing.name,
                key=rng.getrandbits(32),
                calls="\n".join(calls),
            )
        )
    return "".join(parts)


def package_text(modules):
    """Return the source of the package."""
    names = "\n".join(f'    "{one.name}",' for one in modules)
    return PACKAGE.format(names=names)


# ---- compiling ------------------------------------------------------------


def run_compiler(words):
    """Run the C compiler.  Raises CompileError."""
    command = [*shlex.split(os.environ.get("CC") or "gcc"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise CompileError(f"$ {shlex.join(command)}\n{done.stderr}")


def search_words(directory, options):
    """Return the linker's options that say where objects are found."""
    if options.search == "needed-paths":
        return []
    top = "$ORIGIN/.." if options.search == "origin" else directory
    words = [f"-Wl,-rpath,{top}/lib:{top}/storm"]
    kind = "disable" if options.search == "rpath-absolute" else "enable"
    return [*words, f"-Wl,--{kind}-new-dtags"]


def name_words(thing, options):
    """Return the linker's options for the object's own name."""
    if not options.soname:
        return []
    by_path = options.search == "needed-paths"
    return [f"-Wl,-soname,{thing.path if by_path else thing.path.name}"]


def needed_words(thing, options):
    """Return the linker's options for what the object needs.

    An object without DT_SONAME is needed by the name that it is given here.
    """
    if not thing.needed:
        return []
    if options.search == "needed-paths":
        names = [str(one.path) for one in thing.needed]
    else:
        places = dict.fromkeys(one.path.parent for one in thing.needed)
        names = [f"-L{place}" for place in places]
        names += [f"-l:{one.path.name}" for one in thing.needed]
    return ["-Wl,--no-as-needed", *names]


def link(thing, inputs, needed, options):
    """Link one object, and put it in place whole: others read it."""
    made = thing.path.with_name(f".{thing.path.name}.new")
    run_compiler(
        ["-shared", "-o", made, *name_words(thing, options), *inputs, *needed]
    )
    os.replace(made, thing.path)


def for_all(function, things):
    """Call a function on each of the things, several at a time."""
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for _ in pool.map(function, things):
            pass


def generate(directory, options=None):
    """Make all below 'directory', an absolute path; return its path.

    Raises CompileError.
    """
    options = options or Options()
    directory = pathlib.Path(directory)
    build = directory / "build"
    for place in (build, directory / "lib", directory / "storm"):
        place.mkdir(parents=True, exist_ok=True)
    utilities, modules = objects_of(directory, options)
    things = [*utilities, *modules]
    (directory / "storm/__init__.py").write_text(package_text(modules))
    (build / "glue.c").write_text(GLUE)
    glue = build / "glue.o"
    include = f"-I{sysconfig.get_path('include')}"
    run_compiler([*FLAGS, include, "-c", build / "glue.c", "-o", glue])
    (build / "empty.c").write_text("")
    empty = build / "empty.o"
    run_compiler(["-c", build / "empty.c", "-o", empty])

    def stub(thing):
        """They need each other in circles: first a name for each."""
        link(thing, ["-nostdlib", empty], [], options)

    def make(thing):
        source = build / f"{thing.name}.c"
        source.write_text(object_text(thing, options))
        inputs = [*FLAGS, *search_words(directory, options), source]
        if thing.is_module:
            inputs.append(glue)
        link(thing, inputs, needed_words(thing, options), options)

    for_all(stub, things)
    for_all(make, things)
    return directory


def parse_options():
    """Return (directory, Options) of the command line."""
    parser = argparse.ArgumentParser(
        description="Generate shared objects that need each other."
    )
    add = parser.add_argument
    add("directory", type=pathlib.Path)
    add("--modules", type=int, default=Options.modules, metavar="N")
    add("--utilities", type=int, default=Options.utilities, metavar="M")
    add(
        "--functions",
        type=int,
        default=Options.functions,
        metavar="K",
        help=f"per object ({Options.functions})",
    )
    add("--seed", type=int, default=Options.seed)
    add("--needs", choices=NEEDS, default=Options.needs)
    add(
        "--soname",
        action=argparse.BooleanOptionalAction,
        default=Options.soname,
        help="whether objects have a DT_SONAME (no)",
    )
    add("--search", choices=SEARCHES, default=Options.search)
    found = vars(parser.parse_args())
    directory = found.pop("directory").absolute()
    if min(found["modules"], found["utilities"], found["functions"]) < 1:
        parser.error("--modules, --utilities and --functions take 1 or more")
    return directory, Options(**found)


if __name__ == "__main__":
    generate(*parse_options())
