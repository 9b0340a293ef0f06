"""Keeps count of what the scheduler does, and tells those who want to know."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from jobspan.calls import Batch
from jobspan.outcomes import Failure, Outcome
from jobspan.parallel.progress import EVENT_SECONDS, Pace, ProgressEvent, ProgressListener, Pulse
from jobspan.parallel.stats import ParallelStats
from jobspan.parallel.timeline import Span

__all__ = ["Tracker"]

LARGEST_TIMELINE = 100_000
"""Batches that are kept for a timeline; later ones are only counted."""


class Tracker:
    """Observer that fills the statistics of a ``Parallel`` call.

    Parameters
    ----------
    stats : ParallelStats
        What is filled.
    on_progress : callable or None
        Called after every batch.
    on_batch : callable or None
        The same, called with the number of calls that the batch had.
    listener : ProgressListener or None
        Is told how far the call is, some times a second.
    total : int or None
        How many calls there are, where it is known beforehand: `expected`; `total` is how many
        there were, once it is known.
    timeline : bool
        Whether every batch is kept as a span.

    Notes
    -----
    Threads and processes: the scheduler's thread calls it; others may read the counters.
    """

    def __init__(
        self,
        stats: ParallelStats,
        on_progress: Callable[[], None] | None = None,
        *,
        on_batch: Callable[[int], None] | None = None,
        listener: ProgressListener | None = None,
        total: int | None = None,
        timeline: bool = True,
    ) -> None:
        self.stats = stats
        self.expected = total
        self.dispatched_batches = 0
        self.dispatched_calls = 0
        self.total: int | None = None
        self._listener = listener
        self._pace = Pace(EVENT_SECONDS)
        self.pulse = Pulse(EVENT_SECONDS)
        self._on_progress = on_progress
        self._on_batch = on_batch
        self._timeline = timeline
        self._began = time.perf_counter()
        self._goes_on = False

    @property
    def prints(self) -> bool:
        """Whether something is called after every batch."""
        return self._on_progress is not None or self._on_batch is not None

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._began

    def begin(self) -> None:
        """Take the time at the start."""
        self._began = time.perf_counter()
        if self._listener is not None:
            self._listener(self._event("started"))
        self._goes_on = True

    def finish(self) -> bool:
        """Note the time at the end; whether there was a start, and no end before."""
        if not self._goes_on:
            return False
        self._goes_on = False
        self.pulse.stop()
        self.stats.elapsed_seconds = self.elapsed()
        if self._listener is not None:
            self._listener(self._event("finished"))
        return True

    def print_progress(self) -> None:
        """Have the line of progress printed that is due."""
        if self._on_progress is not None:
            self._on_progress()

    def _event(self, kind: Literal["started", "advanced", "finished"]) -> ProgressEvent:
        stats, elapsed = self.stats, self.elapsed()
        total = self.expected if self.total is None else self.total
        rate = stats.calls / elapsed if elapsed else 0.0
        return ProgressEvent(
            kind=kind,
            done=stats.calls,
            total=total,
            failures=stats.failures,
            retries=stats.retries,
            recalled=stats.recalled,
            elapsed=elapsed,
            rate=rate,
            remaining=None if total is None or not rate else max(0.0, total - stats.calls) / rate,
        )

    def dispatched(self, batch: Batch) -> None:
        """Count a batch that was submitted."""
        self.dispatched_batches += 1
        if batch.attempt == 1:
            self.dispatched_calls += len(batch.calls)

    def completed(self, batch: Batch, outcome: Outcome) -> None:
        """Add a batch's figures."""
        _, _, failures, worker, started, seconds, sent, received = outcome
        stats = self.stats
        stats.batches += 1
        stats.work_seconds += seconds
        stats.bytes_sent += sent
        stats.bytes_received += received
        stats.worker_seconds[worker] = stats.worker_seconds.get(worker, 0.0) + seconds
        if self._timeline and len(stats.spans) < LARGEST_TIMELINE:
            calls = batch.calls
            function = calls[0][0]
            name = getattr(function, "__qualname__", None) or type(function).__qualname__
            stats.spans.append(
                Span(worker, started, seconds, batch.first, len(calls), len(failures), name)
            )

    def settled(self, calls: int, failures: int) -> None:
        """Count calls that have their result for good."""
        self.stats.calls += calls
        self.stats.failures += failures
        if self._on_progress is not None:
            self._on_progress()
        if self._on_batch is not None:
            self._on_batch(calls)
        if self._listener is not None and self._pace.due():
            self._listener(self._event("advanced"))

    def retried(self, index: int, failure: Failure, pause: float) -> None:
        """Count an attempt beyond the first."""
        self.stats.retries += 1

    def recalled(self, calls: int) -> None:
        """Count calls that were found stored."""
        self.stats.recalled += calls
        self.dispatched_calls += calls

    def exhausted(self, total: int) -> None:
        """Note how many calls there are."""
        self.total = total

    def run_plainly(self) -> None:
        """Begin where nothing is told of single calls: figures come `so_far`."""
        self.begin()
        if self._listener is not None:
            self.pulse.start()

    def so_far(self, calls: int, failures: int, recalled: int) -> None:
        """Note how many calls there were, how many failed, and how many were found stored."""
        stats, seconds = self.stats, self.elapsed()
        stats.calls, stats.failures, stats.recalled = calls, failures, recalled
        stats.batches = self.dispatched_batches = calls - recalled
        stats.work_seconds = seconds
        stats.worker_seconds = {"caller": seconds}
        self.dispatched_calls = calls
        if self.pulse.due:
            self.pulse.due = False
            if self._listener is not None:
                self._listener(self._event("advanced"))
