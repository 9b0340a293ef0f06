"""What users hand in as calls: looked at when it is read, and refused where it is none."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from jobspan.calls import Call, check_call, in_short, is_recallable
from jobspan.errors import JobspanWarning
from jobspan.logger import level_of_user

__all__ = ["CallChecker", "MappedCalls"]


class MappedCalls:
    """The calls of ``Parallel.map``, which can tell their number where their arguments can.

    Parameters
    ----------
    function : callable
        What each of them calls.
    iterables : sequence of iterable
        One for each positional argument; the shortest one ends the calls.
    """

    def __init__(self, function: Callable[..., Any], iterables: tuple[Iterable[Any], ...]) -> None:
        _check_function(function)
        if not iterables:
            raise TypeError(
                "Parallel.map(function) lacks the arguments; pass an iterable for each argument of "
                "the function, as in Parallel().map(pow, [2, 3], [5, 2])"
            )
        for place, iterable in enumerate(iterables, start=1):
            if not hasattr(iterable, "__iter__") and not hasattr(iterable, "__getitem__"):
                raise TypeError(
                    f"argument {place} of Parallel.map after the function is "
                    f"{type(iterable).__name__} {in_short(iterable)}, not an iterable"
                )
        self._function = function
        self._iterables = iterables

    def __iter__(self) -> Iterator[Call]:
        function = self._function
        return ((function, args, {}) for args in zip(*self._iterables, strict=False))

    def __len__(self) -> int:
        return min(map(len, self._iterables))  # type: ignore[arg-type]  # those that have one


class CallChecker:
    """Looks at calls as they are read, and refuses what is none.

    Parameters
    ----------
    wrap : callable or None
        Replaces each function, asked once for a run of the same one.
    """

    def __init__(
        self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
    ) -> None:
        self.cluster: str | None = None
        """Name of the backend where calls run on other machines; None: they run on this one."""
        self._wrap = wrap
        self._last: object = None
        self._wrapped: Any = None

    def __call__(self, calls: list[Any], first: int) -> tuple[list[Call], bool]:
        """Return the calls, and whether one of them can tell what it has stored.

        Parameters
        ----------
        calls : list
            What was read of the user's iterable.
        first : int
            The index of the first of them.

        Raises
        ------
        TypeError
            If one is no call, or its function cannot run in a worker.
        """
        if set(map(type, calls)) - {tuple}:
            self._refuse(calls, first)
        last = self._last
        recallable = False
        try:
            if self._wrap is not None:
                calls = [(self._replaced(each), args, kwargs) for each, args, kwargs in calls]
                return calls, any(is_recallable(function) for function, _, _ in calls)
            if calls and calls[0][0] is last:
                recallable = is_recallable(last)
            for function, _, _ in calls:
                if function is not last:
                    _check_function(function)
                    self._look_where_it_stores(function)
                    last = function
                    recallable = recallable or is_recallable(function)
        except (ValueError, IndexError):
            self._refuse(calls, first)
            raise
        self._last = last
        return calls, recallable

    @staticmethod
    def _refuse(calls: list[Any], first: int) -> None:
        for offset, call in enumerate(calls):
            check_call(call, first + offset)

    def _replaced(self, function: Any) -> Any:
        if function is not self._last:
            _check_function(function)
            self._last = function
            assert self._wrap is not None
            self._wrapped = self._wrap(function)
            self._look_where_it_stores(self._wrapped)
        return self._wrapped

    def _look_where_it_stores(self, function: Any) -> None:
        """Warn once of results that each machine of a cluster would keep to itself."""
        if self.cluster is None or not is_recallable(function):
            return
        place = function.stored_only_here()
        if place is not None and place not in _warned_of:
            _warned_of.add(place)
            warnings.warn(
                f"results are stored in {place}, which workers of the {self.cluster} cluster on "
                "other machines do not see: the cache is not shared. Pass Memory a location that "
                "all see, such as 's3://bucket/prefix'; a folder that all of them mount is "
                "as good: then filter this warning",
                JobspanWarning,
                stacklevel=level_of_user(),
            )

    def each(self, calls: Iterable[Any]) -> Iterator[Call]:
        """Yield calls, each looked at when it is read."""
        last = None  # what was looked at already
        for index, call in enumerate(calls):
            if type(call) is tuple and len(call) == 3 and call[0] is last and last is not None:
                yield call
            else:
                yield self([call], index)[0][0]
                last = None if self._wrap else self._last


_warned_of: set[str] = set()


def _check_function(function: object) -> None:
    if not callable(function):
        raise TypeError(f"delayed({in_short(function)}): {type(function).__name__} is not callable")
    name = getattr(function, "__qualname__", None) or in_short(function)
    runs: Any = function
    while isinstance(runs, partial):
        runs = runs.func
    forms = (runs, type(runs).__call__)  # a function, or what an object does that is called
    if any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in forms):
        raise TypeError(
            f"{name} is an async function, which a worker would not await; write "
            f"delayed(asyncio.run)({name}(...)) with backend='threads', or a plain function that "
            "calls asyncio.run"
        )
    if any(map(inspect.isgeneratorfunction, forms)):
        raise TypeError(
            f"{name} is a generator function, and a generator cannot travel back from a worker; "
            f"return a list: define a function that returns list({name}(...))"
        )
