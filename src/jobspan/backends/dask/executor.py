"""The executor on a Dask cluster: a task a batch, pulled by a queue that the client fills."""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any

from jobspan.backends.dask.connecting import distributed, inside_task
from jobspan.backends.dask.running import run_batch
from jobspan.calls import Batch
from jobspan.errors import (
    BackendUnreachableError,
    JobspanWarning,
    TransportError,
    WorkerLostError,
)
from jobspan.outcomes import Failure, FailureKind, Outcome
from jobspan.plans import Plan
from jobspan.transport.batches import BatchEncoder, decode_ran
from jobspan.transport.content import ContentStore, SharedOnce
from jobspan.transport.protocol import EncodedBatch
from jobspan.transport.remote import UNDECODED

__all__ = ["DaskExecutor"]

IN_FLIGHT = 4
"""Short batches in flight for each thread of a worker: the scheduler's round trip is long."""

LOOK_SECONDS = 1.0
"""How often the number of workers is asked for."""


class _Task:
    """A batch on the cluster, or one call of a batch whose worker died."""

    __slots__ = ("batch", "future", "lost", "sent")

    def __init__(self, batch: Batch, lost: int = 0) -> None:
        self.batch = batch
        self.future: Any = None
        self.lost = lost
        self.sent = 0


class DaskExecutor:
    """Runs batches as tasks of a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
        The connection.
    plan : Plan
        The settings.
    scattered : ContentStore
        The buffers that are on the cluster already.
    task_options : mapping
        Passed through to Dask with every task.
    connect_timeout : float
        Seconds to wait for the first worker.

    Notes
    -----
    Inside a Dask task the thread leaves its worker's pool while it waits, and comes back at the
    end, so that nested calls find a free thread at any depth.
    """

    def __init__(
        self,
        client: Any,
        plan: Plan,
        scattered: ContentStore,
        task_options: Mapping[str, Any],
        connect_timeout: float,
    ) -> None:
        self._client = client
        self._plan = plan
        self._task_options = task_options
        self._shared = SharedOnce(scattered)
        self._encoder = BatchEncoder(self._shared.share, plan.max_nbytes, by_value=True)
        self._token = ""
        self._waiting: list[_Task] = []
        self._suspects: deque[_Task] = deque()
        self._tasks: dict[str, _Task] = {}
        self._rerun: dict[int, tuple[Batch, dict[int, Any], dict[int, Failure], float]] = {}
        self._events: SimpleQueue[str | None] = SimpleQueue()
        self._prefix = f"jobspan-{os.urandom(6).hex()}"
        self._serial = 0
        self._threads = 0
        self._looked = 0.0
        self._closed = False
        self._connect_timeout = connect_timeout
        self._seceded = inside_task()
        if self._seceded:
            distributed().secede()
        self._await_workers()

    # --- how much there is to use ------------------------------------------------------

    def _await_workers(self) -> None:
        deadline = time.monotonic() + self._connect_timeout
        told = False
        while not self._look():
            if not told:
                warnings.warn(
                    f"the Dask cluster has no workers; waiting {self._connect_timeout:g} s for one",
                    JobspanWarning,
                    stacklevel=6,
                )
                told = True
            if time.monotonic() > deadline:
                self._leave()
                raise BackendUnreachableError(
                    f"the Dask cluster at {self._client.scheduler.addr} has no workers after "
                    f"{self._connect_timeout:g} s; start some with 'dask worker', or pass a "
                    "longer connect_timeout="
                )
            time.sleep(0.1)

    def _look(self) -> int:
        """Return how many threads the workers have, as of a moment ago."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS or not self._threads:
            self._threads = sum(self._client.nthreads().values())
            self._looked = now
        return self._threads

    @property
    def workers(self) -> int:
        """How many threads there are, or as many as were asked for."""
        threads = max(1, self._look())
        return threads if self._plan.follow else max(1, min(self._plan.n_jobs, threads))

    @property
    def slots(self) -> int:
        """How many tasks in flight hide the round trip; n_jobs caps what runs."""
        workers = self.workers
        return IN_FLIGHT * workers if workers == self._threads else workers

    # --- out ---------------------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """Take a batch; it is sent with the next look at what is completed."""
        if batch.context.token != self._token:
            self._token = batch.context.token
            self._shared.begin()
        self._waiting.append(_Task(batch))

    def _flush(self) -> None:
        """Send what waits, in one message to the scheduler where that can be."""
        waiting, self._waiting = self._waiting, []
        if self._suspects and not any(task.lost for task in self._tasks.values()):
            # One at a time: the call that is running when a worker dies is the one to blame.
            waiting.append(self._suspects.popleft())
        keys: list[str] = []
        tasks: list[_Task] = []
        blobs: list[EncodedBatch] = []
        for task in waiting:
            self._serial += 1
            key = f"{_name(task.batch)}-{self._prefix}-{self._serial}"
            try:
                encoded = self._encoder.encode(task.batch)
            except TransportError as error:
                self._refuse(task, key, error)
                continue
            task.sent = len(encoded.batch.payload)
            self._tasks[key] = task
            references = encoded.all_references()
            if references:
                self._send_one(key, task, encoded, references)
            else:
                keys.append(key)
                tasks.append(task)
                blobs.append(encoded.picklable())
        if blobs:
            mode, limit = self._plan.mmap_mode, self._plan.task_timeout
            futures = self._client.map(
                _runner(mode, limit), blobs, key=keys, pure=False, **self._task_options
            )
            for key, task, future in zip(keys, tasks, futures, strict=True):
                self._follow(key, task, future)

    def _send_one(
        self, key: str, task: _Task, encoded: EncodedBatch, references: list[int]
    ) -> None:
        """Send a batch with its scattered buffers as dependencies, renumbered."""
        places = {index: place for place, index in enumerate(references)}
        future = self._client.submit(
            run_batch,
            encoded.picklable(places),
            self._plan.mmap_mode,
            self._plan.task_timeout,
            *(self._shared.handles[index] for index in references),
            key=key,
            pure=False,
            **self._task_options,
        )
        self._follow(key, task, future)

    def _follow(self, key: str, task: _Task, future: Any) -> None:
        task.future = future
        future.add_done_callback(lambda _future: self._events.put(key))

    def _refuse(self, task: _Task, key: str, error: TransportError) -> None:
        """Find out which calls of a batch cannot be sent; send the others one by one."""
        batch = task.batch
        if len(batch.calls) == 1:
            task.future = Failure(error)
            self._tasks[key] = task
            self._events.put(key)
            return
        self._split(batch)

    # --- back --------------------------------------------------------------------------

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        """Return the outcomes there are, waiting for one if there is none."""
        outcomes: list[Outcome] = []
        deadline = None if timeout is None else time.monotonic() + timeout
        while not outcomes:
            while self._waiting or (
                self._suspects and not any(task.lost for task in self._tasks.values())
            ):
                self._flush()
            if not self._tasks:
                break
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                key = self._events.get(timeout=left)
            except Empty:
                break
            if key is None:
                break
            keys = [key]
            while True:
                try:
                    key = self._events.get_nowait()
                except Empty:
                    break
                if key is not None:
                    keys.append(key)
            self._take(keys, outcomes)
        return outcomes

    def _take(self, keys: list[str], outcomes: list[Outcome]) -> None:
        tasks = [self._tasks.pop(key) for key in keys if key in self._tasks]
        finished = [
            task
            for task in tasks
            if not isinstance(task.future, Failure) and task.future.status == "finished"
        ]
        values = self._client.gather([task.future for task in finished], errors="skip")
        if len(values) != len(finished):  # lost on the way: asked for one by one
            values = [_gathered(task.future) for task in finished]
        results = dict(zip(map(id, finished), values, strict=True))
        for task in tasks:
            self._settle(task, results.get(id(task)), outcomes)

    def _settle(self, task: _Task, result: Any, outcomes: list[Outcome]) -> None:
        batch, size = task.batch, len(task.batch.calls)
        if result is not None and not isinstance(result, BaseException):
            worker, encoded = result
            ran = decode_ran(encoded, size, _itself)
            if UNDECODED in ran.failures:
                failure = ran.failures[UNDECODED]
                if size > 1:
                    self._split(batch)
                else:
                    self._arrived(Outcome.of_failure(batch.number, size, failure), batch, outcomes)
                return
            received = encoded.size
            outcome = Outcome(
                batch.number,
                ran.values,
                ran.failures,
                worker,
                ran.started,
                ran.seconds,
                task.sent,
                received,
            )
            self._arrived(outcome, batch, outcomes)
            return
        failure = task.future if isinstance(task.future, Failure) else _failure(task.future)
        if failure.kind is FailureKind.LOST and not task.lost:
            # A call that only stood beside the one that killed the worker is not at fault.
            self._split(batch, lost=1)
            return
        self._arrived(Outcome.of_failure(batch.number, size, failure), batch, outcomes)

    def _split(self, batch: Batch, lost: int = 0) -> None:
        """Run the calls of a batch again, each alone; the outcome is put together at the end."""
        if batch.number not in self._rerun:
            self._rerun[batch.number] = (batch, {}, {}, 0.0)
        for offset, call in enumerate(batch.calls):
            single = Batch(batch.number, batch.first + offset, (call,), batch.context, offset)
            (self._suspects if lost else self._waiting).append(_Task(single, lost))

    def _arrived(self, outcome: Outcome, batch: Batch, outcomes: list[Outcome]) -> None:
        """Hand an outcome on, or put it into its place in a batch that was run call by call."""
        known = self._rerun.get(batch.number)
        if known is None:
            outcomes.append(outcome)
            return
        whole, values, failures, seconds = known
        offset = batch.first - whole.first
        values[offset] = outcome.values[0]
        if outcome.failures:
            failures[offset] = outcome.failures[0]
        seconds += outcome.seconds
        self._rerun[batch.number] = (whole, values, failures, seconds)
        if len(values) == len(whole.calls):
            del self._rerun[batch.number]
            ordered = [values[place] for place in range(len(values))]
            outcomes.append(
                Outcome(whole.number, ordered, failures, outcome.worker, outcome.started, seconds)
            )

    # --- the end -----------------------------------------------------------------------

    def wake(self) -> None:
        """Make a waiting `completed` return; from any thread."""
        self._events.put(None)

    def cancel(self) -> None:
        """Cancel all tasks and let them go."""
        self._waiting.clear()
        self._suspects.clear()
        self._rerun.clear()
        futures = [
            task.future
            for task in self._tasks.values()
            if task.future is not None and not isinstance(task.future, Failure)
        ]
        self._tasks.clear()
        if futures and self._client.status == "running":
            self._client.cancel(futures, force=True)

    def close(self) -> None:
        """Cancel what is in flight; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self.cancel()
        finally:
            self._shared.close()
            self._leave()

    def _leave(self) -> None:
        if self._seceded:
            self._seceded = False
            distributed().rejoin()


