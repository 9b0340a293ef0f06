"""Values as canonical bytes: equal values give equal bytes in any process, unequal ones never.

A value is first turned into a plain structure of ``None``, ``bool``, ``int``, ``float``, ``str``,
``bytes``, ``list`` and ``tuple``; what is none of these becomes a dictionary of one item, its tag
and its parts. (A user's own dictionary is tagged itself, so a plain one is always a tag.) The
structure is then written by the C pickler of protocol 3 in ``fast`` mode, which has no memo and no
frames: the bytes depend on the values alone, not on what is shared, interned or identical. (Each
opcode carries its operand's length, so that no two structures give the same bytes; proved by the
property tests.)

What is settled: ``0.0`` and ``-0.0`` differ, as they do for ``1 / x``; a nan equals a nan of the
same bits. Sets and dictionaries are independent of order; arrays in C and Fortran order differ, as
they do for joblib.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

from blake3 import blake3

from jobspan.errors import UnkeyableError
from jobspan.keys.bulk import (
    CHECKED_DEPTH,
    LEAVES,
    MANY,
    CyclicError,
    Plain,
    contains_itself,
    kinds_of,
    rows,
)
from jobspan.keys.origins import is_users, version_of

__all__ = ["Encoder", "canonical_bytes", "digest", "register_key_encoder", "tagged"]

MOST_VISITS = 20_000
"""Visits to the parts of a value with cycles; from so many on, parts are numbered."""

SORTABLE = frozenset({int, str, bytes})
"""Types whose values sort among themselves in one way only."""


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
    deep = False
    try:
        try:
            return _written(_FAST.plain(value))
        except _ObjectError:
            return _written(_Tracing().plain(value))
    except RecursionError:
        deep = True
    except (_Unkeyable, CyclicError):
        pass
    # With care: cycles are looked for, and the path to what has no key is kept.
    careful = _Careful()
    try:
        try:
            plain = careful.plain(value)
        except _EntangledError:
            plain = _Numbering().plain(value)
        if deep and not careful.cyclic:
            raise RecursionError
        return _written(plain)
    except _Unkeyable as error:
        path = name + "".join(reversed(error.steps))
        raise UnkeyableError(
            f"{path} cannot be part of a key: {error.reason}. Leave the argument out with "
            "ignore=[...], or say what it stands for with a __jobspan_key__ method or "
            "register_key_encoder"
        ) from error.__cause__
    except RecursionError as error:
        raise UnkeyableError(f"{name} is nested too deeply for a key") from error


def digest(value: Any, name: str = "value") -> str:
    """Return the BLAKE3 digest of a value's canonical bytes, 64 hexadecimal digits."""
    return blake3(canonical_bytes(value, name)).hexdigest()


def tagged(tag: str, *parts: Plain) -> Plain:
    """Return the structure of what is no plain value: a tag, and parts that are structures."""
    return {tag: parts}


class _Writer(threading.local):
    """A pickler for each thread, for making one costs as much as writing a small value."""

    def __init__(self) -> None:
        self.file = io.BytesIO()
        self.pickler = pickle.Pickler(self.file, protocol=3)
        self.pickler.fast = True


_writer = _Writer()


def _written(plain: Plain) -> bytes:
    file = _writer.file
    try:
        _writer.pickler.dump(plain)
        return file.getvalue()
    finally:
        file.seek(0)
        file.truncate()


class _Unkeyable(Exception):  # noqa: N818 - carries the path while the stack unwinds
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []


class _EntangledError(Exception):
    """A value refers to itself along more ways than time allows to follow."""


