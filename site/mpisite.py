"""site in three stages: the genuine site.main(), with root as its eyes.

What site asks of the filesystem are the three questions of the node store:
list this directory, stat this path, read this file.  So nothing of site is
written anew here.

1. prefixes, root only: where pyvenv.cfg and the site directories would be.
2. paths, root only: read those, the .pth files in them, and what their lines
   name, ahead and in parallel; the store carries all of it to everybody.
3. apply, every rank: site.main() runs with its view of os, io and open()
   replaced by the store's, so that its own code sets sys.path, runs import
   lines, sitecustomize and usercustomize, and words its own messages.

Afterwards sys.modules["site"] is the genuine module in the state in which
stock Python leaves it.  Source: CPython's Lib/site.py.
"""

import io
import os
import sys

import mpiimport as core


def _real(path):
    return path if path.startswith("/") else os.path.join(os.getcwd(), path)


class _Path:
    """os.path for site: the questions go to the store."""

    def __getattr__(self, name):
        return getattr(os.path, name)

    def _mode(self, path):
        """st_mode, None if it is not there, or NotImplemented."""
        path = _real(os.fsdecode(path))
        try:
            answer = core.status(path)
        except OSError:
            return None
        return NotImplemented if answer is None else answer[0]

    def exists(self, path):
        mode = self._mode(path)
        return os.path.exists(path) if mode is NotImplemented else mode is not None

    def isdir(self, path):
        mode = self._mode(path)
        if mode is NotImplemented:
            return os.path.isdir(path)
        return mode is not None and mode & 0o170000 == 0o040000

    def isfile(self, path):
        mode = self._mode(path)
        if mode is NotImplemented:
            return os.path.isfile(path)
        return mode is not None and mode & 0o170000 == 0o100000


class _Os:
    """os for site."""

    def __init__(self):
        self.path = _Path()

    def __getattr__(self, name):
        return getattr(os, name)

    def listdir(self, path="."):
        entries = core.listdir(_real(os.fsdecode(path)))
        if entries is None:
            return os.listdir(path)
        return [name for name, _ in entries]

    def _stat(self, path, stock):
        answer = core.status(_real(os.fsdecode(path)))
        if answer is None:
            return stock(path)
        mode, size, mtime = answer
        seconds = mtime // 10**9
        return os.stat_result((mode, 0, 0, 1, 0, 0, size, seconds, seconds, seconds))

    def stat(self, path):
        return self._stat(path, os.stat)

    def lstat(self, path):
        return self._stat(path, os.lstat)


class _Io:
    """io for site."""

    def __getattr__(self, name):
        return getattr(io, name)

    def open_code(self, path):
        data = core.read(_real(path))
        return io.open_code(path) if data is None else io.BytesIO(data)

    def open(self, path, mode="r", encoding=None, errors=None):
        """open(), for reading."""
        data = core.read(_real(os.fsdecode(path)))
        if data is None:
            return io.open(path, mode, encoding=encoding, errors=errors)
        if "b" in mode:
            return io.BytesIO(data)
        return io.TextIOWrapper(io.BytesIO(data), encoding=encoding, errors=errors)


class _Listener:
    """Standard error while site runs: kept, and shown on root only.

    Afterwards it passes everything on: what site has imported may hold it.
    """

    def __init__(self, stream, shown, text):
        self.stream = stream
        self.shown = shown
        self.text = text
        self.over = False

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        if not self.over:
            self.text.append(text)
        if self.over or self.shown:
            self.stream.write(text)
        return len(text)


# ---- stage 1 -----------------------------------------------------------------


def _site_directories(site):
    """Where site is going to look: [directory, ...] and pyvenv.cfg's places."""
    here = os.path.dirname(os.path.abspath(sys.executable or ""))
    configurations = [
        os.path.join(place, "pyvenv.cfg")
        for place in (here, os.path.dirname(here))
    ]
    prefixes = [os.path.dirname(here), *site.PREFIXES]
    directories = site.getsitepackages(list(dict.fromkeys(prefixes)))
    if not sys.flags.no_user_site:
        base = os.environ.get("PYTHONUSERBASE") or os.path.join(
            os.path.expanduser("~"), ".local"
        )
        directories.append(
            "{}/lib/python{}.{}/site-packages".format(base, *sys.version_info[:2])
        )
    return directories, configurations


# ---- stage 2 -----------------------------------------------------------------


def _read_ahead(directories, configurations):
    """Publish what the others are going to ask for."""
    for path in configurations:
        core.prefetch("stat", path)
        core.prefetch("read", path)
    for path in directories:
        core.prefetch("stat", path)
        core.prefetch("list", path)
    for path in directories:
        try:
            entries = core.listdir(path) or ()
        except OSError:
            continue
        for name, _ in entries:
            if name.endswith(".pth"):
                core.prefetch("stat", os.path.join(path, name))
                core.prefetch("read", os.path.join(path, name))


# ---- stage 3 -----------------------------------------------------------------


def _apply(site):
    """Run the genuine site.main() with the store's view of the filesystem."""
    saved = {name: site.__dict__.get(name) for name in ("os", "io", "open")}
    shim = _Io()
    site.os = _Os()
    site.io = shim
    site.open = shim.open
    try:
        site.main()
    finally:
        for name, value in saved.items():
            if value is None:
                del site.__dict__[name]
            else:
                site.__dict__[name] = value


def _apply_listening(site, shown, said):
    """Apply, and append what is said on standard error to the list 'said'."""
    stream = sys.stderr
    if stream is None:
        _apply(site)
        return
    sys.stderr = listener = _Listener(stream, shown, said)
    try:
        _apply(site)
    finally:
        listener.over = True
        if sys.stderr is listener:
            sys.stderr = stream


def run(job):
    """Do what `import site` does in stock Python.  Collective.

    Source: PEP 370, PEP 405, CPython's Lib/site.py.
    """
    import site

    if job.size == 1:
        _apply(site)
        return
    if job.rank == 0:
        _read_ahead(*_site_directories(site))
    said = []
    try:
        _apply_listening(site, job.rank == 0, said)
    finally:  # whatever happens here, the others wait for root
        here = "".join(said)
        root = job.bcast(here.encode("utf-8", "backslashreplace"))
        if here.encode("utf-8", "backslashreplace") != root and sys.stderr:
            sys.stderr.write(
                f"mpiimport: rank {job.rank}: site says here:\n{here}"
            )
