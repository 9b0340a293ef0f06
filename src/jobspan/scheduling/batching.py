"""How many calls travel together: a pure decision over times measured in the workers."""

from __future__ import annotations

__all__ = ["BatchSizer"]

TARGET_SECONDS = 0.005
"""How long an automatic batch should run: long beside a round trip (some 50 µs on a pipe, some
milliseconds on a cluster), short beside what a person or a load balance notices."""

GROWTH = 8
"""By how much a batch may outgrow the last one: the first calls may be faster than the rest."""

LARGEST = 8192
"""No automatic batch is larger, unless told: it bounds what is lost with a worker."""

LEAST_SECONDS = 0.000_02
"""Towards the end of the calls, batches shrink, but not below what a round trip is worth."""

SHORT_SECONDS = 0.02
"""Batches that end sooner than this are kept two deep a worker, longer ones one deep."""


class BatchSizer:
    """Sizes batches so that one runs for about `target` seconds.

    Parameters
    ----------
    fixed : int or None
        The size that the user asked for; None: automatic.
    target : float
        Seconds that an automatic batch should run.
    largest : int
        No automatic batch is larger.

    Notes
    -----
    The estimate of a call's time falls slowly and rises at once: a batch that turns out slow
    shrinks the next ones immediately.

    Examples
    --------
    >>> sizer = BatchSizer()
    >>> sizer.size(workers=2, remaining=None)
    1
    >>> sizer.observe(calls=1, seconds=0.000_1)
    >>> sizer.size(workers=2, remaining=None)
    8
    >>> sizer.size(workers=2, remaining=16)
    2
    """

    __slots__ = ("_fixed", "_largest", "_last", "_observed", "_seconds_a_call", "_target")

    def __init__(
        self, fixed: int | None = None, target: float = TARGET_SECONDS, largest: int = LARGEST
    ) -> None:
        self._fixed = fixed
        self._target = target
        self._largest = largest
        self._seconds_a_call = 0.0
        self._last = 1
        self._observed = False

    @property
    def automatic(self) -> bool:
        """Whether sizes follow measured times."""
        return self._fixed is None

    def observe(self, calls: int, seconds: float) -> None:
        """Learn that `calls` calls took a worker `seconds` seconds."""
        seconds_a_call = seconds / calls
        if not self._observed or seconds_a_call > self._seconds_a_call:
            self._seconds_a_call = seconds_a_call
        else:
            self._seconds_a_call += 0.5 * (seconds_a_call - self._seconds_a_call)
        self._observed = True
        self._last = max(self._last, calls)

    def size(self, workers: int, remaining: int | None) -> int:
        """Return the size of the next batch.

        Parameters
        ----------
        workers : int
            How many batches run at once.
        remaining : int or None
            How many calls are left, where it is known.
        """
        if self._fixed is not None:
            return self._fixed
        if not self._observed:
            return 1
        wanted = self._target / max(self._seconds_a_call, 1e-9)
        size = round(min(wanted, self._last * GROWTH, self._largest))
        if remaining is not None:
            share = remaining // (4 * workers)
            size = min(size, max(share, int(LEAST_SECONDS / max(self._seconds_a_call, 1e-9))))
        return max(1, size)

    @property
    def last(self) -> int:
        """The largest size that has come back so far, at least 1."""
        return self._last

    @property
    def short(self) -> bool:
        """Whether batches are short enough to be queued behind one another at a worker."""
        return self._observed and self._seconds_a_call * (self._fixed or 1) < SHORT_SECONDS
