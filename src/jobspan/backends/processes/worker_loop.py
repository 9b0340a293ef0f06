"""What a worker does: take a batch, run it, send what became of it, until nobody is there."""

from __future__ import annotations

import atexit
import os
import pickle
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

from jobspan.backends.processes.cell import Cell, Stage
from jobspan.backends.processes.frames import Frame, FrameKind, FrameReader, FrameWriter
from jobspan.backends.processes.messages import decode_batch, encode_result
from jobspan.calls import Call
from jobspan.worker.run import run_calls

__all__ = ["run_worker"]


class _CancelledError(BaseException):
    """The batch is not wanted any more."""


def run_worker(descriptor: int, cell_descriptor: int) -> int:
    """Run batches until the executor's side has gone, or nothing came for a long time."""
    connection = socket.socket(fileno=descriptor)
    connection.setblocking(True)
    cell = Cell(cell_descriptor)
    os.close(cell_descriptor)
    with suppress(ConnectionError):
        _Worker(connection, cell).run()
    _leave()
    return 0


class _Worker:
    """Runs batches from a socket.

    Parameters
    ----------
    connection : socket
        Where batches come from and results go to.
    cell : Cell
        Where the executor's side reads what runs.
    """

    def __init__(self, connection: socket.socket, cell: Cell) -> None:
        self._connection = connection
        self._reader = FrameReader(connection)
        self._writer = FrameWriter(connection)
        self._cell = cell
        self._frames: deque[Frame] = deque()

    def run(self) -> None:
        """Handle frames, one after the other."""
        while True:
            if self._frames:
                frame = self._frames.popleft()
                if frame.kind == FrameKind.BATCH:
                    self._run_batch(frame)
                elif frame.kind == FrameKind.HELLO:
                    self._set_up(frame)
                elif frame.kind == FrameKind.STDOUT:
                    _replace_stdout(frame.descriptors[0])
                del frame
                continue
            try:
                frames = self._reader.receive()
            except BlockingIOError:
                return  # the idle time is over
            if frames is None:
                return
            self._frames.extend(frames)

    def _set_up(self, frame: Frame) -> None:
        environment, path, idle_seconds = pickle.loads(frame.payload)
        if environment != dict(os.environ):
            os.environ.clear()
            os.environ.update(environment)
        sys.path[:] = path
        seconds, fraction = divmod(idle_seconds, 1)
        # The kernel wakes an idle worker: that needs no thread and no call more a batch.
        limit = struct.pack("@ll", int(seconds), int(fraction * 1e6))
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def _run_batch(self, frame: Frame) -> None:
        cell = self._cell
        serial = frame.serial
        if not cell.claim(serial):
            self._drop(frame)
            return
        try:
            batch = decode_batch(frame)
            with batch.entered():
                cell.words[Cell.STAGE] = Stage.RUNNING
                calls = _marked(batch.calls, cell, serial, timed=batch.timed)
                ran = run_calls(cast("Sequence[Call]", calls))
                cell.words[Cell.STAGE] = Stage.ENCODING
            payload, descriptors = encode_result(ran)
        except _CancelledError:
            self._drop(frame)
            return
        _flush()
        self._writer.send(FrameKind.RESULT, serial, payload, descriptors)
        cell.words[Cell.STAGE] = Stage.IDLE
        for descriptor in descriptors:
            os.close(descriptor)

    def _drop(self, frame: Frame) -> None:
        for descriptor in frame.descriptors:
            os.close(descriptor)
        _flush()
        self._writer.send(FrameKind.DROPPED, frame.serial, ())
        self._cell.words[Cell.STAGE] = Stage.IDLE


def _marked(calls: Sequence[Call], cell: Cell, serial: int, *, timed: bool) -> Iterator[Call]:
    """Yield calls, noting in the cell which one runs and, where it matters, since when."""
    words = cell.words
    offset, started, cancelled = Cell.OFFSET, Cell.STARTED, Cell.CANCELLED
    for number, call in enumerate(calls):
        if words[cancelled] >= serial:
            raise _CancelledError
        words[offset] = number
        if timed:
            words[started] = time.monotonic_ns()
        yield call


def _flush() -> None:
    """Let what calls printed appear, also where a call closed or replaced the stream."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError, OSError, AttributeError):
            stream.flush()


def _replace_stdout(descriptor: int) -> None:
    _flush()
    os.dup2(descriptor, 1)
    os.close(descriptor)


def _leave() -> None:
    """Do what programs do at their end, as far as it cannot hang."""
    run_exit_functions: Any = getattr(atexit, "_run_exitfuncs", None)
    if run_exit_functions is not None:
        run_exit_functions()
    _flush()
