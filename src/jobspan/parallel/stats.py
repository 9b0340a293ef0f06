"""What a ``Parallel`` call did, in figures."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ParallelStats", "Span"]


@dataclass(frozen=True, slots=True)
class Span:
    """One batch on the timeline of a worker.

    Parameters
    ----------
    worker : str
        Who ran it.
    started : float
        When, in seconds since the epoch by the worker's clock.
    seconds : float
        For how long.
    first : int
        Index of its first call.
    calls : int
        How many calls it held.
    failures : int
        How many of them failed.
    function : str
        Name of its first call's function.
    """

    worker: str
    started: float
    seconds: float
    first: int
    calls: int
    failures: int
    function: str


@dataclass(slots=True)
class ParallelStats:
    """Figures of one ``Parallel`` call, filled while it runs.

    Parameters
    ----------
    backend : str
        Name of the backend.
    n_jobs : int
        How many calls could run at once.
    calls : int
        Calls that have their result, failed ones included.
    failures : int
        Calls that failed for good.
    retries : int
        Attempts beyond the first.
    recalled : int
        Calls whose result was found stored, which never travelled.
    batches : int
        Batches that came back.
    work_seconds : float
        Seconds that workers spent in calls, summed over workers.
    elapsed_seconds : float
        Seconds from the start of the call to its end.
    bytes_sent, bytes_received : int
        What crossed the boundary to workers and back.
    worker_seconds : dict of str to float
        Seconds spent in calls, by worker.
    """

    backend: str = ""
    n_jobs: int = 1
    calls: int = 0
    failures: int = 0
    retries: int = 0
    recalled: int = 0
    batches: int = 0
    work_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    bytes_sent: int = 0
    bytes_received: int = 0
    worker_seconds: dict[str, float] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list, repr=False)

    @property
    def overhead_seconds(self) -> float:
        """Seconds in which a worker's place stood empty, summed over `n_jobs` places."""
        return max(0.0, self.elapsed_seconds * self.n_jobs - self.work_seconds)

    @property
    def utilisation(self) -> dict[str, float]:
        """Share of the elapsed time that each worker spent in calls, from 0 to 1."""
        if not self.elapsed_seconds:
            return dict.fromkeys(self.worker_seconds, 0.0)
        return {
            worker: min(1.0, seconds / self.elapsed_seconds)
            for worker, seconds in self.worker_seconds.items()
        }
