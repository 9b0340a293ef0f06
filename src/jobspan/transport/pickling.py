"""The pickler: by value what the other side cannot import, out of band what is large."""

from __future__ import annotations

import builtins
import inspect
import io
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import Any

import cloudpickle

from jobspan.errors import TransportError
from jobspan.importing import modules_being_imported
from jobspan.installed import is_installed
from jobspan.transport.protocol import Encoded, Fetch, Reference, Share

__all__ = [
    "Arguments",
    "decode",
    "describe_failure",
    "encode",
    "modules_by_value",
    "modules_not_to_import",
    "travelling_by_value",
]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle's pickler, which also knows context variables, memory-mapped files, and where
    code was written.
    """

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is ContextVar:
            return _reduce_variable(obj)
        if (
            kind is BuiltinFunctionType
            and obj.__self__ is builtins
            and getattr(builtins, obj.__name__, None) is not obj
        ):
            return getattr, (builtins, obj.__name__)  # Ray puts another print in its place
        if kind is CodeType:
            return _code_of_file, (self.dispatch_table[kind](obj), obj.co_filename)
        if kind.__name__ == "memmap" and kind.__module__.startswith("numpy"):
            reduced = _reduce_memmap(obj)
            if reduced is not None:
                return reduced
        managers = sys.modules.get("multiprocessing.managers")
        if managers is not None and isinstance(obj, managers.BaseProxy):
            return _reduce_proxy(obj)
        return super().reducer_override(obj)


def encode(value: Any, share: Share | None = None, threshold: int | None = None) -> Encoded:
    """Encode a value.

    Parameters
    ----------
    value : object
        What crosses the boundary.
    share : Share or None
        Takes the large buffers; None: all stay in the payload.
    threshold : int or None
        Bytes from which a buffer is large; None: none is.

    Raises
    ------
    TransportError
        If it cannot be pickled; the message names what could not be.
    """
    references: list[Reference] = []

    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < threshold:  # type: ignore[operator]  # not called without a threshold
            return True
        reference = share(raw)  # type: ignore[misc]  # the same
        if reference is None:
            return True
        references.append(reference)
        return False

    file = io.BytesIO()
    callback = None if share is None or threshold is None else keep_in_band
    pickler = _Pickler(file, protocol=5, buffer_callback=callback)
    try:
        pickler.dump(value)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except Exception as error:
        raise TransportError(describe_failure(value, error)) from error
    # No view of it: where that outlives the file, in a cycle, Python tells of an error in closing.
    return Encoded(file.getvalue(), references)


def decode(encoded: Encoded, fetch: Fetch | None = None) -> Any:
    """Return the value that was encoded.

    Parameters
    ----------
    encoded : Encoded
        What arrived.
    fetch : Fetch or None
        Returns the buffers of references; None where there are none.
    """
    if not encoded.references:
        return pickle.loads(encoded.payload)
    if fetch is None:
        raise TransportError("a value with shared buffers arrived where none can be fetched")
    return pickle.loads(
        encoded.payload, buffers=[fetch(reference) for reference in encoded.references]
    )


# --- what pickle and cloudpickle leave out ---------------------------------------------------


def _code_of_file(reduced: tuple[Callable[..., CodeType], tuple[Any, ...]], file: str) -> CodeType:
    """Return code that names its file, so that tracebacks from workers do; cloudpickle drops it."""
    make, arguments = reduced
    return make(*arguments).replace(co_filename=file)


_variables: dict[str, ContextVar[Any]] = {}


def _reduce_variable(variable: ContextVar[Any]) -> tuple[Any, ...]:
    """Reduce a context variable to the module attribute that holds it, or else to its name."""
    for name, module in list(sys.modules.items()):
        if name == "__main__" or not isinstance(module, ModuleType):
            continue
        for attribute, value in list(vars(module).items()):
            if value is variable:
                return _variable_of_module, (name, attribute)
    return _variable_by_name, (variable.name,)


def _variable_of_module(module: str, attribute: str) -> Any:
    import importlib

    return getattr(importlib.import_module(module), attribute)


def _variable_by_name(name: str) -> ContextVar[Any]:
    """Return the variable that stands for one of ``__main__``: the same one at every call."""
    return _variables.setdefault(name, ContextVar(name))


def _reduce_memmap(array: Any) -> tuple[Any, ...] | None:
    """Reduce a whole memory-mapped file to its path, so that workers map it too."""
    mapped = getattr(array, "base", None)
    filename = getattr(array, "filename", None)
    if filename is None or type(mapped).__name__ != "mmap" or not array.flags.forc:
        return None
    order = "C" if array.flags.c_contiguous else "F"
    mode = "r" if array.mode in ("r", "c") else "r+"
    array.flush()
    arguments = (str(filename), array.dtype, mode, array.offset, array.shape, order)
    return _open_memmap, arguments


def _open_memmap(*arguments: Any) -> Any:
    import numpy as np

    return np.memmap(*arguments)


def _reduce_proxy(proxy: Any) -> Any:
    """Reduce what stands for an object of multiprocessing's manager.

    The manager's key goes along: multiprocessing hands it to its own children only.
    """
    reduced = proxy.__reduce__()
    match reduced:
        case (rebuild, (kind, token, serializer, dict() as options)):
            options = {**options, "authkey": bytes(proxy._authkey)}
            return rebuild, (kind, token, serializer, options)
    return reduced


# --- what travels by value -------------------------------------------------------------------

_COMPILED = tuple(EXTENSION_SUFFIXES)


def modules_by_value() -> list[ModuleType]:
    """Return the loaded modules that only this machine can be trusted to have: the user's own.

    Compiled modules cannot travel, and what belongs to a package with one in it hangs on that.
    """
    return _users_modules(tuple(sys.modules))


@lru_cache(maxsize=8)
def _users_modules(names: tuple[str, ...]) -> list[ModuleType]:
    found = []
    compiled: set[str] = set()
    for name in names:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if module is None or name == "__main__" or not isinstance(file, str):
            continue
        if is_installed(name, file):
            continue
        if file.endswith(_COMPILED):
            compiled.add(name.partition(".")[0])
        else:
            found.append(module)
    return [each for each in found if each.__name__.partition(".")[0] not in compiled]


def modules_not_to_import() -> list[ModuleType]:
    """Return the modules that a worker on this machine cannot import, or must not.

    It would make the same calls on workers of its own, if it imported a module whose import has
    called us, or one that imports that in turn, as any of the user's may; and what multiprocessing
    calls the script in its children is none.
    """
    found = modules_being_imported()
    if found:
        found |= {module.__name__: module for module in modules_by_value()}
    script = sys.modules.get("__mp_main__")
    if script is not None and script.__name__ == "__mp_main__":  # else it is __main__ here
        found["__mp_main__"] = script
    return list(found.values())


_by_value_lock = threading.RLock()


@contextmanager
def travelling_by_value(modules: Iterable[ModuleType]) -> Iterator[None]:
    """Let functions and classes of `modules` travel by value inside a ``with`` block.

    Notes
    -----
    Threads and processes: cloudpickle keeps the list for the process; a lock keeps two blocks
    apart.
    """
    with _by_value_lock:
        registered = cloudpickle.list_registry_pickle_by_value()
        added = [module for module in modules if module.__name__ not in registered]
        for module in added:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in added:
                cloudpickle.unregister_pickle_by_value(module)


# --- what could not be pickled ---------------------------------------------------------------


class Arguments(dict[str, Any]):
    """The arguments of a call that could not be pickled, under what they are called."""


def describe_failure(value: Any, error: BaseException | None) -> str:
    """Return a sentence that names the part of `value` that could not be pickled."""
    path, part = _culprit(value, value.__qualname__ if isinstance(value, FunctionType) else "")
    where = f" at {path}" if path else ""
    return f"cannot pickle {type(part).__name__}{where}: {error}"


def _culprit(value: Any, path: str = "", depth: int = 8) -> tuple[str, Any]:
    """Return the innermost part of `value` that fails on its own, and the path to it."""
    if depth:
        for step, part in _parts(value):
            if not _picklable(part):
                return _culprit(part, path + step, depth - 1)
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Arguments):
        yield from value.items()
    elif isinstance(value, FunctionType):
        read = inspect.getclosurevars(value)
        for name, part in {**read.globals, **read.nonlocals}.items():
            yield f" → {name}", part
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, dict):
        for key, part in value.items():
            yield f"[{key!r}]", part
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield f"[{index}]", part
    elif hasattr(value, "__dict__") and not isinstance(value, type | ModuleType):
        for name, part in vars(value).items():
            yield f".{name}", part


def _picklable(value: Any) -> bool:
    try:
        _Pickler(io.BytesIO(), protocol=5, buffer_callback=lambda _buffer: False).dump(value)
    except Exception:  # noqa: BLE001 - any object may fail in any way
        return False
    return True
