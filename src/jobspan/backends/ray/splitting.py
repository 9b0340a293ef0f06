"""Batches whose calls run one by one, to learn which one is at fault, put together at the end."""

from __future__ import annotations

from typing import Any

from jobspan.calls import Batch
from jobspan.outcomes import Failure, Outcome

__all__ = ["Splits"]


class Splits:
    """The batches of one executor that are run call by call."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[Batch, dict[int, Any], dict[int, Failure], list[float]]] = {}

    def split(self, batch: Batch) -> list[Batch]:
        """Return a batch for each call of `batch`."""
        self._open[batch.number] = (batch, {}, {}, [])
        return [
            Batch(batch.number, batch.first + offset, (call,), batch.context, batch.attempt)
            for offset, call in enumerate(batch.calls)
        ]

    def gather(self, batch: Batch, outcome: Outcome) -> Outcome | None:
        """Return an outcome to hand on; None while calls of the same batch are missing."""
        known = self._open.get(batch.number)
        if known is None:
            return outcome
        whole, values, failures, seconds = known
        offset = batch.first - whole.first
        values[offset] = outcome.values[0]
        if outcome.failures:
            failures[offset] = outcome.failures[0]
        seconds.append(outcome.seconds)
        if len(values) < len(whole.calls):
            return None
        del self._open[batch.number]
        ordered = [values[place] for place in range(len(values))]
        return outcome._replace(values=ordered, failures=failures, seconds=sum(seconds))

    def clear(self) -> None:
        """Forget them."""
        self._open.clear()
