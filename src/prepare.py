"""What a launcher does before the program: its command line, MPI and stores,
site, and the plan of the program.  Forgotten when the program begins, so that
it takes no memory of the ranks.

Only built-in and frozen modules are imported before the importer is in place
(a test checks sys.modules).
"""

import os
import sys

import mpiimport as core

NAME = core._module("launch").NAME
PHASE_SITE = 6


def _fail(message, status):
    if core.is_first():
        sys.stderr.write(f"{NAME}: {message}\n")
    sys.exit(status)


def parse(words):
    """Return the options of a command line, or end with what is wrong."""
    try:
        return core.parse(words)
    except core.UsageError as error:
        launcher = os.path.basename(sys.argv[0] or NAME)
        _fail(f"{error}\nTry '{launcher} --help' for more information.", 2)


# ---- the interpreter's own options ------------------------------------------


def _given(options, launcher):
    """The interpreter's options from before the launcher's name, without the
    -S that is the launcher's own, and whether the user's are among them.
    """
    words = sys.orig_argv[1:]
    words = words[: words.index(launcher)] if launcher in words else []
    if "-S" in words:
        words.remove("-S")
    count = len(options.python)
    applied = words[len(words) - count :] == options.python
    return words[: len(words) - count] if applied else words, applied


def restart(options, launcher, arguments):
    """Start the interpreter anew if there are options for its start.

    -S and -x are none: the launcher is under -S, and its first line is a
    comment.
    Returns the options that the interpreter was given before the launcher.
    """
    given, applied = _given(options, launcher)
    if applied or all(set(word) <= set("-Sx") for word in options.python):
        return given
    os.execv(
        sys.executable,
        [sys.executable, "-S", *options.python, launcher, *arguments],
    )


# ---- which program ----------------------------------------------------------


def _absolute(path):
    """As CPython makes the name of a script absolute: nothing is resolved."""
    if path.startswith("/"):
        return path
    return os.path.join(os.getcwd(), path)


def _is_zip(data):
    """Is there the end of a zip archive's directory at the file's end?

    Source: PKWARE's APPNOTE.TXT, section 4.3.16.
    """
    start = max(0, len(data) - 65536 - 22)
    while (start := data.find(b"PK\x05\x06", start)) >= 0:
        comment = int.from_bytes(data[start + 20 : start + 22], "little")
        if start + 22 + comment == len(data):
            return True
        start += 1
    return False


def _read_script(options, program):
    """Root: how to run a script, as items of 'program'."""
    path = _absolute(options.value)
    program["path"] = path
    try:
        if os.path.isdir(path):
            program["kind"] = "package"
            return
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        program["kind"] = "error"
        program["error"] = (
            f"can't open file {path!r}: [Errno {error.errno}] {error.strerror}"
        )
        return
    if _is_zip(data):
        program["kind"] = "package"
        return
    if options.skip_first:
        data = b"\n" + data.partition(b"\n")[2]
    program["kind"] = "script"
    program["data"] = data
    program["directory"] = os.path.dirname(os.path.realpath(options.value))


def _plan(options):
    """Root: everything about the program that takes a look at the filesystem
    or at standard input, as a dict for marshal.
    """
    program = {"kind": options.program}
    if options.program == "script":
        _read_script(options, program)
    elif options.program in ("stdin", "none"):
        if sys.stdin is not None and sys.stdin.isatty():
            program["kind"] = "interactive"
        else:
            program["kind"] = "stdin"
            program["data"] = (
                sys.stdin.buffer.read() if sys.stdin is not None else b""
            )
    return program


def _try_plan(options):
    """_plan(), whose errors are a plan, too."""
    try:
        return _plan(options)
    except Exception as error:  # noqa: BLE001  others may wait for this
        return {"kind": "error", "error": f"{type(error).__name__}: {error}"}


def _share_plan(job, options):
    """Return root's plan on every rank, and whether this rank is to speak of
    it.  A rank that was given another program (MPMD: mpiexec a : b) makes its
    own.  Collective.
    """
    import marshal

    named = [options.program, options.value, options.skip_first]
    data = None
    if job.rank == 0:
        data = marshal.dumps([named, _try_plan(options)])
    roots, program = marshal.loads(job.bcast(data))
    if roots != named:
        return _try_plan(options), True
    return program, job.rank == 0


