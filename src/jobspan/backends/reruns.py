"""Batches that come apart: pieces of them run again, and their outcomes are put together as one.

A piece is a batch itself: some calls of the whole that follow each other, under the whole's number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jobspan.calls import Batch
from jobspan.outcomes import Failure, Outcome

__all__ = ["Reruns"]


class _Whole:
    """A batch in pieces, and what has come back of them."""

    __slots__ = ("batch", "failures", "received", "seconds", "sent", "started", "values")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.values: dict[int, Any] = {}
        self.failures: dict[int, Failure] = {}
        self.started = 0.0
        self.seconds = 0.0
        self.sent = 0
        self.received = 0

    def add(self, piece: Batch, outcome: Outcome) -> None:
        place = piece.first - self.batch.first
        self.values.update(enumerate(outcome.values, place))
        self.failures.update((place + at, failure) for at, failure in outcome.failures.items())
        self.started = self.started or outcome.started
        self.seconds += outcome.seconds
        self.sent += outcome.bytes_sent
        self.received += outcome.bytes_received

    def outcome(self, worker: str) -> Outcome | None:
        size = len(self.batch.calls)
        if len(self.values) < size:
            return None
        values = [self.values[place] for place in range(size)]
        number = self.batch.number
        times = (self.started, self.seconds)
        return Outcome(number, values, self.failures, worker, *times, self.sent, self.received)


class Reruns:
    """Takes batches apart, and puts their outcomes together."""

    def __init__(self) -> None:
        self._open: dict[int, _Whole] = {}

    def pieces(self, batch: Batch, places: Iterable[range]) -> list[Batch]:
        """Return pieces of a batch, or of a piece; where one is all of it, that itself.

        Parameters
        ----------
        batch : Batch
            What comes apart.
        places : iterable of range
            Which of its calls are a piece each. All of them, in one call or in several, settle it.
        """
        pieces = []
        for place in places:
            if len(place) == len(batch.calls):
                pieces.append(batch)
                continue
            if batch.number not in self._open:
                self._open[batch.number] = _Whole(batch)
            first, calls = batch.first + place.start, batch.calls[place.start : place.stop]
            pieces.append(batch._replace(first=first, calls=calls))
        return pieces

    def singles(self, batch: Batch) -> list[Batch]:
        """Return the calls of a batch, each as a piece of its own."""
        return self.pieces(batch, (range(at, at + 1) for at in range(len(batch.calls))))

    def settled(self, batch: Batch, outcome: Outcome) -> Outcome | None:
        """Return the outcome of the batch that the scheduler knows; None until it is complete."""
        whole = self._open.get(batch.number)
        if whole is None:
            return outcome
        whole.add(batch, outcome)
        complete = whole.outcome(outcome.worker)
        if complete is not None:
            del self._open[batch.number]
        return complete

    def clear(self) -> None:
        """Forget all."""
        self._open.clear()
