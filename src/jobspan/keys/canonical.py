"""Values as canonical bytes: equal values give equal bytes in any process, unequal ones never.

A value is first turned into a plain structure of ``None``, ``bool``, ``int``, ``float``, ``str``,
``bytes``, ``list`` and ``tuple``; what is none of these becomes a tagged tuple, its tag a marker
that no plain value can imitate. The structure is then written by the C pickler of protocol 3 in
``fast`` mode, which has no memo and no frames: the bytes depend on the values alone, not on what
is shared, interned or identical. (Each opcode carries its operand's length, so that no two
structures give the same bytes; proved by the property tests.)

What is settled: ``0.0`` and ``-0.0`` differ, as they do for ``1 / x``; a nan equals a nan of the
same bits. Sets and dictionaries are independent of order; arrays in C and Fortran order differ, as
they do for joblib.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Iterable
from typing import Any

from blake3 import blake3

from jobspan.errors import UnkeyableError

__all__ = ["Encoder", "canonical_bytes", "digest", "register_key_encoder"]

LEAVES = frozenset({type(None), bool, int, float, str, bytes})
"""Types that the pickler writes by value on its own."""

SORTABLE = frozenset({int, str, bytes})
"""Types whose values sort among themselves in one way only."""

MARK = type
"""Begins every tagged tuple. A class in a user's value is itself tagged, so this is never one."""

Plain = Any


def canonical_bytes(value: Any, name: str = "value") -> bytes:
    """Return the canonical bytes of a value.

    Parameters
    ----------
    value : object
        What is encoded.
    name : str
        What the value is called in an error.

    Raises
    ------
    UnkeyableError
        If a part of it cannot be encoded by value; the message names the path to it.
    """
    try:
        plain = Encoder().plain(value)
    except _Unkeyable as error:
        path = name + "".join(reversed(error.steps))
        raise UnkeyableError(
            f"{path} cannot be part of a key: {error.reason}. Leave the argument out with "
            "ignore=[...], or say what it stands for with a __jobspan_key__ method or "
            "register_key_encoder"
        ) from error.__cause__
    except RecursionError as error:
        raise UnkeyableError(f"{name} is nested too deeply for a key") from error
    return _written(plain)


def digest(value: Any, name: str = "value") -> str:
    """Return the BLAKE3 digest of a value's canonical bytes, 64 hexadecimal digits."""
    return blake3(canonical_bytes(value, name)).hexdigest()


def _written(plain: Plain) -> bytes:
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=3)
    pickler.fast = True
    pickler.dump(plain)
    return file.getvalue()


class _Unkeyable(Exception):  # noqa: N818 - carries the path while the stack unwinds
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []


KeyEncoder = Callable[[Any], Any]
_registered: dict[type, KeyEncoder] = {}


def register_key_encoder(kind: type, encoder: KeyEncoder) -> None:
    """Say what values of a type stand for in keys.

    Parameters
    ----------
    kind : type
        The type, its subclasses not included.
    encoder : callable
        Returns, for a value, what is encoded in its place: any value that has a key.

    Examples
    --------
    >>> class Connection:
    ...     def __init__(self, url): self.url = url
    >>> register_key_encoder(Connection, lambda connection: connection.url)
    >>> digest(Connection("a")) == digest(Connection("a"))
    True
    """
    _registered[kind] = encoder


