"""A worker as its executor sees it: what it was sent, what came back, how it ended."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from jobspan.backends.processes.cell import Cell, Stage
from jobspan.backends.processes.courier import Knowledge
from jobspan.backends.processes.frames import (
    Buffer,
    Frame,
    FrameDamagedError,
    FrameKind,
    FrameReader,
    FrameWriter,
)
from jobspan.backends.processes.launching import kill_worker, launch_worker, own_stdout
from jobspan.backends.processes.messages import Terms
from jobspan.backends.processes.requests import OBITUARY
from jobspan.backends.processes.stderr_tail import StderrTail
from jobspan.calls import Batch

__all__ = ["Flight", "FlightState", "Worker"]

_BATCH = int(FrameKind.BATCH)
_ANSWERS = (int(FrameKind.RESULT), int(FrameKind.DROPPED))


class FlightState(Enum):
    """How a flight stands."""

    SENT = auto()
    """The worker has it or will have it."""
    RECALLED = auto()
    """It was asked back, and the worker will say whether it skipped it."""
    MOVED = auto()
    """It was asked back in time and is somebody else's now."""
    ABANDONED = auto()
    """It was cancelled."""


@dataclass(slots=True, eq=False)
class Flight:
    """A batch on its way through one worker.

    Parameters
    ----------
    batch : Batch
        The calls: a batch, or a piece of one.
    deaths : int
        How many workers died with it before they began it.
    serial : int
        Its number among those that its worker was sent.
    state : FlightState
        How it stands.
    bytes_sent : int
        How much was sent.
    references : sequence
        The shared buffers that its arguments are in.
    """

    batch: Batch
    deaths: int = 0
    serial: int = 0
    state: FlightState = FlightState.SENT
    bytes_sent: int = 0
    references: Sequence[Any] = ()


