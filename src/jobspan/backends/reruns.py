"""Batches that are run again call by call, to learn which of their calls is at fault."""

from __future__ import annotations

from typing import Any

from jobspan.calls import Batch
from jobspan.outcomes import Failure, Outcome

__all__ = ["Reruns"]


class _Rerun:
    """A batch in pieces, and what has come back of it."""

    __slots__ = ("batch", "failures", "seconds", "values")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.values: dict[int, Any] = {}
        self.failures: dict[int, Failure] = {}
        self.seconds = 0.0


class Reruns:
    """Takes batches apart, and puts their outcomes together."""

    def __init__(self) -> None:
        self._open: dict[int, _Rerun] = {}

    def split(self, batch: Batch) -> list[Batch]:
        """Return the calls of a batch, each as a batch of its own."""
        if batch.number not in self._open:
            self._open[batch.number] = _Rerun(batch)
        return [
            batch._replace(first=batch.first + offset, calls=(call,))
            for offset, call in enumerate(batch.calls)
        ]

    def settled(self, batch: Batch, outcome: Outcome) -> Outcome | None:
        """Return the outcome of the batch that the scheduler knows; None until it is complete."""
        rerun = self._open.get(batch.number)
        if rerun is None:
            return outcome
        offset = batch.first - rerun.batch.first
        rerun.values[offset] = outcome.values[0]
        if outcome.failures:
            rerun.failures[offset] = outcome.failures[0]
        rerun.seconds += outcome.seconds
        if len(rerun.values) < len(rerun.batch.calls):
            return None
        del self._open[batch.number]
        return outcome._replace(
            values=[rerun.values[place] for place in range(len(rerun.values))],
            failures=rerun.failures,
            seconds=rerun.seconds,
        )

    def clear(self) -> None:
        """Forget all."""
        self._open.clear()
