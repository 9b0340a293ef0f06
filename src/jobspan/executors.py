"""Seam 1: a backend opens executors, and an executor is pulled, never calling back."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jobspan.ambient import Settings
from jobspan.calls import Batch
from jobspan.outcomes import Outcome
from jobspan.plans import Capabilities, Plan

__all__ = ["Backend", "Executor", "LocatesWorkers", "QueuesBatches", "SizesBatches"]


@runtime_checkable
class Executor(Protocol):
    """An open backend: it takes batches and hands back what became of them.

    Notes
    -----
    Threads and processes: one thread at a time uses an executor; only :meth:`wake` may be called
    from another.
    """

    @property
    def workers(self) -> int:
        """How many batches can run at once now; follows a cluster that grows or shrinks."""
        ...

    @property
    def slots(self) -> int:
        """How many batches in flight are of use now, while they are short; at least `workers`.

        The scheduler keeps so many in flight while a batch takes milliseconds, to hide the round
        trip, and only `workers` where batches are long, so that none waits behind a long one.
        """
        ...

    def submit(self, batch: Batch) -> None:
        """Take a batch, without waiting for it; any number of them, beyond `slots` too.

        What is wrong with a call (it cannot be pickled, say) comes back as its outcome; only a
        backend that has failed as a whole raises, a :class:`~jobspan.errors.BackendError`.
        """
        ...

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        """Return the outcomes there are; wait for one, at most `timeout` seconds, if there is none.

        Returns an empty list when the time is over, when :meth:`wake` was called, or when
        nothing is in flight. Every batch submitted and not cancelled comes back exactly once.
        """
        ...

    def wake(self) -> None:
        """Make the present or else the next :meth:`completed` return at once; from any thread."""
        ...

    def cancel(self) -> None:
        """Drop what has not started, stop what can be stopped.

        No outcome of a batch submitted before comes back. The executor takes new batches.
        """
        ...

    def close(self) -> None:
        """Cancel what is in flight and give the workers back; a second call does nothing."""
        ...


@runtime_checkable
class SizesBatches(Protocol):
    """What an executor may add that decides itself how many calls travel together."""

    def batch_size(self) -> int | None:
        """Return the size of the next batch; None: as the scheduler decides."""
        ...


@runtime_checkable
class QueuesBatches(Protocol):
    """What an executor may add whose engine queues what waits, and keeps it from busy workers."""

    def room(self) -> int:
        """Return how many batches may be in flight, however long they are."""
        ...


@runtime_checkable
class Backend(Protocol):
    """Where calls run: a factory of executors.

    A backend is made once for a context, a ``Parallel`` object, or the process, from its address
    and the options that the user gave. It may hold a connection, which :meth:`close` ends.
    """

    @property
    def name(self) -> str:
        """The name it is registered under."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return how many calls would run at once for what the user asked, at least 1.

        Raises
        ------
        ValueError
            If `n_jobs` is 0.
        """
        ...

    def nested(self, settings: Settings) -> Settings:
        """Return the ambient settings for parallel calls nested in calls that run here."""
        ...

    def open(self, plan: Plan) -> Executor:
        """Check workers out and return an executor for them.

        Raises
        ------
        BackendError
            If the backend cannot be had: unreachable, an extra missing, versions that clash.
        """
        ...

    def close(self) -> None:
        """End connections, stop what this backend started; a second call does nothing."""
        ...


@runtime_checkable
class LocatesWorkers(Protocol):
    """What a backend may add that is `remote` and can tell when its workers are here all the same.

    Where they may be elsewhere, a cache in a folder of this machine is warned of: they would not
    see it.
    """

    @property
    def on_this_machine(self) -> bool:
        """Whether it is known that all workers are here; asked when an executor is open."""
        ...
