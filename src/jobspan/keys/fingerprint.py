"""The fingerprint of a function: its code and all that it reads, so that behaviour moves the key.

It covers the normalised source, defaults, closure, and the globals that the code reads; through
them the user's own helper functions and classes, recursively. Installed packages count as name and
version, the standard library as name. Nothing is imported or run.
"""

from __future__ import annotations

import dis
import functools
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import finalize

from blake3 import blake3

from jobspan.errors import UnkeyableError
from jobspan.keys.bulk import LEAVES
from jobspan.keys.canonical import ENCODERS, Encoder, canonical_bytes, class_name, tagged
from jobspan.keys.source import class_source, code_source

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
    codes: list[tuple[FunctionType, CodeType, Any, Any]] = field(default_factory=list)
    names: list[tuple[dict[str, Any], str, Any]] = field(default_factory=list)
    cells: list[tuple[Any, Any]] = field(default_factory=list)
    mutable: list[tuple[Any, str]] = field(default_factory=list)

    def holds(self) -> bool:
        """Whether nothing has changed; as quick as can be, for every call of a function asks."""
        for function, code, defaults, keyword_defaults in self.codes:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not keyword_defaults
            ):
                return False
        for scope, name, value in self.names:
            if scope.get(name, _MISSING) is not value:
                return False
        if self.cells and any(_cell(cell) is not value for cell, value in self.cells):
            return False
        for value, digest in self.mutable:  # noqa: SIM110 - all() costs more than all the rest
            if _digest(value, "global") != digest:
                return False
        return True


_MISSING = object()
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
    return f"{module}.{name}"


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
    if watch is not None and watch.holds():
        return watch.result
    plain = unwrapped(function)
    if plain is not function:
        return fingerprint(plain)
    if not isinstance(function, FunctionType):
        components = dict(_Walk().callable(function, "function"))
        return Fingerprint(_combined(components), components)
    walk = _Walk()
    components = dict(walk.function(function, "function"))
    result = Fingerprint(_combined(components), components)
    if watch is None:
        finalize(function, _watches.pop, id(function), None)
    _watches[id(function)] = _Watch(result, walk.codes, walk.names, walk.cells, walk.mutable)
    return result


def class_digest(kind: type) -> str:
    """Return the digest of a class: its code and what that reads, or the version it comes with."""
    return _combined(dict(_Walk().kind(kind, "class")))


def _combined(components: Mapping[str, str]) -> str:
    hasher = blake3()
    for name in sorted(components):
        for part in (name, components[name]):
            data = part.encode("utf-8", "surrogatepass")
            hasher.update(len(data).to_bytes(8, "little"))
            hasher.update(data)
    return hasher.hexdigest()


def _digest(value: Any, name: str) -> str:
    return blake3(canonical_bytes(value, name)).hexdigest()


