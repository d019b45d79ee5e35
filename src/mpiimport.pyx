# cython: language_level=3, binding=False, embedsignature=False
"""mpiimport: the import system of all ranks of an MPI job, fed by rank 0.

Programs need nothing of this: `mpiexec -n N python-mpi.py app.py` sets it up.
By hand, as the first lines of a script that is started by `python -S`:

    import mpiimport
    mpiimport.install()
"""

cimport cython
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject
from libc.stdlib cimport calloc, free, getenv, malloc
from libc.string cimport memcpy, memset

from core cimport *

import sys
from _frozen_importlib import ModuleSpec
from _io import open as _io_open
from _frozen_importlib_external import (
    MAGIC_NUMBER,
    FileFinder,
    cache_from_source,
)

import marshal
import posix

cdef extern from "Python.h":
    PyObject *PyImport_GetModuleDict()  # borrowed
    enum: PyBUF_READ
    enum: PY_MINOR_VERSION
    enum: Py_file_input
    enum: PyCF_IGNORE_COOKIE
    enum: PyCF_SOURCE_IS_UTF8
    ctypedef struct PyCompilerFlags:
        int cf_flags
        int cf_feature_version
    object Py_CompileStringObject(const char *, object, int,
                                  PyCompilerFlags *, int)
    void PyErr_PrintEx(int)
    void PyErr_Restore(PyObject *, PyObject *, PyObject *)
    void PyStructSequence_SetItem(object, Py_ssize_t, object)
    void Py_INCREF(object)
    bytes PyUnicode_EncodeFSDefault(object)
    object PyUnicode_DecodeFSDefault(const char *)
    object PyUnicode_DecodeFSDefaultAndSize(const char *, Py_ssize_t)
    unsigned long PyThread_get_thread_ident()

cdef extern from "standin.h":
    object mi_standin_make(object genuine, object first, object module)

cdef extern from "intern.h":
    void mi_intern_code(object code)

cdef extern from "alive.h":
    bint mi_alive_can_mark()
    int mi_alive_freeze(object freeze, object modules) except -1
    int mi_alive_sort(object modules)
    enum: MI_ALIVE_WITH_NAMES, MI_ALIVE_WITH_MODULES

cdef extern from "limits.h":
    enum: PATH_MAX

__version__ = "0.1.0"

__all__ = [
    "COMM_WORLD",
    "MPIError",
    "disjoint",
    "install",
    "mirror",
    "open",
    "resume",
    "stop",
    "timings",
]

PHASES = ("FIND", "IO", "COMM", "LOAD", "LOADFile", "LOADDirect", "SITE",
          "BOOT", "ALL")


class MPIError(RuntimeError):
    """A call of MPI has failed.  args: the message, MPI's error class."""

    def __str__(self):
        return str(self.args[0]) if self.args else ""


cdef int check(int rc, mi_error *err) except -1:
    """Raise what 'err' says if rc is -1, and return rc otherwise."""
    if rc != -1:
        return rc
    text = err.text.decode("utf-8", "replace")
    if err.domain == MI_ERRNO:
        raise OSError(err.code, text)
    if err.domain == MI_MPI:
        raise MPIError(text, err.code)
    raise ImportError(text)


# ---- modules of the extension -----------------------------------------------


def _module(name):
    """Return the embedded Python module 'name', executed at its first use."""
    full = "mpiimport." + name
    module = sys.modules.get(full)
    if module is not None:
        return module
    cdef const mi_embedded *entry = mi_embedded_table
    wanted = name.encode()
    while entry.name != NULL:
        if entry.name == wanted:
            break
        entry += 1
    if entry.name == NULL:
        raise ModuleNotFoundError(f"no module {full}", name=full)
    code = marshal.loads(PyMemoryView_FromMemory(
        <char *>entry.code, <Py_ssize_t>entry.size, PyBUF_READ))
    module = type(sys)(full)
    exec(code, module.__dict__)
    # Not before: other threads may look for it.
    return sys.modules.setdefault(full, module)


def _forget(name):
    """The embedded module 'name' is not needed any more: free its memory."""
    module = sys.modules.pop("mpiimport." + name, None)
    if module is not None:
        module.__dict__.clear()  # or its functions keep each other


# ---- the command line -------------------------------------------------------


class UsageError(Exception):
    """A command line or a variable that cannot be used; str() says why."""


cdef list words_of(char **words):
    found = []
    while words != NULL and words[0] != NULL:
        found.append(_fsdecode(words[0]))
        words += 1
    return found


cdef object text_of(const char *text):
    return None if text == NULL else _fsdecode(text)


_PROGRAMS = {
    MI_PROGRAM_NONE: "none",
    MI_PROGRAM_SCRIPT: "script",
    MI_PROGRAM_COMMAND: "command",
    MI_PROGRAM_MODULE: "module",
    MI_PROGRAM_STDIN: "stdin",
    MI_PROGRAM_HELP: "help",
    MI_PROGRAM_VERSION: "version",
}
STRATEGIES = ("none", "names", "all")
DATA = ("none", "packages")


cdef class Options:
    """The launcher's command line and variables (src/options.h), decoded.

    timing is None (off), True (report as text) or the name of a JSON file.
    """

    cdef mi_options c
    cdef readonly list words, python, args, share, local
    cdef readonly object program, value, mpi, timing, strategy, data
    cdef readonly int verbose, version_level
    cdef readonly bint direct, no_site, skip_first, gc_defer
    cdef public bint interrupted  # the program ended by KeyboardInterrupt

    def __dealloc__(self):
        mi_options_clear(&self.c)

    cdef int decode(self) except -1:
        cdef mi_options *c = &self.c
        self.words = words_of(c.words)
        self.python = words_of(c.python)
        self.no_site = c.no_site
        self.skip_first = c.skip_first
        self.program = _PROGRAMS[c.program]
        self.value = text_of(c.value)
        self.args = words_of(c.args)
        self.mpi = text_of(c.mpi)
        self.verbose = c.verbose
        self.direct = c.direct
        self.gc_defer = c.gc_defer
        self.timing = (text_of(c.timing_file) or True) if c.timing else None
        self.strategy = STRATEGIES[c.strategy]
        self.data = DATA[c.data]
        self.share = words_of(c.share)
        self.local = words_of(c.local)
        self.version_level = c.version_level
        return 0


def parse(words):
    """Return the Options of a launcher's command line.  Local.

    words: list of str, everything after the launcher's own name.  Variables
    are looked for in the environment.  Raises UsageError.
    """
    cdef Options options = Options()
    cdef mi_error err
    cdef int rc
    cdef list encoded = [_fsencode(word) for word in words]
    cdef char **argv = <char **>calloc(len(encoded) + 1, sizeof(char *))
    if argv == NULL:
        raise MemoryError
    for i, word in enumerate(encoded):
        argv[i] = word
    rc = mi_options_parse(&options.c, argv, getenv, &err)
    free(argv)
    if rc != 0:
        raise UsageError(err.text.decode("utf-8", "surrogateescape"))
    options.decode()
    return options


def help_text(name):
    """Return the text of --help for the launcher 'name'."""
    cdef char *text = mi_options_help(_fsencode(name))
    if text == NULL:
        raise MemoryError
    try:
        return _fsdecode(text)
    finally:
        free(text)


