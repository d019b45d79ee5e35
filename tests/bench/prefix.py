"""A whole Python environment in one directory that may lie anywhere.

An installation finds itself by where its executable lies.  So what is needed
of it, with the packages of a virtual environment in its own site-packages, can
be put anywhere and is read there, standard library included.
"""

import json
import os
import pathlib
import shutil
import subprocess

INQUIRY = """
import json, sys, sysconfig
get = sysconfig.get_config_var
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "base": sys.base_prefix,
    "executable": getattr(sys, "_base_executable", sys.executable),
    "stdlib": sysconfig.get_path("stdlib"),
    "packages": [sysconfig.get_path(name) for name in ("purelib", "platlib")],
    "library": get("INSTSONAME") if get("Py_ENABLE_SHARED") else None,
    "libdir": get("LIBDIR"),
}))
"""
# Of no use to a program, and large.
LEFT_OUT = ("test", "site-packages", "idlelib", "turtledemo")


class NoEnvironment(Exception):
    """There is no Python to measure with; str() says why."""


def inquire(python):
    """Return what an interpreter says about itself, as a dict."""
    try:
        done = subprocess.run(
            [python, "-I", "-c", INQUIRY],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise NoEnvironment(f"{python}: {error}") from error


def is_whole(directory):
    """Whether a directory holds an environment with its standard library."""
    directory = pathlib.Path(directory)
    return (
        (directory / "bin" / "python3").exists()
        and not (directory / "pyvenv.cfg").exists()
        and any(directory.glob("lib/python3*/os.py"))
    )


def is_free(directory):
    """Whether an environment can be put there: it is empty, or not there."""
    directory = pathlib.Path(directory)
    return not directory.exists() or not any(directory.iterdir())


def packages_of(prefix):
    """Return the site-packages directory of an environment."""
    return next(pathlib.Path(prefix).glob("lib/python3*/os.py")).with_name(
        "site-packages"
    )


def _put(source, target):
    """Link a file, or copy it with its times: bytecode stays valid."""
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def put_directory(source, target, left_out=()):
    """Put the contents of one directory into another one, made if need be.

    left_out: names in the directory itself that are not wanted
    """
    target.mkdir(parents=True, exist_ok=True)
    for entry in pathlib.Path(source).iterdir():
        if entry.name in left_out:
            continue
        its = target / entry.name
        if entry.is_dir() and not entry.is_symlink():
            put_directory(entry, its)
        elif not os.path.lexists(its):
            _put(entry, its)


def _put_executable(found, target):
    """Copy the interpreter; its library is looked for beside it, if there is
    one of its own.
    """
    content = pathlib.Path(found["executable"]).read_bytes()
    place = found["libdir"].encode() + b"\0"
    ours = b"$ORIGIN/../lib\0"
    if found["library"] and len(ours) <= len(place):
        content = content.replace(
            b"\0" + place, b"\0" + ours.ljust(len(place), b"\0")
        )
    name = f"python{found['version']}"
    executable = target / "bin" / name
    executable.parent.mkdir(parents=True)
    executable.write_bytes(content)
    executable.chmod(0o755)
    (target / "bin" / "python3").symlink_to(name)


def _put_library(found, target):
    """Put the interpreter's shared library beside the standard one."""
    library = pathlib.Path(found["libdir"], found["library"])
    if library.exists():
        _put(library.resolve(), target / "lib" / library.name)


def copy_environment(python, target):
    """Put the environment of an interpreter into a directory: links where
    the filesystem is the same, copies elsewhere.

    Raises NoEnvironment.
    """
    found = inquire(python)
    target = pathlib.Path(target)
    library = target / "lib" / f"python{found['version']}"
    try:
        put_directory(found["stdlib"], library, LEFT_OUT)
        for packages in dict.fromkeys(found["packages"]):
            put_directory(packages, library / "site-packages")
        _put_executable(found, target)
        if found["library"]:
            _put_library(found, target)
    except OSError as error:
        raise NoEnvironment(f"{target}: {error}") from error
    its = inquire(target / "bin" / "python3")
    if pathlib.Path(its["base"]).resolve() != target.resolve():
        raise NoEnvironment(f"{target}: its Python believes in {its['base']}")
