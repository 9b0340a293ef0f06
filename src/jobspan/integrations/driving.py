"""Drive an executor, which is pulled, for a library that pushes batches and waits for them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from jobspan.calls import Batch, Call, CallContext
from jobspan.executors import Executor, QueuesBatches
from jobspan.outcomes import Outcome
from jobspan.scheduling.batching import BatchSizer
from jobspan.scheduling.failures import raisable

__all__ = ["Drive", "Job", "ThreadedDrive", "TimeIsOver"]


class TimeIsOver(Exception):  # noqa: N818 - no error of a call
    """The time for which somebody would wait is over."""


class Job:
    """A batch that was pushed, and what became of it.

    Parameters
    ----------
    calls : sequence of Call
        Its calls.
    callback : callable
        Called with the job when it has ended.
    """

    __slots__ = ("callback", "calls", "ended", "error", "values")

    def __init__(self, calls: Sequence[Call], callback: Callable[[Job], object]) -> None:
        self.calls = calls
        self.callback = callback
        self.ended = False
        self.values: list[Any] = []
        self.error: BaseException | None = None

    def result(self) -> list[Any]:
        """Return the values, or raise what a call raised."""
        if self.error is not None:
            raise self.error
        return self.values


class Drive:
    """Keeps an executor busy with what is pushed, in the thread that waits for results.

    Parameters
    ----------
    executor : Executor
        Where batches run; closed with the drive.
    target_seconds : float
        How long an automatic batch should run.

    Attributes
    ----------
    bytes_sent : int
        What batches took to workers, shared data not counted.
    keeps_tracebacks : bool
        Whether the library leaves exceptions the traceback that they come with.

    Notes
    -----
    Threads and processes: one thread pushes and waits.
    """

    keeps_tracebacks = True

    def __init__(self, executor: Executor, target_seconds: float) -> None:
        self._executor = executor
        self._queueing = executor if isinstance(executor, QueuesBatches) else None
        self._sizer = BatchSizer(None, target_seconds)
        self._numbers = count()
        self._waiting: deque[tuple[Job, CallContext]] = deque()
        self._flights: dict[int, Job] = {}
        self._calls = 0
        self.bytes_sent = 0

    def batch_size(self) -> int:
        """Return how many calls should travel together now."""
        return self._sizer.size(self._executor.workers, None)

    def submit(self, job: Job, context: CallContext) -> None:
        """Take a job, and send it as soon as there is room."""
        self._waiting.append((job, context))
        self._fill()

    def wait(self, job: Job, timeout: float | None) -> list[Any]:
        """Wait for a job, and see to all others meanwhile.

        Raises
        ------
        TimeIsOver
            If `timeout` seconds were not enough.
        BaseException
            What a call raised, of this job or of another one that ended first.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not job.ended:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeIsOver
            for ended in self._collect(left):
                if ended.error is not None:
                    raise ended.error
                ended.callback(ended)
        return job.result()

    def cancel(self) -> None:
        """Drop what has not started, stop what can be stopped."""
        self._waiting.clear()
        self._flights.clear()
        self._executor.cancel()

    def close(self) -> None:
        """Give the workers back."""
        self._waiting.clear()
        self._flights.clear()
        self._executor.close()

    def _fill(self) -> None:
        executor = self._executor
        if self._queueing is not None:
            room = self._queueing.room()
        else:
            room = executor.slots if self._sizer.short else executor.workers
        while self._waiting and len(self._flights) < room:
            job, context = self._waiting.popleft()
            number = next(self._numbers)
            self._flights[number] = job
            executor.submit(Batch(number, self._calls, job.calls, context))
            self._calls += len(job.calls)

    def _collect(self, timeout: float | None) -> list[Job]:
        """Return the jobs that have ended; wait for one."""
        ended = [self._end(outcome) for outcome in self._executor.completed(timeout)]
        self._fill()
        return ended

    def _end(self, outcome: Outcome) -> Job:
        job = self._flights.pop(outcome.number)
        self.bytes_sent += outcome.bytes_sent
        if outcome.seconds:
            self._sizer.observe(len(job.calls), outcome.seconds)
        if outcome.failures:
            failure = outcome.failures[min(outcome.failures)]
            if not self.keeps_tracebacks:
                failure.exception.__traceback__ = None  # told as text, then
            job.error = raisable(failure)
        else:
            job.values = list(outcome.values)
        job.ended = True
        return job


class ThreadedDrive(Drive):
    """Does the same in a thread of its own, for results that are not waited for at once.

    Notes
    -----
    Threads and processes: any thread pushes; callbacks come in the drive's thread. The executor is
    opened and closed by others, for some engines look at the thread in which that happens.
    """

    keeps_tracebacks = False

    def __init__(self, executor: Executor, target_seconds: float) -> None:
        super().__init__(executor, target_seconds)
        self._news = threading.Condition()
        self._pushed: deque[tuple[Job, CallContext]] = deque()
        self._thread: threading.Thread | None = None

    def submit(self, job: Job, context: CallContext) -> None:
        """Take a job; the thread sends it."""
        with self._news:
            self._pushed.append((job, context))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="jobspan-joblib", daemon=True
                )
                self._thread.start()
            self._news.notify()
        if threading.current_thread() is not self._thread:
            self._executor.wake()

    def wait(self, job: Job, timeout: float | None) -> list[Any]:
        """Return what has ended; nobody waits here for what has not."""
        return job.result()

    def cancel(self) -> None:
        """Stop the thread, then what runs."""
        self._stop()
        super().cancel()

    def close(self) -> None:
        """Stop the thread and give the workers back."""
        self._stop()
        super().close()

    def _stop(self) -> None:
        with self._news:
            thread, self._thread = self._thread, None
            self._pushed.clear()
            self._news.notify_all()
        if thread is not None and thread is not threading.current_thread():
            self._executor.wake()
            thread.join()

    def _run(self) -> None:
        own = threading.current_thread()
        while True:
            with self._news:
                while self._thread is own and not (self._pushed or self._flights):
                    self._news.wait()
                if self._thread is not own:
                    return
                self._waiting += self._pushed
                self._pushed.clear()
            try:
                self._fill()
                ended = self._collect(None)
            except BaseException as error:  # noqa: BLE001 - the backend failed: so has all that is in it
                ended = self._fail_all(error)
            for job in ended:
                job.callback(job)

    def _fail_all(self, error: BaseException) -> list[Job]:
        jobs = [*self._flights.values(), *(job for job, _ in self._waiting)]
        self._flights.clear()
        self._waiting.clear()
        for job in jobs:
            job.error = error
            job.ended = True
        return jobs
