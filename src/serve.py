"""Which data files are served (data.py), and the stand-ins put into place.

Once, before the program, and forgotten then.
"""

import builtins
import io
import os
import posix
import sys

import mpiimport as core

data = core._module("data")

READERS = {
    "stat": data.stat,
    "lstat": data.lstat,
    "access": data.access,
    "readlink": data.readlink,
    "listdir": data.listdir,
    "scandir": data.scandir,
    "open": data.os_open,
}
# What changes a file or a directory.
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
        if path.startswith("/") and not data.is_below(path, found):
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
    """Return the directories that are served, those of libraries among them,
    and above those the paths of which the status is served.
    """
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
            if data.is_below(site, (top,)):
                inner[name + site[len(top) :]] = None
        if top not in SYSTEM:
            shares[f"{name}/share"] = None
    return (*inner, *shares), tuple(inner), points - set(SYSTEM)


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
    try:
        own = _program_directories(first)
    except OSError:
        return  # no working directory
    roots, inner, points = _settle(job)
    if not roots:
        return
    above = {
        above
        for path in points
        for above in _ancestors(path)
        if job.is_shared(above)
    }
    apart = tuple(path for path in own if data.is_below(path, roots))
    places = {io.open: core.stand_in(builtins.open, data.open_file, "io")}
    functions = READERS | dict.fromkeys(WRITERS, data.writer)
    for name, function in functions.items():
        genuine = getattr(os, name, None)
        if type(genuine) is type(len):
            places[genuine] = core.stand_in(genuine, function, "os")
    _replace(places)
    data.turn_on(roots, inner, points, above, apart)