def is_first():
    """Is this rank 0 (or no job at all) by the variables of MPI's launcher?

    For messages before MPI is up.  Local.
    """
    return bool(mpimin_promise_first(getenv))


# ---- the job ----------------------------------------------------------------

cdef class Job:
    """This process's part in the job.  Made once, by start(); never freed.

    direct      every import goes straight to the filesystem (-d)
    strategy    "none", "names" or "all"
    """

    cdef mi_job *job
    cdef readonly object strategy
    cdef readonly Options options
    cdef public bint stopped
    cdef readonly bint finished
    cdef object away      # thread -> depth of "with disjoint"
    cdef object modules   # [[name, phase, seconds], ...] for -v, or None

    def __cinit__(self, Options options):
        self.job = NULL  # filled in by start()
        self.options = options
        self.strategy = "none" if options.direct else options.strategy
        self.away = {}
        self.modules = [] if options.verbose else None

    @property
    def rank(self):
        return mi_job_rank(self.job)

    @property
    def size(self):
        return mi_job_size(self.job)

    @property
    def direct(self):
        return bool(mi_job_direct(self.job))

    @property
    def source(self):
        return bool(mi_job_source(self.job))

    @property
    def shares_data(self):
        """Is there a store with what files hold, for more than one rank?"""
        return (self.strategy == "all" and mi_job_size(self.job) > 1
                and bool(mi_job_stored(self.job)))

    cdef bint is_direct(self):
        """Do imports of this thread go straight to the filesystem now?"""
        return (self.stopped or not mi_job_stored(self.job)
                or (self.away and _get_ident() in self.away))

    def is_shared(self, path):
        """Does the absolute 'path' lie on the shared tree?  Longest prefix."""
        cdef bytes text = _fsencode(path)
        return bool(mi_job_shared(self.job, text))

    def is_named(self, path):
        """Has the user said by --share that 'path' is shared?"""
        cdef bytes text = _fsencode(path)
        return bool(mi_job_named(self.job, text))

    cdef const mi_record *ask(self, mi_query query, path, extra) except? NULL:
        """The answer to a question, or NULL if this rank has to read itself.

        Releases the GIL only when the answer is not in the store.
        """
        cdef const mi_record *record = NULL
        cdef mi_error err
        cdef int rc
        key = _fsencode(path)
        cdef const char *key_text = key
        record = mi_job_find(self.job, query, key_text)
        if record != NULL and not (record.kind == MI_KIND_ABSENT
                                   and record.code == MI_CODE_PENDING):
            mi_job_used(self.job, record)
            return record
        more = _fsencode(extra(path)) if extra is not None else b""
        cdef const char *more_text = more
        mi_error_clear(&err)
        with nogil:
            rc = mi_job_ask(self.job, query, key_text, more_text, &record,
                            &err)
        check(rc, &err)
        if rc == 0:
            self.say()
            return NULL
        return record

    cdef int say(self) except -1:
        """Show what the C core has to say."""
        cdef char text[6000]
        while mi_job_notice(self.job, text, sizeof(text)):
            line = text.decode("utf-8", "replace")
            # Not through mpisite's listener: site does not say that.
            stream = getattr(sys.stderr, "mpiimport_beneath", sys.stderr)
            if stream is not None:
                stream.write(f"mpiimport: rank {self.rank} "
                             f"({posix.uname().nodename}): {line}\n")
                stream.flush()
        return 0

    def bcast(self, data, root=0):
        """Return root's bytes on every rank.  Collective."""
        cdef mi_error err
        cdef bytes content = bytes(data) if self.rank == root else b""
        cdef uint64_t size = len(content)
        cdef void *place = NULL
        cdef int rc, source = root
        if self.rank == root:
            place = malloc(size + 1)
            if place == NULL:
                raise MemoryError
            memcpy(place, <const char *>content, size)
        with nogil:
            rc = mi_job_bcast_blob(self.job, &place, &size, source, &err)
        try:
            check(rc, &err)
            return (<char *>place)[:size]
        finally:
            free(place)

    def barrier(self):
        """Wait for all ranks.  Collective."""
        cdef mi_error err
        cdef int rc
        with nogil:
            rc = mi_job_barrier(self.job, &err)
        check(rc, &err)


_job = None  # the Job, once there is one

_get_ident = None  # _thread.get_ident, without importing it twice


cdef bytes _fsencode(path):
    return PyUnicode_EncodeFSDefault(path)


def decode(bytes path):
    """As os.fsdecode()."""
    return PyUnicode_DecodeFSDefaultAndSize(path, len(path))


cdef object _fsdecode(const char *path):
    return PyUnicode_DecodeFSDefault(path)


cdef Job make_job(Options options):
    """The process's Job, not started."""
    global _job, _get_ident
    if _job is not None:
        raise RuntimeError("mpiimport is installed already")
    from _thread import get_ident

    _get_ident = get_ident
    _job = Job(options)
    return _job


def start(Options options):
    """Initialise MPI and the node stores.  Collective; once per process.

    Source: docs/design.md.
    """
    cdef mi_config config
    cdef mi_error err
    cdef int rc
    cdef bytes magic = MAGIC_NUMBER
    cdef bytes python = _fsencode(sys.executable or "")
    cdef const char *python_text = python
    from _imp import check_hash_based_pycs

    cdef Job job = make_job(options)
    mi_error_clear(&err)
    rc = mi_config_make(&config, &options.c, python_text, getenv, &err)
    memcpy(config.job.rule.magic, <const char *>magic, 4)
    config.job.rule.check_hash = ord(check_hash_based_pycs[0])
    config.job.optimize = sys.flags.optimize
    if rc == 0:
        rc = mi_config_identify(&config, &options.c, python_text, getenv, &err)
    if rc == 0:
        with nogil:
            rc = mi_job_start(&job.job, &config.job, &err)
    mi_config_clear(&config)
    check(rc, &err)
    return job


cdef public object mpiimport_run(mi_job *started, mi_options *options,
                                 object received):
    """The native launcher's rank, whose job is up, from here to its end.

    options   taken over
    received  the rest of what rank 0 has sent to start Python (startup.h):
              bytes, or None
    Returns the exit status.
    """
    cdef Options own = Options()
    memcpy(&own.c, options, sizeof(mi_options))
    memset(options, 0, sizeof(mi_options))
    own.decode()
    cdef Job job = make_job(own)
    job.job = started
    return _module("launch").run_native(job, own, received)


# ---- leaf calls for loaders.py ----------------------------------------------

PENDING = "pending"  # root has to compile (and this is root)
SOURCE = "source"    # everybody compiles for himself


def enter(int phase):
    """Begin a phase of the clock in this thread."""
    mi_clock_enter(<mi_phase>phase)


def begin(int phase):
    """Begin a phase in which a module is executed; loaded() or failed() ends
    it.  Returns the time, for loaded().
    """
    if _collector is not None:
        postpone_collection()
    mi_clock_enter(<mi_phase>phase)
    return mi_clock_now()


def failed():
    """End the phase of a module that could not be executed."""
    mi_clock_leave()
    if _collector is not None:
        resume_collection()


