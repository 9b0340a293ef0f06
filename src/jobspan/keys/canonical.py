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

from typing import Any

from blake3 import blake3

from jobspan.errors import UnkeyableError
from jobspan.keys.bulk import CHECKED_DEPTH, LEAVES, CyclicError, Plain, contains_itself, rows
from jobspan.keys.encoding import (
    AT_DEPTH,
    Encoder,
    KeyEncoder,
    NoKeyError,
    ObjectError,
    reduced,
    registered_encoders,
    written,
)

__all__ = ["canonical_bytes", "digest", "register_key_encoder"]

MOST_VISITS = 20_000
"""Visits to the parts of a value with cycles; from so many on, parts are numbered."""


_fast_plain = AT_DEPTH[0].plain


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
            return written(_fast_plain(value))
        except ObjectError:
            return written(_Tracing().plain(value))
    except RecursionError:
        deep = True
    except (NoKeyError, CyclicError):
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
        return written(plain)
    except NoKeyError as error:
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
    registered_encoders[kind] = encoder


class _EntangledError(Exception):
    """A value refers to itself along more ways than time allows to follow."""


class _Tracing(Encoder):
    """Encodes one value; objects that it meets again are not looked at again."""

    def __init__(self) -> None:
        super().__init__()
        self._met: dict[int, tuple[Any, Plain]] = {}
        self._kinds: dict[type, Plain] = {}

    def kind(self, kind: type) -> Plain:
        """Return what stands for the class of a value, looked at once."""
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = super().kind(kind)
        return known

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
            plain = {"object": blake3(written(reduced(self, value))).digest()}
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
        return {"object": blake3(written(reduced(self, value))).digest()}

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
        return reduced(self, value)

    def plain(self, value: Any) -> Plain:
        """Return the plain structure, or the number that it has already."""
        kind = type(value)
        if kind in LEAVES or kind in (tuple, frozenset):
            return super().plain(value)
        if id(value) in self._met:
            return {"met": self._met[id(value)][1]}
        self._met[id(value)] = (value, len(self._met))
        return super().plain(value)
