"""What many calls are given, sent once a worker: the ``y`` of a search, the indexes of a fold.

Arrays from ``max_nbytes`` on are shared by every backend. Smaller ones travel with each call, as in
joblib, and a search gives the same ones to hundreds of calls. Once one is seen again, it is packed
into a buffer that is large enough to be shared, with what else was seen: where one comes again,
others will, and each buffer costs a cluster several messages. A call still gets a copy of its own
to write to.
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

BUNDLE_BYTES = 8 << 20
"""What was seen once is packed with what comes again up to so many bytes: it may be in vain."""


class Repetitions:
    """Finds values that calls are given again, and has them shared.

    Parameters
    ----------
    threshold : int or None
        Bytes from which the backend shares a buffer; None: never.
    """

    def __init__(self, threshold: int | None) -> None:
        self._threshold = threshold
        self._seen: OrderedDict[int, _Seen] = OrderedDict()
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
        threshold = self._threshold
        if threshold is None or not LEAST_BYTES <= _plain_bytes(value) < threshold:
            return value
        key = id(value)
        seen = self._seen.get(key)
        if seen is None:
            self._seen[key] = _Seen(value)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            return value
        self._seen.move_to_end(key)
        if seen.packed is None or seen.changed():
            self._bundle(seen, threshold)
        return seen.packed

    def _bundle(self, first: _Seen, threshold: int) -> None:
        """Pack what is seen again, and with it what was seen once."""
        room = BUNDLE_BYTES
        chosen = [first]
        for other in reversed(self._seen.values()):
            if other.packed is None and other is not first and other.value.nbytes <= room:
                room -= other.value.nbytes
                chosen.append(other)
        payloads = [pickle.dumps(each.value, protocol=5) for each in chosen]
        # What has an ``nbytes`` comes with numpy.
        size = max(sum(map(len, payloads)), threshold)
        buffer = sys.modules["numpy"].zeros(size, dtype="u1")
        end = 0
        for each, payload in zip(chosen, payloads, strict=True):
            start, end = end, end + len(payload)
            buffer[start:end] = memoryview(payload)
            each.packed = _Packed(buffer, start, end)
            each.unconfirmed = None if each is first else payload


class _Seen:
    """A value that was seen, and what stands for it once it is packed."""

    __slots__ = ("packed", "unconfirmed", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.packed: _Packed | None = None
        self.unconfirmed: bytes | None = None
        """What was packed before the value was seen again."""

    def changed(self) -> bool:
        """Whether it is not what was packed when it had been seen once."""
        before, self.unconfirmed = self.unconfirmed, None
        return before is not None and before != pickle.dumps(self.value, protocol=5)


def _plain_bytes(value: Any) -> int:
    """Return the bytes of a value that the plain pickler does justice to on any machine, else 0."""
    if type(value).__module__.partition(".")[0] not in ("numpy", "pandas"):
        return 0
    dtype, size = getattr(value, "dtype", None), getattr(value, "nbytes", 0)
    objects = getattr(dtype, "hasobject", False) or getattr(dtype, "kind", "O") == "O"
    return 0 if objects or type(size) is not int else size


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

    __slots__ = ("buffer", "end", "start")

    def __init__(self, buffer: Any, start: int, end: int) -> None:
        self.buffer = buffer
        self.start = start
        self.end = end

    def __reduce__(self) -> tuple[Any, ...]:
        return _Packed, (self.buffer, self.start, self.end)

    def value(self) -> Any:
        """Return the value, a copy."""
        return pickle.loads(memoryview(self.buffer)[self.start : self.end])


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