def switch(int phase):
    """Change this thread's phase."""
    mi_clock_switch(<mi_phase>phase)


def leave():
    """End this thread's phase."""
    mi_clock_leave()


def loaded(int phase, name, uint64_t since):
    """End the phase and count one module."""
    mi_clock_leave()
    mi_clock_count(<mi_phase>phase)
    modules = (<Job>_job).modules
    if modules is not None:
        modules.append([name, PHASES[phase], (mi_clock_now() - since) / 1e9])
    if _collector is not None:
        resume_collection()


# ---- garbage collection -----------------------------------------------------
#
# What imports allocate stays: to look for garbage in it again and again costs
# up to a tenth of the start-up.  While the main thread executes modules, it is
# looked at once, in parts that the processor's cache holds.  There are
# thresholds all the same, because a program may run inside of an import.
# Afterwards what is there belongs to the oldest generation, as it would in the
# end.

POSTPONED = 10_000, 100  # thresholds of the two younger generations

_collector = None          # the module gc, if collections are put off
_get_threshold = None      # its functions
_set_threshold = None
cdef object _freeze = None
cdef object _unfreeze = None
cdef object _frozen = None     # not by the program: sizes of the permanent one
cdef object _threshold = None  # what the program's threshold is meanwhile
cdef object _count = None      # gc.get_count() before
cdef int _aside = -1           # until when what is alive has been frozen
cdef object _cleared_first = None
cdef int _executing = 0        # modules that the main thread executes now
cdef unsigned long _main_thread = 0


cdef int postpone_collection() except -1:
    global _executing, _threshold, _count
    if PyThread_get_thread_ident() != _main_thread:
        return 0
    _executing += 1
    if _executing == 1:
        threshold = _get_threshold()
        if 0 < threshold[0] < POSTPONED[0]:
            _set_threshold(*POSTPONED)
            _threshold = threshold
            _count = _collector.get_count()
    return 0


cdef int resume_collection() except -1:
    global _executing
    if PyThread_get_thread_ident() == _main_thread:
        _executing -= 1
        if _executing == 0 and _threshold is not None:
            count = _collector.get_count()
            if count[0] - _count[0] > _threshold[0] or count[1:] != _count[1:]:
                make_old()
            restore_threshold()
    return 0


cdef int make_old() except -1:
    """Move all objects to the oldest generation."""
    if _collector.get_freeze_count() in _frozen:
        if _collector.isenabled():
            _collector.collect(0)
        mi_alive_freeze(_freeze, <object>PyImport_GetModuleDict())
        _unfreeze()
    return 0


cdef int restore_threshold() except -1:
    global _threshold
    if _threshold is not None:
        _set_threshold(*_threshold)
        _threshold = None
    return 0


def _before_threshold(*args, **kwargs):
    """Somebody looks at the threshold, or sets it: it is the program's."""
    restore_threshold()
    return NotImplemented


def _put_off_collections():
    global _collector, _get_threshold, _set_threshold, _frozen, _main_thread
    global _freeze, _unfreeze
    import gc
    _main_thread = PyThread_get_thread_ident()
    _get_threshold = gc.get_threshold
    _set_threshold = gc.set_threshold
    _freeze, _unfreeze = gc.freeze, gc.unfreeze
    gc.get_threshold = stand_in(_get_threshold, _before_threshold, "gc")
    gc.set_threshold = stand_in(_set_threshold, _before_threshold, "gc")
    _collector = gc
    _frozen = 0, gc.get_freeze_count()  # 3.12 begins with some


@cython.no_gc
cdef class _Thaw:
    """To be put where the interpreter lets go of it when what is frozen can
    be garbage.
    """
    cdef object unfreeze

    def __init__(self):
        self.unfreeze = _unfreeze

    def __dealloc__(self):
        self.unfreeze()


@cython.final
cdef class _Spare:
    """For gc.callbacks, at the interpreter's end: its collections of all
    objects need not look for garbage among what is alive.

    May be called when modules have been cleared.
    """
    cdef object callbacks, freeze, unfreeze, get_debug, get_freeze_count
    cdef object is_finalizing, module_type
    cdef dict modules

    def __init__(self):
        self.callbacks = _collector.callbacks
        self.freeze = _freeze
        self.unfreeze = _unfreeze
        self.get_debug = _collector.get_debug
        self.get_freeze_count = _collector.get_freeze_count
        self.is_finalizing = sys.is_finalizing
        self.module_type = type(sys)
        self.modules = <dict>PyImport_GetModuleDict()
        self.callbacks.append(self)

    def __call__(self, phase, info):
        global _aside
        if not self.is_finalizing() or info["generation"] != 2:
            return
        if phase == "start":
            if not self.get_debug() and self.get_freeze_count() in _frozen:
                mi_alive_freeze(self.freeze, self.modules)
                _aside = mi_alive_sort(self.modules)
                if _aside < 0:
                    self.unfreeze()
        elif _aside >= 0:
            self.callbacks.remove(self)
            if _aside == MI_ALIVE_WITH_MODULES:
                self.thaw_with_modules()
            else:
                self.unfreeze()
            _aside = -1

    cdef int thaw_with_modules(self) except -1:
        """The interpreter clears modules that it has not made garbage, the
        newest first.
        """
        global _cleared_first
        _cleared_first = self.module_type("mpiimport._thaw")
        _cleared_first._thaw = _Thaw()
        self.modules["mpiimport._thaw"] = _cleared_first
        return 0


def before_end():
    """The program has ended, and the interpreter will."""
    if _collector is not None and mi_alive_can_mark():
        _Spare()


cdef object payload(const mi_record *record):
    """The payload as a memoryview.  The store is mapped for good."""
    return PyMemoryView_FromMemory(<char *>mi_record_payload(record),
                                   <Py_ssize_t>record.size, PyBUF_READ)


cdef object contents(Job job, mi_query query, path, extra, int *code):
    """What a file holds, for a rank that is alone: bytes, or None and why."""
    cdef mi_answer answer
    cdef mi_error err
    cdef bytes key = _fsencode(path)
    cdef bytes more = _fsencode(extra(path)) if extra is not None else b""
    cdef const char *key_text = key
    cdef const char *more_text = more
    cdef int rc
    mi_error_clear(&err)
    with nogil:
        rc = mi_job_read(job.job, query, key_text, more_text, &answer, &err)
    check(rc, &err)
    code[0] = 0
    if rc == 0:
        return None
    try:
        code[0] = answer.entry.code
        if answer.entry.kind != MI_KIND_FILE:
            return None
        return (<char *>answer.data)[:answer.entry.size]
    finally:
        mi_answer_clear(&answer)


cdef bint is_served(Job job, path):
    """Is the store to be asked about 'path', by this thread, now?"""
    return (job is not None and not job.is_direct() and path.startswith("/")
            and job.is_shared(path))


