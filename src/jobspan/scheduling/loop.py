"""The scheduler's loop: submit while there is room, collect what is completed, hand results on.

::

    calls ── supply ──┬─ found stored ────────────────────┐
                      └─ batch ─── executor ─── outcome ──┼── delivery ── chunks of results
                           ▲                       │      │
                           └───────── retry ───────┴──────┘

One thread runs it. It never sleeps but in :meth:`~jobspan.executors.Executor.completed`, with the
time to the next retry or deadline as its limit, and whoever wants it to look up calls ``wake``.
"""

from __future__ import annotations

import heapq
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jobspan.calls import Batch, Call, CallContext
from jobspan.errors import ParallelTimeoutError
from jobspan.executors import Executor, QueuesBatches, SizesBatches
from jobspan.outcomes import Failure, Outcome
from jobspan.scheduling.batching import BatchSizer
from jobspan.scheduling.delivery import Delivery
from jobspan.scheduling.failures import TaskFailure, raisable
from jobspan.scheduling.observer import Observer
from jobspan.scheduling.policy import SchedulingPolicy
from jobspan.scheduling.supply import Check, Supply

__all__ = ["Scheduler"]


@dataclass(slots=True, order=True)
class _Retry:
    """A call that waits for its next attempt."""

    due: float
    index: int
    call: Call
    attempt: int


