"""Results on their way to the consumer: put in order, handed on in chunks, so many at most."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Delivery"]

PENDING_RESULTS = 1024
"""How many results a worker may wait for a slow consumer where they are small, ..."""

PENDING_BYTES = 64 << 20
"""... and how many bytes in all where they are not: two batches a worker may wait even so."""


class Delivery:
    """What came of the calls, until the consumer takes it.

    Parameters
    ----------
    ordered : bool
        Whether results leave in the order of the calls, else as they come.
    max_pending : int or None
        How many may wait for the consumer; None: as many as keep workers busy and leave memory.
    clock : callable
        Seconds, monotonic.

    Attributes
    ----------
    chunks : deque of list
        What the consumer may have now.
    head : int
        Index of the first call whose result has not left.
    since : float
        When one left last, by the clock.
    taken : int
        How many results the consumer has taken; it is the consumer's thread that sets it.
    """

    def __init__(
        self, *, ordered: bool, max_pending: int | None, clock: Callable[[], float]
    ) -> None:
        self._ordered = ordered
        self._max_pending = max_pending
        self._clock = clock
        self.chunks: deque[list[Any]] = deque()
        self.head = 0
        self.since = clock()
        self.taken = 0
        self._handed_on = 0
        self._early: dict[int, tuple[int, list[Any]]] = {}
        self._early_results = 0
        self._bytes_a_result = 0.0

    @property
    def arrived(self) -> int:
        """How many results there were so far."""
        return self._handed_on + self._early_results

    @property
    def pending(self) -> int:
        """How many results wait for the consumer."""
        return self._handed_on + self._early_results - self.taken

    def arrive(self, index: int, calls: int, values: list[Any]) -> None:
        """Take in what came of so many calls, the first of which has that index."""
        if self._ordered and index != self.head:
            self._early[index] = (calls, values)
            self._early_results += len(values)
            return
        self.since = self._clock()
        self._hand_on(calls, values)
        while self.head in self._early:
            calls, values = self._early.pop(self.head)
            self._early_results -= len(values)
            self._hand_on(calls, values)

    def _hand_on(self, calls: int, values: list[Any]) -> None:
        self.head += calls
        self._handed_on += len(values)
        if values:
            self.chunks.append(values)

    def weigh(self, bytes_a_result: float) -> None:
        """Learn how large results are."""
        self._bytes_a_result += 0.5 * (bytes_a_result - self._bytes_a_result)

    def full(self, workers: int, batch: int) -> bool:
        """Whether so many results wait for the consumer that no new call is dispatched.

        Parameters
        ----------
        workers : int
            How many batches run at once.
        batch : int
            How many calls a batch holds.
        """
        pending = self.pending
        if self._max_pending is not None:
            return pending >= self._max_pending
        return pending >= 2 * workers * batch and (
            pending >= PENDING_RESULTS * workers or pending * self._bytes_a_result >= PENDING_BYTES
        )
