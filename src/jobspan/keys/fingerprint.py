"""The fingerprint of a function: its code and all that it reads, so that behaviour moves the key.

It covers the normalised source, defaults, closure, and the globals that the code reads; through
them the user's own helper functions and classes, recursively. Installed packages count as name and
version, the standard library as name. Nothing is imported or run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any
from weakref import finalize

from blake3 import blake3

from jobspan.keys.classes import short_name
from jobspan.keys.encoding import ENCODERS, Encoder, class_name, tagged
from jobspan.keys.origins import is_users, known_as, version_of
from jobspan.keys.walking import MISSING, Walk, cell_value, mode, value_digest

__all__ = ["Fingerprint", "class_digest", "fingerprint", "function_name", "unwrapped"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a function's behaviour rests on.

    Parameters
    ----------
    digest : str
        64 hexadecimal digits.
    components : mapping of str to str
        The parts it is made of, each with a digest or a version.
    """

    digest: str
    components: Mapping[str, str]


@dataclass(slots=True)
class _Watch:
    """A fingerprint, and what must be looked at to know that it still holds."""

    result: Fingerprint
    code: tuple[Any, Any, Any]
    walk: Walk

    def holds(self, function: Any) -> bool:
        """Whether nothing has changed; as quick as can be, for every call of a function asks."""
        code, defaults, keyword_defaults = self.code
        if code is not None and (
            function.__code__ is not code
            or function.__defaults__ is not defaults
            or function.__kwdefaults__ is not keyword_defaults
        ):
            return False
        walk = self.walk
        for helper, code, defaults, keyword_defaults in walk.codes:
            if (
                helper.__code__ is not code
                or helper.__defaults__ is not defaults
                or helper.__kwdefaults__ is not keyword_defaults
            ):
                return False
        for scope, name, value in walk.names:
            if scope.get(name, MISSING) is not value:
                return False
        if walk.cells and any(cell_value(cell) is not value for cell, value in walk.cells):
            return False
        for value, digest in walk.mutable:  # noqa: SIM110 - all() costs more than all the rest
            if value_digest(value, "global", id) != digest:
                return False
        return True


_watches: dict[int, _Watch] = {}
"""By the function's id, which is its own for as long as it lives: that costs less than hashing."""


def unwrapped(function: Any) -> Any:
    """Return the function behind ``functools.wraps`` of `Memory.cache`, methods and partials."""
    while True:
        if isinstance(function, MethodType):
            function = function.__func__
        elif hasattr(function, "__jobspan_function__"):
            function = function.__jobspan_function__
        else:
            return function


def function_name(function: Any) -> str:
    """Return what a function is known by: module and qualified name."""
    function = unwrapped(function)
    if isinstance(function, functools.partial):
        return function_name(function.func)
    kind = type(function)
    module = getattr(function, "__module__", None) or kind.__module__
    name = getattr(function, "__qualname__", None) or kind.__qualname__
    return f"{known_as(module)}.{name}"


def fingerprint(function: Callable[..., Any]) -> Fingerprint:
    """Return the fingerprint of a function.

    Parameters
    ----------
    function : callable
        A function, method, partial, builtin, class, or an object with ``__call__``.

    Raises
    ------
    UnkeyableError
        If it reads a global or closes over a value that has no key.

    Notes
    -----
    Threads and processes: safe from any thread. Kept between calls: a rebound global, changed
    defaults or new code are seen by identity, a mutable global is encoded anew.

    Examples
    --------
    >>> def double(x): return 2 * x
    >>> fingerprint(double).digest == fingerprint(double).digest
    True
    """
    watch = _watches.get(id(function))
    if watch is not None and watch.holds(function):
        return watch.result
    plain = unwrapped(function)
    if plain is not function:
        return fingerprint(plain)
    return _walked(function, "function")


def class_digest(kind: type) -> str:
    """Return the digest of a class: its code and what that reads, or the version it comes with."""
    watch = _watches.get(id(kind))
    if watch is not None and watch.holds(kind):
        return watch.result.digest
    return _walked(kind, "class").digest


def _walked(start: Any, label: str) -> Fingerprint:
    walk = Walk(start, label)
    result = Fingerprint(_combined(walk.components), walk.components)
    code: tuple[Any, Any, Any]
    if isinstance(start, FunctionType):
        code = (start.__code__, start.__defaults__, start.__kwdefaults__)
    elif isinstance(start, type):
        code = (None, None, None)
    else:
        return result
    if id(start) not in _watches:
        finalize(start, _watches.pop, id(start), None)
    walk.forget()
    _watches[id(start)] = _Watch(result, code, walk)
    return result


def _combined(components: Mapping[str, str]) -> str:
    hasher = blake3()
    for name in sorted(components):
        for part in (name, components[name]):
            data = part.encode("utf-8", "surrogatepass")
            hasher.update(len(data).to_bytes(8, "little"))
            hasher.update(data)
    return hasher.hexdigest()


def _encode_function(_encoder: Encoder, value: FunctionType) -> Any:
    if mode.reference is not None:
        return tagged("function", mode.reference(value))
    return tagged("function", fingerprint(value).digest)


def _encode_class(_encoder: Encoder, value: type) -> Any:
    if not is_users(value.__module__):
        # numpy's classes are names of element types, the same in every version.
        version = "" if value.__module__ == "numpy" else version_of(value.__module__)
        return tagged("class", class_name(value), version)
    # Of a class that travels by value, the function around it is no longer known where it arrives.
    name = f"{known_as(value.__module__)}.{short_name(value)}"
    if mode.reference is not None:
        return tagged("class", name, mode.reference(value))
    return tagged("class", name, class_digest(value))


def _encode_module(_encoder: Encoder, value: ModuleType) -> Any:
    if is_users(value.__name__):
        source = Walk.of_module(value.__name__)
        return tagged("module", known_as(value.__name__), _combined(source))
    return tagged("module", value.__name__, version_of(value.__name__))


ENCODERS[FunctionType] = _encode_function
ENCODERS[type] = _encode_class
ENCODERS[ModuleType] = _encode_module
