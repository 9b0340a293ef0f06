"""What lives in the client's event loop: results fetched as tasks finish, the cluster looked at.

::

    executor's thread                      the client's event loop
    ─────────────────                      ───────────────────────
    follow(futures)  ───────────────────►  one coroutine a future waits for it to end
    wait(timeout)    ◄── queue of arrivals ── what has finished meanwhile is fetched in one request
    threads, asked   ◄── attributes ────────  every second: how many threads the workers have

The executor's thread never asks the cluster itself, so that nothing there can make it hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

__all__ = ["Arrival", "Arrivals"]

LOOK_SECONDS = 0.5
"""How often the cluster is looked at."""

REQUESTS = 4
"""Requests for results under way at once: a worker that answers late holds up one of them."""

LINGER_SECONDS = 0.1
LINGER_TASKS = 256
"""How long a result may wait for others to be fetched with it while so many tasks are on their way,
unless as many have ended as have not; the fewer there are, the sooner workers want new ones."""

COPIES = 8
"""On how many workers what several batches share is put beforehand; others fetch it from there."""

SPREAD_SECONDS = 0.1
"""How long copies of what was scattered are waited for before tasks that use it are sent."""

ANSWER_SECONDS = 10.0
"""How long the scheduler may take to say which workers there are; it is asked again then."""


class Arrival(NamedTuple):
    """What became of a task.

    Parameters
    ----------
    key : str
        The task's name.
    status : str
        Dask's word for it: ``"finished"``, ``"error"``, ``"cancelled"``, ``"lost"``.
    value : object
        The result, or the exception.
    """

    key: str
    status: str
    value: Any


class _Telling(asyncio.Event):
    """The event of a future's state, which tells at once that it was set."""

    def __init__(self, tell: Callable[[str, Any], None], key: str, future: Any) -> None:
        super().__init__()
        self._tell: Callable[[str, Any], None] | None = tell
        self._key = key
        self._future: Any = future

    def set(self) -> None:
        super().set()
        tell, future = self._tell, self._future
        self._tell = self._future = None
        if tell is not None:
            tell(self._key, future)