class Encoder:
    """Turns one value into a plain structure.

    Notes
    -----
    Threads and processes: one value, one thread, one use.
    """

    def __init__(self) -> None:
        self._above: list[int] = []

    def plain(self, value: Any) -> Plain:
        """Return the plain structure that stands for `value`."""
        kind = type(value)
        if kind in LEAVES:
            return value
        identity = id(value)
        if identity in self._above:
            return (MARK, "up", len(self._above) - self._above.index(identity))
        self._above.append(identity)
        try:
            encode = ENCODERS.get(kind)
            if encode is not None:
                return encode(self, value)
            return self._other(value, kind)
        finally:
            self._above.pop()

    def _other(self, value: Any, kind: type) -> Plain:
        registered = _registered.get(kind)
        if registered is not None:
            return (MARK, "registered", class_name(kind), self.plain(registered(value)))
        key = getattr(kind, "__jobspan_key__", None)
        if key is not None:
            return (MARK, "key", class_name(kind), self.plain(key(value)))
        if isinstance(value, type):
            return ENCODERS[type](self, value)
        for base in kind.__mro__:
            package = base.__module__.partition(".")[0]
            encode = FOREIGN.get(package)
            found = None if encode is None else encode(self, value)
            if found is not None:
                same = package == kind.__module__.partition(".")[0]
                return found if same else (MARK, "derived", class_name(kind), found)
        return _reduced(self, value)

    def step(self, step: str, value: Any) -> Plain:
        """Return the structure for a part of a value, named in errors by `step`."""
        try:
            return self.plain(value)
        except _Unkeyable as error:
            error.steps.append(step)
            raise

    def items(self, values: Iterable[Any]) -> list[Plain]:
        """Return the structures of a sequence's items."""
        return [self.step(f"[{index}]", value) for index, value in enumerate(values)]

    def pairs(self, mapping: Any) -> tuple[list[Plain], list[Plain]]:
        """Return a mapping's keys and values, in an order that depends on the keys alone."""
        kinds = set(map(type, mapping))
        if len(kinds) <= 1 and kinds <= SORTABLE:
            keys = sorted(mapping)
            values = [mapping[key] for key in keys]
            if not set(map(type, values)) <= LEAVES:
                values = [
                    self.step(f"[{key!r}]", value) for key, value in zip(keys, values, strict=True)
                ]
            return keys, values
        encoded = [
            (_written(plain := self.step(f"[{key!r}]", key)), plain, value, key)
            for key, value in mapping.items()
        ]
        encoded.sort(key=lambda item: item[0])
        return (
            [plain for _, plain, _, _ in encoded],
            [self.step(f"[{key!r}]", value) for _, _, value, key in encoded],
        )

    def members(self, values: Any) -> list[Plain]:
        """Return a set's members, in an order that depends on them alone."""
        kinds = set(map(type, values))
        if len(kinds) <= 1 and kinds <= SORTABLE:
            return sorted(values)
        return sorted((self.plain(value) for value in values), key=_written)


def unkeyable(reason: str) -> Exception:
    """Return the error to raise for a value that has no key."""
    return _Unkeyable(reason)


def class_name(kind: type) -> str:
    """Return what a class is known by in keys: its module and qualified name."""
    return f"{kind.__module__}.{kind.__qualname__}"


# --- builtins ----------------------------------------------------------------------------------


def _list(encoder: Encoder, value: list[Any]) -> Plain:
    return value if set(map(type, value)) <= LEAVES else encoder.items(value)


def _tuple(encoder: Encoder, value: tuple[Any, ...]) -> Plain:
    return value if set(map(type, value)) <= LEAVES else tuple(encoder.items(value))


def _dict(encoder: Encoder, value: dict[Any, Any]) -> Plain:
    return (MARK, "dict", *encoder.pairs(value))


def _builtin(encoder: Encoder, value: Any) -> Plain:
    owner = value.__self__
    if owner is None or type(owner).__name__ == "module":
        return (MARK, "builtin", value.__module__ or "builtins", value.__qualname__)
    return (MARK, "method", value.__name__, encoder.step(".__self__", owner))


def _partial(encoder: Encoder, value: Any) -> Plain:
    return (
        MARK,
        "partial",
        encoder.step(".func", value.func),
        encoder.step(".args", value.args),
        encoder.step(".keywords", value.keywords),
    )


def _refused(what: str) -> Callable[[Encoder, Any], Plain]:
    def refuse(_encoder: Encoder, _value: Any) -> Plain:
        raise _Unkeyable(f"{what} has no value of its own")

    return refuse


