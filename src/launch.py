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

# What the launcher's rank number is called before MPI is up.
RANKS = (
    "PMI_RANK",
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PALS_RANKID",
    "SLURM_PROCID",
)


def _first_rank():
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def _fail(message, status):
    if _first_rank():
        sys.stderr.write(f"{NAME}: {message}\n")
    sys.exit(status)


def _parse(argv):
    parser = core._module("options")
    try:
        options = parser.parse(argv, os.environ)
    except parser.UsageError as error:
        launcher = os.path.basename(sys.argv[0] or NAME)
        _fail(f"{error}\nTry '{launcher} --help' for more information.", 2)
    if options.tmpdir:
        options.tmpdir = os.path.abspath(options.tmpdir)
    return options


# ---- the interpreter's own options ------------------------------------------


def _own_words(options):
    """The launcher's options as words, for the interpreter started anew."""
    words = ["-S"] * options.no_site + ["-v"] * options.verbose
    words += ["-d"] * options.direct
    for letter, value in (("-I", options.mpi), ("-T", options.tmpdir)):
        words += [letter, value] if value else []
    if options.timing is not None:
        words.append(
            "--timing" + f"={options.timing}" * (options.timing is not True)
        )
    words += ["--strategy", options.strategy]
    for word, paths in (
        ("--share", options.share),
        ("--local", options.local),
    ):
        words += [word, ":".join(paths)] if paths else []
    return words


def _program_words(options):
    """The program's part of the command line, as python3 would have it."""
    head = {
        "command": ["-c", options.value],
        "module": ["-m", options.value],
        "stdin": ["-"],
        "none": [],
    }.get(options.program, [options.value])
    return [*head, *options.args]


def _restart(options, launcher):
    """Start the interpreter anew, with options that it reads at its start."""
    os.execv(
        sys.executable,
        [
            sys.executable,
            "-S",
            *(word for word in options.python_options if word != "-x"),
            launcher,
            *(word for word in options.python_options if word == "-x"),
            *_own_words(options),
            *_program_words(options),
        ],
    )


# ---- which program ----------------------------------------------------------


def _absolute(path):
    """As CPython makes the name of a script absolute: nothing is resolved."""
    if path.startswith("/"):
        return path
    return os.path.join(os.getcwd(), path)


def _is_zip(data):
    """Is there the end of a zip archive's directory at the file's end?"""
    return b"PK\x05\x06" in data[-(65536 + 22) :]


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
    if "-x" in options.python_options:
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


def _share_plan(job, options):
    """Return root's plan on every rank.  Collective."""
    import marshal

    data = None
    if job.rank == 0:
        try:
            program = _plan(options)
        except Exception as error:  # noqa: BLE001  the others wait for this
            program = {
                "kind": "error",
                "error": f"{type(error).__name__}: {error}",
            }
        data = marshal.dumps(program)
    return marshal.loads(job.bcast(data))


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


def _run_code(source, filename, names):
    code = compile(source, filename, "exec", dont_inherit=True)
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
        core.call_alone(exec, _pyc_code(data), names)
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


def _interrupted():
    """End as python3 does after Ctrl-C: by the signal."""
    import signal

    core.finish()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _end_all(seconds):
    """Abort the job, after a while: launchers drop the output that they have
    not forwarded by then.
    """
    import time

    core.say()
    _flush()
    time.sleep(seconds)
    core.abort(1)


def _crash(job, error):
    """An uncaught exception: one traceback per node, then the end of all."""
    if core.forked():
        core.print_exception(error, _own(error.__traceback__))
        sys.exit(1)
    if job.size == 1:
        core.print_exception(error, _own(error.__traceback__))
        if isinstance(error, KeyboardInterrupt):
            _interrupted()
        sys.exit(1)
    first = core.first_crash()
    if first:
        if sys.stderr is not None:
            sys.stderr.write(
                f"{NAME}: rank {job.rank} of {job.size} "
                f"({os.uname().nodename}): uncaught exception\n"
            )
        core.print_exception(error, _own(error.__traceback__))
    # Elsewhere on the node the first rank prints, and ends us.
    _end_all(0.2 if first else 2)


