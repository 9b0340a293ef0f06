"""Run calls one after the other in the caller's thread: the plain loop, with the same policies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from typing import Any, Protocol

from jobspan.calls import Batch, Call, CallContext, is_recallable
from jobspan.outcomes import Failure, Outcome
from jobspan.scheduling.failures import TaskFailure
from jobspan.scheduling.observer import Observer
from jobspan.scheduling.policy import SchedulingPolicy
from jobspan.scheduling.supply import recall
from jobspan.worker.context import run_in
from jobspan.worker.run import UNAWAITED, failure_of, not_awaited

__all__ = ["Due", "plain_loop", "watched_loop"]


class Due(Protocol):
    """Says whether somebody wants to know how far a loop is."""

    due: bool


def plain_loop(
    calls: Iterable[Call], pulse: Due, so_far: Callable[[int, int, int], None]
) -> Iterator[Any]:
    """Yield the result of each call, with nothing else to do: no policy, no word of single calls.

    As in a worker, context variables that a call sets are seen by nobody else.

    Parameters
    ----------
    calls : iterable of Call
        Read one at a time, each run before the next is read.
    pulse : Due
        Looked at after every call.
    so_far : callable
        Told, when it is due and at the end, how many calls there were, how many of them failed,
        and how many were found stored.
    """
    untouched = copy_context()
    here = untouched.copy()
    done = failures = recalled = 0
    ordinary: object = None
    try:
        for function, args, kwargs in calls:
            done += 1
            if function is not ordinary:
                if not is_recallable(function):
                    ordinary = function
                else:
                    looked_up: list[Call] = [(function, args, kwargs)]
                    if found := recall(looked_up):
                        recalled += 1
                        if pulse.due:
                            so_far(done, failures, recalled)
                        yield found[0]
                        continue
                    function, args, kwargs = looked_up[0]  # noqa: PLW2901 - it need not look again
            try:
                result = here.run(function, *args, **kwargs)
                if result is not None and type(result) in UNAWAITED:
                    raise not_awaited(result)
            except BaseException:
                failures += 1
                raise
            try:
                touched = here != untouched
            except Exception:  # noqa: BLE001 - values that cannot be compared are others
                touched = True
            if touched:
                here = untouched.copy()
            if pulse.due:
                so_far(done, failures, recalled)
            yield result
    finally:
        so_far(done, failures, recalled)


def watched_loop(
    calls: Iterable[Call],
    context: CallContext,
    policy: SchedulingPolicy,
    observer: Observer,
    *,
    sleep: Callable[[float], None] = time.sleep,
    dice: Callable[[], float] | None = None,
) -> Iterator[Any]:
    """Yield the result of each call, retried and settled as the policy says.

    Parameters
    ----------
    calls : iterable of Call
        Read one at a time, each run before the next is read.
    context : CallContext
        What holds around every call.
    policy : SchedulingPolicy
        The decisions to follow.
    observer : Observer
        Is told what happens.
    sleep : callable
        Waits so many seconds between attempts.
    dice : callable or None
        Draws the jitter of retries, a number from 0 to 1.
    """
    index = -1
    for index, call in enumerate(calls):
        looked_up = [call]
        if found := recall(looked_up):
            observer.recalled(1)
            observer.settled(1, 0)
            yield found[0]
            continue
        attempt = 1
        while True:
            batch = Batch(index, index, looked_up, context, attempt)
            observer.dispatched(batch)
            outcome = _run(batch)
            observer.completed(batch, outcome)
            failure = outcome.failures.get(0)
            if failure is None:
                observer.settled(1, 0)
                yield outcome.values[0]
                break
            pause = policy.retries.pause(failure, attempt, dice)
            if pause is not None:
                observer.retried(index, failure, pause)
                sleep(pause)
                attempt += 1
                continue
            observer.settled(1, 1)
            if policy.on_error == "raise":
                raise failure.exception
            if policy.on_error == "return":
                yield TaskFailure(
                    failure.exception,
                    failure.traceback,
                    index,
                    outcome.worker,
                    attempt,
                    failure.kind,
                )
            break
    observer.exhausted(index + 1)


def _run(batch: Batch) -> Outcome:
    """Run a batch of one call; what is not an ``Exception`` (Ctrl-C, say) goes through."""
    started = time.time()
    begin = time.perf_counter()
    try:
        value, failure = run_in(batch.context, _tried, batch.calls[0])
    except Exception as error:  # noqa: BLE001 - an initializer's: it is the call's failure
        value, failure = None, failure_of(error)
    seconds = time.perf_counter() - begin
    failures = {} if failure is None else {0: failure}
    return Outcome(batch.number, [value], failures, "caller", started, seconds)


def _tried(call: Call) -> tuple[Any, Failure | None]:
    function, args, kwargs = call
    try:
        value = function(*args, **kwargs)
        if type(value) in UNAWAITED:
            raise not_awaited(value)
        return value, None
    except Exception as error:  # noqa: BLE001 - settled by the policy
        return None, failure_of(error)
