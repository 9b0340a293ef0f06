"""The sequential backend: calls run one after the other in the thread that asks for them."""

from __future__ import annotations

from collections import deque

from jobspan.ambient import Settings, current
from jobspan.backends.counting import jobs_asked_for
from jobspan.calls import Batch
from jobspan.outcomes import Outcome
from jobspan.plans import Capabilities, Plan
from jobspan.worker.context import run_in
from jobspan.worker.run import run_calls

__all__ = ["SequentialBackend", "SequentialExecutor"]


class SequentialBackend:
    """Runs one call at a time where ``Parallel`` is called.

    Examples
    --------
    >>> SequentialBackend().effective_n_jobs(-1)
    1
    """

    name = "sequential"
    capabilities = Capabilities(shared_memory=True, in_caller=True)

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return 1, whatever was asked for."""
        jobs_asked_for(n_jobs, available=1)
        return 1

    def nested(self, settings: Settings) -> Settings:
        """Return the settings that hold here: a sequential call changes nothing for inner ones."""
        return current()

    def open(self, plan: Plan) -> SequentialExecutor:
        """Return an executor; there is nothing to check out."""
        return SequentialExecutor()

    def close(self) -> None:
        """Do nothing: nothing is held."""


class SequentialExecutor:
    """Runs each batch when it is asked for what is completed."""

    workers = 1
    slots = 1

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()

    def submit(self, batch: Batch) -> None:
        """Take a batch."""
        self._batches.append(batch)

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        """Run the oldest batch, however long it takes, and return its outcome."""
        if not self._batches:
            return []
        batch = self._batches.popleft()
        ran = run_in(batch.context, run_calls, batch.calls)
        return [Outcome(batch.number, ran.values, ran.failures, "caller", ran.started, ran.seconds)]

    def wake(self) -> None:
        """Do nothing: no other thread is waited for."""

    def cancel(self) -> None:
        """Drop all batches."""
        self._batches.clear()

    def close(self) -> None:
        """Drop all batches."""
        self.cancel()
