"""os.scandir() of directories that are served (data.py), when it is called."""

import mpiimport as core

os = core._module("data").os  # as it was before the program


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
