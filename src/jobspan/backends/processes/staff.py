"""The staff of an executor: its workers by how much each has to do, and the wait for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from jobspan.backends.processes.courier import Knowledge
from jobspan.backends.processes.handle import Worker
from jobspan.backends.processes.idle import take_worker
from jobspan.backends.processes.messages import Terms
from jobspan.backends.processes.poller import READABLE, WRITABLE, Waker, new_poller

__all__ = ["BATCHES_A_WORKER", "Handler", "Staff"]

BATCHES_A_WORKER = 2
"""So many are with a worker at once: the next one is there when it has finished one."""

Handler: TypeAlias = Callable[[Worker], None]


class Staff:
    """The workers of one executor.

    Parameters
    ----------
    size : int
        How many there may be.
    terms : Terms
        What every worker is told first.
    idle_seconds : float
        How long an idle worker waits before it leaves.
    replacement : int or None
        After how many batches a worker gets no further one.
    handlers : sequence of callable
        What is called when a worker's results, its stderr, its obituary can be read.
    """

    def __init__(
        self,
        size: int,
        terms: Terms,
        idle_seconds: float,
        replacement: int | None,
        handlers: Sequence[Handler],
    ) -> None:
        self._size = size
        self._terms = terms
        self._idle_seconds = idle_seconds
        self._replacement = math.inf if replacement is None else replacement
        self._on_frames, self._on_stderr, self._on_obituary = handlers
        self._poller = new_poller()
        self._waker = Waker()
        self._poller.register(self._waker.descriptor, READABLE)
        self._handlers: dict[int, tuple[Handler, Worker]] = {}
        # By load: nothing to do, one batch, as many as a worker gets.
        self.free: dict[Worker, None] = {}
        self.single: dict[Worker, None] = {}
        self.full: dict[Worker, None] = {}
        self._by_load = (self.free, self.single, self.full)

    # --- who is there ------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Worker]:
        """Iterate over the workers as they are now; who comes or goes meanwhile does not matter."""
        return iter([*self.free, *self.single, *self.full])

    def __contains__(self, worker: Worker) -> bool:
        return worker in self._by_load[worker.load]

    def __len__(self) -> int:
        return len(self.free) + len(self.single) + len(self.full)

    def knowledge(self) -> Iterator[Knowledge]:
        """Return what each worker knows."""
        return (worker.knowledge for worker in self)

    def next_worker(self) -> Worker | None:
        """Return the worker that the next batch should go to; None where all have enough."""
        if self.free:
            return next(reversed(self.free))
        if len(self) < self._size:
            return self._hire()
        if self.single:
            return next(iter(self.single))
        return None

    @property
    def has_room(self) -> bool:
        """Whether a worker is free, or another one may be started."""
        return bool(self.free) or len(self) < self._size

    def sort_in(self, worker: Worker) -> None:
        """Put a worker where its number of batches says."""
        load = len(worker.flights)
        if load > BATCHES_A_WORKER or worker.batches_sent >= self._replacement:
            load = BATCHES_A_WORKER
        if load != worker.load:
            by_load = self._by_load
            del by_load[worker.load][worker]
            worker.load = load
            by_load[load][worker] = None

    def is_worn(self, worker: Worker) -> bool:
        """Whether a worker has been sent as many batches as one may run."""
        return worker.batches_sent >= self._replacement

    # --- coming and going --------------------------------------------------------------------

    def _hire(self) -> Worker:
        worker = take_worker(self._idle_seconds)
        worker.agree(self._terms)
        worker.load = 0
        self.free[worker] = None
        for descriptor, handler in (
            (worker.results, self._on_frames),
            (worker.stderr.descriptor, self._on_stderr),
            (worker.obituary, self._on_obituary),
        ):
            self._watch(descriptor, handler, worker)
        return worker

    def release(self, worker: Worker) -> None:
        """Strike a worker off the list; it is somebody else's afterwards, or nobody's."""
        del self._by_load[worker.load][worker]
        for descriptor in (
            worker.batches,
            worker.results,
            worker.stderr.descriptor,
            worker.obituary,
        ):
            self.disregard(descriptor)

    def dismiss(self, worker: Worker) -> None:
        """Kill a worker whose answer nobody waits for."""
        self.release(worker)
        worker.kill()
        worker.stderr.pump()
        worker.close()

    def _watch(
        self, descriptor: int, handler: Handler, worker: Worker, events: int = READABLE
    ) -> None:
        if descriptor not in self._handlers:
            self._handlers[descriptor] = (handler, worker)
            self._poller.register(descriptor, events)

    def disregard(self, descriptor: int) -> None:
        """Watch a descriptor no more."""
        if self._handlers.pop(descriptor, None) is not None:
            self._poller.unregister(descriptor)

    def close(self) -> None:
        """Give the selector back to the system."""
        self._poller.close()
        self._waker.close()

    # --- waiting -----------------------------------------------------------------------------

    def wake(self) -> None:
        """Make a `wait` return; from any thread."""
        self._waker.wake()

    def flush_later(self, worker: Worker) -> None:
        """Send the rest of what waits for a worker as soon as its pipe takes it."""
        self._watch(worker.batches, self._on_room, worker, WRITABLE)

    def _on_room(self, worker: Worker) -> None:
        if not worker.flush():
            self.disregard(worker.batches)

    def wait(self, seconds: float | None) -> bool:
        """Handle what workers sent, waiting for something; whether another thread called `wake`."""
        woken = False
        for descriptor, _ in self._poller.poll(seconds):
            found = self._handlers.get(descriptor)
            if found is None:
                # The waker, or a worker that was buried a moment ago.
                if descriptor == self._waker.descriptor:
                    self._waker.clear()
                    woken = True
                continue
            handler, worker = found
            handler(worker)
        return woken