class _ObjectError(Exception):
    """There is an object, and objects may be shared; which ones were met must be remembered."""


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
    """Turns values into plain structures.

    Parameters
    ----------
    depth : int
        How many levels of columns are above.

    Notes
    -----
    Threads and processes: holds nothing of a value; one serves all threads.
    """

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth

    def plain(self, value: Any) -> Plain:
        """Return the plain structure that stands for `value`."""
        kind = type(value)
        if kind in LEAVES:
            return value
        encode = ENCODERS.get(kind)
        return encode(self, value) if encode is not None else self._other(value, kind)

    def column(self, values: list[Any], kind: type) -> Plain | None:
        """Return the structure of many values of one type at once; None: go item by item."""
        if self._depth == CHECKED_DEPTH and contains_itself(values):
            raise CyclicError
        return rows(values, kind, _AT_DEPTH[min(self._depth, CHECKED_DEPTH) + 1].plain)

    def _other(self, value: Any, kind: type) -> Plain:
        registered = _registered.get(kind)
        if registered is not None:
            return tagged("registered", class_name(kind), self.plain(registered(value)))
        key = getattr(kind, "__jobspan_key__", None)
        if key is not None:
            return tagged("key", class_name(kind), self.plain(key(value)))
        if isinstance(value, type):
            return ENCODERS[type](self, value)
        function = getattr(value, "__jobspan_function__", None)
        if function is not None:
            return self.plain(function)
        for base in kind.__mro__:
            package = base.__module__.partition(".")[0]
            encode = FOREIGN.get(package)
            found = None if encode is None else encode(self, value)
            if found is not None:
                same = package == kind.__module__.partition(".")[0]
                return found if same else tagged("derived", self.kind(kind), found)
        return self.object(value)

    def kind(self, kind: type) -> Plain:
        """Return what stands for the class of a value: the user's own count with their code."""
        return self.plain(kind) if is_users(kind.__module__) else class_name(kind)

    def object(self, value: Any) -> Plain:
        """Return what stands for an object: the digest of its structure, which may be shared."""
        raise _ObjectError

    def step(self, step: str, value: Any) -> Plain:
        """Return the structure for a part of a value, named in errors by `step`."""
        try:
            return self.plain(value)
        except _Unkeyable as error:
            error.steps.append(step)
            raise

    def items(self, values: Iterable[Any]) -> list[Plain]:
        """Return the structures of a sequence's items."""
        done: list[Plain] = []
        try:
            for value in values:  # a list comprehension would forget how far it came
                done.append(value if type(value) in LEAVES else self.plain(value))  # noqa: PERF401
        except _Unkeyable as error:
            error.steps.append(f"[{len(done)}]")
            raise
        return done

    def pairs(self, mapping: Any) -> tuple[list[Plain], list[Plain]]:
        """Return a mapping's keys and values, in an order that depends on the keys alone."""
        kinds = kinds_of(mapping)
        if len(kinds) <= 1 and kinds <= SORTABLE:
            keys = sorted(mapping)
            if len(keys) < MANY:
                return keys, self._at(keys, [mapping[key] for key in keys])
            values = list(itemgetter(*keys)(mapping))
            return keys, values if kinds_of(values) <= LEAVES else self._at(keys, values)
        encoded = [
            (_written(plain := self.step(f"[{key!r}]", key)), plain, value, key)
            for key, value in mapping.items()
        ]
        encoded.sort(key=lambda item: item[0])
        values = [value for _, _, value, _ in encoded]
        return (
            [plain for _, plain, _, _ in encoded],
            self._at([key for _, _, _, key in encoded], values),
        )

    def _at(self, keys: list[Any], values: list[Any]) -> list[Plain]:
        """Return the structures of values that stand under keys."""
        done: list[Plain] = []
        try:
            for value in values:  # a list comprehension would forget how far it came
                done.append(value if type(value) in LEAVES else self.plain(value))  # noqa: PERF401
        except _Unkeyable as error:
            error.steps.append(f"[{keys[len(done)]!r}]")
            raise
        return done

    def members(self, values: Any) -> list[Plain]:
        """Return a set's members, in an order that depends on them alone."""
        kinds = kinds_of(values)
        if len(kinds) <= 1 and kinds <= SORTABLE:
            return sorted(values)
        return sorted((self.plain(value) for value in values), key=_written)


