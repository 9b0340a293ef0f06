"""The executor of the processes backend: which batch goes to which worker, and what comes back."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from jobspan.backends.processes.courier import Courier, Knowledge
from jobspan.backends.processes.frames import Frame, FrameKind
from jobspan.backends.processes.handle import Flight, FlightState, Worker
from jobspan.backends.processes.idle import give_back, take_worker
from jobspan.backends.processes.losses import after_death, call_text, ending_text
from jobspan.backends.processes.messages import Terms
from jobspan.backends.processes.poller import READABLE, WRITABLE, Waker, new_poller
from jobspan.calls import Batch
from jobspan.cores import cpu_count
from jobspan.errors import BackendError, TaskTimeoutError, TransportError, WorkerLostError
from jobspan.outcomes import Failure, FailureKind, Outcome
from jobspan.plans import Plan
from jobspan.worker.run import Ran

__all__ = ["ProcessExecutor"]

BATCHES_A_WORKER = 2
"""So many are with a worker at once: the next one is there when it has finished one."""

MOVE_SECONDS = 0.001
"""A batch that has waited so long behind another one goes to a worker that has nothing to do."""

CANCEL_SECONDS = 0.1
"""How long a cancelled call may take to end by itself before its worker is killed."""


@dataclass(slots=True)
class _Assembly:
    """A batch whose calls came apart when a worker died."""

    values: list[Any]
    failures: dict[int, Failure] = field(default_factory=dict)
    missing: int = 0
    started: float = 0.0
    seconds: float = 0.0
    sent: int = 0
    received: int = 0


class ProcessExecutor:
    """Runs batches in worker processes.

    Parameters
    ----------
    plan : Plan
        How many workers, time limits, how data travels.
    idle_seconds : float
        How long an idle worker waits before it leaves.
    calls_a_worker : int or None
        After how many batches a worker is replaced.

    Notes
    -----
    Threads and processes: one thread at a time uses it, but for `wake`. It owns its workers until
    it is closed. Calls that were running when their worker died are lost; calls of the same batch
    that had ended already, but whose results went down with the worker, run once more.
    """

    def __init__(
        self, plan: Plan, idle_seconds: float, batches_before_replacement: int | None = None
    ) -> None:
        self.workers = plan.n_jobs
        self.slots = BATCHES_A_WORKER * plan.n_jobs
        self._limit = plan.task_timeout
        self._courier = Courier(plan.max_nbytes, plan.temp_folder)
        self._terms = _terms(plan)
        self._idle_seconds = idle_seconds
        self._replacement = batches_before_replacement
        self._process = os.getpid()
        self._poller = new_poller()
        self._waker = Waker()
        self._poller.register(self._waker.descriptor, READABLE)
        self._handlers: dict[int, tuple[Callable[[Worker], None], Worker]] = {}
        self._staff: dict[Worker, None] = {}
        self._free: list[Worker] = []
        self._single: dict[Worker, None] = {}
        self._double: dict[Worker, None] = {}
        self._waiting: deque[Flight] = deque()
        self._assemblies: dict[int, _Assembly] = {}
        self._in_flight: set[int] = set()
        self._outcomes: list[Outcome] = []
        self._next_expiry = 0.0
        self._woken = False
        self._closed = False

    # --- what the scheduler calls ----------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """Send a batch to a worker with nothing to do, start one, or queue it behind another."""
        if os.getpid() != self._process:
            raise BackendError(
                "this Parallel block was entered before os.fork; enter one of its own in the child"
            )
        self._in_flight.add(batch.number)
        self._place(Flight(batch))

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        """Return the outcomes there are, waiting for one if there is none."""
        deadline = None if timeout is None else time.monotonic() + timeout
        wait: float | None = 0.0
        while not self._woken and (self._in_flight or self._outcomes):
            if not self._outcomes:
                wait = self._patience(deadline)
            for descriptor, events in self._poller.poll(wait):
                self._handle(descriptor, events)
            if self._outcomes:
                outcomes, self._outcomes = self._outcomes, []
                return outcomes
            if deadline is not None and time.monotonic() >= deadline:
                return []
        self._woken = False
        return []

    def wake(self) -> None:
        """Make a waiting `completed` return; from any thread."""
        self._waker.wake()

    def cancel(self) -> None:
        """Drop what has not started; give what runs a moment to end, then kill its worker."""
        if os.getpid() != self._process:
            return  # the workers are the parent's
        self._waiting.clear()
        self._assemblies.clear()
        self._in_flight.clear()
        for worker in self._staff:
            for flight in worker.flights:
                flight.state = FlightState.ABANDONED
            worker.cell.cancel(worker.batches_sent)
        tainted = [worker for worker in self._staff if worker.in_transfer]
        for worker in tainted:
            self._dismiss(worker)
        deadline = time.monotonic() + CANCEL_SECONDS
        while any(worker.flights for worker in self._staff):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            for descriptor, events in self._poller.poll(left):
                self._handle(descriptor, events)
        for worker in [worker for worker in self._staff if worker.flights]:
            self._dismiss(worker)
        self._outcomes.clear()
        self._free = list(self._staff)
        self._single.clear()
        self._double.clear()

    def close(self) -> None:
        """Cancel what is in flight and give the workers back."""
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._process:
            return
        self.cancel()
        self._courier.close(self._knowledge())
        for worker in list(self._staff):
            self._release(worker)
            worker.tell_news()
            if worker.read_obituary() or self._is_worn(worker):
                worker.close()
            else:
                give_back(worker)
        self._poller.close()
        self._waker.close()

    # --- placing batches -------------------------------------------------------------------

    def _place(self, flight: Flight) -> None:
        if self._free:
            self._send(self._free.pop(), flight)
        elif len(self._staff) < self.workers:
            self._send(self._hire(), flight)
        elif self._single:
            self._send(next(iter(self._single)), flight)
        else:
            self._waiting.append(flight)

    def _place_waiting(self) -> None:
        """Hand out what waits, as far as there is room for another worker."""
        while self._waiting and (self._free or len(self._staff) < self.workers):
            self._place(self._waiting.popleft())

    def _send(self, worker: Worker, flight: Flight) -> None:
        batch = flight.batch
        if flight.offsets is not None:
            batch = batch._replace(calls=flight.calls)
        try:
            payload, descriptors, flight.references = self._courier.encode(batch, worker.knowledge)
        except TransportError as error:
            self._sort_in(worker)
            self._refuse(flight, error)
            return
        if worker.send(flight, payload, descriptors):
            self._poller.modify(worker.connection.fileno(), READABLE | WRITABLE)
        if self._limit is not None:
            self._next_expiry = min(self._next_expiry, time.monotonic() + self._limit)
        self._sort_in(worker)

    def _refuse(self, flight: Flight, error: TransportError) -> None:
        """Settle a flight that cannot be sent; what else is in it goes on its own."""
        if len(flight.calls) == 1:
            self._settle(flight, dict.fromkeys(flight.positions, Failure(error)), "")
            return
        self._settle(flight, {}, "")
        for position in flight.positions:
            self._place(Flight(flight.batch, [position], flight.deaths))

    def _sort_in(self, worker: Worker) -> None:
        """Put a worker where its number of batches says."""
        load = len(worker.flights)
        self._single.pop(worker, None)
        self._double.pop(worker, None)
        if load >= BATCHES_A_WORKER or self._is_worn(worker):
            self._double[worker] = None
        elif load == 1:
            self._single[worker] = None
        else:
            self._free.append(worker)

    def _hire(self) -> Worker:
        worker = take_worker(self._idle_seconds)
        worker.agree(self._terms)
        self._staff[worker] = None
        for descriptor, handler in (
            (worker.connection.fileno(), self._on_frames),
            (worker.stderr.descriptor, self._on_stderr),
            (worker.obituary, self._on_obituary),
        ):
            self._handlers[descriptor] = (handler, worker)
            self._poller.register(descriptor, READABLE)
        return worker

    def _release(self, worker: Worker) -> None:
        """Strike a worker off the list; it is somebody else's afterwards, or nobody's."""
        for flight in worker.flights:
            self._courier.release(flight.references, self._knowledge())
        del self._staff[worker]
        self._single.pop(worker, None)
        self._double.pop(worker, None)
        if worker in self._free:
            self._free.remove(worker)
        for descriptor in (
            worker.connection.fileno(),
            worker.stderr.descriptor,
            worker.obituary,
        ):
            if self._handlers.pop(descriptor, None) is not None:
                self._poller.unregister(descriptor)

    def _dismiss(self, worker: Worker) -> None:
        """Kill a worker whose answer nobody waits for."""
        self._release(worker)
        worker.kill()
        worker.stderr.pump()
        worker.close()

    def _patience(self, deadline: float | None) -> float | None:
        """Return how long to wait for events; see first to batches and calls that took too long."""
        now = time.monotonic()
        limits = [] if deadline is None else [deadline]
        if self._limit is not None:
            if now >= self._next_expiry:
                self._next_expiry = self._expire(now, self._limit)
            limits.append(self._next_expiry)
        if self._free and (self._double or self._single):
            due = self._move(now)
            if due is not None:
                limits.append(due)
        return max(0.0, min(limits) - now) if limits else None

    def _move(self, now: float) -> float | None:
        """Move batches that wait behind others to workers with nothing to do; when to look again.

        A batch that its worker has begun with stays.
        """
        due: float | None = None
        starting = [worker for worker in self._single if not worker.answered]
        for worker in list(chain(self._double, starting)):
            flight = worker.flights[-1]
            if flight.state is not FlightState.SENT or worker.claimed(flight):
                continue
            if now - worker.head_since < MOVE_SECONDS:
                moment = worker.head_since + MOVE_SECONDS
                due = moment if due is None else min(due, moment)
                continue
            if worker.cell.revoke(flight.serial):
                flight.state = FlightState.MOVED
                self._place(Flight(flight.batch, flight.offsets, flight.deaths))
            else:
                flight.state = FlightState.RECALLED
            if not self._free:
                break
        return due

    def _expire(self, now: float, limit: float) -> float:
        """Kill the workers of calls that ran too long; return when to look again."""
        look_again = now + limit
        for worker in chain(self._single, self._double):
            started = worker.call_started()
            if started is None or worker.expired is not None:
                continue
            if now >= started + limit:
                running = worker.running_call()
                if running is not None:
                    worker.expired = (worker.flights[0].serial, running)
                    worker.kill()
            else:
                look_again = min(look_again, started + limit)
        return look_again

    # --- what comes back -------------------------------------------------------------------

    def _handle(self, descriptor: int, events: int) -> None:
        if descriptor == self._waker.descriptor:
            self._waker.clear()
            self._woken = True
            return
        found = self._handlers.get(descriptor)
        if found is None:
            return  # its worker was buried a moment ago
        handler, worker = found
        if events & WRITABLE and not worker.flush():
            self._poller.modify(descriptor, READABLE)
        if events & ~WRITABLE:
            handler(worker)

    def _on_frames(self, worker: Worker) -> None:
        frames = worker.receive()
        if frames is None:
            # It is ending, or has closed its socket, which comes to the same: its obituary is next.
            descriptor = worker.connection.fileno()
            del self._handlers[descriptor]
            self._poller.unregister(descriptor)
            worker.kill()
            return
        for frame in frames:
            self._on_frame(worker, frame)

    def _on_frame(self, worker: Worker, frame: Frame) -> None:
        flight = worker.finish_head()
        if flight.references:
            self._courier.release(flight.references, self._knowledge())
        if frame.kind == FrameKind.DROPPED:
            if flight.state is FlightState.RECALLED:
                self._place(Flight(flight.batch, flight.offsets, flight.deaths))
        else:
            ran = self._courier.decode(frame, len(flight.positions), worker.knowledge)
            if flight.state is not FlightState.ABANDONED:
                self._arrive(worker, flight, ran, len(frame.payload))
        if worker not in self._staff:
            return
        if self._is_worn(worker):
            self._retire(worker)
        elif self._waiting:
            self._send(worker, self._waiting.popleft())
        else:
            self._sort_in(worker)

    def _knowledge(self) -> Iterator[Knowledge]:
        return (worker.knowledge for worker in self._staff)

    def _is_worn(self, worker: Worker) -> bool:
        """Whether a worker has been sent as many batches as one may run."""
        return self._replacement is not None and worker.batches_sent >= self._replacement

    def _retire(self, worker: Worker) -> None:
        """Let a worn worker go once it has run what it was sent; another one takes its place."""
        if worker.flights:
            return
        self._release(worker)
        worker.stderr.pump()
        worker.close()
        self._place_waiting()

    def _arrive(self, worker: Worker, flight: Flight, ran: Ran, received: int) -> None:
        batch = flight.batch
        number = batch.number
        if flight.offsets is None:
            self._in_flight.discard(number)
            self._outcomes.append(
                Outcome(
                    number,
                    ran.values,
                    ran.failures,
                    worker.name,
                    ran.started,
                    ran.seconds,
                    flight.bytes_sent,
                    received,
                )
            )
            return
        assembly = self._assemblies[number]
        assembly.started = assembly.started or ran.started
        assembly.seconds += ran.seconds
        assembly.sent += flight.bytes_sent
        assembly.received += received
        failures = {}
        for place, position in enumerate(flight.offsets):
            if place in ran.failures:
                failures[position] = ran.failures[place]
            else:
                assembly.values[position] = ran.values[place]
        assembly.missing -= len(flight.offsets) - len(failures)
        self._settle(flight, failures, worker.name)

    def _settle(self, flight: Flight, failures: dict[int, Failure], name: str) -> None:
        """Note failures of a batch's calls, and hand it on when none of its calls is missing."""
        batch = flight.batch
        size = len(batch.calls)
        assembly = self._assemblies.get(batch.number)
        if assembly is None:
            assembly = self._assemblies[batch.number] = _Assembly([None] * size, missing=size)
        assembly.failures.update(failures)
        assembly.missing -= len(failures)
        if not assembly.missing:
            del self._assemblies[batch.number]
            self._in_flight.discard(batch.number)
            self._outcomes.append(
                Outcome(
                    batch.number,
                    assembly.values,
                    assembly.failures,
                    name,
                    assembly.started,
                    assembly.seconds,
                    assembly.sent,
                    assembly.received,
                )
            )

    def _on_stderr(self, worker: Worker) -> None:
        if not worker.stderr.pump():
            descriptor = worker.stderr.descriptor
            del self._handlers[descriptor]
            self._poller.unregister(descriptor)

    def _on_obituary(self, worker: Worker) -> None:
        if not worker.read_obituary():
            return
        # What it sent before it ended counts.
        for frame in worker.receive_rest():
            self._on_frame(worker, frame)
        if worker not in self._staff:
            return
        worker.stderr.pump()
        self._release(worker)
        flights = list(worker.flights)
        worker.flights.clear()
        again: list[Flight] = []
        for flight in flights:
            if flight.state in (FlightState.SENT, FlightState.RECALLED):
                again += self._bury(worker, flight)
        worker.close()
        for flight in again:
            self._place(flight)
        self._place_waiting()

    def _bury(self, worker: Worker, flight: Flight) -> list[Flight]:
        """Settle what is lost of a flight whose worker has ended; return what runs again."""
        positions = flight.positions
        running = worker.running_call()
        claimed = worker.claimed(flight)
        expired = worker.expired is not None
        if expired and worker.expired != (flight.serial, running):
            # We killed the worker for a call that ended a moment before: nobody is to blame.
            return [Flight(flight.batch, flight.offsets, flight.deaths)]
        aftermath = after_death(
            len(positions), claimed=claimed, running=running, deaths=flight.deaths
        )
        if aftermath.lost is not None:
            position = positions[aftermath.lost]
            failure = self._failure_of_death(worker, flight.batch, position, expired=expired)
            self._settle(flight, {position: failure}, worker.name)
        elif flight.offsets is None and len(aftermath.again) > 1:
            self._settle(flight, {}, worker.name)
        deaths = flight.deaths + (not claimed)
        if flight.offsets is None and aftermath.again and len(aftermath.again[0]) == len(positions):
            return [Flight(flight.batch, None, deaths)]
        return [
            Flight(flight.batch, [positions[place] for place in group], deaths)
            for group in aftermath.again
        ]

    def _failure_of_death(
        self, worker: Worker, batch: Batch, position: int, *, expired: bool
    ) -> Failure:
        call = call_text(batch.calls[position], batch.first + position)
        if expired:
            return Failure(
                TaskTimeoutError(
                    f"{call} ran longer than task_timeout={self._limit!r}; its worker "
                    f"{worker.name} was stopped. Pass a longer task_timeout=."
                ),
                kind=FailureKind.TIMEOUT,
            )
        tail = worker.stderr.text()
        return Failure(
            WorkerLostError(
                f"the worker {worker.name} died while it ran {call}: "
                f"{ending_text(worker.exit_code)}."
                + (f" Its last lines of stderr:\n{tail}" if tail else " Its stderr says nothing.")
            ),
            kind=FailureKind.LOST,
        )


def _terms(plan: Plan) -> Terms:
    modes = {"r": "r", "c": "c", None: "c", "r+": "w", "w+": "w"}
    return Terms(
        mode=modes[plan.mmap_mode],
        threshold=plan.max_nbytes,
        temp_folder=plan.temp_folder,
        segments=_segments_a_worker(plan.n_jobs),
        threads=plan.inner_max_num_threads or max(cpu_count() // plan.n_jobs, 1),
        threads_asked_for=plan.inner_max_num_threads is not None,
        timed=plan.task_timeout is not None,
    )


def _segments_a_worker(workers: int) -> int:
    """Return how many results a worker may share at once: each costs an open file here."""
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(2, min(256, allowed // 2 // workers))
