"""A jobspan backend on `concurrent.futures`: a backend, its executor, and nothing else."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

from jobspan.ambient import Settings
from jobspan.calls import Batch
from jobspan.errors import TaskTimeoutError
from jobspan.outcomes import Failure, FailureKind, Outcome
from jobspan.plans import Capabilities, Plan
from jobspan.worker.context import run_in
from jobspan.worker.run import run_calls


class FuturesBackend:
    """A factory of executors; what users name."""

    name = "futures"
    capabilities = Capabilities(shared_memory=True)

    def effective_n_jobs(self, n_jobs: int) -> int:
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning; pass 1, or -1 for all cores")
        return n_jobs if n_jobs > 0 else max((os.cpu_count() or 1) + 1 + n_jobs, 1)

    def nested(self, settings: Settings) -> Settings:
        return Settings(backend="sequential", level=settings.level + 1, values=settings.values)

    def open(self, plan: Plan) -> FuturesExecutor:
        return FuturesExecutor(plan.n_jobs, plan.task_timeout)

    def close(self) -> None:
        """Nothing is held between executors."""


class FuturesExecutor:
    """Takes batches, hands back outcomes; what the scheduler pulls."""

    def __init__(self, n_jobs: int, limit: float | None) -> None:
        self.workers, self.slots = n_jobs, 2 * n_jobs
        self._limit = limit
        self._pool = ThreadPoolExecutor(n_jobs)
        self._outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
        self._in_flight: dict[int, Batch] = {}
        self._began: dict[int, float] = {}

    def submit(self, batch: Batch) -> None:
        self._in_flight[batch.number] = batch
        self._pool.submit(self._run, batch)

    def _run(self, batch: Batch) -> None:
        if batch.number not in self._in_flight:
            return  # cancelled before it began
        self._began[batch.number] = time.monotonic()
        ran = run_in(batch.context, run_calls, batch.calls)
        worker = threading.current_thread().name
        self._outcomes.put(Outcome(batch.number, ran.values, ran.failures, worker, *ran[2:]))

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._in_flight:
            limits = [limit for limit in (deadline, self._next_expiry()) if limit is not None]
            try:
                wait = max(0.0, min(limits) - time.monotonic()) if limits else None
                outcome = self._outcomes.get(timeout=wait)
            except Empty:
                expired = self._expired()
                if expired or (deadline is not None and time.monotonic() >= deadline):
                    return expired
                continue
            if outcome is None:
                return []
            if self._in_flight.pop(outcome.number, None) is not None:
                return [outcome]
        return []

    def _next_expiry(self) -> float | None:
        if self._limit is None:
            return None
        begun = [self._began[number] for number in self._in_flight if number in self._began]
        return min(begun, default=time.monotonic()) + self._limit

    def _expired(self) -> list[Outcome]:
        """Give up on calls that ran too long: a thread cannot be stopped."""
        found = []
        for number, batch in list(self._in_flight.items()):
            began = self._began.get(number)
            if self._limit is None or began is None or time.monotonic() < began + self._limit:
                continue
            del self._in_flight[number]
            error = TaskTimeoutError(f"the call ran longer than task_timeout={self._limit!r}")
            failure = Failure(error, kind=FailureKind.TIMEOUT)
            found.append(Outcome.of_failure(number, len(batch.calls), failure))
        return found

    def wake(self) -> None:
        self._outcomes.put(None)

    def cancel(self) -> None:
        self._in_flight.clear()  # what runs goes on, its outcome unheard

    def close(self) -> None:
        self.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
