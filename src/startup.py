"""How the native launcher's ranks get a Python without looking at the tree.

Rank 0 says what its interpreter has found and read at its start, the others
start from that (src/native/startup.h has the format).  Afterwards the modules
that came as frozen ones are made what they are in stock Python.
"""

import marshal
import sys
from _codecs import utf_32_le_encode
from _frozen_importlib import ModuleSpec

import mpiimport as core


def _number(value):
    return value.to_bytes(4, sys.byteorder)


def _wide(text):
    """Text as the characters of wchar_t."""
    data = utf_32_le_encode(text, "surrogatepass")[0]
    if sys.byteorder == "little":
        return data
    return b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))


def _text(value):
    data = _wide(value)
    return _number(len(data) // 4) + data


def _sized(data):
    return _number(len(data)) + data


def _modules(loaders):
    """Yield (name, spec, code) of what was imported from files so far."""
    ours = f"{sys._stdlib_dir}/"
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if getattr(spec, "name", None) != name:
            continue  # os.path, which is posixpath
        # Not the program's own, of -W: while it is executed, its __file__ is
        # that of a frozen module, below the standard library's directory.
        if isinstance(spec.loader, loaders) and spec.origin.startswith(ours):
            yield name, spec, marshal.dumps(spec.loader.get_code(name))


# Set by name on the other ranks: getpath, which is given the prefixes, has no
# place for these, or would look at the files.
NAMES = ("executable", "_base_executable", "_stdlib_dir", "path")


def pack(loaders):
    """Return what the other ranks need to start, as bytes.  Rank 0 only.

    loaders  importlib's classes of loaders of Python code
    """
    modules = list(_modules(loaders))
    texts = (
        sys.prefix,
        sys.base_prefix,
        sys.exec_prefix,
        sys.base_exec_prefix,
        sys.prefix,  # home: with any, getpath looks for no pyvenv.cfg
    )
    parts = [_text(text) for text in texts]
    parts.append(_number(len(modules)))
    for name, spec, code in modules:
        package = spec.submodule_search_locations is not None
        parts += [_sized(name.encode() + b"\0"), _number(package)]
        parts.append(_sized(code))
    values = [getattr(sys, name) for name in NAMES]
    places = [
        (name, spec.origin, spec.submodule_search_locations)
        for name, spec, _ in modules
    ]
    parts.append(marshal.dumps([values, places]))
    return b"".join(parts)


def _restore(module, name, origin, locations, loaders):
    kind = next(kind for suffix, kind in loaders if origin.endswith(suffix))
    loader = kind(name, origin)
    spec = ModuleSpec(name, loader, origin=origin)
    spec._set_fileattr = True
    spec.submodule_search_locations = locations
    spec._initializing = False
    names = module.__dict__
    names.pop("__origname__", None)
    names.update(
        __spec__=spec,
        __loader__=loader,
        __file__=origin,
        __cached__=spec.cached,
    )
    if locations is not None:
        names["__path__"] = locations


def restore(rest, loaders):
    """Make this interpreter what it is on rank 0.

    rest     the end of what pack() made, as bytes
    loaders  [(suffix, class of loaders), ...]
    """
    values, places = marshal.loads(rest)
    for name, value in zip(NAMES, values, strict=True):
        setattr(sys, name, value)
    for name, origin, locations in places:
        module = sys.modules.get(name)
        if module is not None:
            _restore(module, name, origin, locations, loaders)
            core.count(core.PHASES.index("LOAD"))
