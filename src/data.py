"""Data files of installed packages, for programs and packages that read them.

os.stat(), open() and the others get a stand-in that answers from the store
for paths below the installed environment; for all else, and whenever the store
has no answer, the genuine function is called with the same arguments.

A stand-in is a built-in function (standin.h) that first calls one of the
functions here.  What that returns decides: NotImplemented, the genuine
function is called; an exception is raised; a tuple (args, kwargs), the genuine
function is called with these; all else is the result.
Source: Python's Library Reference, os and io.
"""

import builtins
import io
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


def turn_off():
    """From now on every path is looked for by stock means.  Local."""
    global _active
    _active = False


# ---- which paths ------------------------------------------------------------


def _is_below(path, directories):
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
        _is_below(path, _roots)
        and "/__pycache__" not in path
        and (_is_below(path, _inner) or not _is_below(path, _apart))
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
        _is_below(root, (path,)) for root in _roots
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


def _stat(*args, **options):
    if len(args) != 1 or not options.keys() <= {"dir_fd", "follow_symlinks"}:
        return NotImplemented
    if options.get("dir_fd") is not None:
        return NotImplemented
    return _look(args[0], bool(options.get("follow_symlinks", True)))


def _lstat(*args, **options):
    if len(args) != 1 or options:
        return NotImplemented
    return _look(args[0], False)


def _readlink(*args, **options):
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


def _access(*args, **options):
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


def _listdir(*args, **options):
    key = _key(args[0]) if len(args) == 1 and not options else None
    entries = core.file_entries(key) if key is not None else None
    if entries is None:
        return NotImplemented
    sys.audit("os.listdir", args[0])
    if type(entries) is int:
        return _error(entries, args[0])
    return [entry[0] for entry in entries]


# ---- os.scandir() -----------------------------------------------------------


class DirEntry:
    """An os.DirEntry, of which only os.scandir() can make one."""

    __slots__ = ("_kind", "_link", "_status", "name", "path")

    def __init__(self, directory, name, kind, link):
        self.name = name
        self.path = os.path.join(directory, name)
        self._kind = kind
        self._link = link
        self._status = {}

    def __fspath__(self):
        return self.path

    def __repr__(self):
        return f"<DirEntry {self.name!r}>"

    def is_symlink(self):
        """Return whether the entry is a symbolic link."""
        return self._link

    def _is(self, kind, follow):
        if not self._link:
            return self._kind == kind
        if follow and self._kind == "o":
            try:
                self.stat()  # it may lead nowhere, or in circles
            except FileNotFoundError:
                return False
        return follow and self._kind == kind

    def is_dir(self, *, follow_symlinks=True):
        """Return whether the entry is a directory."""
        return self._is("d", follow_symlinks)

    def is_file(self, *, follow_symlinks=True):
        """Return whether the entry is a regular file."""
        return self._is("f", follow_symlinks)

    def is_junction(self):
        """Return False: there are none here."""
        return False

    def stat(self, *, follow_symlinks=True):
        """Return the os.stat_result of the entry.  OSError as os.stat()."""
        follow = bool(follow_symlinks and self._link)
        if follow not in self._status:
            self._status[follow] = os.stat(self.path, follow_symlinks=follow)
        return self._status[follow]

    def inode(self):
        """Return the inode number of the entry itself."""
        return self.stat(follow_symlinks=False).st_ino


DirEntry.__module__ = "posix"


class ScandirIterator:
    """What os.scandir() returns."""

    def __init__(self, directory, entries):
        self._directory = directory
        self._entries = iter(entries)

    def __iter__(self):
        return self

    def __next__(self):
        return DirEntry(self._directory, *next(self._entries))

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def close(self):
        """End the iteration."""
        self._entries = iter(())


ScandirIterator.__module__ = "posix"


def _scandir(*args, **options):
    key = _key(args[0]) if len(args) == 1 and not options else None
    entries = core.file_entries(key) if key is not None else None
    if entries is None:
        return NotImplemented
    sys.audit("os.scandir", args[0])
    if type(entries) is int:
        return _error(entries, args[0])
    return ScandirIterator(os.fspath(args[0]), entries)


# ---- opening ----------------------------------------------------------------


def _os_open(*args, **options):
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


def _open(*args, **options):
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


def _writer(*args, **options):
    if not _active:
        return NotImplemented
    for value in (*args, *options.values()):
        if not isinstance(value, int) and _is_touched(value):
            turn_off()
            return NotImplemented
    if _descriptors and any(name.endswith("dir_fd") for name in options):
        turn_off()
    return NotImplemented