class Scheduler:
    """Runs the calls of one ``Parallel`` call on an executor.

    Parameters
    ----------
    executor : Executor
        Where batches run; it stays open.
    context : CallContext
        What holds around every call.
    policy : SchedulingPolicy
        The decisions to follow.
    calls : iterable of Call
        The user's calls, read only as far as they are dispatched.
    observer : Observer
        Is told what happens.
    check : Check or None
        Looks at calls as they are read.
    total : int or None
        How many calls there are, where it is known beforehand.
    numbers : iterator of int
        Where batch numbers come from; the executor's, for it may serve several schedulers in turn.
    clock : callable
        Seconds, monotonic.
    idle : callable or None
        Waits so many seconds, or until woken, while nothing is in flight.
    dice : callable or None
        Draws the jitter of retries, a number from 0 to 1.

    Notes
    -----
    Threads and processes: one thread iterates; `stop` and `taken` may be called from another.
    """

    def __init__(
        self,
        executor: Executor,
        context: CallContext,
        policy: SchedulingPolicy,
        calls: Iterable[Call],
        observer: Observer,
        *,
        numbers: Iterator[int],
        check: Check | None = None,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        idle: Callable[[float | None], object] | None = None,
        dice: Callable[[], float] | None = None,
    ) -> None:
        self._executor = executor
        self._sizing = executor if isinstance(executor, SizesBatches) else None
        self._queueing = executor if isinstance(executor, QueuesBatches) else None
        self._context = context
        self._policy = policy
        self._observer = observer
        self._total = total
        self._clock = clock
        self._dice = dice
        self._numbers = numbers
        self._delivery = Delivery(
            ordered=policy.ordered, max_pending=policy.max_pending, clock=clock
        )
        self._supply = Supply(calls, check, observer, self._delivery)
        self._sizer = BatchSizer(policy.batch_size, policy.target_seconds, policy.largest_batch)
        self._flights: dict[int, tuple[Batch, Sequence[int]]] = {}
        self._retries: list[_Retry] = []
        self._throttled = False
        self._stopped = False
        self._woken = threading.Event()
        self._idle = idle or self._woken.wait

    def stop(self) -> None:
        """End the iteration soon, without an error; from any thread."""
        self._stopped = True
        self._wake()

    def taken(self, results: int) -> None:
        """Tell that the consumer has taken `results` results in all; from any thread."""
        self._delivery.taken = results
        if self._throttled:
            self._throttled = False
            self._wake()

    def _wake(self) -> None:
        self._woken.set()
        self._executor.wake()

    @property
    def progress(self) -> tuple[int, int]:
        """How many results there are, and how many calls were read."""
        return self._delivery.arrived, self._supply.read

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield the results in chunks; raise what a call raised, the rest cancelled."""
        finished = False
        supply, chunks = self._supply, self._delivery.chunks
        try:
            while not self._stopped:
                self._submit()
                handed_on = bool(chunks)
                while chunks:
                    yield chunks.popleft()
                if handed_on and not self._flights and not supply.empty:
                    continue  # the consumer may have made room
                if not self._flights and not self._retries and supply.empty:
                    finished = True
                    return
                self._wait()
                self._check_timeout()
        finally:
            if not finished:
                self._executor.cancel()

    # --- what goes out ---------------------------------------------------------------------

    def _submit(self) -> None:
        """Submit retries that are due, then new batches while there is room."""
        now = self._clock() if self._retries else 0.0
        while self._retries and self._retries[0].due <= now:
            retry = heapq.heappop(self._retries)
            self._send([retry.index], [retry.call], retry.attempt)
        policy, supply = self._policy, self._supply
        if policy.pre_dispatch is None:
            supply.read_all()
        room = self._room()
        while len(self._flights) < room and not supply.empty:
            if policy.bounded and self._full():
                # The consumer looks at the flag after it has told what it took, and the limit is
                # looked at once more after the flag: one of the two sees the other.
                self._throttled = True
                if self._full():
                    return
            parts = 2 * self._executor.workers if self._sizer.automatic else None
            indexes, calls = supply.take(self._batch_size(), parts)
            if calls:
                self._send(indexes, calls, 1)

    def _room(self) -> int:
        """Return how many batches may be in flight now."""
        executor, policy = self._executor, self._policy
        if self._queueing is not None and policy.max_pending is None:
            room = self._queueing.room()
        else:
            room = executor.slots if self._sizer.short else executor.workers
        if policy.pre_dispatch is not None:
            room = min(room, policy.pre_dispatch)
        if policy.bounded and policy.max_pending is not None:
            # What is in flight will be pending, too.
            left = policy.max_pending - self._delivery.pending
            room = min(room, max(left, 2 * executor.workers))
        return max(1, room)

    def _full(self) -> bool:
        return self._delivery.full(self._executor.workers, self._sizer.last)

    def _batch_size(self) -> int:
        """Return how many calls the next batch should hold."""
        size = self._policy.batch_size
        if size is None and self._sizing is not None:
            size = self._sizing.batch_size()
        return size or self._sizer.size(self._executor.workers, self._supply.left(self._total))

    def _send(self, indexes: Sequence[int], calls: Sequence[Call], attempt: int) -> None:
        batch = Batch(next(self._numbers), indexes[0], calls, self._context, attempt)
        self._flights[batch.number] = (batch, indexes)
        self._executor.submit(batch)
        self._observer.dispatched(batch)

    # --- what comes back -------------------------------------------------------------------

    def _patience(self) -> float | None:
        """Return how long to wait for an outcome: until the next retry or deadline, or for ever."""
        timeout = self._policy.timeout
        limit = self._retries[0].due if self._retries else math.inf
        if timeout is not None and self._flights:
            limit = min(limit, self._delivery.since + timeout)
        return None if limit == math.inf else max(0.0, limit - self._clock())

    def _wait(self) -> None:
        """Wait for outcomes and take them in; without any in flight, for a retry or a wake."""
        if self._flights:
            for outcome in self._executor.completed(self._patience()):
                self._collect(outcome)
        else:
            self._idle(self._patience())
            self._woken.clear()

    def _collect(self, outcome: Outcome) -> None:
        batch, indexes = self._flights.pop(outcome.number)
        self._observer.completed(batch, outcome)
        size = len(batch.calls)
        if outcome.seconds:
            self._sizer.observe(size, outcome.seconds)
        if self._policy.bounded:
            received = outcome.bytes_received or size * sys.getsizeof(outcome.values[-1])
            self._delivery.weigh(received / size)
        if not outcome.failures:
            if size == 1 or isinstance(indexes, range):
                self._delivery.arrive(indexes[0], size, list(outcome.values))
            else:
                for index, value in zip(indexes, outcome.values, strict=True):
                    self._delivery.arrive(index, 1, [value])
            self._observer.settled(size, 0)
            return
        failed = 0
        settled = 0
        for offset, index in enumerate(indexes):
            failure = outcome.failures.get(offset)
            if failure is None:
                self._delivery.arrive(index, 1, [outcome.values[offset]])
                settled += 1
            elif self._fail(index, batch.calls[offset], failure, batch.attempt, outcome.worker):
                failed += 1
        self._observer.settled(settled + failed, failed)

    def _fail(self, index: int, call: Call, failure: Failure, attempt: int, worker: str) -> bool:
        """Try a failed call again, or settle it; whether it is settled."""
        policy = self._policy
        pause = policy.retries.pause(failure, attempt, self._dice)
        if pause is not None:
            retry = _Retry(self._clock() + pause, index, call, attempt + 1)
            heapq.heappush(self._retries, retry)
            self._observer.retried(index, failure, pause)
            return False
        if policy.on_error == "raise":
            self._observer.settled(1, 1)
            raise raisable(failure)
        values: list[Any] = []
        if policy.on_error == "return":
            exception = raisable(failure)
            values = [
                TaskFailure(exception, failure.traceback, index, worker, attempt, failure.kind)
            ]
        self._delivery.arrive(index, 1, values)
        return True

    def _check_timeout(self) -> None:
        timeout, delivery = self._policy.timeout, self._delivery
        if timeout is None or not self._flights or delivery.chunks:
            return
        waited = self._clock() - delivery.since
        if waited >= timeout and not math.isinf(timeout):
            late = f": call {delivery.head} has not ended" if self._policy.ordered else ""
            raise ParallelTimeoutError(
                f"no result after {waited:.3g} s, but timeout={timeout!r}{late}. Pass a longer "
                "timeout=, or task_timeout= to stop slow calls one by one."
            )
