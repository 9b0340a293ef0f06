"""What users may pass to ``Parallel``: read, checked, and refused with the forms that are taken."""

from __future__ import annotations

import inspect
import math
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import partial
from numbers import Real
from typing import Any, Literal, cast

from jobspan.calls import Call, is_recallable
from jobspan.errors import JobspanWarning
from jobspan.scheduling.policy import OnError
from jobspan.scheduling.retrying import RetryPolicy

__all__ = [
    "DEFAULT_PRE_DISPATCH",
    "CallChecker",
    "MappedCalls",
    "ReturnAs",
    "check_iterable",
    "read_batch_size",
    "read_bytes",
    "read_choice",
    "read_n_jobs",
    "read_on_error",
    "read_pre_dispatch",
    "read_propagate",
    "read_retries",
    "read_return_as",
    "read_seconds",
    "read_verbose",
    "read_whole",
]

ReturnAs = Literal["list", "generator", "generator_unordered"]

DEFAULT_PRE_DISPATCH = "2 * n_jobs"
"""joblib's: enough to keep workers busy, little enough to leave the user's iterable unread."""

MANY_JOBS = 1000
"""With so many jobs, arithmetic on their number that is meant gives at least one batch."""

_RETURN_AS = ("list", "generator", "generator_unordered")
_ON_ERROR = ("raise", "return", "skip")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def read_return_as(value: object) -> ReturnAs:
    """Return `value` if it is a way to return results."""
    if value not in _RETURN_AS:
        raise ValueError(
            'Expected `return_as` parameter to be a string equal to "list","generator" or '
            f'"generator_unordered", but got {value} instead.'
        )
    return cast("ReturnAs", value)


def read_on_error(value: object) -> OnError:
    """Return `value` if it says what becomes of a call that fails."""
    if value not in _ON_ERROR:
        raise ValueError(f"on_error={value!r}: pass 'raise', 'return' or 'skip'")
    return cast("OnError", value)


def read_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse a value that is none of `choices`."""
    if value not in choices:
        kind = "hint" if name == "prefer" else "constraint"
        raise ValueError(f"{name}={value} is not a valid backend {kind}, expected one of {choices}")


def read_n_jobs(value: object) -> int:
    """Return a number of jobs as a whole number other than 0, rounded towards it."""
    forms = (
        f"n_jobs could not be converted to int: n_jobs={value!r}; pass a whole number such "
        "as 4, or -1 for all cores"
    )
    try:
        number = int(cast("Any", value))
    except TypeError as error:
        raise TypeError(forms) from error
    except (ValueError, OverflowError) as error:
        raise ValueError(forms) from error
    if number == 0:
        raise ValueError(
            "n_jobs == 0 in Parallel has no meaning; pass 1 to run one call at a time, "
            "or -1 to use all cores"
        )
    return number


def read_verbose(value: object) -> int:
    """Return a verbosity as a whole number."""
    if isinstance(value, Real) and math.isfinite(value):
        return int(value)
    raise ValueError(f"verbose={value!r}: pass a number: 0 for no lines, 10 for many, 50 for all")


def read_whole(name: str, value: object) -> int | None:
    """Return a whole number above 0, or None."""
    if value is None:
        return None
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        number = operator.index(cast("Any", value))
        if number > 0:
            return number
    raise ValueError(f"{name}={value!r}: pass a whole number above 0, or None")


def read_batch_size(value: object) -> int | None:
    """Return a fixed batch size, or None for an automatic one."""
    if isinstance(value, str) and value == "auto":
        return None
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        size = operator.index(cast("Any", value))
        if size > 0:
            return size
    raise ValueError(f"batch_size must be 'auto' or a positive integer, got: {value!r}")


def read_bytes(name: str, value: object) -> int | None:
    """Return a number of bytes, given as a number, as text such as ``"50M"``, or None.

    Examples
    --------
    >>> read_bytes("max_nbytes", "1.5K")
    1536
    """
    if value is None:
        return None
    if isinstance(value, str):
        number, unit = value[:-1], value[-1:].upper()
        try:
            size = int(_UNITS[unit] * float(number))
        except (KeyError, ValueError, OverflowError):
            size = -1
        if size >= 0:
            return size
        raise ValueError(
            f"{name}={value!r} is no size; pass a number of bytes, or text such as '1M', "
            "with one of the units K, M, G"
        )
    if isinstance(value, Real) and not isinstance(value, bool) and 0 <= value < math.inf:
        return int(value)
    raise ValueError(f"{name}={value!r} is no size; pass bytes, text such as '1M', or None")


def read_seconds(name: str, value: object) -> float | None:
    """Return a time limit in seconds, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not value >= 0:
        raise ValueError(f"{name}={value!r}: pass seconds, a number not below 0, or None")
    return None if math.isinf(value) else float(value)