# ---- putting it into place --------------------------------------------------

READERS = {
    "stat": _stat,
    "lstat": _lstat,
    "access": _access,
    "readlink": _readlink,
    "listdir": _listdir,
    "scandir": _scandir,
    "open": _os_open,
}
WRITERS = (
    *("chmod", "chown", "lchown", "link", "mkdir", "mkfifo", "mknod"),
    *("remove", "removexattr", "rename", "replace", "rmdir", "setxattr"),
    *("symlink", "truncate", "unlink", "utime"),
)
# Prefixes below which others have their files, too.
SYSTEM = ("/", "/usr", "/usr/local")
# Whose names stay the genuine ones: what importlib and we ourselves use.
ALONE = ("posix", "_io", "_frozen_importlib", "_frozen_importlib_external")


def _site_directories():
    """The directories that site may have added to sys.path."""
    site = sys.modules.get("site")
    if site is None or sys.flags.no_site:
        return []
    found = list(site.getsitepackages())
    if site.ENABLE_USER_SITE and site.USER_SITE:
        found.append(site.USER_SITE)
    return found


def _tops():
    """The prefixes, and the library directories that are in none of them."""
    prefixes = (sys.prefix, sys.exec_prefix, sys.base_prefix)
    found = [os.path.normpath(path) for path in prefixes]
    for path in _site_directories():
        if path.startswith("/") and not _is_below(path, found):
            found.append(os.path.normpath(path))
    return list(dict.fromkeys(found))


def _names(job, tops):
    """These directories and what they are called without symbolic links,
    which is what Path.resolve() makes of them: [(path, name), ...].
    """
    found = [(top, top) for top in tops if job.is_shared(top)]
    for top, _ in list(found):
        real = core.file_real(top)
        if type(real) is str and real != top and job.is_shared(real):
            found.append((top, real))
    return found


def _ancestors(path):
    """The directories above a normalised path, but for the root."""
    while (path := os.path.dirname(path)) != "/":
        yield path


def _settle(job):
    """Find out which directories are served, and which paths besides."""
    global _above, _inner, _points, _roots
    tops = _tops()
    sites = [os.path.normpath(path) for path in _site_directories()]
    inner, shares, points = {}, {}, set()
    for top, name in _names(job, tops):
        if top in sites:
            inner[name] = None
            continue
        version = "python{}.{}".format(*sys.version_info)
        for library in ("lib", "lib64"):
            inner[f"{name}/{library}/{version}"] = None
            points.add(f"{name}/{library}")
        points.add(name)
        for site in sites:
            if _is_below(site, (top,)):
                inner[name + site[len(top) :]] = None
        if top not in SYSTEM:
            shares[f"{name}/share"] = None
    _inner = tuple(inner)
    _roots = (*inner, *shares)
    _points = points - set(SYSTEM)
    _above = {
        above
        for path in _points
        for above in _ancestors(path)
        if job.is_shared(above)
    }


def announce():
    """Rank 0: have read what the others are about to ask.  Local."""
    for path in _tops():
        core.prefetch("real", path)


def _program_directories(first):
    """The program's own directories: never served."""
    found = [*first, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    here = posix.getcwd()
    return tuple(
        os.path.normpath(os.path.join(here, path)) for path in {*found, here}
    )


def _replace(places):
    """Put stand-ins wherever a genuine function is: {genuine: stand-in}."""
    for name in dir(os):
        if name.startswith("supports_"):
            functions = getattr(os, name)
            if isinstance(functions, set):
                functions |= {
                    places[one] for one in functions if one in places
                }
    for name, module in list(sys.modules.items()):
        if name in ALONE or name.partition(".")[0] == "mpiimport":
            continue
        if type(module) is not type(sys):
            continue
        members = module.__dict__
        for member, value in list(members.items()):
            if type(value) is type(len) and value in places:
                members[member] = places[value]


def install(job, first):
    """Serve the data of installed packages from now on.  Local.

    first  the program's own directories on sys.path
    """
    global _active, _apart
    try:
        own = _program_directories(first)
    except OSError:
        return  # no working directory
    _settle(job)
    if not _roots:
        return
    _apart = tuple(path for path in own if _is_below(path, _roots))
    places = {io.open: core.stand_in(builtins.open, _open, "io")}
    functions = {**READERS, **dict.fromkeys(WRITERS, _writer)}
    for name, function in functions.items():
        genuine = getattr(os, name, None)
        if type(genuine) is type(len):
            places[genuine] = core.stand_in(genuine, function, "os")
    _replace(places)
    _active = True
