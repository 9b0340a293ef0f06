"""The threads backend: calls run in threads of the caller's process, in its memory."""

from __future__ import annotations

import threading
import time
from itertools import count
from queue import Empty, SimpleQueue

from jobspan.ambient import Settings
from jobspan.backends.counting import jobs_asked_for
from jobspan.calls import Batch
from jobspan.cores import cpu_count
from jobspan.errors import TaskTimeoutError
from jobspan.outcomes import Failure, FailureKind, Outcome
from jobspan.plans import Capabilities, Plan
from jobspan.worker.context import Entrance
from jobspan.worker.run import failure_of, run_calls

__all__ = ["ThreadBackend", "ThreadExecutor"]

_thread_numbers = count(1)


class ThreadBackend:
    """Runs calls in threads of this process.

    Calls share the caller's memory: nothing is pickled, and what a call changes the caller sees.
    Best where calls release the GIL or wait for something.

    Examples
    --------
    >>> from jobspan import Parallel, delayed
    >>> Parallel(n_jobs=2, backend="threads")(delayed(abs)(x) for x in [-1, -2])
    [1, 2]
    """

    name = "threads"
    capabilities = Capabilities(shared_memory=True)

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return the number of threads for what the user asked."""
        return jobs_asked_for(n_jobs, available=cpu_count())

    def nested(self, settings: Settings) -> Settings:
        """Return settings under which the first inner level runs in threads, the next in turn."""
        level = settings.level + 1
        return Settings(backend="threads" if level <= 1 else "sequential", level=level)

    def open(self, plan: Plan) -> ThreadExecutor:
        """Return an executor, whose threads start when they are needed."""
        return ThreadExecutor(plan.n_jobs, plan.task_timeout)

    def close(self) -> None:
        """Do nothing: threads belong to executors."""


class _Worker(threading.Thread):
    """A thread that takes batches from one queue and puts outcomes on another.

    `batch` and `since` tell what it runs and since when; the executor reads them to find calls
    that have run too long. An abandoned worker ends after its present batch.
    """

    def __init__(
        self,
        batches: SimpleQueue[tuple[int, Batch] | None],
        outcomes: SimpleQueue[tuple[int, Outcome] | None],
    ) -> None:
        super().__init__(name=f"jobspan-thread-{next(_thread_numbers)}", daemon=True)
        self.batches = batches
        self.outcomes = outcomes
        self.running: tuple[int, Batch, float] | None = None
        self.abandoned = False

    def run(self) -> None:
        entrance = Entrance()
        try:
            self._work(entrance)
        finally:
            entrance.close()

    def _work(self, entrance: Entrance) -> None:
        while not self.abandoned:
            item = self.batches.get()
            if item is None:
                return
            epoch, batch = item
            self.running = (epoch, batch, time.monotonic())
            try:
                ran = entrance.run(batch.context, run_calls, batch.calls)
                outcome = Outcome(batch.number, *ran[:2], self.name, *ran[2:])
            except BaseException as error:  # noqa: BLE001 - a thread that died would be waited for
                outcome = Outcome.of_failure(
                    batch.number, len(batch.calls), failure_of(error), self.name
                )
            self.running = None
            self.outcomes.put((epoch, outcome))
            del batch, item, outcome


class ThreadExecutor:
    """Threads that share one queue of batches.

    Parameters
    ----------
    n_jobs : int
        How many threads at most.
    task_timeout : float or None
        Seconds that a call may run. A thread cannot be stopped: the call's result is given up, its
        thread ends when the call does, and another takes its place.
    """

    def __init__(self, n_jobs: int, task_timeout: float | None = None) -> None:
        self.workers = n_jobs
        self.slots = 2 * n_jobs
        self._task_timeout = task_timeout
        self._batches: SimpleQueue[tuple[int, Batch] | None] = SimpleQueue()
        self._outcomes: SimpleQueue[tuple[int, Outcome] | None] = SimpleQueue()
        self._threads: list[_Worker] = []
        self._abandoned = 0
        self._epoch = 0
        self._in_flight: set[int] = set()

    def submit(self, batch: Batch) -> None:
        """Queue a batch; start one more thread while there are fewer than batches."""
        self._in_flight.add(batch.number)
        self._batches.put((self._epoch, batch))
        if len(self._threads) < self.workers and len(self._threads) < len(self._in_flight):
            self._start_thread()

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        """Return the outcomes there are, waiting for one if there is none."""
        outcomes: list[Outcome] = []
        if not self._in_flight:
            return outcomes
        deadline = None if timeout is None else time.monotonic() + timeout
        while not outcomes:
            try:
                item = self._outcomes.get(timeout=self._wait_seconds(deadline))
            except Empty:
                outcomes += self._expired()
                if deadline is not None and time.monotonic() >= deadline:
                    break
                continue
            if item is None:
                break
            self._take(item, outcomes)
        try:
            while True:
                item = self._outcomes.get_nowait()
                if item is not None:
                    self._take(item, outcomes)
        except Empty:
            return outcomes

    def _take(self, item: tuple[int, Outcome], outcomes: list[Outcome]) -> None:
        epoch, outcome = item
        if epoch == self._epoch and outcome.number in self._in_flight:
            self._in_flight.discard(outcome.number)
            outcomes.append(outcome)

    def _wait_seconds(self, deadline: float | None) -> float | None:
        """Return how long to wait at most: to the deadline, or to the next call's time limit."""
        now = time.monotonic()
        limits = [] if deadline is None else [deadline - now]
        if self._task_timeout is not None:
            starts = [worker.running[2] for worker in self._threads if worker.running]
            limits.append(min(starts, default=now) + self._task_timeout - now)
        return max(0.0, min(limits)) if limits else None

    def _expired(self) -> list[Outcome]:
        """Give up on calls that have run too long, and on the threads they run in."""
        outcomes: list[Outcome] = []
        if self._task_timeout is None:
            return outcomes
        now = time.monotonic()
        for worker in list(self._threads):
            running = worker.running
            if running is None or now - running[2] < self._task_timeout:
                continue
            epoch, batch, since = running
            self._abandon(worker)
            if epoch == self._epoch and batch.number in self._in_flight:
                self._in_flight.discard(batch.number)
                error = TaskTimeoutError(
                    f"the call ran for {now - since:.3g} s, longer than "
                    f"task_timeout={self._task_timeout!r}; a thread cannot be stopped, so it goes "
                    "on and its result is dropped. Use backend='processes' to stop such calls."
                )
                failure = Failure(error, kind=FailureKind.TIMEOUT)
                outcomes.append(
                    Outcome.of_failure(batch.number, len(batch.calls), failure, worker.name)
                )
            if len(self._threads) < min(self.workers, len(self._in_flight)):
                self._start_thread()
        return outcomes

    def _start_thread(self) -> None:
        worker = _Worker(self._batches, self._outcomes)
        self._threads.append(worker)
        worker.start()

    def _abandon(self, worker: _Worker) -> None:
        worker.abandoned = True
        self._threads.remove(worker)
        self._abandoned += 1

    def wake(self) -> None:
        """Make a waiting `completed` return; from any thread."""
        self._outcomes.put(None)

    def cancel(self) -> None:
        """Drop what has not started; what runs goes on, its outcome unheard."""
        self._epoch += 1
        self._in_flight.clear()
        try:
            while True:
                self._batches.get_nowait()
        except Empty:
            pass
        busy = [worker for worker in self._threads if worker.running]
        for worker in busy:
            self._abandon(worker)

    def close(self) -> None:
        """End the threads; idle ones are waited for, busy ones end after their call."""
        self.cancel()
        for _ in range(len(self._threads) + self._abandoned):
            self._batches.put(None)
        for worker in self._threads:
            if worker.is_alive():  # one that Ctrl-C met as it started ends by itself
                worker.join()
        self._threads.clear()
