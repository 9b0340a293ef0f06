"""Put batches together again whose calls came apart when a worker died."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobspan.backends.processes.handle import Flight
from jobspan.calls import Batch
from jobspan.outcomes import Failure, Outcome
from jobspan.worker.run import Ran

__all__ = ["Assemblies"]


@dataclass(slots=True)
class _Assembly:
    """What is there of one batch."""

    batch: Batch
    values: list[Any]
    missing: int
    failures: dict[int, Failure] = field(default_factory=dict)
    started: float = 0.0
    seconds: float = 0.0
    sent: int = 0
    received: int = 0

    def outcome(self, worker: str) -> Outcome:
        return Outcome(
            self.batch.number,
            self.values,
            self.failures,
            worker,
            self.started,
            self.seconds,
            self.sent,
            self.received,
        )


class Assemblies:
    """The batches of one executor whose calls travel in several flights."""

    def __init__(self) -> None:
        self._open: dict[int, _Assembly] = {}

    def clear(self) -> None:
        """Forget them all."""
        self._open.clear()

    def begin(self, batch: Batch) -> None:
        """Note that a batch's calls go their own ways from here on."""
        if batch.number not in self._open:
            size = len(batch.calls)
            self._open[batch.number] = _Assembly(batch, [None] * size, size)

    def add(self, flight: Flight, ran: Ran, worker: str, received: int) -> Outcome | None:
        """Take in what running a flight gave; return the outcome when nothing is missing."""
        self.begin(flight.batch)
        assembly = self._open[flight.batch.number]
        assembly.started = assembly.started or ran.started
        assembly.seconds += ran.seconds
        assembly.sent += flight.bytes_sent
        assembly.received += received
        failures = {}
        positions = flight.positions
        for place, position in enumerate(positions):
            if place in ran.failures:
                failures[position] = ran.failures[place]
            else:
                assembly.values[position] = ran.values[place]
        assembly.missing -= len(positions) - len(failures)
        return self.fail(flight.batch, failures, worker)

    def fail(self, batch: Batch, failures: dict[int, Failure], worker: str) -> Outcome | None:
        """Note failures of a batch's calls; return the outcome when nothing is missing."""
        self.begin(batch)
        assembly = self._open[batch.number]
        assembly.failures.update(failures)
        assembly.missing -= len(failures)
        if assembly.missing:
            return None
        del self._open[batch.number]
        return assembly.outcome(worker)
