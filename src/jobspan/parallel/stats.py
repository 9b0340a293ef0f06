"""What a ``Parallel`` call did, in figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobspan.parallel.timeline import Span

__all__ = ["ParallelStats", "Span"]


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
    spans : list of Span
        The batches as they ran, up to the first 100,000. One job's calls are timed one by one only
        where that is needed: for ``report=``, say.

    Examples
    --------
    >>> from jobspan import Parallel, delayed
    >>> parallel = Parallel(n_jobs=2, backend="threads")
    >>> parallel(delayed(abs)(x) for x in range(-3, 0))
    [3, 2, 1]
    >>> parallel.stats.calls, parallel.stats.failures
    (3, 0)
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

    def figures(self) -> dict[str, str]:
        """Return the figures as people read them, by what they say."""
        from jobspan.parallel.report import readable_bytes, readable_seconds

        shares = self.utilisation.values()
        mean = sum(shares) / self.n_jobs if shares else 0.0
        return {
            "calls": f"{self.calls:,}",
            "failures": f"{self.failures:,}",
            "retries": f"{self.retries:,}",
            "found stored": f"{self.recalled:,}",
            "batches": f"{self.batches:,}",
            "elapsed": readable_seconds(self.elapsed_seconds),
            "work": readable_seconds(self.work_seconds),
            "overhead": readable_seconds(self.overhead_seconds),
            "utilisation": f"{100 * mean:.0f} %",
            "sent": readable_bytes(self.bytes_sent),
            "received": readable_bytes(self.bytes_received),
        }

    def to_html(self) -> str:
        """Return a page of HTML that needs nothing else: figures, timeline, slowest calls.

        Returns
        -------
        str
            The page, which ``Parallel(report="run.html")`` writes to a file.
        """
        from jobspan.parallel.report import page

        return page("A Parallel call", self._summary(), self.figures(), self.spans, self.n_jobs)

    def _summary(self) -> str:
        return f"backend {self.backend or 'none'}, {self.n_jobs} at once"

    def _repr_html_(self) -> str:
        from jobspan.parallel.report import figures_table

        return figures_table(self._summary(), self.figures())
