"""Pulls from a backend that calls back: its callbacks fill a queue."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any

from jobspan.backends.joblib_style.base import ParallelBackendBase
from jobspan.calls import Batch
from jobspan.errors import BackendError, TaskTimeoutError
from jobspan.outcomes import Failure, FailureKind, Outcome
from jobspan.plans import Plan
from jobspan.worker.context import run_in
from jobspan.worker.run import Ran, failure_of, run_calls

__all__ = ["JoblibStyleExecutor"]


class JoblibStyleExecutor:
    """Pulls from a backend that calls back.

    Parameters
    ----------
    wrapped : object
        An object with the methods of `ParallelBackendBase`.
    plan : Plan
        The settings.
    """

    def __init__(self, wrapped: Any, plan: Plan) -> None:
        self._wrapped = wrapped
        self._events: SimpleQueue[tuple[int, int, Any] | None] = SimpleQueue()
        self._in_flight: dict[int, tuple[Batch, Any]] = {}
        self._task_timeout = plan.task_timeout
        self._since: dict[int, float] = {}
        self._epoch = 0
        self._closed = False
        # What such backends read of the ``Parallel`` object that they expect.
        parallel = SimpleNamespace(
            n_jobs=plan.n_jobs, verbose=0, timeout=None, _id=os.urandom(16).hex(), _print=print
        )
        n_jobs = wrapped.configure(
            n_jobs=plan.n_jobs,
            parallel=parallel,
            max_nbytes=plan.max_nbytes,
            mmap_mode=plan.mmap_mode,
            temp_folder=plan.temp_folder,
            prefer=None,
            require=None,
            verbose=0,
        )
        if not n_jobs:
            raise BackendError(f"{type(wrapped).__name__} has no active worker.")
        self.workers = int(n_jobs)
        # With a limit for each call none is queued behind another: its time runs from here on.
        self.slots = self.workers if self._task_timeout is not None else 2 * self.workers
        start_call = getattr(wrapped, "start_call", None)
        if start_call is not None:
            start_call()

    def batch_size(self) -> int | None:
        """Return the batch size that the backend wants, or None where it leaves it to us."""
        kind = type(self._wrapped)
        compute = getattr(kind, "compute_batch_size", None)
        if compute is None or compute is ParallelBackendBase.compute_batch_size:
            return None
        return max(1, int(self._wrapped.compute_batch_size()))

    def submit(self, batch: Batch) -> None:
        """Hand a batch to the backend."""
        epoch = self._epoch

        def completed(out: Any = None) -> None:
            self._events.put((epoch, batch.number, out))

        function = _BatchFunction(batch)
        self._in_flight[batch.number] = (batch, None)
        if self._task_timeout is not None:
            self._since[batch.number] = time.monotonic()
        submit = getattr(self._wrapped, "submit", None) or self._wrapped.apply_async
        if type(self._wrapped).__dict__.get("submit") is None and (
            type(self._wrapped).__dict__.get("apply_async") is not None
        ):
            submit = self._wrapped.apply_async
        try:
            job = submit(function, callback=completed)
        except Exception as error:  # noqa: BLE001 - a call that cannot be sent is its outcome
            self._in_flight[batch.number] = (batch, _Refused(error))
            completed()
            return
        if batch.number in self._in_flight:
            self._in_flight[batch.number] = (batch, job)

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        """Return the outcomes there are, waiting for one if there is none."""
        outcomes: list[Outcome] = []
        if not self._in_flight:
            return outcomes
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._wrapped.retrieval_context():
            while not outcomes:
                try:
                    event = self._events.get(timeout=self._wait_seconds(deadline))
                except Empty:
                    self._expire(outcomes)
                    if deadline is not None and time.monotonic() >= deadline:
                        break
                    continue
                if event is None:
                    break
                self._take(event, outcomes)
            with suppress(Empty):
                while True:
                    event = self._events.get_nowait()
                    if event is not None:
                        self._take(event, outcomes)
        return outcomes

    def _wait_seconds(self, deadline: float | None) -> float | None:
        """Return how long to wait at most: to the deadline, or until a call's time is over."""
        limits = [] if deadline is None else [deadline]
        if self._task_timeout is not None and self._since:
            limits.append(min(self._since.values()) + self._task_timeout)
        return max(0.0, min(limits) - time.monotonic()) if limits else None

    def _expire(self, outcomes: list[Outcome]) -> None:
        """Give up on calls that have taken too long: such a backend cannot stop one."""
        limit = self._task_timeout
        if limit is None:
            return
        now = time.monotonic()
        for number in [number for number, since in self._since.items() if now - since >= limit]:
            del self._since[number]
            batch, _ = self._in_flight.pop(number)
            error = TaskTimeoutError(
                f"no result {limit:.3g} s after the call was handed to "
                f"{type(self._wrapped).__name__}, but task_timeout={limit!r}; such a backend "
                "cannot stop a call, so it may go on and its result is dropped. Use "
                "backend='processes' to stop such calls."
            )
            failure = Failure(error, kind=FailureKind.TIMEOUT)
            outcomes.append(Outcome.of_failure(number, len(batch.calls), failure))

    def _take(self, event: tuple[int, int, Any], outcomes: list[Outcome]) -> None:
        epoch, number, out = event
        if epoch != self._epoch or number not in self._in_flight:
            return
        self._since.pop(number, None)
        batch, job = self._in_flight.pop(number)
        try:
            ran = self._result(job, out)
        except BaseException as error:  # noqa: BLE001 - it becomes the outcome of the batch
            failure = failure_of(error)
            outcomes.append(Outcome.of_failure(number, len(batch.calls), failure))
            return
        note = getattr(self._wrapped, "batch_completed", None)
        if note is not None:
            note(len(batch.calls), ran.seconds)
        worker = type(self._wrapped).__name__
        outcomes.append(Outcome(number, ran.values, ran.failures, worker, ran.started, ran.seconds))

    def _result(self, job: Any, out: Any) -> Ran:
        if isinstance(job, _Refused):
            raise job.error
        if getattr(self._wrapped, "supports_retrieve_callback", False):
            result = self._wrapped.retrieve_result_callback(out)
        else:
            result = self._wrapped.retrieve_result(job if job is not None else out)
        if not isinstance(result, Ran):
            values = list(result)
            failures: dict[int, Failure] = {}
            return Ran(values, failures, time.time(), 0.0)
        return result

    def wake(self) -> None:
        """Make a waiting `completed` return; from any thread."""
        self._events.put(None)

    def cancel(self) -> None:
        """Tell the backend to stop what runs; what still comes back is dropped."""
        self._epoch += 1
        self._since.clear()
        if self._in_flight:
            self._in_flight.clear()
            abort = getattr(self._wrapped, "abort_everything", None)
            if abort is not None:
                abort(ensure_ready=True)

    def close(self) -> None:
        """Let the backend's workers go."""
        if self._closed:
            return
        self._closed = True
        self.cancel()
        stop_call = getattr(self._wrapped, "stop_call", None)
        if stop_call is not None:
            stop_call()
        self._wrapped.terminate()


class _BatchFunction:
    """What a backend written for joblib runs: one batch, its failures caught one by one."""

    def __init__(self, batch: Batch) -> None:
        self._calls = batch.calls
        self._context = batch.context
        self.items = list(batch.calls)

    def __call__(self) -> Ran:
        return run_in(self._context, run_calls, self._calls)

    def __len__(self) -> int:
        return len(self._calls)


class _Refused:
    """Stands for the job of a batch that the backend would not take."""

    def __init__(self, error: Exception) -> None:
        self.error = error
