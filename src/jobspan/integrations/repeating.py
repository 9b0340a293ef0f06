"""What many calls are given, sent once a worker: the ``y`` of a search, the indexes of a fold.

Arrays from ``max_nbytes`` on are shared by every backend. Smaller ones travel with each call, as in
joblib, and a search gives the same ones to hundreds of calls. One that is seen again is packed into
a buffer that is large enough to be shared. A call still gets a copy of its own to write to.
"""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from jobspan.calls import Call

__all__ = ["Repetitions"]

LEAST_BYTES = 8 << 10
"""Below that, a reference is worth no more than the value."""

REMEMBERED = 128
"""How many values are known at a time; each may be held that long."""


class Repetitions:
    """Finds values that calls are given again, and has them shared.

    Parameters
    ----------
    threshold : int or None
        Bytes from which the backend shares a buffer; None: never.
    """

    def __init__(self, threshold: int | None) -> None:
        self._threshold = threshold
        self._seen: OrderedDict[int, tuple[Any, _Packed | None]] = OrderedDict()
        self._function: Callable[..., Any] | None = None
        self._unpacking: _Unpacking | None = None

    def begin(self) -> None:
        """Forget all: what was seen may have changed since."""
        self._seen.clear()

    def replaced(self, call: Call) -> Call:
        """Return a call with what was seen before as references."""
        function, args, kwargs = call
        function = self._known(function)
        if self._threshold is None:
            return function, args, kwargs
        packed_args = tuple([self._packed(value) for value in args])
        packed_kwargs = {name: self._packed(value) for name, value in kwargs.items()}
        if not any(type(value) is _Packed for value in (*packed_args, *packed_kwargs.values())):
            return function, args, kwargs
        if self._unpacking is None or self._unpacking.function is not function:
            self._unpacking = _Unpacking(function)
        return self._unpacking, (packed_args, packed_kwargs), {}

    def _known(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the last function where this one is made of the same parts.

        Libraries wrap a function anew for each call; a backend sends one function once.
        """
        last = self._function
        if last is not None and type(function) is type(last) and _same_parts(function, last):
            return last
        self._function = function
        return function

    def _packed(self, value: Any) -> Any:
        """Return what stands for a value that was seen before, or the value."""
        size = getattr(value, "nbytes", 0)
        threshold = self._threshold
        if (
            type(size) is not int
            or threshold is None
            or not LEAST_BYTES <= size < threshold
            or isinstance(value, memoryview)
        ):
            return value
        key = id(value)
        known = self._seen.get(key)
        if known is None:
            self._seen[key] = (value, None)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            return value
        self._seen.move_to_end(key)
        packed = known[1]
        if packed is None:
            packed = _Packed.of(value, threshold)
            self._seen[key] = (value, packed)
        return packed


class _Plain:
    """What an instance of a class without slots or parts in C is like."""


def _same_parts(one: Any, other: Any) -> bool:
    """Whether two instances of one plain class hold the very same objects under the same names."""
    kind: Any = type(one)
    if (
        kind.__basicsize__ != _Plain.__basicsize__
        or kind.__reduce_ex__ is not _Plain.__reduce_ex__
        or kind.__reduce__ is not _Plain.__reduce__
    ):
        return False
    parts, others = vars(one), vars(other)
    return parts.keys() == others.keys() and all(
        value is others[name] for name, value in parts.items()
    )


class _Packed:
    """A value as bytes in a buffer that is shared."""

    __slots__ = ("buffer", "size")

    def __init__(self, buffer: Any, size: int) -> None:
        self.buffer = buffer
        self.size = size

    def __reduce__(self) -> tuple[Any, ...]:
        return _Packed, (self.buffer, self.size)

    @classmethod
    def of(cls, value: Any, threshold: int) -> _Packed:
        """Pack a value; what has an ``nbytes`` comes with numpy."""
        payload = pickle.dumps(value, protocol=5)
        buffer = sys.modules["numpy"].zeros(max(len(payload), threshold), dtype="u1")
        buffer[: len(payload)] = memoryview(payload)
        return cls(buffer, len(payload))

    def value(self) -> Any:
        """Return the value, a copy."""
        return pickle.loads(memoryview(self.buffer)[: self.size])


class _Unpacking:
    """Calls a function with packed arguments unpacked."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.function(
            *[_unpacked(value) for value in args],
            **{name: _unpacked(value) for name, value in kwargs.items()},
        )


def _unpacked(value: Any) -> Any:
    return value.value() if type(value) is _Packed else value
