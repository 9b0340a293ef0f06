"""The scheduler's loop: submit while there is room, collect what is completed, hand results on.

::

    calls ── recall ──┬─ hit ──────────────────────────────┐
                      └─ miss ─ batch ─ executor ─ outcome ─┼─ in order ─ chunks of results
                                  ▲                │        │
                                  └──── retry ─────┘        └─ as they come

One thread runs it. It never sleeps but in :meth:`~jobspan.executors.Executor.completed`, with the
time to the next retry or deadline as its limit, and whoever wants it to look up calls ``wake``.
"""

from __future__ import annotations

import heapq
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from jobspan.calls import Batch, Call, CallContext, Missed, Recallable, is_recallable
from jobspan.errors import ParallelTimeoutError
from jobspan.executors import Executor, QueuesBatches, SizesBatches
from jobspan.outcomes import Failure, Outcome
from jobspan.scheduling.batching import BatchSizer
from jobspan.scheduling.failures import TaskFailure, raisable
from jobspan.scheduling.policy import SchedulingPolicy

__all__ = ["Observer", "Scheduler"]

LOOK_AHEAD = 256
"""How many calls are looked up at once in a cache that can tell what it holds."""

PENDING_RESULTS = 1024
"""How many results a worker may wait for a slow consumer where they are small, ..."""

PENDING_BYTES = 64 << 20
"""... and how many bytes in all where they are not: two batches a worker may wait even so."""