cdef const mi_record *served(path, mi_query query,
                             mi_kind kind) except? NULL:
    """The store's answer about 'path', or NULL: look for yourself.

    OSError if the answer is that it cannot be had.
    """
    cdef Job job = _job
    cdef const mi_record *record
    if not is_served(job, path):
        return NULL
    record = job.ask(query, path, None)
    if record == NULL or is_elsewhere(job, record, path):
        return NULL
    if record.code == MI_READ_REFUSED:
        return NULL
    if record.kind != kind:
        raise OSError(record.code, posix.strerror(record.code), path)
    avoid(job, path.count("/") if query == MI_REAL else 1)
    return record


cdef bint is_elsewhere(Job job, const mi_record *record, path):
    """Is it the listing of a node's own memory filesystem?"""
    return record.flags & MI_FLAG_LOCAL and not job.is_named(path)


cdef int avoid(Job job, unsigned operations) except -1:
    if not mi_job_source(job.job):
        mi_job_avoid(job.job, operations)
    return 0


def bytecode(path):
    """Valid bytecode of the source file 'path', as a .pyc's bytes.

    Returns a memoryview or bytes; PENDING or SOURCE when there is none; None
    when this rank has to look for itself.
    """
    cdef Job job = _job
    cdef const mi_record *record
    cdef int code
    if job.is_direct():
        return None
    if mi_job_size(job.job) == 1:
        data = contents(job, MI_CODE, path, _cached_path, &code)
        return PENDING if code == MI_CODE_PENDING else data
    record = job.ask(MI_CODE, path, _cached_path)
    if record == NULL:
        return None
    avoid(job, 2)
    if record.kind == MI_KIND_FILE:
        return payload(record)
    if record.code == MI_CODE_PENDING:
        return PENDING if mi_job_source(job.job) else SOURCE
    if record.code == MI_CODE_SOURCE:
        return SOURCE
    return None


def publish_bytecode(path, data, mtime, size):
    """Root: let the others have this .pyc (bytes; None: compile it).

    mtime: of the source, in nanoseconds
    """
    cdef Job job = _job
    cdef mi_entry entry
    cdef mi_error err
    cdef bytes key = _fsencode(path)
    cdef bytes body = data if data is not None else b""
    cdef int rc
    entry = mi_entry(query=MI_CODE, key=<const char *>key, key_size=len(key),
                     kind=MI_KIND_FILE if data is not None
                     else MI_KIND_ABSENT,
                     code=0 if data is not None else MI_CODE_SOURCE,
                     payload=<const char *>body, size=len(body),
                     mtime=mtime, file_size=size, mode=0)
    with nogil:
        rc = mi_job_publish(job.job, &entry, &err)
    check(rc, &err)


def read(path):
    """Bytes of the file 'path', through the store if it is shared.

    None when this rank has to read for itself.  Raises OSError as open(2).
    """
    cdef Job job = _job
    cdef const mi_record *record
    cdef int code
    if not is_served(job, path) or job.strategy != "all":
        return None
    if mi_job_size(job.job) == 1:
        data = contents(job, MI_READ, path, None, &code)
        if code and code != MI_READ_REFUSED:
            raise OSError(code, posix.strerror(code), path)
        return data
    record = served(path, MI_READ, MI_KIND_FILE)
    return None if record == NULL else bytes(payload(record))


def listdir(path):
    """Names in directory 'path': list of str.  None and OSError as read()."""
    cdef const mi_record *record = served(path, MI_LIST, MI_KIND_LIST)
    if record == NULL:
        return None
    return [name for name, _, _ in entries_of(record)]


cdef list entries_of(const mi_record *record):
    """[(name, type, is it a symbolic link), ...], as the directory has it."""
    cdef const char *name = NULL
    cdef char kind
    cdef int link
    found = []
    while True:
        name = mi_entries_next(record, name, &kind, &link)
        if name == NULL:
            return found
        found.append((_fsdecode(name), chr(kind), bool(link)))


def status(path):
    """Members of the stat_result of 'path' (members_of()).  None and OSError
    as read().
    """
    cdef const mi_record *record = served(path, MI_STAT, MI_KIND_STAT)
    return None if record == NULL else members_of(record)


cdef object members_of(const mi_record *record):
    """The members of a stat_result, with times in nanoseconds."""
    cdef const char *target
    cdef const mi_status *more = mi_record_status(record, &target)
    if more == NULL:
        return None
    return (record.mode, record.inode, record.device, more.nlink, more.uid,
            more.gid, record.file_size, more.atime, record.mtime, more.ctime,
            more.blksize, more.blocks, more.rdev)


def realpath(path):
    """The path without symbolic links.  None and OSError as read()."""
    cdef const mi_record *record = served(path, MI_REAL, MI_KIND_STAT)
    if record == NULL:
        return None
    return _fsdecode(<const char *>mi_record_payload(record))


# ---- files that a program reads ---------------------------------------------
#
# Each returns None when this rank has to look for itself, and an errno value
# if the answer is that it cannot be had.

cdef const mi_record *answer(mi_query query, path) except? NULL:
    """The store's answer about 'path', if that is one to rely on."""
    cdef Job job = _job
    cdef const mi_record *record
    if (not is_served(job, path) or job.strategy != "all"
            or mi_job_size(job.job) == 1 or not mi_job_open(job.job)):
        return NULL
    record = job.ask(query, path, None)
    if record == NULL or is_elsewhere(job, record, path):
        return NULL
    if record.kind == MI_KIND_ABSENT:
        # Not what only rank 0 lacks (memory, descriptors), and not what may
        # be there by now.
        if _invalidated or record.code not in _FINAL:
            return NULL
    avoid(job, 1)
    return record


_FINAL = (1, 2, 13, 20, 21, 36, 40)  # EPERM ENOENT EACCES ENOTDIR EISDIR
#                                      ENAMETOOLONG ELOOP


def file_status(path, bint follow):
    """What members_of() returns of 'path'."""
    cdef const mi_record *record = answer(MI_LSTAT, path)
    if record != NULL and follow and (record.mode & 0o170000) == 0o120000:
        record = answer(MI_STAT, path)
    if record == NULL:
        return None
    if record.kind == MI_KIND_ABSENT:
        return record.code
    return members_of(record)


def file_target(path):
    """Where a symbolic link leads to; EINVAL if it is none."""
    cdef const char *target
    cdef const mi_record *record = answer(MI_LSTAT, path)
    if record == NULL:
        return None
    if record.kind == MI_KIND_ABSENT:
        return record.code
    mi_record_status(record, &target)
    return _fsdecode(target) if target != NULL else 22


def file_entries(path):
    """[(name, "f", "d" or "o", is it a symbolic link), ...] of a directory."""
    cdef const mi_record *record = answer(MI_LIST, path)
    if record == NULL:
        return None
    if record.kind == MI_KIND_ABSENT:
        return record.code
    return entries_of(record)


def file_real(path):
    """The path without symbolic links."""
    cdef const mi_record *record = answer(MI_REAL, path)
    if record == NULL:
        return None
    if record.kind == MI_KIND_ABSENT:
        return record.code
    return _fsdecode(<const char *>mi_record_payload(record))


def file_copy(path):
    """Path of the node's own copy of a regular file."""
    cdef const mi_record *record
    cdef char place[PATH_MAX]
    if "/../" in path:
        path = file_real(path)
        if not isinstance(path, str):
            return path
    record = answer(MI_COPY, path)
    if record == NULL:
        (<Job>_job).say() if _job is not None else None
        return None
    if record.kind == MI_KIND_ABSENT:
        return record.code
    if not mi_job_mirrored((<Job>_job).job, record, place):
        return None
    return _fsdecode(place)


