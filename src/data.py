"""Data files of installed packages, for programs and packages that read them.

os.stat(), open() and the others get a stand-in that answers from the store
for paths below the installed environment; for all else, and whenever the store
has no answer, the genuine function is called with the same arguments.

A stand-in is a built-in function (standin.h) that first calls one of the
functions here.  What that returns decides: NotImplemented, the genuine
function is called; an exception is raised; a tuple (args, kwargs), the genuine
function is called with these; all else is the result.  serve.py puts them
into place.
Source: Python's Library Reference, os and io.
"""

import os
import posix
import sys

import mpiimport as core

_result = core._module("views").result

# Flags of open(2) under which a copy does as well as the file itself.
HARMLESS = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOATIME
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# errno is not imported yet.
EISDIR = 21
FORBIDDEN = (1, 13)  # EPERM, EACCES
READ_MODES = frozenset(("r", "rb", "rt", "br", "tr"))

_roots = ()  # directories that are served, with all below
_inner = ()  # of these, those of libraries: nothing in there is a program's
_points = set()  # paths above, of which the status is served
_above = set()  # paths above these, which os.path.realpath() looks at
_apart = ()  # the program's own directories
_active = False
_descriptors = False  # there may be a descriptor of one of the directories


def turn_on(roots, inner, points, above, apart):
    """Serve from now on what belongs to these.  Local."""
    global _above, _active, _apart, _inner, _points, _roots
    _roots, _inner, _apart = roots, inner, apart
    _points, _above = points, above
    _active = True


def turn_off():
    """From now on every path is looked for by stock means.  Local."""
    global _active
    _active = False


# ---- which paths ------------------------------------------------------------


def is_below(path, directories):
    """Is the normalised 'path' one of these, or below one of them?"""
    for directory in directories:
        if path.startswith(directory) and (
            len(path) == len(directory) or path[len(directory)] == "/"
        ):
            return True
    return False


def _is_environment(path):
    """Does the normalised 'path' belong to the installed environment?"""
    return (
        is_below(path, _roots)
        and "/__pycache__" not in path
        and (is_below(path, _inner) or not is_below(path, _apart))
    )


def _key(path):
    """The path to ask the store for as str, or None: not one of ours."""
    if not _active:
        return None
    if type(path) is not str:
        if not hasattr(path, "__fspath__"):
            return None
        path = os.fspath(path)
        if type(path) is not str:
            return None
    if not path.startswith(_roots) or "\0" in path:
        return None
    return path if _is_environment(os.path.normpath(path)) else None


def _is_touched(path):
    """Does a change of 'path' change what is served: one of ours, or above?"""
    try:
        path = os.fsdecode(path)
        if not path.startswith("/"):
            path = f"{posix.getcwd()}/{path}"
    except (TypeError, OSError, UnicodeError):
        return False
    path = os.path.normpath(path)
    return _is_environment(path) or any(
        is_below(root, (path,)) for root in _roots
    )


def _first(args, options, name):
    """The argument 'name', which is the first one, or None."""
    return args[0] if args else options.get(name)


def _error(code, path):
    return OSError(code, os.strerror(code), os.fspath(path))


# ---- looking ----------------------------------------------------------------


def _status_key(path):
    """As _key(), also for what is above the directories of libraries."""
    if _active and type(path) is str and path in _points:
        return path
    return _key(path)


def _look(path, follow):
    key = _status_key(path)
    if key is None and not follow and _active and type(path) is str:
        key = path if path in _above else None
    members = core.file_status(key, follow) if key is not None else None
    if members is None:
        return NotImplemented
    return _error(members, path) if type(members) is int else _result(members)


def stat(*args, **options):
    if len(args) != 1 or not options.keys() <= {"dir_fd", "follow_symlinks"}:
        return NotImplemented
    if options.get("dir_fd") is not None:
        return NotImplemented
    return _look(args[0], bool(options.get("follow_symlinks", True)))