class Observer(Protocol):
    """Is told what the scheduler does; called in the scheduler's thread."""

    def dispatched(self, batch: Batch) -> None:
        """`batch` was submitted."""
        ...

    def completed(self, batch: Batch, outcome: Outcome) -> None:
        """`batch` came back."""
        ...

    def settled(self, calls: int, failures: int) -> None:
        """So many more calls have their result for good, so many of them by failing."""
        ...

    def retried(self, index: int, failure: Failure, pause: float) -> None:
        """The call `index` failed and is tried again after `pause` seconds."""
        ...

    def recalled(self, calls: int) -> None:
        """So many calls were found stored."""
        ...

    def exhausted(self, total: int) -> None:
        """The iterable has ended; there are `total` calls in all."""
        ...


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
    check : callable or None
        Given calls as they were read and the index of the first, returns them and whether one of
        them can tell what it has stored, or refuses them.
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
        check: Callable[[list[Any], int], tuple[list[Call], bool]] | None = None,
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
        self._source = iter(calls)
        self._check = check
        self._observer = observer
        self._total = total
        self._clock = clock
        self._dice = dice
        self._numbers = numbers
        self._sizer = BatchSizer(policy.batch_size, policy.target_seconds, policy.largest_batch)
        self._read = 0
        self._exhausted = False
        self._ready: deque[tuple[Sequence[int], list[Call]]] = deque()
        self._ready_calls = 0
        self._ready_start = 0
        self._flights: dict[int, tuple[Batch, Sequence[int]]] = {}
        self._retries: list[_Retry] = []
        self._arrived: dict[int, tuple[int, list[Any]]] = {}
        self._arrived_calls = 0
        self._head = 0
        self._waiting_since = clock()
        self._out: deque[list[Any]] = deque()
        self._produced = 0
        self._taken = 0
        self._bytes_a_result = 0.0
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
        self._taken = results
        if self._throttled:
            self._throttled = False
            self._wake()

    def _wake(self) -> None:
        self._woken.set()
        self._executor.wake()

    @property
    def progress(self) -> tuple[int, int]:
        """How many results there are, and how many calls were read."""
        return self._produced + self._arrived_calls, self._read

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield the results in chunks; raise what a call raised, the rest cancelled."""
        finished = False
        try:
            while not self._stopped:
                self._submit()
                handed_on = bool(self._out)
                while self._out:
                    yield self._out.popleft()
                if handed_on and not self._flights and not self._at_end:
                    continue  # the consumer may have made room
                if not self._flights and not self._retries and self._at_end:
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
        room = self._room()
        bounded = self._policy.bounded
        while len(self._flights) < room and not (self._exhausted and not self._ready):
            if bounded and self._full:
                # The consumer looks at the flag after it has told what it took, and the limit is
                # looked at once more after the flag: one of the two sees the other.
                self._throttled = True
                if self._full:
                    return
            indexes, calls = self._next_calls()
            if calls:
                self._send(indexes, calls, 1)

    def _room(self) -> int:
        executor = self._executor
        if self._queueing is not None and self._policy.max_pending is None:
            room = self._queueing.room()
        else:
            room = executor.slots if self._sizer.short else executor.workers
        if self._policy.pre_dispatch is not None:
            room = min(room, self._policy.pre_dispatch)
        if self._policy.bounded and self._policy.max_pending is not None:
            # What is in flight will be pending, too.
            left = self._policy.max_pending - self._pending
            room = min(room, max(left, 2 * executor.workers))
        return max(1, room)

    @property
    def _pending(self) -> int:
        """How many results wait for the consumer."""
        return self._produced - self._taken + self._arrived_calls

    @property
    def _full(self) -> bool:
        """Whether so many results wait for the consumer that no new call is dispatched.

        Asked only where a consumer may be slow: for its bound.
        """
        pending = self._pending
        if self._policy.max_pending is not None:
            return pending >= self._policy.max_pending
        workers = self._executor.workers
        busy = 2 * workers * self._sizer.last
        return pending >= busy and (
            pending >= PENDING_RESULTS * workers or pending * self._bytes_a_result >= PENDING_BYTES
        )

    @property
    def _at_end(self) -> bool:
        return self._exhausted and not self._ready

    def _next_calls(self) -> tuple[Sequence[int], Sequence[Call]]:
        """Return the next batch's calls with their indexes; empty where none is at hand."""
        workers = self._executor.workers
        if self._policy.pre_dispatch is None and not self._exhausted:
            self._queue(*self._take(None), ended=True)
        size = self._policy.batch_size or self._automatic_size(workers)
        if not self._ready and not self._exhausted:
            calls, recallable = self._take(size)
            ended = len(calls) < size
            if ended and self._sizer.automatic:
                # The iterable ends here: share its last calls out evenly.
                size = max(1, len(calls) // (2 * workers))
            if len(calls) > size or recallable:
                self._queue(calls, recallable, ended=ended)
            else:
                first = self._read
                self._read += len(calls)
                if ended:
                    self._end()
                return range(first, self._read), calls
        return self._from_queue(size)

    def _automatic_size(self, workers: int) -> int:
        """Return what times measured so far make of the next batch."""
        if self._sizing is not None:
            size = self._sizing.batch_size()
            if size:
                return size
        known = self._read if self._exhausted else self._total
        remaining = None if known is None else max(known - self._read + self._ready_calls, 0)
        return self._sizer.size(workers, remaining)

    def _take(self, count: int | None) -> tuple[list[Call], bool]:
        """Read so many calls of the user's iterable, or all; refuse what is none.

        Tells, too, whether one of them can tell what it has stored.
        """
        calls = list(self._source if count is None else islice(self._source, count))
        if self._check is not None:
            return self._check(calls, self._read)
        return calls, any(is_recallable(function) for function, _, _ in calls)

    def _from_queue(self, size: int) -> tuple[Sequence[int], Sequence[Call]]:
        """Return at most so many calls that were read ahead."""
        if not self._ready:
            return (), ()
        indexes, calls = self._ready[0]
        start = self._ready_start
        end = start + size
        if end >= len(calls):
            self._ready.popleft()
            self._ready_start = 0
        else:
            self._ready_start = end
        taken = calls[start:end]
        self._ready_calls -= len(taken)
        return indexes[start:end], taken

    def _queue(self, calls: list[Call], recallable: bool, *, ended: bool) -> None:
        """Queue calls that were read, but for those whose results are found stored."""
        if recallable and not ended:
            more = max(0, LOOK_AHEAD - len(calls))
            further, _ = self._take(more)
            calls += further
            ended = len(further) < more
        first = self._read
        self._read += len(calls)
        indexes: Sequence[int] = range(first, self._read)
        found = self._recall(calls) if recallable else {}
        if found:
            for offset, value in found.items():
                self._arrive(first + offset, 1, [value])
            self._observer.recalled(len(found))
            self._observer.settled(len(found), 0)
            missing = [offset for offset in range(len(calls)) if offset not in found]
            indexes = [first + offset for offset in missing]
            calls = [calls[offset] for offset in missing]
        if calls:
            self._ready.append((indexes, calls))
            self._ready_calls += len(calls)
        if ended:
            self._end()

    def _recall(self, calls: list[Call]) -> dict[int, Any]:
        """Return the results that are found stored, by the offset of their calls.

        The other calls are told, where that is known, that they need not look.
        """
        by_function: dict[int, tuple[Recallable, list[int]]] = {}
        for offset, (function, _, _) in enumerate(calls):
            if is_recallable(function):
                by_function.setdefault(id(function), (function, []))[1].append(offset)
        found: dict[int, Any] = {}
        for recallable, offsets in by_function.values():
            answers = recallable.recall_many([calls[offset][1:] for offset in offsets])
            for offset, answer in zip(offsets, answers, strict=True):
                if isinstance(answer, Missed):
                    calls[offset] = (answer.function, *calls[offset][1:])
                elif answer is not None:
                    found[offset] = answer.value
        return found

    def _end(self) -> None:
        if not self._exhausted:
            self._exhausted = True
            self._observer.exhausted(self._read)

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
            limit = min(limit, self._waiting_since + timeout)
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
            self._bytes_a_result += 0.5 * (received / size - self._bytes_a_result)
        if not outcome.failures:
            if size == 1 or isinstance(indexes, range):
                self._arrive(indexes[0], size, list(outcome.values))
            else:
                for index, value in zip(indexes, outcome.values, strict=True):
                    self._arrive(index, 1, [value])
            self._observer.settled(size, 0)
            return
        failed = 0
        settled = 0
        for offset, index in enumerate(indexes):
            failure = outcome.failures.get(offset)
            if failure is None:
                self._arrive(index, 1, [outcome.values[offset]])
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
        self._arrive(index, 1, values)
        return True

    def _arrive(self, index: int, calls: int, values: list[Any]) -> None:
        """Hand results on, in order where the policy says so."""
        if self._policy.ordered and index != self._head:
            self._arrived[index] = (calls, values)
            self._arrived_calls += len(values)
            return
        self._waiting_since = self._clock()
        self._hand_on(calls, values)
        while self._head in self._arrived:
            calls, values = self._arrived.pop(self._head)
            self._arrived_calls -= len(values)
            self._hand_on(calls, values)

    def _hand_on(self, calls: int, values: list[Any]) -> None:
        self._head += calls
        self._produced += len(values)
        if values:
            self._out.append(values)

    def _check_timeout(self) -> None:
        timeout = self._policy.timeout
        if timeout is None or not self._flights or self._out:
            return
        waited = self._clock() - self._waiting_since
        if waited >= timeout and not math.isinf(timeout):
            raise ParallelTimeoutError(
                f"no result after {waited:.3g} s, but timeout={timeout!r}: call {self._head} "
                "has not ended. Pass a longer timeout=, or task_timeout= to stop slow calls "
                "one by one."
                if self._policy.ordered
                else f"no result after {waited:.3g} s, but timeout={timeout!r}. Pass a longer "
                "timeout=, or task_timeout= to stop slow calls one by one."
            )