class _Tracing(Encoder):
    """Encodes one value; objects that it meets again are not looked at again."""

    def __init__(self) -> None:
        super().__init__()
        self._met: dict[int, tuple[Any, Plain]] = {}

    def column(self, values: list[Any], kind: type) -> Plain | None:
        """Return the structure of many values of one type at once; None: go item by item."""
        if self._depth == CHECKED_DEPTH and contains_itself(values):
            raise CyclicError
        self._depth += 1
        try:
            return rows(values, kind, self.plain)
        finally:
            self._depth -= 1

    def object(self, value: Any) -> Plain:
        """Return the digest of an object's structure."""
        met = self._met.get(id(value))
        if met is None:
            self._met[id(value)] = (value, None)
            plain = {"object": blake3(_written(_reduced(self, value))).digest()}
            met = self._met[id(value)] = (value, plain)
        elif met[1] is None:
            raise CyclicError
        return met[1]


class _Careful(Encoder):
    """Encodes one value that may contain itself, or a part without a key; item by item.

    What contains itself refers up to itself, by so many levels. What is met again is not looked at
    again, unless it refers up beyond itself: then it may mean another thing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cyclic = False
        self._above: dict[int, int] = {}
        self._met: dict[int, tuple[Any, Plain]] = {}
        self._highest = 0
        self._visits = 0

    def column(self, values: list[Any], kind: type) -> Plain | None:
        """Return None: each item is looked at on its own."""
        return None

    def object(self, value: Any) -> Plain:
        """Return the digest of an object's structure."""
        return {"object": blake3(_written(_reduced(self, value))).digest()}

    def plain(self, value: Any) -> Plain:
        """Return the plain structure; what contains itself refers up to itself."""
        if type(value) in LEAVES:
            return value
        identity, level = id(value), len(self._above)
        if identity in self._above:
            self.cyclic = True
            self._highest = min(self._highest, self._above[identity])
            return {"up": level - self._above[identity]}
        if identity in self._met:
            return self._met[identity][1]
        self._visits += 1
        if self._visits > MOST_VISITS:
            raise _EntangledError
        self._above[identity] = level
        before, self._highest = self._highest, level
        try:
            plain = super().plain(value)
        finally:
            del self._above[identity]
        if self._highest >= level:
            self._met[identity] = (value, plain)
        self._highest = min(before, self._highest)
        return plain


class _Numbering(Encoder):
    """Encodes a value that refers to itself along many ways, such as a graph of objects.

    Each part that may change has its number, in the order in which parts are met; what is met again
    is named by it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._met: dict[int, tuple[Any, int]] = {}

    def column(self, values: list[Any], kind: type) -> Plain | None:
        """Return None: each item is looked at on its own."""
        return None

    def object(self, value: Any) -> Plain:
        """Return an object's structure."""
        return _reduced(self, value)

    def plain(self, value: Any) -> Plain:
        """Return the plain structure, or the number that it has already."""
        kind = type(value)
        if kind in LEAVES or kind in (tuple, frozenset):
            return super().plain(value)
        if id(value) in self._met:
            return {"met": self._met[id(value)][1]}
        self._met[id(value)] = (value, len(self._met))
        return super().plain(value)


_AT_DEPTH = tuple(map(Encoder, range(CHECKED_DEPTH + 2)))
_FAST = _AT_DEPTH[0]


def unkeyable(reason: str) -> Exception:
    """Return the error to raise for a value that has no key."""
    return _Unkeyable(reason)


def class_name(kind: type) -> str:
    """Return what a class is known by in keys: its module and qualified name."""
    return f"{kind.__module__}.{kind.__qualname__}"


# --- builtins ----------------------------------------------------------------------------------


def _list(encoder: Encoder, value: list[Any]) -> Plain:
    if len(value) < MANY:
        return value if LEAVES.issuperset(map(type, value)) else encoder.items(value)
    kinds = kinds_of(value)
    if kinds <= LEAVES:
        return value
    if len(kinds) == 1:
        columns = encoder.column(value, *kinds)
        if columns is not None:
            return columns
    return encoder.items(value)