class _Walk:
    """Follows code to all that it reads, each function and class once."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self.codes: list[tuple[FunctionType, CodeType, Any, Any]] = []
        self.names: list[tuple[dict[str, Any], str, Any]] = []
        self.cells: list[tuple[Any, Any]] = []
        self.mutable: list[tuple[Any, str]] = []

    def callable(self, function: Any, label: str) -> Iterator[tuple[str, str]]:
        """Yield the components of anything that can be called."""
        function = unwrapped(function)
        if isinstance(function, FunctionType):
            yield from self.function(function, label)
        elif isinstance(function, functools.partial):
            yield from self.callable(function.func, label)
            yield f"{label} arguments", _digest((function.args, function.keywords), label)
        elif isinstance(function, type):
            yield from self.kind(function, label)
        elif isinstance(function, BuiltinFunctionType) or not _is_users(type(function).__module__):
            module = getattr(function, "__module__", None) or type(function).__module__
            yield label, f"{function_name(function)} {version_of(module)}"
        else:
            yield from self.kind(type(function), label)
            yield f"{label} state", _digest(vars(function), label)

    def function(self, function: FunctionType, label: str) -> Iterator[tuple[str, str]]:
        """Yield the components of a function, and of what it reads."""
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        if not _is_users(function.__module__):
            yield label, f"{function_name(function)} {version_of(function.__module__)}"
            return
        code = function.__code__
        self.codes.append((function, code, function.__defaults__, function.__kwdefaults__))
        yield f"{label} source", blake3(code_source(code).encode()).hexdigest()
        if function.__defaults__ or function.__kwdefaults__:
            defaults = (function.__defaults__, function.__kwdefaults__)
            yield f"{label} defaults", self._value(defaults, f"the defaults of {label}")
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None and callable(wrapped):
            yield from self.callable(wrapped, f"{label} wrapped")
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            value = _cell(cell)
            self.cells.append((cell, value))
            if value is not _MISSING:
                yield from self.read(name, value, ())
        for name, attributes in global_reads(code):
            scope = function.__globals__
            value = scope.get(name, _MISSING)
            self.names.append((scope, name, value))
            if value is not _MISSING:
                yield from self.read(name, value, attributes)

    def kind(self, kind: type, label: str) -> Iterator[tuple[str, str]]:
        """Yield the components of a class: its source, its methods' reads, its bases."""
        if id(kind) in self._seen:
            return
        self._seen.add(id(kind))
        if not _is_users(kind.__module__):
            yield label, f"{class_name(kind)} {version_of(kind.__module__)}"
            return
        source = class_source(kind)
        if source is not None:
            yield f"{label} source", blake3(source.encode()).hexdigest()
        for name, member in sorted(vars(kind).items()):
            method = getattr(member, "__func__", getattr(member, "fget", member))
            if isinstance(method, FunctionType) and _is_users(method.__module__):
                yield from self.function(method, f"{label}.{name}")
        for base in kind.__bases__:
            if base is not object:
                yield from self.kind(base, class_name(base))

    def read(self, name: str, value: Any, attributes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """Yield the components of a value that code reads under a name."""
        while isinstance(value, ModuleType):
            if not _is_users(value.__name__):
                package = value.__name__.partition(".")[0]
                yield f"package {package}", version_of(value.__name__)
                return
            if not attributes:
                return
            attribute, *rest = attributes
            scope = vars(value)
            value = scope.get(attribute, _MISSING)
            self.names.append((scope, attribute, value))
            name, attributes = f"{name}.{attribute}", tuple(rest)
            if value is _MISSING:
                return
        value = unwrapped(value)
        if isinstance(value, FunctionType | type | functools.partial | BuiltinFunctionType):
            yield from self.callable(value, name)
        else:
            yield f"global {name}", self._value(value, name)

    def _value(self, value: Any, name: str) -> str:
        try:
            digest = _digest(value, name)
        except UnkeyableError as error:
            error.add_note(
                f"The function reads {name}. Pass it as an argument, or give version= to replace "
                "the fingerprint by a word of your own."
            )
            raise
        if not _fixed(value):
            self.mutable.append((value, digest))
        return digest


def _fixed(value: Any) -> bool:
    """Whether a value can never change, so that its identity tells all."""
    kind = type(value)
    return kind in LEAVES or (kind in (tuple, frozenset) and all(map(_fixed, value)))


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


@lru_cache(maxsize=4096)
def global_reads(code: CodeType) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the globals that code reads, each with the attributes that it reads of it in a row."""
    reads: dict[tuple[str, tuple[str, ...]], None] = {}
    name = ""
    attributes: list[str] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and name:
            attributes.append(instruction.argval)
            continue
        if name:
            reads[name, tuple(attributes)] = None
            name, attributes = "", []
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            name = instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            reads.update(dict.fromkeys(global_reads(constant)))
    return tuple(reads)


@lru_cache(maxsize=4096)
def _is_users(module: str | None) -> bool:
    """Whether a module is the user's own: neither the interpreter's nor of a distribution."""
    if module is None or module in ("builtins", "jobspan") or module.startswith("jobspan."):
        return module is None
    if module == "__main__":
        return True
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(module), "__file__", None) or getattr(
        sys.modules.get(top), "__file__", None
    )
    if file is None:
        return True
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    installed = "site-packages" in file or "dist-packages" in file
    return not installed and not any(file.startswith(path) for path in paths)


@lru_cache(maxsize=1024)
def version_of(module: str | None) -> str:
    """Return the version of the distribution that a module belongs to; "" for the interpreter's."""
    top = (module or "").partition(".")[0]
    if not top or top in sys.stdlib_module_names or top == "__main__":
        return ""
    version = getattr(sys.modules.get(top), "__version__", None)
    if isinstance(version, str):
        return version
    from importlib import metadata

    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        return ""


def _encode_function(_encoder: Encoder, value: FunctionType) -> Any:
    return tagged("function", fingerprint(value).digest)


def _encode_class(_encoder: Encoder, value: type) -> Any:
    return tagged("class", class_name(value), class_digest(value))


ENCODERS[FunctionType] = _encode_function
ENCODERS[type] = _encode_class
