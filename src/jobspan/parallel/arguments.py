"""What users may pass to ``Parallel``: read, checked, and refused with the forms that are taken."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from contextvars import ContextVar
from numbers import Real
from typing import Any, Literal, cast

from jobspan.scheduling.policy import OnError
from jobspan.scheduling.retrying import RetryPolicy

__all__ = [
    "DEFAULT_PRE_DISPATCH",
    "ReturnAs",
    "check_memory",
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
    number = int(value) if isinstance(value, bool) else _number(value)
    if number is not None and math.isfinite(number):
        return int(number)
    raise ValueError(f"verbose={value!r}: pass a number: 0 for no lines, 10 for many, 50 for all")


def check_memory(value: object) -> None:
    """Refuse what no calls can be looked up in."""
    if value is not None and not hasattr(value, "cache"):
        raise TypeError(f"memory={value!r}: pass a Memory, as in Parallel(memory=Memory('cache'))")


def read_whole(name: str, value: object) -> int | None:
    """Return a whole number above 0, or None."""
    if value is None:
        return None
    number = _whole(value)
    if number is not None and number > 0:
        return number
    raise ValueError(f"{name}={value!r}: pass a whole number above 0, or None")


def read_batch_size(value: object) -> int | None:
    """Return a fixed batch size, or None for an automatic one."""
    if isinstance(value, str) and value == "auto":
        return None
    size = _whole(value)
    if size is not None and size > 0:
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
    count = _number(value)
    if count is not None and 0 <= count < math.inf:
        return int(count)
    raise ValueError(f"{name}={value!r} is no size; pass bytes, text such as '1M', or None")


def read_seconds(name: str, value: object) -> float | None:
    """Return a time limit in seconds, or None."""
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None or not seconds >= 0:
        raise ValueError(f"{name}={value!r}: pass seconds, a number not below 0, or None")
    return None if math.isinf(seconds) else float(seconds)


def read_retries(value: object) -> RetryPolicy:
    """Return the retry policy for a number of attempts, a policy, or None."""
    if value is None:
        return RetryPolicy()
    if isinstance(value, RetryPolicy):
        return value
    attempts = _whole(value)
    if attempts is not None and attempts >= 0:
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
    number = _number(value)
    if number is not None and 1 <= number < math.inf:
        return int(number)
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


def _number(value: object) -> float | None:
    """Return a number as it is, numpy's too, or None for what is none; truth is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return cast("float", value)


def _whole(value: object) -> int | None:
    """Return a whole number, numpy's too, or None for what is none; truth is none."""
    if type(value) is not bool and hasattr(value, "__index__"):
        return operator.index(cast("Any", value))
    return None