def _guarded(job, options, program):
    """Run, with the ends that python3 and MPI ask for."""
    try:
        _run(job, options, program)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  like the interpreter's top
        _crash(job, error)


# ---- start and end ----------------------------------------------------------


def _report(ranks, options):
    report = core._module("report")
    merged = report.merge(ranks)
    sys.stderr.write(report.text(merged, options.verbose))
    sys.stderr.flush()
    if options.timing is not True:
        with open(options.timing, "w", encoding="utf-8") as stream:
            stream.write(report.to_json(merged))


def _finish(options):
    """At exit: serve the others to the end, finalise MPI, report."""
    if core.forked():
        return
    _flush()
    try:
        ranks = core.finish()
        if ranks is not None and sys.stderr is not None:
            _report(ranks, options)
    except (OSError, core.MPIError) as error:
        sys.stderr.write(f"{NAME}: {error}\n")


def _start(options):
    """MPI, stores and importer.  Collective.  Returns the job."""
    import atexit

    core.boot()
    try:
        job = core.start(options)
    except (OSError, ValueError, core.MPIError, ImportError) as error:
        # Whether others are there is unknown: everybody says it.
        text = getattr(error, "strerror", None) or error
        sys.stderr.write(f"{NAME}: {text}\n")
        sys.stderr.flush()
        core.abort(1)
    atexit.register(_finish, options)
    core.say()
    core.hook()
    return job


def _site(job):
    """What stock python3 does before it comes to the program."""
    import site  # noqa: F401  under no_site, or it would run at once

    core.set_flag("no_site", 0)
    core.enter(PHASE_SITE)
    try:
        core._module("mpisite").run(job)
    finally:
        core.leave()
    core.count(PHASE_SITE)


def _end_all_after(hook):
    """sys.excepthook for a job: what 'hook' does, and then the end of all."""

    def excepthook(kind, error, traceback):
        hook(kind, error, traceback)
        if not core.forked():
            _end_all(0.2)

    return excepthook


def install():
    """mpiimport.install(): for a script under python -S."""
    options = _parse(["-c", ""])
    job = _start(options)
    if sys.flags.no_site:
        _site(job)
    if job.size > 1:
        sys.excepthook = _end_all_after(sys.excepthook)
    core.boot_done()


def _interpreter_words(options, launcher):
    """The interpreter's options, without the -S that is the launcher's own."""
    words = sys.orig_argv[1:]
    if launcher in words:
        words = words[: words.index(launcher)]
    if "-S" in words:
        words.remove("-S")
    return [*words, *options.python_options, *["-S"] * options.no_site]


def _set_arguments(options, program, launcher):
    first = {"command": "-c", "module": "-m", "stdin": "-", "none": ""}
    sys.argv[:] = [first.get(options.program, options.value), *options.args]
    sys.orig_argv[1:] = [
        *_interpreter_words(options, launcher),
        *_program_words(options),
    ]
    sys.path[:0] = _first_path(options, program)


def main(argv):
    """Run the program that the command line names.  Collective.

    argv  the launcher's own sys.argv
    """
    options = _parse(argv[1:])
    if options.program == "help":
        if _first_rank():
            sys.stdout.write(core._module("options").help_text())
        return
    if options.program == "version":
        os.execv(
            sys.executable, [sys.executable, "-" + "V" * options.version_level]
        )
    if (
        any(word != "-x" for word in options.python_options)
        and not core.EMBEDDED
    ):
        _restart(options, argv[0])
    job = _start(options)
    program = _share_plan(job, options)
    if not options.no_site:
        _site(job)
    if program["kind"] == "error":
        if job.rank == 0:
            sys.stderr.write(f"{sys.orig_argv[0]}: {program['error']}\n")
        core.boot_done()
        sys.exit(2)
    _set_arguments(options, program, argv[0])
    core.boot_done()
    _guarded(job, options, program)