def stand_in(genuine, first, module):
    """A built-in function that asks first(), then 'genuine' (standin.h)."""
    return mi_standin_make(genuine, first, module)


def opener(place):
    """An opener for open(): the file 'place' instead of the one it is given,
    or that if there is none; an OSError is raised.
    """
    def opens(path, flags):
        if isinstance(place, int):
            raise OSError(place, posix.strerror(place), path)
        try:
            return posix.open(place, flags)
        except OSError:
            pass
        return posix.open(path, flags)

    return opens


def prefetch(query, path):
    """Root: have 'path' read ahead ("list", "stat", "read" or "real")."""
    cdef Job job = _job
    cdef mi_error err
    cdef mi_query which = {"list": MI_LIST, "stat": MI_STAT,
                           "read": MI_READ, "real": MI_REAL}[query]
    cdef bytes key = _fsencode(path)
    if path.startswith("/") and job.is_shared(path):
        check(mi_job_prefetch(job.job, which, key, b"", &err), &err)


def intern(code):
    """Keep once what a new code object has in common with others."""
    mi_intern_code(code)


# ---- read-ahead from bytecode (ahead.h) -------------------------------------

cdef list _followed = None  # sys.path as the C core knows it, or not at all


cdef char **array_of(list texts) except NULL:
    """A list of bytes for the C core: free() it; the bytes are borrowed."""
    cdef char **array = <char **>calloc(len(texts) + 1, sizeof(char *))
    if array == NULL:
        raise MemoryError
    for i, text in enumerate(texts):
        array[i] = text
    return array


cdef str entry_path(str entry):
    """The directory of an entry of sys.path as finders see it, absolute."""
    if entry.startswith("/"):
        return entry
    if entry and entry != ".":
        return posix.getcwd() + "/" + entry
    return posix.getcwd()


cdef list encoded_path(entries):
    """Entries of sys.path that are for finders, absolute and encoded."""
    return [_fsencode(entry_path(entry)) for entry in entries
            if isinstance(entry, str)]


def foresee(known, own):
    """Root: from now on read ahead what the modules that are read import.

    known, own: lists of str as in struct mi_ahead_rules.
    """
    global _followed
    cdef Job job = _job
    cdef mi_ahead_rules rules
    cdef mi_error err
    cdef int rc
    cached = cache_from_source("/d/m.py")
    if not cached.startswith("/d/__pycache__/m"):
        return  # PYTHONPYCACHEPREFIX
    cdef bytes ending = _fsencode(cached[len("/d/__pycache__/m"):])
    cdef list names = [name.encode(sys.getfilesystemencoding(), "replace")
                       for name in known]
    cdef list path = encoded_path(sys.path)
    cdef list first = encoded_path(own)
    cdef char **known_array = array_of(names)
    cdef char **suffix_array = array_of(_suffix_bytes)
    cdef char **path_array = array_of(path)
    cdef char **own_array = array_of(first)
    rules.own = own_array
    rules.cached = ending
    rules.suffixes = suffix_array
    rules.known = known_array
    rc = mi_job_foresee(job.job, &rules, path_array, &err)
    free(known_array)
    free(suffix_array)
    free(path_array)
    free(own_array)
    check(rc, &err)
    _followed = list(sys.path)


cdef int follow_path(Job job) except -1:
    """Tell the C core if sys.path has changed."""
    global _followed
    cdef mi_error err
    cdef list path
    cdef char **array
    cdef int rc
    if _followed is None or _followed == sys.path:
        return 0
    path = encoded_path(sys.path)
    array = array_of(path)
    rc = mi_job_path(job.job, array, &err)
    free(array)
    check(rc, &err)
    _followed = list(sys.path)
    return 0


def foresee_program(code):
    """Root: have read ahead what the program imports, a code object."""
    cdef Job job = _job
    cdef mi_error err
    cdef bytes data
    if _followed is not None:
        follow_path(job)
        data = marshal.dumps(code)
        check(mi_job_foresee_program(job.job, <const char *>data, len(data),
                                     &err), &err)


def mirrored(path):
    """Path of the node's copy of the shared object 'path', or None.

    ImportError for an object that is damaged.
    """
    cdef Job job = _job
    cdef const mi_record *record
    cdef char place[PATH_MAX]
    if job.is_direct():
        return None
    record = job.ask(MI_MIRROR, path, None)
    if record != NULL and record.code == MI_MIRROR_DAMAGED:
        text = bytes(payload(record)).decode("utf-8", "replace")
        raise ImportError(f"{path}: {text}", path=path)
    if (record == NULL or not mi_job_mirrored(job.job, record, place)
            or mi_loaded_from(_fsencode(path))):  # not once more from here
        job.say()
        return None
    avoid(job, 1)
    return _fsdecode(place)


cdef class Preload:
    """Libraries that the linker was given: to be closed by release()."""

    cdef void *handle


def preload(path, int flags):
    """Before the shared object 'path' is opened: give the linker its needs.

    flags: as for dlopen(3).  Returns what release() takes, or None.
    """
    cdef Job job = _job
    cdef const mi_record *record
    cdef mi_error err
    if job.is_direct():
        return None
    record = mi_job_find(job.job, MI_MIRROR, _fsencode(path))
    return None if record == NULL else preloaded(job, record, 1, flags, &err)


cdef Preload preloaded(Job job, const mi_record *record, int self, int flags,
                       mi_error *err):
    cdef Preload result
    # With the GIL, as the linker: constructors may use Python.
    cdef void *handle = mi_job_preload(job.job, record, self, flags, err)
    if handle == NULL:
        return None
    result = Preload.__new__(Preload)
    result.handle = handle
    return result


def release(Preload preload):
    """Close what preload() or library() has given, which may be None."""
    if preload is not None:
        mi_job_preload_close(preload.handle)
        preload.handle = NULL


def library(name, int flags, caller):
    """Before the object 'caller' opens the library 'name' by dlopen(3).

    name: path or bare name.  Returns the path to open instead, or None; what
    release() takes; and, or None, the linker's words if the bare name is
    nowhere (it would look for it on the tree once more).
    """
    cdef Job job = _job
    cdef const mi_record *record
    cdef mi_error err
    cdef char place[PATH_MAX]
    if job.is_direct():
        return None, None, None
    if "/" in name:
        if not name.startswith("/"):
            name = posix.getcwd() + "/" + name
        if not job.is_shared(name):
            return None, None, None
    key = name if "/" in name else caller + "\n" + name
    if mi_job_size(job.job) == 1:
        mi_job_needs(job.job, MI_MIRROR, _fsencode(key))
        return None, None, None
    record = job.ask(MI_MIRROR, key, None)
    if record == NULL or not (record.kind == MI_KIND_MIRROR
                              or record.code == MI_MIRROR_REFUSED):
        return None, None, None
    # What is loaded from the tree must not be loaded once more.
    if "/" in name and mi_loaded_from(_fsencode(name)):
        return None, None, None
    copied = mi_job_mirrored(job.job, record, place)
    handle = preloaded(job, record, copied, flags, &err)
    if err.domain == MI_FORMAT and "/" not in name:
        text = err.text.decode("utf-8", "replace")
        if text.startswith(name + ": cannot open shared object file"):
            return None, None, text
    if not copied:
        return None, handle, None
    avoid(job, 1)
    return _fsdecode(place), handle, None


