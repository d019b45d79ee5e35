"""The launchers' common main: from the command line to the program and back.

Everything after the interpreter's start is here, for both launchers.  Only
built-in and frozen modules are imported before the importer is in place (a
test checks sys.modules).
Source: CPython's Modules/main.c (what `python3` does with its arguments).
"""

import os
import sys

import mpiimport as core

NAME = "python-mpi"
PHASE_SITE = 6


def _fail(message, status):
    if core.is_first():
        sys.stderr.write(f"{NAME}: {message}\n")
    sys.exit(status)


def _parse(words):
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


def _restart(options, launcher, arguments):
    """Start the interpreter anew if there are options for its start.

    -S and -x are none: the launcher is under -S, and its first line is a
    comment.
    """
    _, applied = _given(options, launcher)
    if applied or all(set(word) <= set("-Sx") for word in options.python):
        return
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


# ---- running it -------------------------------------------------------------


def _fresh_main(loader, path=None):
    """Make __main__ what python3 makes it.  Returns its namespace."""
    import builtins

    module = sys.modules["__main__"]
    names = module.__dict__
    names.clear()
    names.update(
        __name__="__main__",
        __doc__=None,
        __package__=None,
        __loader__=loader,
        __spec__=None,
        __builtins__=builtins,
    )
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    if path is not None:
        names.update(__file__=path, __cached__=None)
    return names


def _keep_source(code, source):
    """Have tracebacks show the lines of -c, as python3 does from 3.13 on."""
    if sys.version_info < (3, 13):
        return
    import linecache

    key = code if hasattr(linecache, "_code_key") else code.co_filename
    linecache._register_code(key, source, code.co_filename)


def _run_code(source, filename, names):
    code = compile(source, filename, "exec", dont_inherit=True)
    if isinstance(source, str):
        _keep_source(code, source)
    core.foresee_program(code)
    core.call_alone(exec, code, names)


def _pyc_code(data):
    """The code of a .pyc that is run as a script."""
    import marshal
    from _frozen_importlib_external import MAGIC_NUMBER

    if data[:4] != MAGIC_NUMBER:
        raise RuntimeError("Bad magic number in .pyc file")
    return marshal.loads(data[16:])


def _run_script(program):
    from _frozen_importlib_external import (
        SourceFileLoader,
        SourcelessFileLoader,
    )

    path, data = program["path"], program["data"]
    if path.endswith(".pyc"):
        names = _fresh_main(SourcelessFileLoader("__main__", path), path)
        code = _pyc_code(data)
        core.foresee_program(code)
        core.call_alone(exec, code, names)
    else:
        names = _fresh_main(SourceFileLoader("__main__", path), path)
        _run_code(data, path, names)


def _run_module(name, alter_argv):
    import runpy
    from _frozen_importlib import BuiltinImporter

    _fresh_main(BuiltinImporter)
    core.call_alone(runpy._run_module_as_main, name, alter_argv)


def _run_interactive(job):
    if job.size > 1:
        sys.exit(
            f"{NAME}: no program: an interactive session needs a single rank"
        )
    import code
    from _frozen_importlib import BuiltinImporter

    code.interact(local=_fresh_main(BuiltinImporter), exitmsg="")


def _run(job, options, program):
    """Run the program in __main__, as python3 would."""
    from _frozen_importlib import BuiltinImporter

    kind = program["kind"]
    if kind == "script":
        _run_script(program)
    elif kind == "package":
        _run_module("__main__", False)
    elif kind == "module":
        _run_module(options.value, True)
    elif kind == "command":
        _run_code(options.value, "<string>", _fresh_main(BuiltinImporter))
    elif kind == "stdin":
        _run_code(
            program["data"], "<stdin>", _fresh_main(BuiltinImporter, "<stdin>")
        )
    else:
        _run_interactive(job)


def _flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # closed, or not there: nothing to lose


def _own(traceback):
    """The traceback without the frames of this module at its begin."""
    ours = _own.__code__.co_filename
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if name != ours and not name.endswith("mpiimport.pyx"):
            break
        traceback = traceback.tb_next
    return traceback


def _end_all(seconds):
    """Abort the job, after a while: launchers drop the output that they have
    not forwarded by then.
    """
    import time

    core.say()
    _flush()
    time.sleep(seconds)
    core.abort(1)


def _show(job, error):
    """Print the header and the traceback, in one piece: other nodes may print
    theirs at the same time, and some versions write word by word.  A hook of
    the program's own, which may end the process, writes as it likes.
    """
    import io

    stream = sys.stderr
    header = (
        f"{NAME}: rank {job.rank} of {job.size} "
        f"({os.uname().nodename}): uncaught exception\n"
    )
    if stream is None or sys.excepthook is not sys.__excepthook__:
        if stream is not None:
            stream.write(header)
        core.print_exception(error, _own(error.__traceback__))
        return
    sys.stderr = text = io.StringIO(header)
    text.seek(0, io.SEEK_END)
    try:
        core.print_exception(error, _own(error.__traceback__))
    finally:
        sys.stderr = stream
        stream.write(text.getvalue())


def _crash(job, options, error):
    """An uncaught exception: one traceback per node, then the end of all.

    Returns where there is nobody else to end.
    """
    if core.forked():
        core.print_exception(error, _own(error.__traceback__))
        return
    if job.size == 1:
        core.print_exception(error, _own(error.__traceback__))
        options.interrupted = isinstance(error, KeyboardInterrupt)
        return
    first = core.first_crash()
    if first:
        _show(job, error)
    # Elsewhere on the node the first rank prints, and ends us.
    _end_all(0.2 if first else 2)


