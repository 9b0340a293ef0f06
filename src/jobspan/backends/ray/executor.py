"""The executor on a Ray cluster: two messages in flight a worker, pulled with ``ray.wait``."""

from __future__ import annotations

import time
from collections import deque
from threading import Event
from typing import Any

from jobspan.backends.ray.connecting import ray_package
from jobspan.backends.ray.crew import Crew, Member
from jobspan.backends.ray.messages import pack_message, read_reply
from jobspan.backends.ray.room import Room
from jobspan.backends.ray.staff import Staff
from jobspan.backends.reruns import Reruns
from jobspan.calls import Batch
from jobspan.errors import (
    BackendUnreachableError,
    TaskTimeoutError,
    TransportError,
    WorkerLostError,
)
from jobspan.outcomes import Failure, FailureKind, Outcome
from jobspan.plans import Plan
from jobspan.transport.batches import UNDECODED, BatchEncoder, EncodedRan, decode_ran
from jobspan.transport.content import ContentStore, SharedOnce
from jobspan.transport.pickling import modules_by_value
from jobspan.transport.protocol import EncodedBatch
from jobspan.worker.context import run_in
from jobspan.worker.run import run_calls

__all__ = ["RayExecutor"]

MERGED = 8
"""Short batches that share a message at most: Ray takes half a millisecond a message, however
little is in it, and those behind a slow one wait."""

MESSAGE_SECONDS = 0.004
"""How long the batches of one message may run together."""

SLICE_SECONDS = 0.05
"""``ray.wait`` cannot be woken: it is asked for no longer than this at a time."""

SURE_SECONDS = 0.25
"""A message that a dead worker had for longer is the one that it ran: an earlier reply has come."""

INLINE_SECONDS = 1.0
"""How long calls nested in a Ray worker wait for a place before they run in that worker itself."""


class _Waiting:
    """A batch that is to be sent; with `alone` to a worker that has nothing else."""

    __slots__ = ("alone", "batch")

    def __init__(self, batch: Batch, *, alone: bool = False) -> None:
        self.batch = batch
        self.alone = alone


