"""The executor on a Ray cluster: two batches in flight a worker, pulled with ``ray.wait``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Event
from typing import Any

from jobspan.backends.ray.connecting import ray_package
from jobspan.backends.ray.crew import Crew, Member
from jobspan.calls import Batch
from jobspan.errors import TaskTimeoutError, TransportError, WorkerLostError
from jobspan.outcomes import Failure, FailureKind, Outcome
from jobspan.plans import Plan
from jobspan.transport.batches import BatchEncoder, decode_ran
from jobspan.transport.content import ContentStore, SharedOnce
from jobspan.transport.remote import UNDECODED

__all__ = ["RayExecutor"]

DEPTH = 2
"""Batches in flight for each worker."""

SLICE_SECONDS = 0.05
"""``ray.wait`` cannot be woken: it is asked for no longer than this at a time."""

LOOK_SECONDS = 2.0
"""How often the size of the cluster is asked for."""


class _Flight:
    """A batch that a worker has."""

    __slots__ = ("batch", "member", "sent", "since")

    def __init__(self, batch: Batch, member: Member, sent: int) -> None:
        self.batch = batch
        self.member = member
        self.sent = sent
        self.since: float | None = None


class RayExecutor:
    """Runs batches on the workers of a crew.

    Parameters
    ----------
    plan : Plan
        The settings.
    crew : Crew
        Where workers come from.
    content : ContentStore
        The buffers that are in the object store already.
    room : callable
        For how many workers the cluster has CPUs.
    """

    def __init__(
        self, plan: Plan, crew: Crew, content: ContentStore, room: Callable[[], int]
    ) -> None:
        self._ray = ray_package()
        self._plan = plan
        self._crew = crew
        self._shared = SharedOnce(content)
        self._encoder = BatchEncoder(self._shared.share, plan.max_nbytes, by_value=True)
        self._token = ""
        self._room = room
        self._workers = plan.n_jobs
        self._looked = time.monotonic()
        self._members: list[Member] = []
        self._queue: deque[Batch] = deque()
        self._flights: dict[Any, _Flight] = {}
        self._done: list[Outcome] = []
        self._split: dict[int, tuple[Batch, dict[int, Any], dict[int, Failure]]] = {}
        self._woken = Event()
        self._closed = False
        self._hire()
        try:
            crew.check(self._members[0])
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """How many workers there may be: as many as were asked for, or as the cluster has room."""
        now = time.monotonic()
        if self._plan.follow and now - self._looked > LOOK_SECONDS:
            self._workers = self._room()
            self._looked = now
        return self._workers

    @property
    def slots(self) -> int:
        """How many batches in flight hide the round trip."""
        return self.workers * self._depth

    @property
    def _depth(self) -> int:
        # With a time limit a batch must start when it is sent.
        return 1 if self._plan.task_timeout is not None else DEPTH

    def _hire(self) -> Member:
        member = self._crew.hire()
        self._members.append(member)
        return member

    # --- out ---------------------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """Send a batch to the worker with the fewest, or keep it until one has room."""
        if batch.context.token != self._token:
            self._token = batch.context.token
            self._shared.begin()
        self._queue.append(batch)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._queue:
            member = min(self._members, key=lambda m: len(m.refs), default=None)
            if member is None or (member.refs and len(self._members) < self.workers):
                member = self._hire()
            if len(member.refs) >= self._depth:
                return
            self._send(self._queue.popleft(), member)

    def _send(self, batch: Batch, member: Member) -> None:
        try:
            encoded = self._encoder.encode(batch)
        except TransportError as error:
            if len(batch.calls) > 1:
                self._run_singly(batch)
            else:
                self._arrived(batch, Outcome.of_failure(batch.number, 1, Failure(error)))
            return
        references = encoded.all_references()
        places = {index: place for place, index in enumerate(references)}
        function = batch.calls[0][0]
        name = getattr(function, "__name__", None) or type(function).__name__
        ref = member.send(
            str(name),
            encoded.picklable(places),
            self._plan.mmap_mode,
            [self._shared.handles[index] for index in references],
        )
        self._flights[ref] = _Flight(batch, member, len(encoded.batch.payload))

    # --- back --------------------------------------------------------------------------

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        """Return the outcomes there are, waiting for one if there is none."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._done and self._flights:
            if self._woken.is_set():
                break
            left = SLICE_SECONDS
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
                if left < 0:
                    break
            self._wait(left)
        self._woken.clear()
        done, self._done = self._done, []
        return done

    def _wait(self, seconds: float) -> None:
        refs = list(self._flights)
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=seconds, fetch_local=False)
        if ready and len(refs) > 1:
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        for ref in ready:
            self._take(ref)
        if self._plan.task_timeout is not None:
            self._expire(self._plan.task_timeout)
        self._dispatch()

    def _take(self, ref: Any) -> None:
        flight = self._flights.pop(ref, None)
        if flight is None:
            return
        batch, member = flight.batch, flight.member
        oldest = not member.blamed and bool(member.refs) and member.refs[0] == ref
        if ref in member.refs:
            member.refs.remove(ref)
        try:
            worker, encoded = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._failed(batch, member, error, oldest=oldest)
            return
        ran = decode_ran(encoded, len(batch.calls), lambda reference: reference)
        if UNDECODED in ran.failures:
            if len(batch.calls) > 1:
                self._run_singly(batch)
            else:
                failure = ran.failures[UNDECODED]
                self._arrived(batch, Outcome.of_failure(batch.number, 1, failure))
            return
        outcome = Outcome(
            batch.number,
            ran.values,
            ran.failures,
            worker,
            ran.started,
            ran.seconds,
            flight.sent,
            encoded.size,
        )
        self._arrived(batch, outcome)

    def _failed(self, batch: Batch, member: Member, error: Exception, *, oldest: bool) -> None:
        """Settle a batch that its worker did not bring back."""
        exceptions = self._ray.exceptions
        lost = isinstance(error, exceptions.RayActorError | exceptions.WorkerCrashedError)
        lost = lost or isinstance(error, exceptions.OutOfMemoryError)
        if not lost:
            failure = Failure(
                TransportError(f"the batch could not be run by a Ray worker: {error}")
            )
            size = len(batch.calls)
            self._arrived(batch, Outcome.of_failure(batch.number, size, failure))
            return
        if member in self._members:
            self._members.remove(member)
        member.blamed = True
        if not oldest:
            self._queue.append(batch)  # it had not begun: the worker died in an earlier one
        elif len(batch.calls) > 1:
            self._run_singly(batch)
        else:
            problem = WorkerLostError(f"the Ray worker that ran the call died: {error}")
            failure = Failure(problem, kind=FailureKind.LOST)
            self._arrived(batch, Outcome.of_failure(batch.number, 1, failure))

    def _expire(self, limit: float) -> None:
        """Kill workers whose call has run too long."""
        now = time.monotonic()
        for ref, flight in list(self._flights.items()):
            member = flight.member
            if flight.since is None:
                started = True
                if member.ready is not None:
                    started = bool(self._ray.wait([member.ready], timeout=0)[0])
                if started:
                    flight.since = now
            elif now - flight.since > limit:
                del self._flights[ref]
                if member in self._members:
                    self._members.remove(member)
                member.kill()
                problem = TaskTimeoutError(
                    f"the call ran for {now - flight.since:.3g} s, longer than "
                    f"task_timeout={limit!r}; its worker was stopped"
                )
                failure = Failure(problem, kind=FailureKind.TIMEOUT)
                size = len(flight.batch.calls)
                number = flight.batch.number
                self._arrived(flight.batch, Outcome.of_failure(number, size, failure))

    def _run_singly(self, batch: Batch) -> None:
        """Run the calls of a batch again, each alone, to learn which one is at fault."""
        self._split[batch.number] = (batch, {}, {})
        for offset, call in enumerate(batch.calls):
            self._queue.append(Batch(batch.number, batch.first + offset, (call,), batch.context))

    def _arrived(self, batch: Batch, outcome: Outcome) -> None:
        """Hand an outcome on, or put it into its place in a batch that runs call by call."""
        split = self._split.get(batch.number)
        if split is None:
            self._done.append(outcome)
            return
        whole, values, failures = split
        offset = batch.first - whole.first
        values[offset] = outcome.values[0]
        if outcome.failures:
            failures[offset] = outcome.failures[0]
        if len(values) == len(whole.calls):
            del self._split[batch.number]
            ordered = [values[place] for place in range(len(values))]
            self._done.append(outcome._replace(values=ordered, failures=failures))

    # --- the end -----------------------------------------------------------------------

    def wake(self) -> None:
        """Make a waiting `completed` return; from any thread."""
        self._woken.set()

    def cancel(self) -> None:
        """Drop what waits, and stop the workers that run something."""
        self._queue.clear()
        self._split.clear()
        self._done.clear()
        busy = [member for member in self._members if member.refs]
        self._flights.clear()
        for member in busy:
            self._members.remove(member)
            if self._ray.is_initialized():
                member.kill()

    def close(self) -> None:
        """Cancel what is in flight and give the workers back; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self.cancel()
        self._crew.release(self._members)
        self._members.clear()
        self._shared.close()
