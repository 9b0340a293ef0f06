"""Calls, what :func:`delayed` makes of them, and the batches in which they travel."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from types import MethodType
from typing import (
    Any,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeGuard,
    TypeVar,
    runtime_checkable,
)

from jobspan.ambient import Settings

__all__ = [
    "Batch",
    "Call",
    "CallContext",
    "Initializer",
    "Missed",
    "Recallable",
    "Recalled",
    "check_call",
    "check_iterable",
    "delayed",
    "in_short",
    "is_recallable",
]

P = ParamSpec("P")
R = TypeVar("R")

Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""One function with its positional and keyword arguments."""


def delayed(function: Callable[P, R]) -> Callable[P, tuple[Callable[P, R], Any, Any]]:
    """Capture the arguments of a function instead of calling it.

    Parameters
    ----------
    function : callable
        The function to be called later.

    Returns
    -------
    callable
        ``delayed(f)(*args, **kwargs)`` is the tuple ``(f, args, kwargs)``.

    Notes
    -----
    To cache the results of `f`, write ``delayed(memory.cache(f))``: the other way round,
    what is cached is the tuple.

    Examples
    --------
    >>> delayed(pow)(2, 5)
    (<built-in function pow>, (2, 5), {})
    """
    if function is None:  # by far most often what a function returned that was called too early
        raise TypeError("delayed(None): write delayed(f)(x) to call f(x) later, not delayed(f(x))")
    # A bound method, for users write delayed(f)(x) in loops, where making a closure costs more than
    # calling it.
    return MethodType(_captured, function)


def _captured(
    function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> tuple[Callable[P, R], Any, Any]:
    return function, args, kwargs


def check_iterable(calls: object, taker: str = "Parallel()") -> None:
    """Refuse what no calls can be read from.

    Parameters
    ----------
    calls : object
        What the user passed.
    taker : str
        What it was passed to, as the user writes it.
    """
    match calls:
        case (function, tuple(), dict()) if isinstance(calls, tuple) and callable(function):
            raise TypeError(
                f"{in_short(calls)} is one call; pass an iterable of them, as in "
                f"{taker}([delayed(f)(x)])"
            )
    if not hasattr(calls, "__iter__") and not hasattr(calls, "__getitem__"):
        raise TypeError(
            f"{type(calls).__name__} {in_short(calls)} is not iterable; pass calls, as in "
            f"{taker}(delayed(f)(x) for x in xs)"
        )


def check_call(call: object, index: int, taker: str = "Parallel()") -> None:
    """Refuse what is no call, among calls that were passed to `taker`."""
    if type(call) is not tuple or len(call) != 3:
        raise TypeError(
            f"call {index} is {type(call).__name__} {in_short(call)}, not a call; write "
            f"delayed(function)(arguments) for each, as in {taker}(delayed(f)(x) for x in xs)"
        )


def in_short(value: object) -> str:
    """Return a value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _new_token() -> str:
    return os.urandom(16).hex()


@dataclass(frozen=True, slots=True)
class Initializer:
    """A function that runs once in every worker before its first call.

    Parameters
    ----------
    function : callable
        What to run.
    args : tuple
        Its arguments.
    token : str
        Names this initializer: a worker runs each token once.
    """

    function: Callable[..., object]
    args: tuple[Any, ...] = ()
    token: str = field(default_factory=_new_token)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallContext:
    """What holds around every call of one ``Parallel`` call, in whatever worker it runs.

    Made once by the front end; a backend sends it to a worker once and names it by its `token`
    from then on. A worker enters it with :func:`jobspan.worker.context.run_in`.

    Parameters
    ----------
    settings : Settings
        The ambient settings for parallel calls nested in these.
    variables : tuple of (ContextVar, object)
        The context variables that the user asked to propagate, with their values.
    warning_filters : tuple or None
        The caller's ``warnings.filters``; None: the worker's own hold.
    log_level : int or None
        The level of the caller's root logger.
    import_path : tuple of str or None
        The caller's ``sys.path``.
    directory : str or None
        The caller's current directory.
    thread_limit : int or None
        How many threads BLAS and OpenMP may use in a worker.
    initializer : Initializer or None
        Runs once in every worker.
    token : str
        Names this context.
    """

    settings: Settings
    variables: tuple[tuple[ContextVar[Any], Any], ...] = ()
    warning_filters: tuple[Any, ...] | None = None
    log_level: int | None = None
    import_path: tuple[str, ...] | None = None
    directory: str | None = None
    thread_limit: int | None = None
    initializer: Initializer | None = None
    token: str = field(default_factory=_new_token)


class Batch(NamedTuple):
    """Calls that travel together: the unit that a worker runs.

    A named tuple, for one is made for every batch: it costs a quarter of a frozen dataclass.

    Parameters
    ----------
    number : int
        Names the batch within its executor; never used twice.
    first : int
        Index, among all calls of the ``Parallel`` call, of the first one in `calls`.
    calls : sequence of Call
        The calls, at least one.
    context : CallContext
        What holds around each of them.
    attempt : int
        1 the first time these calls are tried.
    """

    number: int
    first: int
    calls: Sequence[Call]
    context: CallContext
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Recalled:
    """A result that was found stored.

    Parameters
    ----------
    value : object
        The result.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class Missed:
    """A result that is not stored.

    Parameters
    ----------
    function : callable
        What to call in the function's place: it does not look for the result once more.
    """

    function: Callable[..., Any]


@runtime_checkable
class Recallable(Protocol):
    """A function that can tell which of its results are stored already.

    The one place where ``Parallel`` and ``Memory`` meet: before it dispatches calls of such a
    function, ``Parallel`` looks them up in bulk, and what is found never travels to a worker.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the result, computed if need be."""
        ...

    def recall_many(
        self, calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]
    ) -> list[Recalled | Missed | None]:
        """Look up the results of many calls at once; None: that is for the call to find out."""
        ...

    def stored_only_here(self) -> str | None:
        """Return where results are stored if other machines do not see that place, else None."""
        ...


@lru_cache(maxsize=256)
def _is_recallable_type(kind: type) -> bool:
    return issubclass(kind, Recallable)


def is_recallable(function: object) -> TypeGuard[Recallable]:
    """Whether `function` can tell what it has stored; asked of a type once, for it is slow."""
    return _is_recallable_type(type(function))  # type: ignore[arg-type]  # types are hashable
