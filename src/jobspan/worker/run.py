"""Run the calls of a batch: each failure caught on its own, the whole timed."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextvars import Context, copy_context
from types import AsyncGeneratorType, CoroutineType
from typing import Any, NamedTuple, NoReturn

from jobspan.calls import Call
from jobspan.outcomes import Failure

__all__ = ["UNAWAITED", "Ran", "failure_of", "not_awaited", "run_calls"]

UNAWAITED = frozenset({CoroutineType, AsyncGeneratorType})
"""What no call may return: nobody awaits it, and it cannot travel."""


class Ran(NamedTuple):
    """What running a batch gave: values, failures by offset, when it began, how long it took."""

    values: list[Any]
    failures: dict[int, Failure]
    started: float
    seconds: float


def run_calls(calls: Iterable[Call]) -> Ran:
    """Run calls one after the other; a call that raises leaves a failure, and the next one runs.

    So does one that returns what somebody would have to await.

    Context variables that a call sets are not seen by the others, nor by whoever runs the batch.

    Where a call forks and its child leaves it, by return or by an exception, the child ends: it is
    no worker, and would else answer in its parent's name.
    """
    values: list[Any] = []
    failures: dict[int, Failure] = {}
    process = os.getpid()
    started = time.time()
    begin = time.perf_counter()
    left = iter(calls)
    here = copy_context()
    while here.copy().run(_run_some, left, here, values, failures, process):
        pass
    if os.getpid() != process:
        _end_child(None)
    if not UNAWAITED.isdisjoint(map(type, values)):
        for offset, value in enumerate(values):
            if type(value) in UNAWAITED:
                failures[offset] = failure_of(not_awaited(value))
                values[offset] = None
    return Ran(values, failures, started, time.perf_counter() - begin)


def _run_some(
    calls: Iterator[Call],
    untouched: Context,
    values: list[Any],
    failures: dict[int, Failure],
    process: int,
) -> bool:
    """Run calls to their end, or until one has set context variables; whether there may be more.

    A context that nobody has changed is compared in no time; a copy for each call takes longer
    than a short call does.
    """
    for function, args, kwargs in calls:
        try:
            values.append(function(*args, **kwargs) if kwargs else function(*args))
        except BaseException as error:
            if os.getpid() != process:
                _end_child(error)
            if not isinstance(error, Exception | SystemExit):
                raise
            failures[len(values)] = failure_of(error)
            values.append(None)
        try:
            if copy_context() != untouched:
                return True
        except Exception:  # noqa: BLE001 - values that cannot be compared are others
            return True
    return False


def not_awaited(value: Any) -> TypeError:
    """Return the error of a call that returned a coroutine or an async generator; end that."""
    name = f"{value.__qualname__}(...)"
    if isinstance(value, CoroutineType):
        value.close()  # else Python warns that it was never awaited
        return TypeError(
            f"the call returned the coroutine {name}, which nobody would await; call a plain "
            f"function that returns asyncio.run({name})"
        )
    return TypeError(
        f"the call returned the async generator {name}, which cannot travel back from a worker; "
        "call a plain function that collects in asyncio.run(...) what it yields, and returns a list"
    )


def _end_child(error: BaseException | None) -> NoReturn:
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error, file=sys.__stderr__)
        code = 1
    os._exit(code)


def failure_of(error: BaseException) -> Failure:
    """Return the failure that `error` stands for, its traceback as text without our own frames."""
    if isinstance(error, ValueError) and "read-only" in str(error):
        error.add_note(
            "Large arrays are shared with workers and arrive read-only. Pass mmap_mode='c' to "
            "Parallel or parallel_config for private writable copies, or copy the array in the "
            "function before writing to it."
        )
    trace = error.__traceback__
    text = "".join(traceback.format_exception(type(error), error, trace and trace.tb_next))
    return Failure(error, text)
