"""The filesystem as the node store shows it, for Python code that asks for it.

Stand-ins for os, io, open() and pathlib.Path.  Each question goes to the
store if the path is shared, and to the genuine function if this rank has to
look itself.  Given to modules that read the tree while they are imported or
asked for metadata: site (mpisite.py) and importlib.metadata.
"""

import io
import os

import mpiimport as core

FORMAT, DIRECTORY, REGULAR = 0o170000, 0o040000, 0o100000
SECOND = 10**9  # nanoseconds


def _real(path):
    path = os.fsdecode(path)
    if path.startswith("/"):
        return path
    here = os.getcwd()
    return here if path in ("", ".") else os.path.join(here, path)


def _absent(path):
    return FileNotFoundError(2, os.strerror(2), path)


def result(members):
    """Return an os.stat_result as os.stat() makes it, from its members with
    times in nanoseconds.
    """
    mode, inode, device, nlink, uid, gid, size, *times = members[:10]
    seconds = [time // SECOND for time in times]
    floats = [
        second + 1e-9 * (time % SECOND)
        for second, time in zip(seconds, times, strict=True)
    ]
    head = (mode, inode, device, nlink, uid, gid, size)
    return os.stat_result((*head, *seconds, *floats, *times, *members[10:]))


def stat(path, stock=os.stat):
    """Return os.stat_result of 'path'.  OSError as os.stat()."""
    if not os.fsdecode(path):
        raise _absent(path)
    answer = core.status(_real(path))
    return stock(path) if answer is None else result(answer)


def listdir(path="."):
    """Return the names in directory 'path'.  OSError as os.listdir()."""
    names = core.listdir(_real(path))
    return os.listdir(path) if names is None else names


def open_file(
    path, mode="r", buffering=-1, encoding=None, errors=None, newline=None
):
    """Open a file for reading.  OSError as open()."""
    data = core.read(_real(path)) if "r" in mode and "+" not in mode else None
    if data is None:
        return open(path, mode, buffering, encoding, errors, newline)
    if "b" in mode:
        return io.BytesIO(data)
    return io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline)


class View:
    """A module of which some members are replaced."""

    def __init__(self, module, **members):
        self.__dict__.update(members)
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, name)


def _has_type(wanted):
    def test(path):
        try:
            return stat(path).st_mode & FORMAT == wanted
        except (OSError, ValueError):
            return False

    return test


def _exists(path):
    try:
        stat(path)
    except (OSError, ValueError):
        return False
    return True


def _realpath(path, *, strict=False):
    """As os.path.realpath(), which differs for paths that are not there."""
    try:
        real = core.realpath(os.fspath(path))
    except (OSError, TypeError, AttributeError):
        real = None
    return os.path.realpath(path, strict=strict) if real is None else real


def os_view():
    """Return os, reading through the store."""
    path = View(
        os.path,
        exists=_exists,
        isdir=_has_type(DIRECTORY),
        isfile=_has_type(REGULAR),
        realpath=_realpath,
    )
    return View(
        os,
        path=path,
        listdir=listdir,
        stat=stat,
        lstat=lambda path: stat(path, os.lstat),
    )


def io_view():
    """Return io, reading through the store."""

    def open_code(path):
        data = core.read(_real(path))
        return io.open_code(path) if data is None else io.BytesIO(data)

    return View(io, open=open_file, open_code=open_code)


def _path_class():
    """Return a pathlib.Path that reads through the store."""
    import pathlib

    class StorePath(type(pathlib.Path())):
        __slots__ = ()

        def __reduce__(self):
            return pathlib.Path, (str(self),)

        def stat(self, *, follow_symlinks=True):
            if not follow_symlinks:
                return super().stat(follow_symlinks=False)
            return stat(str(self))

        def open(
            self,
            mode="r",
            buffering=-1,
            encoding=None,
            errors=None,
            newline=None,
        ):
            how = (mode, buffering, encoding, errors, newline)
            if isinstance(mode, str) and set(mode).isdisjoint("wax+"):
                return core.open(str(self), *how)
            return super().open(*how)

        def read_bytes(self):
            with open_file(str(self), "rb") as stream:
                return stream.read()

        def read_text(self, encoding=None, errors=None, newline=None):
            with open_file(
                str(self), "r", -1, encoding, errors, newline
            ) as stream:
                return stream.read()

        def exists(self, **options):
            return _exists(str(self))

        def is_file(self, **options):
            return _has_type(REGULAR)(str(self))

        def is_dir(self, **options):
            return _has_type(DIRECTORY)(str(self))

        def iterdir(self):
            return (self / name for name in listdir(str(self)))

    StorePath.__name__ = StorePath.__qualname__ = "PosixPath"  # for repr()
    return StorePath


def prepare(module):
    """Before a module is executed that looks around while it is (sysconfig):
    have its own imports of os see the store.  Returns what ends that.
    """
    import builtins

    view = os_view()
    genuine = builtins.__import__

    def see(name, globals=None, locals=None, fromlist=(), level=0):
        if level == 0 and name == "os":
            return view
        if level == 0 and name == "os.path" and fromlist:
            return view.path
        return genuine(name, globals, locals, fromlist, level)

    members = module.__dict__
    members["__builtins__"] = {**builtins.__dict__, "__import__": see}

    def finish():
        members["__builtins__"] = builtins.__dict__
        if members.get("os") is view:
            members["os"] = os

    return finish


def _zip_path(root, *args):
    """zipfile.Path, which would open what may be a directory."""
    import zipfile

    if _has_type(REGULAR)(root):
        return zipfile.Path(root, *args)
    raise _absent(root)


def adapt_resources(module):
    """Let importlib.resources.readers read through the store."""
    import pathlib

    module.pathlib = View(pathlib, Path=_path_class())
    if hasattr(module, "zipfile"):
        module.zipfile = View(module.zipfile, Path=_zip_path)


def adapt_pkgutil(module):
    """Let pkgutil list packages through the store."""
    module.os = os_view()


def adapt_metadata(module):
    """Let importlib.metadata read through the store."""
    import pathlib

    module.os = os_view()
    module.pathlib = View(pathlib, Path=_path_class())
    for name in ("zipp", "zipfile"):
        if hasattr(module, name):
            genuine = getattr(module, name)
            setattr(module, name, View(genuine, Path=_zip_path))