class _Flight:
    """A message that a worker has."""

    __slots__ = ("batches", "member", "sizes", "taught")

    def __init__(
        self, member: Member, batches: list[Batch], sizes: list[int], *, taught: bool
    ) -> None:
        self.member = member
        self.batches = batches
        self.sizes = sizes
        self.taught = taught


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
    room : Room
        How much of the cluster there is.
    tasks : bool
        Whether messages are tasks rather than calls of actors.
    nested : bool
        Whether this process is itself a worker of Ray, and runs calls where nobody else can.
    start_timeout : float
        How long to wait for a worker that the cluster, as it is, has no room for.
    """

    def __init__(
        self,
        plan: Plan,
        crew: Crew,
        content: ContentStore,
        room: Room,
        *,
        tasks: bool,
        nested: bool,
        start_timeout: float,
    ) -> None:
        self._ray = ray_package()
        self._plan = plan
        self._staff = Staff(plan, crew, room, tasks=tasks, start_timeout=start_timeout)
        self._shared = SharedOnce(content)
        self._encoder = BatchEncoder(self._shared.share, plan.max_nbytes, by_value=modules_by_value)
        self._token = ""
        self._nested = nested
        self._queue: deque[_Waiting] = deque()
        self._flights: dict[Any, _Flight] = {}
        self._done: list[Outcome] = []
        self._reruns = Reruns()
        self._seconds_a_batch: float | None = None
        self._woken = Event()
        self._closed = False

    @property
    def workers(self) -> int:
        """How many workers there may be: as many as were asked for, or as the cluster has room."""
        return self._staff.workers

    @property
    def slots(self) -> int:
        """How many batches in flight hide the round trip."""
        return self._staff.workers * self._staff.depth * self._merged

    @property
    def _merged(self) -> int:
        """How many batches share a message."""
        if self._plan.task_timeout is not None or self._seconds_a_batch is None:
            return 1
        return max(1, min(MERGED, int(MESSAGE_SECONDS / max(self._seconds_a_batch, 1e-9))))

    # --- out ---------------------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """Take a batch; it is sent with the next look at what is completed."""
        if batch.context.token != self._token:
            self._token = batch.context.token
            self._shared.begin()
        self._queue.append(_Waiting(batch))

    def _dispatch(self) -> None:
        """Send what waits to workers that have room, the freest first."""
        if not self._queue:
            return
        in_hand = sum(len(flight.batches) for flight in self._flights.values())
        self._staff.hire(in_hand + len(self._queue))
        while self._queue:
            member, places = self._staff.freest()
            if member is None:
                return
            if self._queue[0].alone:
                if member.actor is not None and member.refs:
                    return
                self._send([self._queue.popleft().batch], member, alone=True)
                continue
            share = min(self._merged, -(-len(self._queue) // places))
            batches: list[Batch] = []
            while self._queue and len(batches) < share and not self._queue[0].alone:
                batches.append(self._queue.popleft().batch)
            self._send(batches, member)

    def _send(self, batches: list[Batch], member: Member, *, alone: bool = False) -> None:
        encoded: list[EncodedBatch] = []
        sent: list[Batch] = []
        for batch in batches:
            try:
                encoded.append(self._encoder.encode(batch))
                sent.append(batch)
            except TransportError as error:
                self._refused(batch, Failure(error))
        if not sent:
            return
        packed, references, learnt = pack_message(encoded, member.known)
        function = sent[0].calls[0][0]
        name = getattr(function, "__name__", None) or type(function).__name__
        shared = [self._shared.handles[index] for index in references]
        taught = not member.known
        ref = member.send(str(name), packed, self._plan.mmap_mode, shared)
        if member.actor is not None:
            member.known = learnt
            member.alone = alone
        sizes = [len(each.batch.payload) for each in encoded]
        self._flights[ref] = _Flight(member, sent, sizes, taught=taught)

    # --- back --------------------------------------------------------------------------

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        """Return the outcomes there are, waiting for one if there is none."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self._dispatch()
            while not self._done and (self._flights or self._queue):
                if self._woken.is_set():
                    break
                left = SLICE_SECONDS
                if deadline is not None:
                    left = min(left, deadline - time.monotonic())
                    if left < 0:
                        break
                self._wait(left)
        except (ConnectionError, self._ray.exceptions.RaySystemError) as error:
            if isinstance(error, BackendUnreachableError):
                raise
            raise BackendUnreachableError(f"the connection to Ray was lost: {error}") from error
        self._woken.clear()
        done, self._done = self._done, []
        return done

    def _wait(self, seconds: float) -> None:
        pending = self._staff.pending
        refs = [*self._flights, *pending]
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=seconds, fetch_local=False)
        if ready and len(refs) > 1:
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        for ref in ready:
            if ref in self._flights:
                self._take(ref)
            else:
                self._staff.answered(ref)
        if self._plan.task_timeout is not None:
            self._expire(self._plan.task_timeout)
        if self._queue and not ready and self._staff.without() > INLINE_SECONDS and self._nested:
            self._run_here(self._queue.popleft().batch)
        self._dispatch()

    def _take(self, ref: Any) -> None:
        flight = self._flights.pop(ref)
        member = flight.member
        oldest = not member.blamed and bool(member.refs) and member.refs[0] == ref
        in_hand = time.monotonic() - member.began
        only = len(member.refs) == 1
        member.settle(ref)
        try:
            reply = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            if self._is_loss(error):
                task = member.actor is None
                sure = task or only or in_hand > SURE_SECONDS
                self._lost(flight, error, oldest=oldest or task, sure=sure)
                member.blamed = member.blamed or (oldest and not task)
                self._staff.lose(member)
            else:
                self._broken(flight, error)
            return
        worker, each = read_reply(reply)
        for batch, encoded, size in zip(flight.batches, each, flight.sizes, strict=True):
            self._ran(batch, flight, worker, encoded, size)

    def _ran(
        self, batch: Batch, flight: _Flight, worker: str, encoded: EncodedRan, sent: int
    ) -> None:
        ran = decode_ran(encoded, len(batch.calls), lambda reference: reference)
        if UNDECODED in ran.failures:
            flight.member.known.clear()
            if not flight.taught:  # it may have forgotten what it was taught long ago
                self._queue.append(_Waiting(batch))
            else:
                self._refused(batch, ran.failures[UNDECODED])
            return
        known = self._seconds_a_batch
        if known is None or ran.seconds > known:
            self._seconds_a_batch = ran.seconds
        else:
            self._seconds_a_batch = known + 0.25 * (ran.seconds - known)
        self._staff.note(self._seconds_a_batch)
        outcome = Outcome(
            batch.number,
            ran.values,
            ran.failures,
            worker,
            ran.started,
            ran.seconds,
            sent,
            encoded.size,
        )
        self._arrived(batch, outcome)

    def _arrived(self, batch: Batch, outcome: Outcome) -> None:
        whole = self._reruns.settled(batch, outcome)
        if whole is not None:
            self._done.append(whole)

    def _run_here(self, batch: Batch) -> None:
        """Run a batch in this process, a worker of Ray that waits in vain for a place elsewhere."""
        ran = run_in(batch.context, run_calls, batch.calls)
        outcome = Outcome(
            batch.number, ran.values, ran.failures, "caller", ran.started, ran.seconds
        )
        self._arrived(batch, outcome)

    # --- what went wrong ---------------------------------------------------------------

    def _is_loss(self, error: Exception) -> bool:
        exceptions = self._ray.exceptions
        return isinstance(
            error,
            exceptions.RayActorError
            | exceptions.WorkerCrashedError
            | exceptions.OutOfMemoryError
            | exceptions.NodeDiedError
            | exceptions.ObjectLostError,
        )

    def _refused(self, batch: Batch, failure: Failure) -> None:
        """Settle a batch that cannot travel; of several calls, those that can go on their own."""
        if len(batch.calls) > 1:
            self._queue += map(_Waiting, self._reruns.singles(batch))
        else:
            self._arrived(batch, Outcome.of_failure(batch.number, 1, failure))

    def _lost(self, flight: _Flight, error: Exception, *, oldest: bool, sure: bool) -> None:
        """Settle a message whose worker died.

        Notes
        -----
        The call that ran is lost. Where it is not known which one ran, the calls go one by one,
        each to a worker that has nothing else; what the worker had not begun goes as it was.
        """
        if not oldest:
            self._queue.extendleft(map(_Waiting, reversed(flight.batches)))
            return
        calls = sum(len(batch.calls) for batch in flight.batches)
        for batch in flight.batches:
            if calls == 1 and sure:
                text = str(error).strip() or type(error).__name__
                problem = WorkerLostError(f"the Ray worker that ran the call died: {text}")
                failure = Failure(problem, kind=FailureKind.LOST)
                self._arrived(batch, Outcome.of_failure(batch.number, 1, failure))
            else:
                singles = self._reruns.singles(batch)
                self._queue.extend(_Waiting(single, alone=True) for single in singles)

    def _broken(self, flight: _Flight, error: Exception) -> None:
        """Settle a message that Ray could not bring to its worker or back."""
        problem = TransportError(f"the batch could not be run by a Ray worker: {error}")
        failure = Failure(problem)
        if len(flight.batches) == 1:
            self._refused(flight.batches[0], failure)
        else:
            self._queue.extend(_Waiting(batch, alone=True) for batch in flight.batches)

    def _expire(self, limit: float) -> None:
        """Kill workers whose call has run too long."""
        now = time.monotonic()
        for ref, flight in list(self._flights.items()):
            ran = now - flight.member.began
            if ran <= limit:
                continue
            del self._flights[ref]
            self._staff.lose(flight.member)
            problem = TaskTimeoutError(
                f"the call ran for {ran:.3g} s, longer than task_timeout={limit!r}; its worker was "
                "stopped"
            )
            failure = Failure(problem, kind=FailureKind.TIMEOUT)
            for batch in flight.batches:
                size = len(batch.calls)
                self._arrived(batch, Outcome.of_failure(batch.number, size, failure))

    # --- the end -----------------------------------------------------------------------

    def wake(self) -> None:
        """Make a waiting `completed` return; from any thread."""
        self._woken.set()

    def cancel(self) -> None:
        """Drop what waits, and stop the workers that run something."""
        self._queue.clear()
        self._reruns.clear()
        self._done.clear()
        self._staff.stop()
        self._flights.clear()

    def close(self) -> None:
        """Cancel what is in flight and give the workers back; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self.cancel()
        finally:
            self._staff.dismiss()
            self._shared.close()