def _guarded(job, options, program):
    """Run, with the ends that python3 and MPI ask for.  Returns the status."""
    try:
        _run(job, options, program)
    except SystemExit as error:
        if not sys.flags.inspect:
            raise
        core.print_exception(error, _own(error.__traceback__))
        return 1
    except BaseException as error:  # noqa: BLE001  like the interpreter's top
        _crash(job, options, error)
        return 1
    return 0


def _roomy(function, *args):
    """Call function(*args) with much of the interpreter's stack in one piece.

    It grows by chunks of 16 KiB, and a call that crosses the end of one maps
    and unmaps the next each time: thousands of times in a start-up that
    happens to be at that depth.  A frame that seems to need 264 KB gets a
    chunk of the next power of two, whose rest is for the program.
    """
    return function(*args)


_roomy.__code__ = _roomy.__code__.replace(co_stacksize=33_000)


# ---- start and end ----------------------------------------------------------


def _report(ranks, options):
    report = core._module("report")
    merged = report.merge(ranks, *core.refused(), core.manifest())
    sys.stderr.write(report.text(merged, options.verbose))
    sys.stderr.flush()
    if options.timing is not True:
        with open(options.timing, "w", encoding="utf-8") as stream:
            stream.write(report.to_json(merged))


def _finish(options):
    """At exit: serve the others to the end, finalise MPI, report.  After an
    interrupt end by the signal, as python3 does.
    """
    if core.forked():
        return
    _flush()
    try:
        ranks = core.finish()
        if ranks is not None and sys.stderr is not None:
            _report(ranks, options)
    except (OSError, core.MPIError) as error:
        sys.stderr.write(f"{NAME}: {error}\n")
    if options.interrupted:
        import signal

        _flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _enter(job, options):
    """Put the importer into place for a job that is up."""
    import atexit

    atexit.register(_finish, options)
    core.say()
    core.hook()


def _start(options):
    """MPI, stores and importer.  Collective.  Returns the job."""
    core.boot()
    try:
        job = core.start(options)
    except (OSError, ValueError, core.MPIError, ImportError) as error:
        # Whether others are there is unknown: everybody says it.
        text = getattr(error, "strerror", None) or error
        sys.stderr.write(f"{NAME}: {text}\n")
        sys.stderr.flush()
        core.abort(1)
    _enter(job, options)
    return job


def _site(job):
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
    data = core._module("data")
    if job.source:
        data.announce()
        core._forget("data")
    else:
        data.install(job, first)


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


def _end_all_after(hook):
    """sys.excepthook for a job: what 'hook' does, and then the end of all."""

    def excepthook(kind, error, traceback):
        hook(kind, error, traceback)
        if not core.forked():
            _end_all(0.2)

    return excepthook


def install():
    """mpiimport.install(): for a script under python -S."""
    job = _start(_parse(["-c", ""]))
    if sys.flags.no_site:
        _site(job)
    _serve_data(job, job.options, sys.path[:1])
    _foresee(job, sys.path[:1])
    if job.size > 1:
        sys.excepthook = _end_all_after(sys.excepthook)
    core.boot_done()


def _prepare(job, options, arguments):
    """From the importer to the program.  Collective.

    arguments  what sys.orig_argv is to have after the interpreter
    Returns the plan of the program.
    """
    program, speaks = _share_plan(job, options)
    first = {"command": "-c", "module": "-m", "stdin": "-", "none": ""}
    sys.argv[:] = [first.get(options.program, options.value), *options.args]
    sys.orig_argv[1:] = arguments
    if not options.no_site:
        _site(job)
    if program["kind"] != "error":
        first = _first_path(options, program)
        sys.path[:0] = first
        core.own(first)
        _serve_data(job, options, first)
        _foresee(job, first)
    elif speaks and sys.stderr is not None:
        sys.stderr.write(f"{sys.orig_argv[0]}: {program['error']}\n")
    return program


def _execute(job, options, arguments):
    """From the importer to the end of the program.  Collective.

    Returns the exit status.
    """
    try:
        program = _prepare(job, options, arguments)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  the others wait for this
        _crash(job, options, error)
        return 1
    core.boot_done()
    if program["kind"] == "error":
        return 2
    return _roomy(_guarded, job, options, program)


def main(argv):
    """python-mpi.py: run the program that the command line names.  Collective.

    argv  the launcher's own sys.argv
    Returns the exit status; exits by SystemExit where the program does.
    """
    options = _parse(argv[1:])
    if options.program == "help":
        if core.is_first():
            sys.stdout.write(core.help_text(os.path.basename(argv[0])))
        return 0
    if options.program == "version":
        os.execv(
            sys.executable, [sys.executable, "-" + "V" * options.version_level]
        )
    _restart(options, argv[0], argv[1:])
    job = _start(options)
    given, _ = _given(options, argv[0])
    return _execute(job, options, [*given, *options.words])


def _check_modules():
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


def run_native(job, options, received):
    """bin/python-mpi: as main(), in an interpreter that was started with the
    program's own command line, and with MPI and stores before.  Collective.

    received  what startup.restore() takes, or None on rank 0
    """
    startup = core._module("startup")
    loaders = core._module("loaders")
    if job.rank == 0:
        if job.size > 1 and not job.direct:
            job.bcast(startup.pack(loaders.STOCK[:2]))
        _check_modules()  # while the others start
    _enter(job, options)
    if received is not None:
        startup.restore(received, loaders.STORED)
    core._forget("startup")
    return _execute(job, options, options.words)
