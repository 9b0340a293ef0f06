"""The encoder: turns values into plain structures, whose bytes `written` gives.

Other modules of this package say how values of certain types are encoded: `ENCODERS` by type,
`FOREIGN` by the package that defines the type.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

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
from jobspan.keys.origins import is_users, known_as, version_of

__all__ = [
    "AT_DEPTH",
    "ENCODERS",
    "FOREIGN",
    "Encoder",
    "KeyEncoder",
    "NoKeyError",
    "ObjectError",
    "class_name",
    "loaded",
    "reduced",
    "registered_encoders",
    "tagged",
    "unkeyable",
    "written",
]

SORTABLE = frozenset({int, str, bytes})
"""Types whose values sort among themselves in one way only."""


ENCODERS: dict[type, Callable[[Encoder, Any], Plain]] = {}
"""What encodes values of exactly one type."""

FOREIGN: dict[str, Callable[[Encoder, Any], Plain | None]] = {}
"""What encodes values whose type, or a base of it, is defined in a package; None: not known."""


def tagged(tag: str, *parts: Plain) -> Plain:
    """Return the structure of what is no plain value: a tag, and parts that are structures."""
    return {tag: parts}


class _Chunks(list[bytes]):
    """What the pickler writes: one chunk, but for long texts and bytes, which it hands on whole."""

    write = list.append


class _Writer(threading.local):
    """A pickler for each thread, for making one costs as much as writing a small value."""

    def __init__(self) -> None:
        self.chunks = _Chunks()
        self.renew()

    def renew(self) -> None:
        """Take a new pickler: there is no other way to let go of the old one's buffer."""
        self.pickler = pickle.Pickler(self.chunks, protocol=3)
        self.pickler.fast = True


_writer = _Writer()

KEPT_BUFFER = 1 << 20
"""A pickler begins with a buffer as large as its last one was; one beyond this is not kept."""


def written(plain: Plain) -> bytes:
    """Return the bytes of a plain structure."""
    chunks = _writer.chunks
    try:
        _writer.pickler.dump(plain)
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    finally:
        chunks.clear()
    if len(data) > KEPT_BUFFER:
        _writer.renew()
    return data


class NoKeyError(Exception):
    """A part of a value has no key; gathers the steps to it while the stack unwinds."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []


class ObjectError(Exception):
    """There is an object, and objects may be shared; which ones were met must be remembered."""


KeyEncoder = Callable[[Any], Any]
registered_encoders: dict[type, KeyEncoder] = {}


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
        return rows(values, kind, AT_DEPTH[min(self._depth, CHECKED_DEPTH) + 1].plain)

    def _other(self, value: Any, kind: type) -> Plain:
        registered = registered_encoders.get(kind)
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
        raise ObjectError

    def step(self, step: str, value: Any) -> Plain:
        """Return the structure for a part of a value, named in errors by `step`."""
        try:
            return self.plain(value)
        except NoKeyError as error:
            error.steps.append(step)
            raise

    def items(self, values: Iterable[Any]) -> list[Plain]:
        """Return the structures of a sequence's items."""
        done: list[Plain] = []
        try:
            for value in values:  # a list comprehension would forget how far it came
                done.append(value if type(value) in LEAVES else self.plain(value))  # noqa: PERF401
        except NoKeyError as error:
            error.steps.append(f"[{len(done)}]")
            raise
        return done

    def pairs(self, mapping: Any) -> tuple[list[Plain], list[Plain]]:
        """Return a mapping's keys and values, in an order that depends on the keys alone."""
        kinds = kinds_of(mapping)
        if len(kinds) <= 1 and kinds <= SORTABLE:
            keys = sorted(mapping)
            if len(keys) < MANY:
                return keys, self.values_at(keys, [mapping[key] for key in keys])
            values = list(itemgetter(*keys)(mapping))
            return keys, values if kinds_of(values) <= LEAVES else self.values_at(keys, values)
        encoded = [
            (written(plain := self.step(f"[{key!r}]", key)), plain, value, key)
            for key, value in mapping.items()
        ]
        encoded.sort(key=lambda item: item[0])
        values = [value for _, _, value, _ in encoded]
        return (
            [plain for _, plain, _, _ in encoded],
            self.values_at([key for _, _, _, key in encoded], values),
        )

    def values_at(self, keys: list[Any], values: Iterable[Any]) -> list[Plain]:
        """Return the structures of values that stand under keys."""
        done: list[Plain] = []
        try:
            for value in values:  # a list comprehension would forget how far it came
                done.append(value if type(value) in LEAVES else self.plain(value))  # noqa: PERF401
        except NoKeyError as error:
            error.steps.append(f"[{keys[len(done)]!r}]")
            raise
        return done

    def members(self, values: Any) -> list[Plain]:
        """Return a set's members, in an order that depends on them alone."""
        kinds = kinds_of(values)
        if len(kinds) <= 1 and kinds <= SORTABLE:
            return sorted(values)
        return sorted((self.plain(value) for value in values), key=written)


AT_DEPTH = tuple(map(Encoder, range(CHECKED_DEPTH + 2)))


def unkeyable(reason: str) -> Exception:
    """Return the error to raise for a value that has no key."""
    return NoKeyError(reason)


def class_name(kind: type) -> str:
    """Return what a class is known by in keys: its module and qualified name."""
    return f"{known_as(kind.__module__)}.{kind.__qualname__}"


def reduced(encoder: Encoder, value: Any) -> Plain:
    """Return the structure of an object through its reduction, as pickle and copy know it."""
    kind = type(value)
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:
        problem = NoKeyError(f"{kind.__qualname__} cannot be taken apart ({error})")
        raise problem from error
    if isinstance(reduced, str):
        module = getattr(value, "__module__", None) or kind.__module__
        return tagged("global", known_as(module), reduced, version_of(module))
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
    if type(state) is dict and not state:
        return None  # an exception has such a state once somebody has looked at its __dict__
    if type(state) is dict and set(map(type, state)) <= {str}:
        names = sorted(state)
        return tagged("state", names, [encoder.step(f".{name}", state[name]) for name in names])
    if type(state) is tuple and len(state) == 2 and type(state[1]) is dict:
        return tagged("slots", _state(encoder, state[0]), _state(encoder, state[1]))
    return encoder.plain(state)


def loaded(module: str) -> Any:
    """Return a module if somebody has loaded it, else None."""
    return sys.modules.get(module)