class _runner:  # noqa: N801 - a function with its settings, which Dask pickles once a message
    def __init__(self, mode: str | None, limit: float | None) -> None:
        self._mode = mode
        self._limit = limit

    def __call__(self, encoded: EncodedBatch) -> Any:
        return run_batch(encoded, self._mode, self._limit)


def _itself(reference: Any) -> Any:
    """Return the buffer of a result, its own reference here, as one that can be written."""
    return bytearray(reference)


def _name(batch: Batch) -> str:
    """Return what Dask's dashboard shows for a batch: its function's name."""
    function = batch.calls[0][0]
    name = getattr(function, "__name__", None) or type(function).__name__
    return str(name).strip("<>").replace("-", "_")


def _gathered(future: Any) -> Any:
    try:
        return future.result(timeout=60)
    except Exception as error:  # noqa: BLE001 - it becomes the call's outcome
        return error


def _failure(future: Any) -> Failure:
    """Return the failure that a future which did not finish stands for."""
    if future.status == "error":
        error = future.exception()
        if type(error).__name__ == "KilledWorker":
            lost = WorkerLostError(f"the Dask worker that ran the call died: {error}")
            return Failure(lost, kind=FailureKind.LOST)
        return Failure(TransportError(f"the batch could not be run by a Dask worker: {error!r}"))
    lost = WorkerLostError(
        f"the call's task is {future.status} on the Dask cluster: its worker or the scheduler died"
    )
    return Failure(lost, kind=FailureKind.LOST)
