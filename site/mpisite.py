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

import os
import sys

import mpiimport as core


class _Listener:
    """Standard error while site runs: kept, and shown on root only.

    Afterwards it passes everything on: what site has imported may hold it.
    What does not come from site goes to 'mpiimport_beneath' at once.
    """

    def __init__(self, stream, shown, text):
        self.mpiimport_beneath = stream
        self.shown = shown
        self.text = text
        self.over = False

    def __getattr__(self, name):
        return getattr(self.mpiimport_beneath, name)

    def write(self, text):
        if not self.over:
            self.text.append(text)
        if self.over or self.shown:
            self.mpiimport_beneath.write(text)
        return len(text)


# ---- stage 1 ----------------------------------------------------------------


def _site_directories(site):
    """Where site is going to look: directories, and pyvenv.cfg's places."""
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
            "{}/lib/python{}.{}/site-packages".format(
                base, *sys.version_info[:2]
            )
        )
    return directories, configurations


# ---- stage 2 ----------------------------------------------------------------


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
            names = core.listdir(path) or ()
        except OSError:
            continue
        for name in names:
            if name.endswith(".pth"):
                core.prefetch("stat", os.path.join(path, name))
                core.prefetch("read", os.path.join(path, name))


# ---- stage 3 ----------------------------------------------------------------


def _apply(site):
    """Run the genuine site.main() with the store's view of the filesystem."""
    saved = {name: site.__dict__.get(name) for name in ("os", "io", "open")}
    views = core._module("views")
    site.os = views.os_view()
    site.io = views.io_view()
    site.open = views.open_file
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
        text = "".join(said)
        here = text.encode("utf-8", "backslashreplace")
        if job.bcast(here) != here and sys.stderr:
            sys.stderr.write(
                f"mpiimport: rank {job.rank}: site says here:\n{text}"
            )
