"""Loaders: stock importlib's, with contents from the node store.

Compiled under the file name of importlib's own bootstrap (tools/embed.py), so
that the interpreter trims these frames from tracebacks exactly as it trims
importlib's.  That is why this is Python and not Cython.

Phases: a loader enters LOAD, LOADFile or LOADDirect around the execution of a
module and counts it when that has succeeded.
Source: PEP 451; CPython's Lib/importlib/_bootstrap_external.py.
"""

import _imp
import marshal
import sys
from _frozen_importlib import ModuleSpec, _call_with_frames_removed
from _frozen_importlib_external import (
    BYTECODE_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    SourceFileLoader,
    SourcelessFileLoader,
    _code_to_timestamp_pyc,
    _compile_bytecode,
    cache_from_source,
)
from _thread import allocate_lock

import mpiimport as core

FIND, IO, COMM, LOAD, LOAD_FILE, LOAD_DIRECT = range(6)

STOCK = (SourceFileLoader, SourcelessFileLoader, ExtensionFileLoader)

_code_type = type(_call_with_frames_removed.__code__)
_module_type = type(sys)


def _forget_frame(error):
    """Take the calling frame out of the traceback: stock has no such frame.

    (A bare raise afterwards does not put it back.)
    """
    error.__traceback__ = error.__traceback__.tb_next


def _look_at_metadata(module):
    """importlib.metadata reads when asked: its functions get the view."""
    return lambda: core._module("views").adapt_metadata(module)


def _look_at_resources(module):
    """Readers of importlib.resources make their paths when asked."""
    return lambda: core._module("views").adapt_resources(module)


def _look_at_packages(module):
    """pkgutil lists directories when asked."""
    return lambda: core._module("views").adapt_pkgutil(module)


def _look_around(module):
    """Its functions look for files: they get the view."""

    def finish():
        if hasattr(module, "os"):
            module.os = core._module("views").os_view()

    return finish


def _name_abi(module):
    """mpi4py for several ABIs would look for a library: there is one."""

    def finish():
        chosen = "MPI4PY_MPIABI" in module.os.environ
        if not chosen and getattr(module, "MPIABI", "") is None:
            module.MPIABI = core.mpi_abi()

    return finish


RTLD_LAZY, RTLD_NOW = 1, 2


def _open_mirrored(name):
    """Return a looker: dlopen(3) as Python sees it, module.NAME, gets the
    node's copy of what is on the tree.
    """

    def look(module):
        return lambda: _use_mirror(module, name)

    return look


def _use_mirror(module, name):
    genuine = getattr(module, name)
    caller = module.__file__

    def dlopen(name, *flags):
        held = None
        try:
            path, held, nowhere = _library(name, flags, caller)
            if nowhere is not None:
                raise OSError(nowhere)
            if path is not None:
                try:
                    return genuine(path, *flags)
                except OSError:
                    pass  # let it fail in its own words
            return genuine(name, *flags)
        except BaseException as error:
            _forget_frame(error)
            raise
        finally:
            core.release(held)

    dlopen.__name__ = dlopen.__qualname__ = name
    setattr(module, name, dlopen)


def _library(name, flags, caller):
    if not isinstance(name, (str, bytes)) or not name:
        return None, None, None
    if isinstance(name, bytes):
        name = core.decode(name)
    mode = flags[0] if flags and isinstance(flags[0], int) else 0
    if not mode & RTLD_LAZY:
        mode |= RTLD_NOW  # as they do
    return core.library(name, mode, caller)


def _look_when_executed(module):
    return core._module("views").prepare(module)


# Modules that look at the tree by themselves, and how to show them the
# store's view: function from the module to what is called after execution.
LOOKERS = {}


def _is_text(value, text):
    return type(value) is str and value == text


def _share_path(names, path):
    """Have importlib's words for a module's file be one string with the
    code's own: each module has about a hundred bytes less.

    names  the module's namespace
    """
    if _is_text(names.get("__file__"), path):
        names["__file__"] = path
    spec = names.get("__spec__")
    if type(spec) is ModuleSpec and _is_text(spec.origin, path):
        spec.origin = path