class Worker:
    """A worker process, coming up while its first batch is on the way.

    Parameters
    ----------
    idle_seconds : float
        How long it waits for a batch before it leaves.

    Notes
    -----
    Threads and processes: one executor at a time owns a worker.
    """

    _closed = True

    def __init__(self, idle_seconds: float) -> None:
        launched = launch_worker()
        self.number = launched.number
        self.name = f"process-{os.getpid()}-{launched.number}"
        self.idle_seconds = idle_seconds
        self._launched = launched
        self.results = launched.results.number
        self.batches = launched.batches.number
        self.obituary = launched.obituary.number
        self.stderr = StderrTail(launched.stderr.number)
        self.cell = launched.cell
        self.flights: deque[Flight] = deque()
        self.load = 0
        self.head_since = 0.0
        self.answered = False
        self.exit_code: int | None = None
        self.expired: tuple[int, int] | None = None
        self.batches_sent = 0
        # An exception such as KeyboardInterrupt may leave a frame half sent or half read.
        self.in_transfer = False
        self._reader = FrameReader(self.results, launched.rights)
        self._writer = FrameWriter(self.batches, launched.rights)
        self._stdout = _stdout_identity()
        self._terms: Terms | None = None
        self.knowledge = Knowledge()
        self._closed = False
        self.disturbed = False  # what came from it was no answer: nothing more is believed
        hello = (dict(os.environ), list(sys.path), idle_seconds)
        self.tell(FrameKind.HELLO, hello)

    def tell(self, kind: FrameKind, what: object) -> None:
        """Send a frame that needs no answer."""
        self.in_transfer = True
        with suppress(BrokenPipeError, ConnectionResetError):  # its obituary is on the way
            self._writer.send(kind, 0, [pickle.dumps(what, protocol=5)])
        self.in_transfer = False

    def agree(self, terms: Terms) -> None:
        """Have it work on these terms."""
        if terms != self._terms:
            self._terms = terms
            self.tell(FrameKind.TERMS, tuple(terms))

    def tell_news(self) -> None:
        """Tell it which segments are needed no more."""
        news = self.knowledge.take_news()
        if news is not None:
            self.tell(FrameKind.NEWS, news)

    def send(self, flight: Flight, payload: Sequence[Buffer], descriptors: Sequence[int]) -> bool:
        """Send a batch; whether some of it waits for the pipe to take it."""
        self.batches_sent += 1
        flight.serial = self.batches_sent
        if self.knowledge.has_news:
            self.tell_news()
        if not self.flights:
            self.head_since = time.monotonic()
        self.flights.append(flight)
        self.in_transfer = True
        try:
            flight.bytes_sent = self._writer.send(_BATCH, flight.serial, payload, descriptors)
        except (BrokenPipeError, ConnectionResetError):
            flight.bytes_sent = 0  # its obituary is on the way
        self.in_transfer = False
        return self._writer.waiting

    def flush(self) -> bool:
        """Send what waits; whether some of it still waits."""
        self.in_transfer = True
        try:
            self._writer.flush()
        except (BrokenPipeError, ConnectionResetError):
            self._writer.close()
        self.in_transfer = False
        return self._writer.waiting

    def receive(self) -> list[Frame] | None:
        """Return the frames that have come; None at the end of the stream."""
        self.in_transfer = True
        try:
            return self._reader.receive()
        except BlockingIOError:
            return []
        except (ConnectionResetError, FrameDamagedError):
            return None
        finally:
            self.in_transfer = False

    def receive_rest(self) -> list[Frame]:
        """Return what a worker that has ended sent before."""
        frames: list[Frame] = []
        while True:
            try:
                more = self._reader.receive()
            except (BlockingIOError, ConnectionResetError, FrameDamagedError):
                return frames
            if more is None:
                return frames
            frames += more

    def expects(self, frame: Frame) -> bool:
        """Whether a frame answers what the worker was sent first of what is open."""
        kind, serial, *_ = frame
        return (
            kind in _ANSWERS
            and not self.disturbed
            and bool(self.flights)
            and serial == self.flights[0].serial
        )

    def finish_head(self) -> Flight:
        """Take the flight that was answered off the list; the next one is the head."""
        flight = self.flights.popleft()
        self.answered = True
        self.head_since = time.monotonic()
        return flight

    def claimed(self, flight: Flight) -> bool:
        """Whether the worker has begun with a flight."""
        return self.cell.words[Cell.SERIAL] >= flight.serial

    def running_call(self) -> int | None:
        """Return which call of the batch that it has claimed runs, or None where none does."""
        words = self.cell.words
        return words[Cell.OFFSET] if words[Cell.STAGE] == Stage.RUNNING else None

    def call_started(self) -> float | None:
        """Return when the call that runs began, by the monotonic clock."""
        words = self.cell.words
        if words[Cell.STAGE] != Stage.RUNNING or not words[Cell.STARTED]:
            return None
        return words[Cell.STARTED] * 1e-9

    def kill(self) -> None:
        """Kill it and what it started."""
        kill_worker(self.number)

    def follow_stdout(self) -> None:
        """Have it print where this process prints now, if that has changed since it started."""
        identity = _stdout_identity()
        if identity != self._stdout:
            self._stdout = identity
            with own_stdout() as descriptor, suppress(BrokenPipeError, ConnectionResetError):
                self._writer.send(FrameKind.STDOUT, 0, (), [descriptor])

    def read_obituary(self) -> bool:
        """Read how it ended; False while it lives."""
        try:
            data = os.read(self.obituary, OBITUARY.size)
        except BlockingIOError:
            return False
        if len(data) == OBITUARY.size:
            (self.exit_code,) = OBITUARY.unpack(data)
        return True

    def close(self) -> None:
        """Let go of it: a living worker leaves when it reads the end of its pipe."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        self.knowledge.close()
        _, batches, results, rights, cell, stderr, obituary = self._launched
        for each in (rights, batches, results, stderr, obituary, cell):
            each.close()

    def __del__(self) -> None:
        # Ctrl-C came at a moment when nobody answered for it.
        if not self._closed and self.flights:
            self.kill()


def _stdout_identity() -> tuple[int, int] | None:
    """Return what tells this process's stdout from another one; None where it is closed."""
    try:
        status = os.fstat(1)
    except OSError:
        return None
    return status.st_dev, status.st_ino
