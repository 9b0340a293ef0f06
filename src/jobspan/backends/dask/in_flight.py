"""How many batches should be on their way: enough to hide the round trip, not more than fits."""

from __future__ import annotations

from jobspan.plans import Plan

__all__ = ["InFlight"]

QUEUED_SECONDS = 10.0
"""So much work is kept in flight for each thread: from what waits, an adaptive cluster learns that
it should grow, and a scheduler keeps it until a worker is free."""

SHORT_SECONDS = 0.02
DEPTH_OF_SHORT = 4
"""Automatic batches that are still so short grow; not many of them are sent meanwhile."""

DEEPEST = 512
"""Batches in flight for each thread, at most: a round trip takes milliseconds."""

IN_FLIGHT_BYTES = 64 << 20
"""What the arguments and results of all batches in flight may come to, beyond one a thread."""


class InFlight:
    """Learns from batches that have run how many of them are of use.

    Parameters
    ----------
    plan : Plan
        The settings.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._seconds: float | None = None
        self._bytes = 0.0

    def observe(self, seconds: float, size: int) -> None:
        """Take in how long a batch ran, and the bytes of its arguments and results."""
        self._bytes += 0.2 * (size - self._bytes)
        before = seconds if self._seconds is None else self._seconds
        self._seconds = before + 0.2 * (seconds - before)

    def slots(self, threads: int) -> int:
        """Return how many hide the round trip; n_jobs caps what runs."""
        return self._capped(threads, DEPTH_OF_SHORT)

    def room(self, threads: int) -> int:
        """Return how many may be in flight, long ones too: Dask's scheduler queues them."""
        return self._capped(threads, self._depth())

    def _capped(self, threads: int, depth: int) -> int:
        if not self._plan.follow and self._plan.n_jobs < threads:
            return self._plan.n_jobs
        if self._bytes:
            return min(threads * depth, max(threads, int(IN_FLIGHT_BYTES / self._bytes)))
        return threads * depth

    def _depth(self) -> int:
        seconds = self._seconds
        if seconds is None or (self._plan.batch_size is None and seconds < SHORT_SECONDS):
            return DEPTH_OF_SHORT
        return max(2, min(DEEPEST, int(QUEUED_SECONDS / max(seconds, 1e-6))))