def read_retries(value: object) -> RetryPolicy:
    """Return the retry policy for a number of attempts, a policy, or None."""
    if value is None:
        return RetryPolicy()
    if isinstance(value, RetryPolicy):
        return value
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        attempts = operator.index(cast("Any", value))
        if attempts >= 0:
            return RetryPolicy(attempts=attempts)
    raise ValueError(
        f"retries={value!r}: pass how often to try again, 0 or more, or a RetryPolicy, such as "
        "RetryPolicy(attempts=3, exceptions=ConnectionError)"
    )


def read_propagate(value: object) -> tuple[ContextVar[Any], ...]:
    """Return the context variables to propagate."""
    if isinstance(value, ContextVar):
        return (value,)
    try:
        variables = () if value is None else tuple(cast("Iterable[Any]", value))
    except TypeError:
        variables = (value,)
    for variable in variables:
        if not isinstance(variable, ContextVar):
            raise TypeError(f"propagate={value!r}: pass contextvars.ContextVar objects in a list")
    return variables


def read_pre_dispatch(value: object, n_jobs: int) -> int | None:
    """Return how many batches may be dispatched ahead, at least 1, or None for all.

    Parameters
    ----------
    value : str or int
        ``"all"``, a number, or arithmetic on ``n_jobs`` such as ``"2 * n_jobs"``.
    n_jobs : int
        How many calls run at once.

    Examples
    --------
    >>> read_pre_dispatch("1.5*n_jobs", n_jobs=4)
    6
    >>> read_pre_dispatch("n_jobs // 2", n_jobs=1)
    1
    """
    if value == "all":
        return None
    if value == DEFAULT_PRE_DISPATCH:
        return 2 * n_jobs
    if isinstance(value, Real) and not isinstance(value, bool) and 1 <= value < math.inf:
        return int(value)
    if isinstance(value, str):
        from jobspan.parallel.pre_dispatch import evaluate

        try:
            ahead = evaluate(value, n_jobs)
            # What is below 1 for few jobs only, as "n_jobs // 2" is, means one batch there.
            if ahead >= 1 or evaluate(value, MANY_JOBS) >= 1:
                return max(1, int(ahead))
        except (SyntaxError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            raise ValueError(_pre_dispatch_forms(value)) from error
    raise ValueError(_pre_dispatch_forms(value))


def _pre_dispatch_forms(value: object) -> str:
    return (
        f"pre_dispatch={value!r}: pass 'all', a whole number above 0, or arithmetic on n_jobs "
        "such as '2 * n_jobs'"
    )


def check_iterable(calls: object) -> None:
    """Refuse what no calls can be read from."""
    if not hasattr(calls, "__iter__") and not hasattr(calls, "__getitem__"):
        raise TypeError(
            f"{type(calls).__name__} {_short(calls)} is not iterable; pass calls, as in "
            "Parallel()(delayed(f)(x) for x in xs)"
        )


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
                    f"{type(iterable).__name__} {_short(iterable)}, not an iterable"
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
    cluster : str or None
        Name of the backend where calls run on other machines; None: they run on this one.
    """

    def __init__(
        self,
        wrap: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
        cluster: str | None = None,
    ) -> None:
        self._wrap = wrap
        self._cluster = cluster
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
            if type(call) is not tuple or len(call) != 3:
                raise TypeError(
                    f"call {first + offset} is {type(call).__name__} {_short(call)}, not a "
                    "call; write delayed(function)(arguments) for each, as in "
                    "Parallel()(delayed(f)(x) for x in xs)"
                )

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
        if self._cluster is None or not is_recallable(function):
            return
        place = function.stored_only_here()
        if place is not None and place not in _warned_of:
            _warned_of.add(place)
            warnings.warn(
                f"results are stored in {place}, which workers of the {self._cluster} cluster on "
                "other machines do not see: the cache is not shared. Pass Memory a location that "
                "all see, such as 's3://bucket/prefix'; a folder that all of them mount is "
                "as good: then filter this warning",
                JobspanWarning,
                stacklevel=2,
            )

    def each(self, calls: Iterable[Any]) -> Iterator[Call]:
        """Yield calls, each looked at when it is read."""
        for index, call in enumerate(calls):
            if type(call) is not tuple or len(call) != 3 or call[0] is not self._last or self._wrap:
                yield self([call], index)[0][0]
            else:
                yield call


_warned_of: set[str] = set()


def _check_function(function: object) -> None:
    if not callable(function):
        raise TypeError(f"delayed({_short(function)}): {type(function).__name__} is not callable")
    name = getattr(function, "__qualname__", None) or _short(function)
    runs = function
    while isinstance(runs, partial):
        runs = runs.func
    if not inspect.isroutine(runs):
        runs = type(runs).__call__  # what an object does that is called
    if inspect.iscoroutinefunction(runs) or inspect.isasyncgenfunction(runs):
        raise TypeError(
            f"{name} is an async function, which a worker would not await; write "
            f"delayed(asyncio.run)({name}(...)) with backend='threads', or a plain function that "
            "calls asyncio.run"
        )
    if inspect.isgeneratorfunction(runs):
        raise TypeError(
            f"{name} is a generator function, and a generator cannot travel back from a worker; "
            f"return a list: define a function that returns list({name}(...))"
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