def compile_service():
    """Root: compile what the others need.  Runs in a thread of its own."""
    cdef Job job = _job
    cdef char path[PATH_MAX]
    cdef int rc
    cdef const mi_record *record
    loaders = _module("loaders")
    while True:
        with nogil:
            rc = mi_job_compile(job.job, path)
        if not rc:
            return
        record = mi_job_find(job.job, MI_CODE, path)
        if record != NULL and record.code == MI_CODE_PENDING:
            loaders.compile_for_others(_fsdecode(path))


# ---- finder -----------------------------------------------------------------

_invalidated = False  # importlib.invalidate_caches() has been called

cdef object _cached_ending = None  # of a .pyc behind its module's name

cdef int _suffix_count = 0
cdef const char *_suffix[16]


cdef class Listing:
    """A directory's listing in the store."""

    cdef const mi_record *record

    cdef int match(self, bytes name, int *suffix) except -1:
        """Is 'name' a directory; which suffix makes it a file (or -1)."""
        cdef int directory
        mi_entries_match(self.record, name, len(name), _suffix,
                         _suffix_count, &directory, suffix)
        return directory


cdef Listing listing_of(Job job, path):
    """The listing of directory 'path', or None: look for yourself."""
    cdef Listing listing
    cdef const mi_record *record = job.ask(MI_LIST, path, None)
    if record == NULL:
        return None
    if record.kind == MI_KIND_LIST:
        if is_elsewhere(job, record, path):
            return None
    elif record.code != 2 and record.code != 20:  # ENOENT, ENOTDIR
        return None
    listing = Listing.__new__(Listing)
    listing.record = record
    return listing


class StoreFinder(FileFinder):
    """Finder for one directory of the shared tree, answered from the store.

    A subclass of importlib's FileFinder, which takes over where the store
    cannot answer.  Source: PEP 302, PEP 420, PEP 451.
    """

    def __init__(self, path, loaders):
        super().__init__(path, *loaders.DIRECT)
        self._mpi_types = loaders.STORED
        self._mpi_listing = None
        self._mpi_directory = self.path.rstrip("/")

    def find_spec(self, fullname, target=None):
        """Return the spec of a module in this directory, or None. Local."""
        mi_clock_enter(MI_FIND)
        mi_clock_count(MI_FIND)
        try:
            if (<Job>_job).is_direct():
                return super().find_spec(fullname, target)
            spec = self._mpi_find(fullname)
            if spec is None and _invalidated:
                # Since invalidate_caches() there may be more than was listed.
                spec = super().find_spec(fullname, target)
            elif spec is NotImplemented:
                spec = super().find_spec(fullname, target)
            return spec
        finally:
            mi_clock_leave()

    def _mpi_find(self, fullname):
        cdef Job job = _job
        cdef Listing listing, inner
        cdef int directory, suffix
        listing = self._mpi_listing
        if listing is None:
            listing = listing_of(job, self.path)
            if listing is None:
                return NotImplemented
            avoid(job, 1)
            self._mpi_listing = listing
        avoid(job, 1)
        tail = fullname.rpartition(".")[2]
        try:
            directory = listing.match(_fsencode(tail), &suffix)
        except UnicodeEncodeError:
            return None  # no file can have that name
        if directory:
            base = self._mpi_directory + "/" + tail
            inner = listing_of(job, base)
            if inner is None:
                return NotImplemented
            avoid(job, 1)
            directory = 1
            inner_suffix = self._mpi_init(inner)
            if inner_suffix >= 0:
                return self._mpi_spec(fullname, f"{base}/__init__", base,
                                      inner_suffix)
        if suffix >= 0:
            avoid(job, 1)
            return self._mpi_spec(fullname, f"{self._mpi_directory}/{tail}",
                                  None, suffix)
        if directory:
            spec = ModuleSpec(fullname, None)
            spec.submodule_search_locations = [base]
            return spec
        return None

    def _mpi_init(self, Listing inner):
        cdef int suffix
        inner.match(b"__init__", &suffix)
        return suffix

    def _mpi_spec(self, fullname, stem, package, suffix):
        ending, kind = self._mpi_types[suffix]
        path = stem + ending
        spec = ModuleSpec(fullname, kind(fullname, path), origin=path)
        spec._set_fileattr = True
        if package is not None:
            spec.submodule_search_locations = [package]
        if ending == ".py":
            spec.cached = cached_beside(stem)  # None: it works that out
        return spec

    def invalidate_caches(self):
        """From now on, look again for what the listings do not have."""
        global _invalidated
        _invalidated = True
        super().invalidate_caches()


class DirectFinder(FileFinder):
    """importlib's FileFinder, timed: for directories of the node's own."""

    def find_spec(self, fullname, target=None):
        """Return the spec of a module in this directory, or None. Local."""
        mi_clock_enter(MI_FIND)
        mi_clock_count(MI_FIND)
        try:
            return super().find_spec(fullname, target)
        finally:
            mi_clock_leave()


def _stock_hook(path, loaders):
    mode = None
    try:
        mode = posix.stat(path or ".").st_mode
    except OSError:
        pass
    if mode is None or mode & 0o170000 != 0o040000:
        raise ImportError("only directories are supported", path=path)
    return DirectFinder(path, *loaders.DIRECT)


def path_hook(path):
    """Return a finder for a directory (sys.path_hooks).  Local.

    ImportError for what is no directory.  A directory that is not there gets
    a finder, too, which finds nothing: stock Python would look at it again.
    """
    cdef Job job = _job
    cdef const mi_record *record
    if not isinstance(path, str):
        raise ImportError("only directories are supported", path=path)
    loaders = _module("loaders")
    full = entry_path(path)
    if job.is_direct() or not job.is_shared(full):
        return _stock_hook(path, loaders)
    follow_path(job)
    mi_clock_enter(MI_FIND)
    try:
        record = job.ask(MI_LIST, full, None)
    finally:
        mi_clock_leave()
    if record == NULL or is_elsewhere(job, record, full):
        return _stock_hook(path, loaders)
    if record.kind != MI_KIND_LIST and record.code != 2:  # ENOENT
        if record.code != 20:  # ENOTDIR
            return _stock_hook(path, loaders)
        raise ImportError("only directories are supported", path=path)
    return StoreFinder(path, loaders)


cdef object cached_beside(stem):
    """cache_from_source(stem + ".py"), or None: that has to work it out."""
    head, _, tail = stem.rpartition("/")
    if (not head or not tail or _cached_ending is None
            or sys.pycache_prefix is not None):
        return None
    return f"{head}/__pycache__/{tail}{_cached_ending}"


def _cached_path(path):
    """cache_from_source(path), which takes longer."""
    cached = cached_beside(path[:-3]) if path.endswith(".py") else None
    return cached if cached is not None else cache_from_source(path)