def _first_path(options, program):
    """What python3 puts in front of sys.path: a list of one or none."""
    kind = program["kind"]
    if kind == "package":
        return [program["path"]]
    if sys.flags.safe_path:
        return []
    if kind == "script":
        return [program["directory"]]
    if kind == "module":
        return [os.getcwd()]
    return [""]


# ---- start, site, and what is served ----------------------------------------


def start(options):
    """MPI and stores.  Collective.  Returns the job."""
    core.boot()
    try:
        return core.start(options)
    except (OSError, ValueError, core.MPIError, ImportError) as error:
        # Whether others are there is unknown: everybody says it.
        text = getattr(error, "strerror", None) or error
        sys.stderr.write(f"{NAME}: {text}\n")
        sys.stderr.flush()
        core.abort(1)


def site(job):
    """What stock python3 does before it comes to the program."""
    import site  # noqa: F401  under no_site, or it would run at once

    core.set_flag("no_site", 0)
    core.enter(PHASE_SITE)
    try:
        core._module("mpisite").run(job)
        core._forget("mpisite")
    finally:
        core.leave()
    core.count(PHASE_SITE)


def _serve_data(job, options, first):
    """Have the program read installed packages' data through the store.

    first  its own directories on sys.path
    """
    if options.data != "packages" or not job.shares_data:
        return
    if job.source:
        core._module("serve").announce()
        core._forget("data")
    else:
        core._module("serve").install(job, first)
    core._forget("serve")


def _known():
    """What no import looks for any more, for core.foresee()."""
    import _imp

    names = set(sys.builtin_module_names)
    frozen = set(filter(_imp.is_frozen, _imp._frozen_module_names()))
    for name in frozen:
        if _imp.is_frozen_package(name):
            names.add(f"{name}.")
    # Two more names for what importlib begins with.
    frozen.update(("importlib._bootstrap", "importlib._bootstrap_external"))
    for name in frozen:
        stem = f"{sys._stdlib_dir}/{name.replace('.', '/')}"
        names.update((name, f"{stem}.py", f"{stem}/__init__.py"))
    for name, module in list(sys.modules.items()):
        attributes = getattr(module, "__dict__", {})
        names.update((name, attributes.get("__file__")))
        if "__path__" in attributes:
            names.update([f"{name}.", *[f"{name}.{a}" for a in attributes]])
    return [name for name in names if isinstance(name, str)]


def _foresee(job, first):
    """Root: read ahead from here on, now that sys.path is what it is.

    first  the program's own directories on it
    """
    if job.source and job.size > 1 and job.strategy == "all":
        core.foresee(_known(), first)


def serve(job, options, first):
    """Have the program's files and imports come through the store.

    first  its own directories on sys.path
    """
    _serve_data(job, options, first)
    _foresee(job, first)


def prepare(job, options, arguments):
    """From the importer to the program.  Collective.

    arguments  what sys.orig_argv is to have after the interpreter
    Returns the plan of the program.
    """
    program, speaks = _share_plan(job, options)
    first = {"command": "-c", "module": "-m", "stdin": "-", "none": ""}
    sys.argv[:] = [first.get(options.program, options.value), *options.args]
    sys.orig_argv[1:] = arguments
    if not options.no_site:
        site(job)
    if program["kind"] != "error":
        first = _first_path(options, program)
        sys.path[:0] = first
        core.own(first)
        serve(job, options, first)
    elif speaks and sys.stderr is not None:
        sys.stderr.write(f"{sys.orig_argv[0]}: {program['error']}\n")
    return program


def check_modules():
    """Rank 0: does the standard library fit the interpreter in this launcher?
    What one build has built in is another's extension module.
    """
    from _frozen_importlib_external import PathFinder

    if "math" in sys.builtin_module_names or PathFinder.find_spec("math"):
        return
    sys.stderr.write(
        f"{NAME}: {sys.executable} is of another build of Python than this "
        f"launcher ({sys.version.split()[0]}): its standard library has no "
        "module math; build a launcher for it by 'make PYTHON=...'\n"
    )
    sys.stderr.flush()
    core.abort(1)