class _Timed:
    """Mix-in: time and count.

    mpi_phase  what loading turns out to be
    mpi_again  the module has been executed before (importlib.reload)
    """

    mpi_again = False

    def exec_module(self, module):
        since = core.begin(self.mpi_phase)
        # Afterwards the module may be of another class, which is not asked.
        names = module.__dict__
        again = "__builtins__" in names
        if again is not self.mpi_again:  # an attribute takes memory
            self.mpi_again = again
        finish = None
        try:
            if module.__name__ in LOOKERS:
                finish = LOOKERS[module.__name__](module)
            super().exec_module(module)
            if self.mpi_phase == LOAD:
                _share_path(names, self.path)
            if finish is not None:
                finish()
        except BaseException as error:
            core.failed()
            _forget_frame(error)
            raise
        core.loaded(self.mpi_phase, module.__name__, since)


class _Direct(_Timed):
    """Mix-in: straight from the filesystem."""

    mpi_phase = LOAD_DIRECT


class DirectSourceLoader(_Direct, SourceFileLoader):
    """Source or its bytecode, straight from the filesystem."""


class DirectSourcelessLoader(_Direct, SourcelessFileLoader):
    """Bytecode without source, straight from the filesystem."""


class DirectExtensionLoader(_Direct, ExtensionFileLoader):
    """An extension module, straight from the filesystem."""

    def create_module(self, spec):
        core.enter(LOAD_DIRECT)
        try:
            return super().create_module(spec)
        except BaseException as error:
            _forget_frame(error)
            raise
        finally:
            core.leave()


class _Stored(_Timed):
    """Mix-in: through the store, as long as that can answer.

    A module that is executed again (importlib.reload) is read from the
    filesystem: its source may have changed since root read it.
    """

    mpi_phase = LOAD

    def mpi_directly(self):
        """The store cannot help: this module is loaded by stock means."""
        self.mpi_phase = LOAD_DIRECT
        core.switch(LOAD_DIRECT)

    def get_data(self, path):
        """Return the bytes of the file 'path'.  Local.

        OSError as open().  Source: importlib.abc.ResourceLoader.
        """
        data = core.read(path) if isinstance(path, str) else None
        return super().get_data(path) if data is None else data


class _SourceOnly(SourceFileLoader):
    """Stock's loader, which gets the source from the store and no bytecode."""

    def path_stats(self, path):
        raise OSError

    def get_data(self, path):
        data = core.read(path)
        return super().get_data(path) if data is None else data


class StoreSourceLoader(_Stored, SourceFileLoader):
    """A module with source, from the bytecode in the store."""

    def create_module(self, spec):
        """Return a new module.  importlib would make the same one, after it
        has looked for each of these names in vain.
        """
        if type(spec) is not ModuleSpec or not spec.has_location:
            return None
        module = _module_type(spec.name)
        names = module.__dict__
        if spec.submodule_search_locations is not None:
            names["__path__"] = spec.submodule_search_locations
        names["__file__"] = spec.origin
        cached = spec.cached
        if cached is not None:
            names["__cached__"] = cached
        return module

    def get_code(self, fullname):
        path = self.path if fullname == self.name else None
        path = path or self.get_filename(fullname)
        data = None if self.mpi_again else core.bytecode(path)
        try:
            if data is core.PENDING:
                data = _compile_once(fullname, path)
                if isinstance(data, _code_type):
                    core.intern(data)
                    return data
            if data is core.SOURCE:
                return _SourceOnly(fullname, path).get_code(fullname)
            if data is None:
                self.mpi_directly()
                return SourceFileLoader(fullname, path).get_code(fullname)
            code = marshal.loads(data[16:])
            if not isinstance(code, _code_type):
                cached = cache_from_source(path)
                return _compile_bytecode(data[16:], fullname, cached, path)
        except BaseException as error:
            _forget_frame(error)
            raise
        core.intern(code)
        _imp._fix_co_filename(code, path)
        if path is self.path:
            self.path = code.co_filename
        return code