cdef list _suffix_bytes = []


def _set_suffixes(suffixes):
    """Tell the C core what a module's file can end in, in stock's order."""
    global _suffix_count, _cached_ending
    if sys.implementation.cache_tag is not None:
        _, _, name = cache_from_source("/a.py").rpartition("/")
        _cached_ending = name[1:]
    for text in suffixes[:16]:
        _suffix_bytes.append(text.encode())
        _suffix[_suffix_count] = _suffix_bytes[len(_suffix_bytes) - 1]
        _suffix_count += 1


def hook():
    """Put the importer into place.  Local; after start()."""
    cdef Job job = _job
    loaders = _module("loaders")
    served = mi_job_source(job.job) and mi_job_size(job.job) > 1
    loaders.setup(job.strategy, served, bool(mi_job_source(job.job)))
    _set_suffixes([ending for ending, _ in loaders.STORED])
    if job.strategy == "none":
        sys.path_hooks.insert(0, lambda path: _stock_hook(path, loaders))
    else:
        sys.path_hooks.insert(0, path_hook)
    sys.path_importer_cache.clear()
    _count_early(loaders)
    mi_job_hurry(job.job)
    if job.options.gc_defer and job.strategy == "all":
        _put_off_collections()
    if served:
        _start_compiling()


def _start_compiling():
    """Start the thread, to which no signal is delivered."""
    import _signal
    from _thread import start_new_thread
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK,
                                     _signal.valid_signals())
    try:
        start_new_thread(compile_service, ())
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


def _count_early(loaders):
    """Count the modules that the interpreter had loaded before."""
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        if isinstance(getattr(spec, "loader", None), loaders.STOCK):
            mi_clock_count(MI_LOAD_DIRECT)


# ---- public -----------------------------------------------------------------


class _Communicator:
    """All ranks of the job (a private copy of MPI_COMM_WORLD).

    Its calls are collective and belong to the main thread.
    """

    @property
    def rank(self):
        """Number of this rank, from 0."""
        return _started().rank

    @property
    def size(self):
        """Number of ranks."""
        return _started().size

    def barrier(self):
        """Wait until all ranks are here.  Source: MPI-4.1 section 6.3."""
        _started().barrier()

    def bcast(self, data=None, root=0):
        """Return on every rank the bytes that 'data' is on rank 'root'.

        Source: MPI-4.1 section 6.4.
        """
        job = _started()
        if not 0 <= root < job.size:
            raise ValueError(f"root {root} in a job of {job.size} ranks")
        return job.bcast(data, root)


COMM_WORLD = _Communicator()


def _started():
    if _job is None:
        raise RuntimeError("mpiimport is not installed: call "
                           "mpiimport.install() or start by python-mpi.py")
    return _job


class _Disjoint:
    """Context: imports inside go straight to the filesystem.

    For modules that only some ranks import, where reading them once per rank
    is wanted.  Holds for the thread that enters it.  Local.  Not needed for
    correctness: ranks may import different things anyway.
    """

    def __call__(self):
        return self

    def __enter__(self):
        away = (<Job>_started()).away
        me = _get_ident()
        away[me] = away.get(me, 0) + 1
        return self

    def __exit__(self, *exc_info):
        away = (<Job>_started()).away
        me = _get_ident()
        away[me] -= 1
        if not away[me]:
            del away[me]


disjoint = _Disjoint()


def stop():
    """From now on, imports of this rank go straight to the filesystem.

    Local.  What has been imported stays; resume() ends it.
    """
    (<Job>_started()).stopped = True


def resume():
    """End stop().  Local."""
    (<Job>_started()).stopped = False


def _full(path):
    """The absolute form of a path as str, or None for a descriptor."""
    if isinstance(path, int):
        return None
    path = posix.fspath(path)
    if isinstance(path, bytes):
        path = path.decode(sys.getfilesystemencoding(), "surrogateescape")
    if path.startswith("/") or not path or "\0" in path:
        return path
    return posix.getcwd() + "/" + path


def open(path, mode="r", buffering=-1, encoding=None, errors=None,
         newline=None):
    """Open a file for reading, as open() does, from the node's copy of it.

    A file of the shared tree is read by rank 0 once, for all ranks that open
    it; the object is one of io's, whose name is 'path'.  What it reads is the
    file as it was when the first rank opened it, until the job ends.  Where
    there can be no copy (no job, no shared path, no memory, larger than 1
    GiB, not a regular file) the file itself is opened.

    Raises ValueError for a mode that writes, and OSError as open(): a file
    that was not there stays so until importlib.invalidate_caches().
    Local.  Arguments and result: Python's Library Reference, open().
    """
    if not isinstance(mode, str) or not set(mode).isdisjoint("wax+"):
        raise ValueError(f"mpiimport.open() only reads, so mode {mode!r} is "
                         "not for it: use open()")
    full = _full(path)
    place = file_copy(full) if full else None
    return _io_open(path, mode, buffering, encoding, errors, newline, True,
                    None if place is None else opener(place))


def mirror(path):
    """Return the path of a file that holds what the file 'path' does, as str.

    That is the node's own copy of a regular file of the shared tree, which
    rank 0 has read once for all; shared objects bring the libraries that they
    need.  It must not be changed, and is removed when the job ends.  The
    original path where there can be no copy: see open().  For an object whose
    libraries the dynamic linker would look for on the tree, these are loaded
    here.

    OSError as open().  Local.
    """
    full = _full(path)
    text = posix.fspath(path)
    if isinstance(text, bytes):
        text = text.decode(sys.getfilesystemencoding(), "surrogateescape")
    if not full or not is_served(_job, full):
        posix.stat(text)
        return text
    place = _object(full) if ".so" in full.rpartition("/")[2] else None
    if place is None:
        place = file_copy(full)
    if isinstance(place, int):
        raise OSError(place, posix.strerror(place), text)
    try:
        posix.stat(place or text)
    except OSError:
        if place is None:
            raise
        return text
    return place or text


_kept = []  # libraries that were opened for objects of mirror(), for good


def _object(path):
    """The node's copy of a shared object, or None if it is no such thing."""
    cdef const mi_record *record
    cdef mi_error err
    if (<Job>_job).strategy != "all":
        return None
    try:
        place = mirrored(path)
    except ImportError:
        return None
    if place is not None:
        # Whoever opens it does so without us: its libraries have to be there.
        record = mi_job_find((<Job>_job).job, MI_MIRROR, _fsencode(path))
        held = preloaded(_job, record, 0, 2, &err)  # RTLD_NOW
        if held is not None:
            _kept.append(held)
    return place


cdef dict describe(const mi_numbers *numbers):
    phases = {}
    for i, name in enumerate(PHASES):
        phases[name] = [numbers.nanoseconds[i] / 1e9, numbers.counts[i]]
    phases["ALL"][1] = (phases["LOAD"][1] + phases["LOADFile"][1]
                        + phases["LOADDirect"][1])
    return {
        "rank": numbers.rank,
        "host": (<const char *>numbers.host).decode("utf-8", "replace"),
        "node": numbers.node,
        "phases": phases,
        "run": numbers.run / 1e9,
        "bytes_read": numbers.bytes_read,
        "bytes_sent": numbers.bytes_sent,
        "operations": numbers.operations,
        "avoided": numbers.avoided,
        "store_bytes": numbers.store_bytes,
        "mirror_bytes": numbers.mirror_bytes,
    }


