"""The executor of the processes backend: which batch goes to which worker, and what comes back."""

from __future__ import annotations

import os
import time
from collections import deque
from itertools import chain

from jobspan.backends.processes.courier import Courier
from jobspan.backends.processes.frames import Buffer, Frame, FrameKind
from jobspan.backends.processes.handle import Flight, FlightState, Worker
from jobspan.backends.processes.idle import give_back
from jobspan.backends.processes.losses import aftermath_of, failure_of_death
from jobspan.backends.processes.messages import Terms
from jobspan.backends.processes.staff import BATCHES_A_WORKER, Staff
from jobspan.backends.reruns import Reruns
from jobspan.calls import Batch
from jobspan.cores import cpu_count
from jobspan.descriptors import Descriptor
from jobspan.errors import BackendError, TransportError
from jobspan.outcomes import Failure, Outcome
from jobspan.plans import Plan
from jobspan.transport.batches import UNDECODED

__all__ = ["ProcessExecutor"]

MOVE_SECONDS = 0.001
"""A batch that has waited so long behind another one goes to a worker that has nothing to do."""

CANCEL_SECONDS = 0.1
"""How long a cancelled call may take to end by itself before its worker is killed."""

_DROPPED = int(FrameKind.DROPPED)


class ProcessExecutor:
    """Runs batches in worker processes.

    Parameters
    ----------
    plan : Plan
        How many workers, time limits, how data travels.
    idle_seconds : float
        How long an idle worker waits before it leaves.
    batches_before_replacement : int or None
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
        self._staff = Staff(
            plan.n_jobs,
            _terms(plan),
            idle_seconds,
            batches_before_replacement,
            (self._on_frames, self._on_stderr, self._on_obituary),
        )
        self._process = os.getpid()
        self._waiting: deque[Flight] = deque()
        self._reruns = Reruns()
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
            if self._staff.wait(wait):
                self._woken = True
            if self._outcomes:
                outcomes, self._outcomes = self._outcomes, []
                return outcomes
            if deadline is not None and time.monotonic() >= deadline:
                return []
        self._woken = False
        return []

    def wake(self) -> None:
        """Make a waiting `completed` return; from any thread."""
        self._staff.wake()

    def cancel(self) -> None:
        """Drop what has not started; give what runs a moment to end, then kill its worker."""
        if os.getpid() != self._process:
            return  # the workers are the parent's
        self._waiting.clear()
        self._reruns.clear()
        self._in_flight.clear()
        staff = self._staff
        for worker in staff:
            for flight in worker.flights:
                flight.state = FlightState.ABANDONED
            worker.cell.cancel(worker.batches_sent)
            if worker.in_transfer:
                self._dismiss(worker)
        deadline = time.monotonic() + CANCEL_SECONDS
        while any(worker.flights for worker in staff):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._woken = staff.wait(left) or self._woken
        for worker in staff:
            if worker.flights:
                self._dismiss(worker)
        self._outcomes.clear()

    def close(self) -> None:
        """Cancel what is in flight and give the workers back."""
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._process:
            return
        self.cancel()
        staff = self._staff
        self._courier.close(staff.knowledge())
        for worker in staff:
            staff.release(worker)
            worker.tell_news()
            if worker.read_obituary() or worker.disturbed or staff.is_worn(worker):
                worker.close()
            else:
                give_back(worker)
        staff.close()

    # --- placing batches -------------------------------------------------------------------

    def _place(self, flight: Flight) -> None:
        worker = self._staff.next_worker()
        if worker is None:
            self._waiting.append(flight)
        else:
            self._send(worker, flight)

    def _place_waiting(self) -> None:
        """Hand out what waits, as far as there is room for another worker."""
        while self._waiting and self._staff.has_room:
            self._place(self._waiting.popleft())

    def _send(self, worker: Worker, flight: Flight) -> None:
        try:
            payload, descriptors, flight.references = self._courier.encode(
                flight.batch, worker.knowledge
            )
        except TransportError as error:
            self._staff.sort_in(worker)
            self._refuse(flight, Failure(error))
            return
        if worker.send(flight, payload, descriptors):
            self._staff.flush_later(worker)
        if self._limit is not None:
            self._next_expiry = min(self._next_expiry, time.monotonic() + self._limit)
        self._staff.sort_in(worker)

    def _refuse(self, flight: Flight, failure: Failure) -> None:
        """Settle a flight that cannot be encoded or decoded; its calls go on one by one."""
        batch = flight.batch
        if len(batch.calls) == 1:
            self._settle(batch, Outcome.of_failure(batch.number, 1, failure))
            return
        for single in self._reruns.singles(batch):
            self._place(Flight(single, flight.deaths))

    def _dismiss(self, worker: Worker) -> None:
        for flight in worker.flights:
            self._courier.release(flight.references, self._staff.knowledge())
        self._staff.dismiss(worker)

    # --- what took too long ----------------------------------------------------------------

    def _patience(self, deadline: float | None) -> float | None:
        """Return how long to wait for events; see first to batches and calls that took too long."""
        staff = self._staff
        if deadline is None and self._limit is None and not staff.free:
            return None
        now = time.monotonic()
        limits = [] if deadline is None else [deadline]
        if self._limit is not None:
            if now >= self._next_expiry:
                self._next_expiry = self._expire(now, self._limit)
            limits.append(self._next_expiry)
        if staff.free and (staff.full or staff.single):
            due = self._move(now)
            if due is not None:
                limits.append(due)
        return max(0.0, min(limits) - now) if limits else None

    def _move(self, now: float) -> float | None:
        """Move batches that wait behind others to workers with nothing to do; when to look again.

        A batch that its worker has begun with stays.
        """
        due: float | None = None
        staff = self._staff
        starting = [worker for worker in staff.single if not worker.answered]
        for worker in [*staff.full, *starting]:
            flight = worker.flights[-1]
            if flight.state is not FlightState.SENT or worker.claimed(flight):
                continue
            if worker.flights[0].state is FlightState.MOVED:
                continue  # its cell has room for one: this would have it run the other after all
            if now - worker.head_since < MOVE_SECONDS:
                moment = worker.head_since + MOVE_SECONDS
                due = moment if due is None else min(due, moment)
                continue
            if worker.cell.revoke(flight.serial):
                flight.state = FlightState.MOVED
                self._place(Flight(flight.batch, flight.deaths))
            else:
                flight.state = FlightState.RECALLED
            if not staff.free:
                break
        return due

    def _expire(self, now: float, limit: float) -> float:
        """Kill the workers of calls that ran too long; return when to look again."""
        look_again = now + limit
        for worker in chain(self._staff.single, self._staff.full):
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

    def _on_frames(self, worker: Worker) -> None:
        frames = worker.receive()
        if frames is None:
            # It is ending, or has closed its pipe, which comes to the same: its obituary is next.
            self._staff.disregard(worker.results)
            worker.disturbed = True
            worker.kill()
            return
        for frame in frames:
            self._on_frame(worker, frame)

    def _on_frame(self, worker: Worker, frame: Frame) -> None:
        if not worker.expects(frame):
            worker.disturbed = True  # user code has written to its pipe
            worker.kill()
            return
        kind, _, payload, descriptors = frame
        flight = worker.finish_head()
        if flight.references:
            self._courier.release(flight.references, self._staff.knowledge())
        if kind == _DROPPED:
            if flight.state is FlightState.RECALLED:
                self._place(Flight(flight.batch, flight.deaths))
        else:
            self._arrive(worker, flight, payload, descriptors)
        if worker not in self._staff:
            return
        if self._staff.is_worn(worker):
            self._retire(worker)
        elif self._waiting:
            self._send(worker, self._waiting.popleft())
        else:
            self._staff.sort_in(worker)

    def _arrive(
        self, worker: Worker, flight: Flight, payload: Buffer, descriptors: list[Descriptor]
    ) -> None:
        batch = flight.batch
        ran = self._courier.decode(payload, descriptors, len(batch.calls), worker.knowledge)
        if flight.state in (FlightState.ABANDONED, FlightState.MOVED):
            return
        if UNDECODED in ran.failures:
            self._refuse(flight, ran.failures[UNDECODED])
            return
        values, failures, started, seconds = ran
        sizes = (flight.bytes_sent, len(payload))
        self._settle(
            batch, Outcome(batch.number, values, failures, worker.name, started, seconds, *sizes)
        )

    def _settle(self, batch: Batch, outcome: Outcome) -> None:
        whole = self._reruns.settled(batch, outcome)
        if whole is not None:
            self._in_flight.discard(whole.number)
            self._outcomes.append(whole)

    def _retire(self, worker: Worker) -> None:
        """Let a worn worker go once it has run what it was sent; another one takes its place."""
        if worker.flights:
            return
        self._staff.release(worker)
        worker.stderr.pump()
        worker.close()
        self._place_waiting()

    def _on_stderr(self, worker: Worker) -> None:
        if not worker.stderr.pump():
            self._staff.disregard(worker.stderr.descriptor)

    def _on_obituary(self, worker: Worker) -> None:
        if not worker.read_obituary():
            return
        # What it sent before it ended counts.
        for frame in worker.receive_rest():
            self._on_frame(worker, frame)
        if worker not in self._staff:
            return
        worker.stderr.pump()
        self._staff.release(worker)
        again: list[Flight] = []
        for flight in worker.flights:
            self._courier.release(flight.references, self._staff.knowledge())
            if flight.state in (FlightState.SENT, FlightState.RECALLED):
                again += self._bury(worker, flight)
        worker.flights.clear()
        worker.close()
        for flight in again:
            self._place(flight)
        self._place_waiting()

    def _bury(self, worker: Worker, flight: Flight) -> list[Flight]:
        """Settle what is lost of a flight whose worker has ended; return what runs again."""
        batch = flight.batch
        aftermath = aftermath_of(worker, flight)
        again = self._reruns.pieces(batch, aftermath.again)
        if aftermath.lost is not None:
            place = aftermath.lost
            failure = failure_of_death(worker, batch, place, self._limit)
            (lost,) = self._reruns.pieces(batch, [range(place, place + 1)])
            self._settle(lost, Outcome.of_failure(batch.number, 1, failure, worker.name))
        return [Flight(piece, aftermath.deaths) for piece in again]


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
    """Return how many results a worker may share at once: each is two descriptors here."""
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(2, min(256, allowed // 6 // workers))