def _tuple(encoder: Encoder, value: tuple[Any, ...]) -> Plain:
    if len(value) >= MANY:
        return {"tuple": _list(encoder, list(value))}
    return value if LEAVES.issuperset(map(type, value)) else tuple(encoder.items(value))


def _dict(encoder: Encoder, value: dict[Any, Any]) -> Plain:
    return {"dict": encoder.pairs(value)}


def _builtin(encoder: Encoder, value: Any) -> Plain:
    owner = value.__self__
    if owner is None or type(owner).__name__ == "module":
        module = value.__module__ or "builtins"
        return tagged("builtin", module, value.__qualname__, version_of(module))
    return tagged("method", value.__name__, encoder.step(".__self__", owner))


def _partial(encoder: Encoder, value: Any) -> Plain:
    return tagged(
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
    from collections import deque
    from functools import partial
    from types import (
        AsyncGeneratorType,
        BuiltinFunctionType,
        CoroutineType,
        FrameType,
        GeneratorType,
        MappingProxyType,
        MethodType,
    )

    return {
        list: _list,
        tuple: _tuple,
        dict: _dict,
        set: lambda encoder, value: tagged("set", encoder.members(value)),
        frozenset: lambda encoder, value: tagged("frozenset", encoder.members(value)),
        complex: lambda _encoder, value: tagged("complex", value.real, value.imag),
        bytearray: lambda _encoder, value: tagged("bytearray", bytes(value)),
        memoryview: lambda _encoder, value: tagged(
            "memoryview",
            value.format,
            value.shape,
            value.tobytes(),
        ),
        range: lambda _encoder, value: tagged("range", value.start, value.stop, value.step),
        slice: lambda encoder, value: tagged(
            "slice",
            encoder.items((value.start, value.stop, value.step)),
        ),
        type(...): lambda _encoder, _value: tagged("ellipsis"),
        type(NotImplemented): lambda _encoder, _value: tagged("not implemented"),
        OrderedDict: lambda encoder, value: tagged(
            "ordered",
            encoder.items(value),
            [encoder.step(f"[{key!r}]", item) for key, item in value.items()],
        ),
        MappingProxyType: lambda encoder, value: tagged("proxy", *encoder.pairs(value)),
        deque: lambda encoder, value: tagged("deque", encoder.items(value), value.maxlen),
        partial: _partial,
        BuiltinFunctionType: _builtin,
        MethodType: lambda encoder, value: tagged(
            "bound",
            encoder.step(".__self__", value.__self__),
            encoder.step(".__func__", value.__func__),
        ),
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
        module = getattr(value, "__module__", None) or kind.__module__
        return tagged("global", module, reduced, version_of(module))
    function, args, state, items, pairs = (*reduced, None, None, None)[:5]
    if getattr(function, "__name__", "") == "__newobj__" and args and args[0] is kind:
        made: Plain = [encoder.plain(arg) for arg in args[1:]]
    else:
        made = (encoder.plain(function), [encoder.plain(arg) for arg in args])
    entries: Plain = None
    if pairs is not None:
        ordered = isinstance(value, OrderedDict)
        entries = encoder.items(pairs) if ordered else encoder.pairs(dict(pairs))
    return tagged(
        "object",
        encoder.kind(kind),
        made,
        _state(encoder, state),
        None if items is None else encoder.items(items),
        entries,
    )


def _state(encoder: Encoder, state: Any) -> Plain:
    """Return the structure of an object's state, its attributes named in errors."""
    if type(state) is dict and set(map(type, state)) <= {str}:
        names = sorted(state)
        return tagged("state", names, [encoder.step(f".{name}", state[name]) for name in names])
    if type(state) is tuple and len(state) == 2 and type(state[1]) is dict:
        return tagged("slots", _state(encoder, state[0]), _state(encoder, state[1]))
    return encoder.plain(state)


def loaded(module: str) -> Any:
    """Return a module if somebody has loaded it, else None."""
    return sys.modules.get(module)
