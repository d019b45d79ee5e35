"""The launchers' common main: from the command line to the program and back.

Everything after the interpreter's start is here and in prepare.py, for both
launchers.  Only built-in and frozen modules are imported before the importer
is in place (a test checks sys.modules).
Source: CPython's Modules/main.c (what `python3` does with its arguments).
"""

import os
import sys

import mpiimport as core

NAME = "python-mpi"
OURS = "<mpiimport launch>", "<mpiimport prepare>"


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
    code = core.compile_program(source, filename)
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
    """The traceback without the launcher's own frames at its begin."""
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if name not in OURS and not name.endswith("mpiimport.pyx"):
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
    core.before_end()
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


def _end_all_after(hook):
    """sys.excepthook for a job: what 'hook' does, and then the end of all."""

    def excepthook(kind, error, traceback):
        hook(kind, error, traceback)
        if not core.forked():
            _end_all(0.2)

    return excepthook


def _before():
    """What is done before the program.  Nobody keeps it: see _forget()."""
    return core._module("prepare")


def install():
    """mpiimport.install(): for a script under python -S."""
    options = _before().parse(["-c", ""])
    job = _before().start(options)
    _enter(job, options)
    if sys.flags.no_site:
        _before().site(job)
    _before().serve(job, options, sys.path[:1])
    core._forget("prepare")
    if job.size > 1:
        sys.excepthook = _end_all_after(sys.excepthook)
    core.boot_done()


def _execute(job, options, arguments):
    """From the importer to the end of the program.  Collective.

    Returns the exit status.
    """
    try:
        program = _before().prepare(job, options, arguments)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  the others wait for this
        _crash(job, options, error)
        return 1
    core._forget("prepare")
    core.boot_done()
    if program["kind"] == "error":
        return 2
    return _roomy(_guarded, job, options, program)


def main(argv):
    """python-mpi.py: run the program that the command line names.  Collective.

    argv  the launcher's own sys.argv
    Returns the exit status; exits by SystemExit where the program does.
    """
    options = _before().parse(argv[1:])
    if options.program == "help":
        if core.is_first():
            sys.stdout.write(core.help_text(os.path.basename(argv[0])))
        return 0
    if options.program == "version":
        os.execv(
            sys.executable, [sys.executable, "-" + "V" * options.version_level]
        )
    given = _before().restart(options, argv[0], argv[1:])
    job = _before().start(options)
    _enter(job, options)
    return _execute(job, options, [*given, *options.words])


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
        _before().check_modules()  # while the others start
    _enter(job, options)
    if received is not None:
        startup.restore(received, loaders.STORED)
    core._forget("startup")
    return _execute(job, options, options.words)