def _encoders() -> dict[type, Callable[[Encoder, Any], Plain]]:
    from collections import OrderedDict, deque
    from functools import partial
    from types import (
        AsyncGeneratorType,
        BuiltinFunctionType,
        CoroutineType,
        FrameType,
        GeneratorType,
        MappingProxyType,
        MethodType,
        ModuleType,
    )

    return {
        list: _list,
        tuple: _tuple,
        dict: _dict,
        set: lambda encoder, value: (MARK, "set", encoder.members(value)),
        frozenset: lambda encoder, value: (MARK, "frozenset", encoder.members(value)),
        complex: lambda _encoder, value: (MARK, "complex", value.real, value.imag),
        bytearray: lambda _encoder, value: (MARK, "bytearray", bytes(value)),
        memoryview: lambda _encoder, value: (
            MARK,
            "memoryview",
            value.format,
            value.shape,
            value.tobytes(),
        ),
        range: lambda _encoder, value: (MARK, "range", value.start, value.stop, value.step),
        slice: lambda encoder, value: (
            MARK,
            "slice",
            encoder.items((value.start, value.stop, value.step)),
        ),
        type(...): lambda _encoder, _value: (MARK, "ellipsis"),
        type(NotImplemented): lambda _encoder, _value: (MARK, "not implemented"),
        OrderedDict: lambda encoder, value: (
            MARK,
            "ordered",
            encoder.items(value),
            [encoder.step(f"[{key!r}]", item) for key, item in value.items()],
        ),
        MappingProxyType: lambda encoder, value: (MARK, "proxy", *encoder.pairs(value)),
        deque: lambda encoder, value: (MARK, "deque", encoder.items(value), value.maxlen),
        partial: _partial,
        BuiltinFunctionType: _builtin,
        MethodType: lambda encoder, value: (
            MARK,
            "bound",
            encoder.step(".__self__", value.__self__),
            encoder.step(".__func__", value.__func__),
        ),
        ModuleType: lambda _encoder, value: (MARK, "module", value.__name__),
        object: _refused("a bare object()"),
        GeneratorType: _refused("a generator"),
        CoroutineType: _refused("a coroutine"),
        AsyncGeneratorType: _refused("an asynchronous generator"),
        FrameType: _refused("a frame"),
    }


ENCODERS = _encoders()
"""What encodes values of exactly one type; modules for further types add theirs."""

FOREIGN: dict[str, Callable[[Encoder, Any], Plain | None]] = {}
"""What encodes values whose type, or a base of it, is defined in a package; None: not known."""


# --- anything else -----------------------------------------------------------------------------


def _reduced(encoder: Encoder, value: Any) -> Plain:
    """Return the structure of an object through its reduction, as pickle and copy know it."""
    kind = type(value)
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:
        problem = _Unkeyable(f"{kind.__qualname__} cannot be taken apart ({error})")
        raise problem from error
    if isinstance(reduced, str):
        return (MARK, "global", value.__module__, reduced)
    function, args, state, items, pairs = (*reduced, None, None, None)[:5]
    if getattr(function, "__name__", "") == "__newobj__" and args and args[0] is kind:
        made: Plain = (class_name(kind), [encoder.plain(arg) for arg in args[1:]])
    else:
        made = (encoder.plain(function), [encoder.plain(arg) for arg in args])
    return (
        MARK,
        "object",
        class_name(kind),
        made,
        _state(encoder, state),
        None if items is None else encoder.items(items),
        None if pairs is None else encoder.pairs(dict(pairs)),
    )


def _state(encoder: Encoder, state: Any) -> Plain:
    """Return the structure of an object's state, its attributes named in errors."""
    if type(state) is dict and set(map(type, state)) <= {str}:
        names = sorted(state)
        return (MARK, "state", names, [encoder.step(f".{name}", state[name]) for name in names])
    if type(state) is tuple and len(state) == 2 and type(state[1]) is dict:
        return (MARK, "slots", _state(encoder, state[0]), _state(encoder, state[1]))
    return encoder.plain(state)


def loaded(module: str) -> Any:
    """Return a module if somebody has loaded it, else None."""
    return sys.modules.get(module)