def lstat(*args, **options):
    if len(args) != 1 or options:
        return NotImplemented
    return _look(args[0], False)


def readlink(*args, **options):
    key = None
    if len(args) == 1 and not options:
        key = _status_key(args[0])
    target = core.file_target(key) if key is not None else None
    if target is None:
        return NotImplemented
    return _error(target, args[0]) if type(target) is int else target


def _may(mode, members):
    """Does that status grant R_OK and X_OK of 'mode'?  None: who knows.

    Whatever else there may be (groups, access lists), the owner's bits are
    the owner's, and what everybody may, he may.
    """
    bits = members[0]
    if members[4] == os.geteuid() == os.getuid():
        return bits >> 6 & mode == mode
    granted = bits >> 6 & bits >> 3 & bits
    return True if granted & mode == mode else None


def access(*args, **options):
    if len(args) != 2 or options or type(args[1]) is not int:
        return NotImplemented
    path, mode = args
    key = _key(path) if not mode & ~(os.R_OK | os.X_OK) else None
    members = core.file_status(key, True) if key is not None else None
    if members is None:
        return NotImplemented
    if type(members) is int:
        # Permission is for the effective user, and access(2) for the real one.
        return NotImplemented if members in FORBIDDEN else False
    may = True if mode == os.F_OK else _may(mode, members)
    # Whoever may do all may do what the bits do not grant.
    return True if may else NotImplemented


def listdir(*args, **options):
    key = _key(args[0]) if len(args) == 1 and not options else None
    entries = core.file_entries(key) if key is not None else None
    if entries is None:
        return NotImplemented
    sys.audit("os.listdir", args[0])
    if type(entries) is int:
        return _error(entries, args[0])
    return [entry[0] for entry in entries]


def scandir(*args, **options):
    key = _key(args[0]) if len(args) == 1 and not options else None
    entries = core.file_entries(key) if key is not None else None
    if entries is None:
        return NotImplemented
    sys.audit("os.scandir", args[0])
    if type(entries) is int:
        return _error(entries, args[0])
    iterator = core._module("scandir").ScandirIterator
    return iterator(os.fspath(args[0]), entries)


# ---- opening ----------------------------------------------------------------


def os_open(*args, **options):
    global _descriptors
    if len(args) < 2 or options.get("dir_fd") is not None:
        return NotImplemented
    path, flags = args[:2]
    if type(flags) is not int:
        return NotImplemented
    if flags & WRITING:
        if _active and _is_touched(path):
            turn_off()
        return NotImplemented
    key = _key(path)
    place = None
    if key is not None and not flags & ~HARMLESS:
        place = core.file_copy(key)
    if place is None or place == EISDIR:
        _descriptors = _descriptors or (_active and _is_touched(path))
        return NotImplemented
    sys.audit("open", path, None, flags)
    if type(place) is int:
        return _error(place, path)
    try:
        return posix.open(place, flags)
    except OSError:
        return NotImplemented


def open_file(*args, **options):
    file = _first(args, options, "file")
    mode = args[1] if len(args) > 1 else options.get("mode", "r")
    opener = args[7] if len(args) > 7 else options.get("opener")
    if not _active or type(mode) is not str:
        return NotImplemented
    if not set(mode).isdisjoint("wax+"):
        if _is_touched(file):
            turn_off()
        return NotImplemented
    if mode not in READ_MODES or opener is not None or len(args) > 8:
        return NotImplemented
    key = _key(file)
    place = core.file_copy(key) if key is not None else None
    if place is None:
        return NotImplemented
    # The genuine open() says what is wrong with the arguments, if anything.
    return args[:7], {**options, "opener": core.opener(place)}


# ---- what writes ------------------------------------------------------------


def writer(*args, **options):
    if not _active:
        return NotImplemented
    for value in (*args, *options.values()):
        if not isinstance(value, int) and _is_touched(value):
            turn_off()
            return NotImplemented
    if _descriptors and any(name.endswith("dir_fd") for name in options):
        turn_off()
    return NotImplemented