def timings():
    """Return where this rank's start-up time went so far, as a dict.

    phases: {name: [seconds, count]} in the order of the report, and the other
    members of a rank in the report's JSON (docs/timing.md).  Local.
    """
    cdef Job job = _started()
    cdef mi_numbers numbers
    mi_job_numbers(job.job, &numbers)
    result = describe(&numbers)
    if job.modules is not None:
        result["modules"] = list(job.modules)
    return result


def install():
    """Serve this process's imports by rank 0 from now on.  Collective.

    For a script that is started by `python -S`: initialises MPI if nobody
    has, replays site, and takes over the import system.  Options come from
    the PYTHON_MPI_* variables.
    """
    launch = _module("launch")
    launch.install()


# ---- for launch.py ----------------------------------------------------------


def boot_done():
    """Close BOOT: the program begins."""
    cdef Job job = _job
    mi_clock_leave()
    mi_clock_count(MI_BOOT)
    mi_job_program(job.job)


def boot():
    """Begin BOOT, at the start of the process.  Local."""
    mi_clock_charge(MI_BOOT, mi_clock_process_start())
    mi_clock_enter(MI_BOOT)


def count(int phase):
    """Count one more of a phase."""
    mi_clock_count(<mi_phase>phase)


def say():
    """Show what the C core has to say."""
    if _job is not None:
        (<Job>_job).say()


def finish():
    """Wait for all ranks and finalise MPI.  Collective; once.

    Returns on rank 0 with --timing a list with one dict per rank (None for
    one that did not answer), and None everywhere else.
    """
    cdef Job job = _job
    cdef mi_error err
    cdef int rc, i
    cdef const mi_numbers *numbers
    if job is None or job.finished or mi_job_forked():
        return None
    job.finished = True
    mi_error_clear(&err)
    with nogil:
        rc = mi_job_finish(job.job, &err)
        mi_job_remove(job.job)
    job.say()
    check(rc, &err)
    if job.rank != 0 or job.options.timing is None:
        return None
    ranks = []
    for i in range(job.size):
        numbers = mi_job_gathered(job.job, i)
        ranks.append(describe(numbers) if numbers != NULL else None)
    if ranks[0] is not None and job.modules is not None:
        ranks[0]["modules"] = job.modules
    return ranks


def refused():
    """What rank 0 could not share, so that every rank loaded it directly.

    Returns ([[path, why], ...], how many there are).  The list is bounded.
    Local, on rank 0.
    """
    cdef Job job = _job
    cdef const char *path
    cdef const char *why
    cdef list found = []
    while mi_job_refused(job.job, <int>len(found), &path, &why):
        found.append([_fsdecode(path), why.decode("utf-8", "replace")])
    return found, mi_job_refused_count(job.job)


def own(directories):
    """Tell which are the program's own directories on sys.path: a list of one
    or none, as str.  What is right there is nothing for the manifest.
    """
    for path in directories:
        full = entry_path(path).rstrip("/")
        mi_job_own((<Job>_job).job, _fsencode(full))


def manifest():
    """What became of the manifest: a dict (docs/timing.md), or None if there
    is none.  Local, on rank 0, after finish().
    """
    cdef Job job = _job
    cdef mi_job_manifest found
    mi_job_get_manifest(job.job, &found)
    if found.path == NULL:
        return None
    return {
        "file": _fsdecode(found.path),
        "known": found.count.known,
        "read_ahead": found.replayed,
        "used": found.count.used,
        "added": found.count.added,
        "dropped": found.count.dropped,
        "written": bool(found.written),
    }


def mpi_abi():
    """The ABI of this job's MPI library as mpi4py names it, or None."""
    cdef mpimin_family family = mi_job_family((<Job>_job).job)
    names = {MPIMIN_MPICH: "mpich", MPIMIN_OPENMPI: "openmpi",
             MPIMIN_ABI: "mpiabi"}
    return names.get(family)


def first_crash():
    """Is this rank the first of its node to end by an exception?"""
    return bool(mi_job_first_crash((<Job>_job).job))


def abort(int status):
    """End all ranks."""
    mi_job_abort((<Job>_job).job, status)


def forked():
    """Is this a forked child?"""
    return bool(mi_job_forked())


def print_exception(error, traceback):
    """Print an uncaught exception as the interpreter does (sys.excepthook)."""
    kind = type(error)
    Py_INCREF(kind)
    Py_INCREF(error)
    if traceback is not None:
        Py_INCREF(traceback)
    PyErr_Restore(<PyObject *>kind, <PyObject *>error,
                  <PyObject *>traceback if traceback is not None else NULL)
    PyErr_PrintEx(1)


cdef extern from *:
    """
    /* The frame that the next call of Python code will have below it. */
    #if PY_VERSION_HEX >= 0x030D0000
    #define mi_frame_below(tstate) ((tstate)->current_frame)
    #else
    #define mi_frame_below(tstate) ((tstate)->cframe->current_frame)
    #endif

    static PyObject *mi_call_alone(PyObject *function, PyObject *args)
    {
        PyThreadState *tstate = PyThreadState_Get();
        struct _PyInterpreterFrame *below = mi_frame_below(tstate);
        PyObject *result;

        mi_frame_below(tstate) = NULL;
        result = PyObject_Call(function, args, NULL);
        mi_frame_below(tstate) = below;
        return result;
    }
    """
    object mi_call_alone(object function, tuple args)


def call_alone(function, *args):
    """Call function(*args) as if nothing had called it.

    The program finds no frames of the launcher below its own, so that
    sys._getframe(), inspect.stack(), warnings and traceback.print_stack() say
    what they say under plain Python.
    """
    return mi_call_alone(function, args)


def compile_program(source, filename):
    """compile(source, filename, "exec", dont_inherit=True), for str or bytes.

    The built-in function asks first whether it is given a syntax tree, for
    which it makes the hundred types of the module ast: 0.2 MiB in each rank.
    """
    cdef PyCompilerFlags flags
    cdef bytes text
    flags.cf_flags = PyCF_SOURCE_IS_UTF8
    flags.cf_feature_version = PY_MINOR_VERSION
    if isinstance(source, str):
        flags.cf_flags |= PyCF_IGNORE_COOKIE
        text = source.encode()
    else:
        text = source
    if b"\0" in text:  # it says what is wrong with that
        return compile(source, filename, "exec", dont_inherit=True)
    return Py_CompileStringObject(text, filename, Py_file_input, &flags, -1)


def set_flag(name, value):
    """Change an item of sys.flags (a launcher runs under -S)."""
    items = repr(sys.flags).partition("(")[2].rstrip(")").split(", ")
    index = [item.partition("=")[0] for item in items].index(name)
    Py_INCREF(value)
    PyStructSequence_SetItem(sys.flags, index, value)


def main(argv):
    """The launchers' common main.  argv: the launcher's own sys.argv."""
    return _module("launch").main(argv)
