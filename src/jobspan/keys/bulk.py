"""Many values of one kind encoded at once, at the speed of C: columns instead of items.

Which values are encoded so depends on the values alone: a list of so many dictionaries with the
same names, of so many lists. Whoever has an equal value takes the same way.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from operator import itemgetter
from typing import Any, TypeAlias

__all__ = [
    "CHECKED_DEPTH",
    "LEAVES",
    "MANY",
    "CyclicError",
    "Plain",
    "contains_itself",
    "kinds_of",
    "packed_integers",
    "rows",
]

Plain: TypeAlias = Any

LEAVES = frozenset({type(None), bool, int, float, str, bytes})
"""Types that the pickler writes by value on its own."""

MANY = 16
"""From so many values on it pays to look whether they are of one kind."""

CHECKED_DEPTH = 3
"""Columns within columns at which it is checked that they end; ever more come of a list that
contains itself."""


class CyclicError(Exception):
    """A value contains itself; it must be encoded item by item."""


def contains_itself(value: Any) -> bool:
    """Whether a list, tuple or dictionary contains itself, by way of others of them."""
    above: set[int] = set()
    done: set[int] = set()
    stack: list[tuple[Any, bool]] = [(value, False)]
    while stack:
        part, finished = stack.pop()
        identity = id(part)
        if finished:
            above.discard(identity)
            done.add(identity)
        elif identity in above:
            return True
        elif identity not in done:
            above.add(identity)
            stack.append((part, True))
            parts = part.values() if type(part) is dict else part
            stack.extend((each, False) for each in parts if type(each) in _CONTAINERS)
    return False


_CONTAINERS = (list, tuple, dict)


def kinds_of(values: Collection[Any]) -> set[type]:
    """Return the types of values."""
    if len(values) < MANY:
        return set(map(type, values))
    # Counting one type takes half the time of collecting all, and mostly there is one only.
    kinds = list(map(type, values))
    return {kinds[0]} if kinds.count(kinds[0]) == len(kinds) else set(kinds)


def rows(values: list[Any], kind: type, plain: Callable[[list[Any]], Plain]) -> Plain | None:
    """Return the structure of many dictionaries, lists or tuples, as columns.

    Parameters
    ----------
    values : list
        At least `MANY` values, all of one type.
    kind : type
        Their type.
    plain : callable
        Returns the structure of a column.

    Returns
    -------
    dict or None
        None where they are of another type, or dictionaries with different names.
    """
    if kind is dict:
        return _records(values, plain)
    if kind is list or kind is tuple:
        lengths = packed_integers(map(len, values))
        column = plain(list(chain.from_iterable(values)))
        return {"lists" if kind is list else "tuples": (lengths, column)}
    return None


def _records(values: list[dict[Any, Any]], plain: Callable[[list[Any]], Plain]) -> Plain | None:
    first = values[0]
    if not first or set(map(len, values)) != {len(first)}:
        return None
    if kinds_of(list(chain.from_iterable(values))) != {str}:
        return None
    names = sorted(first)
    try:
        columns = [list(map(itemgetter(name), values)) for name in names]
    except KeyError:
        return None
    return {"records": (len(values), names, *map(plain, columns))}


def packed_integers(numbers: Iterable[int]) -> bytes:
    """Return numbers as little-endian integers of 64 bits."""
    return _bytes(array("q", numbers))


def _bytes(numbers: array[Any]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
