"""The executor on a Dask cluster: a task a batch, its outcome pulled from a queue."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from jobspan.backends.dask.answers import unpack, writable
from jobspan.backends.dask.arrivals import Arrival, Arrivals
from jobspan.backends.dask.connecting import scatter
from jobspan.backends.dask.in_flight import InFlight
from jobspan.backends.dask.kept import told
from jobspan.backends.dask.options import TaskOptions, in_span
from jobspan.backends.dask.output import replay
from jobspan.backends.dask.pool import leave_pool
from jobspan.backends.dask.presence import SLICE_SECONDS, Presence
from jobspan.backends.dask.running import run_batch
from jobspan.backends.dask.sending import Parcel, Sender
from jobspan.backends.dask.tasks import Task
from jobspan.backends.reruns import Reruns
from jobspan.calls import Batch
from jobspan.errors import TransportError, WorkerLostError
from jobspan.outcomes import Failure, FailureKind, Outcome
from jobspan.plans import Plan
from jobspan.transport.batches import UNDECODED, decode_ran
from jobspan.transport.content import ContentStore

__all__ = ["DaskExecutor"]

MESSAGE_BYTES = 4 << 20
"""So many bytes are sent at once, and not many more."""

LET_GO_TASKS = 1024
LET_GO_BYTES = 16 << 20
"""Tasks whose results have come are dropped together: the scheduler is the busiest of all."""

SOON_SECONDS = 5.0
"""A worker that is lost so soon may have been dying before: of a call that was given up, say. A
scheduler that allows failures has tried others by itself; else one more is tried."""

SENDINGS = 5
"""How often a batch is sent for which something was lost that was not its fault."""


class DaskExecutor:
    """Runs batches as tasks of a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
        The connection.
    plan : Plan
        The settings.
    content : ContentStore
        The buffers that are on the cluster already.
    options : TaskOptions
        What is passed through to Dask with every task.
    connect_timeout : float
        Seconds to wait for a first worker, or for a scheduler that is gone.
    direct : bool
        Whether workers can be reached from here.
    check : callable
        Given the addresses of workers that it has not seen, refuses those that cannot be used.
    ended : callable or None
        Called when the executor is closed.

    Notes
    -----
    Inside a Dask task the thread leaves its worker's pool while it waits, and comes back at the
    end, so that nested calls find a free thread at any depth.
    """

    def __init__(
        self,
        client: Any,
        plan: Plan,
        content: ContentStore,
        options: TaskOptions,
        connect_timeout: float,
        *,
        direct: bool,
        check: Callable[[set[str]], None],
        ended: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._plan = plan
        self._options = options
        self._direct = direct
        self._ended = ended
        self._sender = Sender(plan, content, keep_freed_memory=options.keep_freed_memory)
        self._waiting: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._tasks: dict[str, Task] = {}
        self._ended_tasks: list[Any] = []
        self._ended_bytes = 0
        self._refused: list[tuple[Batch, Failure]] = []
        self._reruns = Reruns()
        self._run = f"0{os.urandom(6).hex()}"
        self._serial = 0
        self._in_flight = InFlight(plan)
        self._woken = False
        self._closed = False
        self._come_back = leave_pool()
        self._arrivals = Arrivals(client, direct=direct, fits=options.fits)
        try:
            self._presence = Presence(client, self._arrivals, options, connect_timeout, check)
            self._presence.await_workers(f"waiting_for_workers-{self._run}")
        except BaseException:
            self.close()
            raise

    # --- how much there is to use ------------------------------------------------------

    @property
    def workers(self) -> int:
        """How many threads there are, or as many as were asked for."""
        threads = max(1, self._arrivals.threads)
        return threads if self._plan.follow else max(1, min(self._plan.n_jobs, threads))

    @property
    def slots(self) -> int:
        """How many tasks in flight hide the round trip; n_jobs caps what runs."""
        return self._in_flight.slots(max(1, self._arrivals.threads))

    def room(self) -> int:
        """Return how many batches may be in flight, long ones too: Dask's scheduler queues them."""
        return self._in_flight.room(max(1, self._arrivals.threads))

    # --- out ---------------------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """Take a batch; it is sent with the next look at what is completed."""
        self._sender.begin(batch.context.token)
        self._waiting.append(Task(batch))

    def _flush(self) -> None:
        """Send what waits, in few messages to the scheduler."""
        if self._suspects and not any(task.suspect for task in self._tasks.values()):
            # One at a time: the call that is running when a worker dies is the one to blame.
            self._waiting.append(self._suspects.popleft())
        if len(self._waiting) < len(self._tasks) // 4 > 2 * self.workers:
            return  # workers have enough: one message for many
        message: list[tuple[Task, Parcel]] = []
        size = 0
        while self._waiting and self._client.status == "running":
            task = self._waiting.popleft()
            try:
                parcel = self._sender.encode(task.batch)
            except TransportError as error:
                self._refuse(task.batch, error)
                continue
            message.append((task, parcel))
            size += parcel.size
            if size > MESSAGE_BYTES:
                self._send(message)
                message, size = [], 0
        if message:
            self._send(message)

    def _send(self, message: list[tuple[Task, Parcel]]) -> None:
        self._send_loose(message)
        columns: list[list[Any]] = [[], [], [], [], []]
        keys: list[str] = []
        for task, parcel in message:
            self._serial += 1
            keys.append(f"{task.name}-{self._run}-{self._serial}")
            task.size = parcel.size
            task.sendings += 1
            task.sent = time.monotonic()
            values = (
                parcel.head,
                parcel.body if parcel.loose is None else task.held,
                self._sender.handles(parcel.head_places),
                self._sender.handles(parcel.places),
                parcel.kept,
            )
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        self._arrivals.spread(self._sender.used_again(), self.workers)
        with self._options.annotated():
            futures = self._client.map(
                run_batch, *columns, key=keys, pure=False, **self._options.arguments
            )
        if self._options.keep_results:
            for (task, _), future in zip(message, futures, strict=True):
                task.kept = future
            sizes = [len(task.batch.calls) for task, _ in message]
            keys = [f"told_{key}" for key in keys]
            with in_span():
                futures = self._client.map(told, futures, sizes, key=keys, pure=False)
        sent = dict(zip(keys, futures, strict=True))
        for key, (task, _) in zip(keys, message, strict=True):
            task.future = sent[key]
            self._tasks[key] = task
        self._arrivals.follow(sent)

    def _send_loose(self, message: list[tuple[Task, Parcel]]) -> None:
        """Send ahead, straight to workers, the calls that have many bytes."""
        loose = [(task, parcel.loose) for task, parcel in message if parcel.loose is not None]
        if loose:
            bodies = [bytes(body) for _, body in loose]
            held = scatter(self._client, bodies, direct=self._direct)
            for (task, _), future in zip(loose, held, strict=True):
                task.held = future

    def _refuse(self, batch: Batch, error: TransportError) -> None:
        """Settle a call that cannot be sent; send the others of its batch one by one."""
        if self._client.status != "running":
            raise self._presence.gone(self._unfinished, running=False) from error
        if len(batch.calls) > 1:
            self._waiting.extend(Task(single) for single in self._reruns.singles(batch))
        else:
            self._refused.append((batch, Failure(error)))

    @property
    def _unfinished(self) -> int:
        return len(self._tasks) + len(self._waiting) + len(self._suspects)

    # --- back --------------------------------------------------------------------------

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        """Return the outcomes there are, waiting for one if there is none."""
        outcomes: list[Outcome] = []
        deadline = None if timeout is None else time.monotonic() + timeout
        while not outcomes:
            self._flush()
            while self._refused:
                batch, failure = self._refused.pop()
                self._arrived(batch, Outcome.of_failure(batch.number, 1, failure), outcomes)
            if outcomes or not (self._tasks or self._waiting or self._suspects):
                break
            left = SLICE_SECONDS
            if deadline is not None:
                left = min(left, max(0.0, deadline - time.monotonic()))
            for arrival in self._arrivals.wait(left):
                task = self._tasks.pop(arrival.key, None)
                if task is not None:
                    self._settle(task, arrival, outcomes)
            if not outcomes:
                self._presence.look(self._unfinished)
            if self._woken or (deadline is not None and time.monotonic() >= deadline):
                break
        self._woken = False
        return outcomes

    def _settle(self, task: Task, arrival: Arrival, outcomes: list[Outcome]) -> None:
        batch, size = task.batch, len(task.batch.calls)
        if arrival.status == "finished":
            self._take(task, arrival.value, outcomes)
            return
        if arrival.status == "error" and type(arrival.value).__name__ != "KilledWorker":
            problem = TransportError(
                f"the batch could not be run by a Dask worker: {arrival.value!r}"
            )
            self._arrived(batch, Outcome.of_failure(batch.number, size, Failure(problem)), outcomes)
            return
        if arrival.status != "error" and task.sendings < SENDINGS:
            # Lost with the connection, or because a worker died with what had been scattered.
            self._waiting.append(task)
            return
        if not task.suspect:
            # A call that only stood beside the one that killed the worker is not at fault.
            self._suspects.extend(
                Task(single, suspect=True) for single in self._reruns.singles(batch)
            )
            return
        tried = getattr(arrival.value, "allowed_failures", 0)
        if not (tried or task.spared) and time.monotonic() - task.sent < SOON_SECONDS:
            self._suspects.append(Task(batch, suspect=True, spared=True))
            return
        lost = WorkerLostError(
            f"the Dask worker that ran the call died: {arrival.value or arrival.status}"
        )
        failure = Failure(lost, kind=FailureKind.LOST)
        self._arrived(batch, Outcome.of_failure(batch.number, size, failure), outcomes)

    def _take(self, task: Task, value: Any, outcomes: list[Outcome]) -> None:
        batch = task.batch
        worker, encoded, output = unpack(value)
        if output:
            replay(output)
        self._let_go(task.future, encoded.size)
        ran = decode_ran(encoded, len(batch.calls), writable)
        if task.kept is not None and UNDECODED not in ran.failures:
            ran = ran._replace(values=task.handles(ran.failures))
        undecoded = ran.failures.get(UNDECODED)
        if undecoded is not None:
            if len(batch.calls) > 1:
                self._waiting.extend(Task(single) for single in self._reruns.singles(batch))
            else:
                outcome = Outcome.of_failure(batch.number, 1, undecoded)
                self._arrived(batch, outcome, outcomes)
            return
        self._in_flight.observe(ran.seconds, task.size + encoded.size)
        outcome = Outcome(
            batch.number,
            ran.values,
            ran.failures,
            worker,
            ran.started,
            ran.seconds,
            task.size,
            encoded.size,
        )
        self._arrived(batch, outcome, outcomes)

    def _let_go(self, future: Any, size: int) -> None:
        """Drop a task's result from the cluster, soon."""
        self._ended_tasks.append(future)
        self._ended_bytes += size
        if len(self._ended_tasks) >= LET_GO_TASKS or self._ended_bytes >= LET_GO_BYTES:
            self._ended_tasks.clear()
            self._ended_bytes = 0

    def _arrived(self, batch: Batch, outcome: Outcome, outcomes: list[Outcome]) -> None:
        whole = self._reruns.settled(batch, outcome)
        if whole is not None:
            outcomes.append(whole)

    # --- the end -----------------------------------------------------------------------

    def wake(self) -> None:
        """Make a waiting `completed` return; from any thread."""
        self._woken = True
        self._arrivals.wake()

    def cancel(self) -> None:
        """Cancel all tasks and let them go."""
        self._waiting.clear()
        self._suspects.clear()
        self._refused.clear()
        self._reruns.clear()
        futures = [future for task in self._tasks.values() for future in task.futures]
        self._tasks.clear()
        self._ended_tasks.clear()
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
            self._arrivals.close()
            self._sender.close()
            if self._ended is not None:
                self._ended()
            if self._come_back is not None:
                self._come_back()