class StoreSourcelessLoader(_Stored, SourcelessFileLoader):
    """A module without source, from the store."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        loader = SourcelessFileLoader(fullname, path)
        data = None if self.mpi_again else core.read(path)
        try:
            if data is None:
                self.mpi_directly()
            else:
                loader.get_data = lambda path: data  # read once only
            return loader.get_code(fullname)
        except BaseException as error:
            _forget_frame(error)
            raise


class StoreExtensionLoader(_Stored, ExtensionFileLoader):
    """An extension module, from the node's mirror."""

    mpi_phase = LOAD_FILE

    def create_module(self, spec):
        held = None
        core.enter(LOAD_FILE)
        try:
            try:
                mirror = core.mirrored(self.path)
            except ImportError as error:
                error.name = self.name
                raise
            held = core.preload(self.path, sys.getdlopenflags())
            module = self._mpi_create(spec, mirror) if mirror else None
            if module is not None:
                return module
            if mirror is not None:  # in vain: nothing of it may stay
                core.release(held)
                held = None
            self.mpi_directly()
            return ExtensionFileLoader.create_module(self, spec)
        except BaseException as error:
            _forget_frame(error)
            raise
        finally:
            core.release(held)
            core.leave()

    def _mpi_create(self, spec, mirror):
        """Create from the mirror; None if the linker cannot load it there."""
        copy = ModuleSpec(spec.name, spec.loader, origin=mirror)
        copy.submodule_search_locations = spec.submodule_search_locations
        copy._set_fileattr = True
        try:
            module = _call_with_frames_removed(_imp.create_dynamic, copy)
        except ImportError as error:
            if error.path != mirror:
                _forget_frame(error)
                raise
            return None
        if getattr(module, "__file__", None) == mirror:
            module.__file__ = self.path
        return module


_compiling = {}  # path -> lock


def _compile_once(fullname, path):
    """Root: what _compile() returns, or what bytecode() does if another thread
    has compiled it meanwhile.
    """
    if not _served:
        return _compile(fullname, path)
    with _compiling.setdefault(path, allocate_lock()):
        data = core.bytecode(path)
        if data is None or data is core.PENDING:
            return _compile(fullname, path)
        return data


def _compile(fullname, path):
    """Root: compile by stock means, which writes the .pyc, and publish."""
    loader = SourceFileLoader(fullname, path)
    try:
        status = loader.path_stats(path)
        code = loader.get_code(fullname)
    except BaseException as error:
        core.publish_bytecode(path, None, 0, 0)
        _forget_frame(error)
        raise
    mtime, size = int(status["mtime"]), status["size"]
    data = bytes(_code_to_timestamp_pyc(code, mtime, size))
    core.publish_bytecode(path, data, int(status["mtime"] * 1e9), size)
    return code


def compile_for_others(path):
    """Root: publish the bytecode of a file that another rank imports."""
    name = path.rpartition("/")[2].rpartition(".")[0]
    try:
        _compile_once(name, path)
    except Exception:  # noqa: BLE001  the importing rank will meet it, too
        return


def setup(strategy, served, reads):
    """Fill in DIRECT and STORED: [(suffix, loader class), ...] in the order
    in which stock looks for them, DIRECT with lists of suffixes.

    served  another thread of this rank compiles as well
    reads   this rank reads the tree itself
    """
    global DIRECT, STORED, _served
    _served = served
    LOOKERS["mpi4py._mpiabi"] = _name_abi
    if strategy == "all":
        LOOKERS["importlib.metadata"] = _look_at_metadata
        LOOKERS["sysconfig"] = _look_when_executed
        LOOKERS["numpy.ctypeslib"] = _look_around  # load_library(), numpy 1
        LOOKERS["numpy.ctypeslib._ctypeslib"] = _look_around
        LOOKERS["_ctypes"] = _open_mirrored("dlopen")
        LOOKERS["_cffi_backend"] = _open_mirrored("load_library")
    if strategy == "all" and not reads:
        LOOKERS["importlib.resources.readers"] = _look_at_resources
        LOOKERS["pkgutil"] = _look_at_packages
    suffixes = (
        (
            _imp.extension_suffixes(),
            DirectExtensionLoader,
            StoreExtensionLoader,
        ),
        (SOURCE_SUFFIXES, DirectSourceLoader, StoreSourceLoader),
        (BYTECODE_SUFFIXES, DirectSourcelessLoader, StoreSourcelessLoader),
    )
    DIRECT = [(direct, list(endings)) for endings, direct, _ in suffixes]
    STORED = [
        (ending, stored if strategy == "all" else direct)
        for endings, direct, stored in suffixes
        for ending in endings
    ]