class Arrivals:
    """Follows tasks of one client, and the workers there are.

    Parameters
    ----------
    client : distributed.Client
        The connection.
    direct : bool
        Whether workers can be reached from here.
    fits : callable or None
        Whether a worker, as the scheduler describes it, can run the tasks; None: all can.

    Notes
    -----
    Threads and processes: one thread calls the methods, `wake` but for any; what begins with
    ``_`` runs in the client's event loop.
    """

    def __init__(
        self, client: Any, *, direct: bool, fits: Callable[[Mapping[str, Any]], bool] | None = None
    ) -> None:
        self._client = client
        self._direct = direct
        self._fits = fits
        self._queue: SimpleQueue[list[Arrival]] = SimpleQueue()
        self._finished: dict[str, Any] = {}
        self._requests = 0
        self._watched = 0
        self._lingering = False
        self._enough = asyncio.Event()
        self._jobs: set[asyncio.Future[None]] = set()
        self._waiters: set[asyncio.Future[None]] = set()
        self._closed = False
        self.addresses: dict[str, int] = {}
        """The threads of each worker."""
        self.looked = 0.0
        """When the scheduler last answered, by the monotonic clock."""
        # A weak reference: looking ends with this, should nobody get to close it.
        self._on_loop(_start_looking, weakref.ref(self))

    @property
    def threads(self) -> int:
        """How many threads the workers have."""
        return sum(self.addresses.values())

    def follow(self, futures: Mapping[str, Any]) -> None:
        """Bring back what becomes of these tasks, by their names."""
        self._on_loop(self._start_watching, futures)

    def spread(self, keys: list[str], workers: int) -> None:
        """Put what was scattered on so many workers, as far as that is of use.

        The scheduler gives tasks to the worker that has what they need, until others have nothing
        to do for a while; these then fetch it before they begin. Where copying takes long, it is
        not waited for.
        """
        copies = min(workers, len(self.addresses), COPIES)
        if not keys or copies < 2:
            return
        done = threading.Event()
        self._on_loop(self._start_spreading, keys, copies, done)
        done.wait(SPREAD_SECONDS)

    def wait(self, timeout: float | None) -> list[Arrival]:
        """Return what has arrived; empty when the time is over, or when woken."""
        try:
            found = list(self._queue.get(timeout=timeout))
        except Empty:
            return []
        while True:
            try:
                found += self._queue.get_nowait()
            except Empty:
                return found

    def wake(self) -> None:
        """Make the present or the next `wait` return; from any thread."""
        self._queue.put([])

    def close(self) -> None:
        """Follow nothing any more."""
        self._closed = True
        self._on_loop(self._stop)

    def _on_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        # A closed client has no loop, and nothing arrives from it.
        with contextlib.suppress(RuntimeError, AttributeError):
            self._client.loop.add_callback(function, *arguments)

    # --- in the event loop ---------------------------------------------------------------

    def _spawn(self, coroutine: Any) -> asyncio.Future[None]:
        job: asyncio.Future[None] = asyncio.ensure_future(coroutine)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    def _wait_in(self, coroutine: Any) -> None:
        """Start what only waits, and may be cancelled."""
        waiter = self._spawn(coroutine)
        self._waiters.add(waiter)
        waiter.add_done_callback(self._waiters.discard)

    def _start_watching(self, futures: Mapping[str, Any]) -> None:
        if self._closed:
            return
        self._watched += len(futures)
        for key, future in futures.items():
            state = future._state
            if state is None:
                self._queue.put([Arrival(key, "cancelled", None)])
            elif getattr(state, "_event", state) is None:
                # A coroutine for each future would cost more than all else that is done here.
                state._event = _Telling(self._ended, key, future)
            else:
                self._wait_in(self._watch(key, future))

    def _start_spreading(self, keys: list[str], copies: int, done: threading.Event) -> None:
        self._spawn(self._spread(keys, copies, done))

    async def _spread(self, keys: list[str], copies: int, done: threading.Event) -> None:
        try:
            # Where it fails, a worker fetches what a task needs before it runs the task.
            with contextlib.suppress(Exception):
                await self._client.scheduler.replicate(
                    keys=keys, n=copies, workers=list(self.addresses), delete=False
                )
        finally:
            done.set()

    async def _watch(self, key: str, future: Any) -> None:
        await future._state.wait()
        self._ended(key, future)

    def _ended(self, key: str, future: Any) -> None:
        state = future._state
        self._watched -= 1
        if self._closed or state is None:
            return
        if state.status == "finished":
            self._finished[key] = future
            if not self._lingering and self._requests < REQUESTS:
                self._lingering = True
                self._requests += 1
                self._spawn(self._fetch())
        else:
            self._queue.put([Arrival(key, state.status, state.exception)])
        if len(self._finished) >= self._watched:
            self._enough.set()

    async def _fetch(self) -> None:
        """Fetch what has finished, until nothing has."""
        try:
            while self._finished:
                await self._linger()
                futures, self._finished = self._finished, {}
                self._lingering = False
                self._queue.put(await self._gather(futures))
                if self._lingering:
                    break  # another one waits for more, and takes the rest
                self._lingering = bool(self._finished)
        finally:
            self._requests -= 1

    async def _linger(self) -> None:
        """Wait until one request is for many."""
        self._enough.clear()
        if len(self._finished) < self._watched:
            patience = LINGER_SECONDS * min(1.0, self._watched / LINGER_TASKS) ** 2
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), patience)

    async def _gather(self, futures: dict[str, Any]) -> list[Arrival]:
        try:
            values = await self._client.gather(
                futures, errors="skip", direct=self._direct, asynchronous=True
            )
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is their outcome
            return [Arrival(key, "lost", error) for key in futures]
        arrived = []
        for key, future in futures.items():
            value = values.get(key)
            if value is None:
                status = "lost" if future.status == "finished" else future.status
                arrived.append(Arrival(key, status, getattr(future._state, "exception", None)))
            else:
                arrived.append(Arrival(key, "finished", value))
        return arrived

    async def _look(self) -> None:
        before = self.addresses
        with contextlib.suppress(OSError, TimeoutError, AttributeError):
            self.addresses = await asyncio.wait_for(self._workers(), ANSWER_SECONDS)
            self.looked = time.monotonic()
        for gone in before.keys() - self.addresses.keys():
            # One that stands still, and that the scheduler has given up, never answers.
            self._client.rpc.remove(gone)
        if self.addresses != before:
            self.wake()

    async def _workers(self) -> dict[str, int]:
        if self._fits is None:
            threads: dict[str, int] = await self._client.scheduler.ncores()
            return threads
        workers = (await self._client.scheduler.identity())["workers"]
        return {
            address: worker["nthreads"]
            for address, worker in workers.items()
            if self._fits({**worker, "address": address})
        }

    def _stop(self) -> None:
        # Not those that fetch: the client has one request for all who ask meanwhile, and keeps one
        # that was cancelled.
        for waiter in self._waiters:
            waiter.cancel()
        self._finished.clear()


def _start_looking(reference: weakref.ref[Arrivals]) -> None:
    arrivals = reference()
    if arrivals is not None and not arrivals._closed:
        arrivals._wait_in(_keep_looking(reference))


async def _keep_looking(reference: weakref.ref[Arrivals]) -> None:
    while (arrivals := reference()) is not None and not arrivals._closed:
        await arrivals._look()
        del arrivals
        await asyncio.sleep(LOOK_SECONDS)
