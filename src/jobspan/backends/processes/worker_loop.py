"""What a worker does: take a batch, run it, send what became of it, until nobody is there."""

from __future__ import annotations

import atexit
import os
import pickle
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from jobspan.ambient import replace_current
from jobspan.backends.processes.cell import Cell, Stage
from jobspan.backends.processes.frames import Buffer, Frame, FrameKind, FrameReader, FrameWriter
from jobspan.backends.processes.messages import Terms, pack_result, unpack_batch
from jobspan.calls import Call, CallContext
from jobspan.descriptors import Descriptor
from jobspan.errors import TransportError
from jobspan.transport.batches import UNDECODED, BatchDecoder, encode_ran
from jobspan.transport.shared_memory import SegmentReceiver, SegmentReference, SegmentSender
from jobspan.worker.context import Entrance, prepare_process
from jobspan.worker.native_threads import THREAD_VARIABLES
from jobspan.worker.run import Ran, failure_of, run_calls

__all__ = ["run_worker"]

# Plain numbers, for they are looked up for every batch.
_IDLE, _RUNNING, _ENCODING = int(Stage.IDLE), int(Stage.RUNNING), int(Stage.ENCODING)
_RESULT, _DROPPED = int(FrameKind.RESULT), int(FrameKind.DROPPED)


class _CancelledError(BaseException):
    """The batch is not wanted any more."""


def run_worker(batches: int, results: int, rights: int, cell_descriptor: int) -> int:
    """Run batches until the executor's side has gone, or nothing came for a long time.

    Parameters
    ----------
    batches, results, rights, cell_descriptor : int
        The pipe that batches come from, the one that results go to, the socket for descriptors, and
        the file of the cell.
    """
    os.set_blocking(batches, False)
    cell = Cell(cell_descriptor)
    os.close(cell_descriptor)
    worker = _Worker(batches, results, socket.socket(fileno=rights), cell)
    with suppress(ConnectionError):
        worker.run()
    run_exit_functions: Any = getattr(atexit, "_run_exitfuncs", None)
    if run_exit_functions is not None:
        run_exit_functions()
    worker.streams.flush()
    return 0


class _Worker:
    """Runs batches from a pipe.

    Parameters
    ----------
    batches, results : int
        Where batches come from and results go to.
    rights : socket
        Where descriptors come from and go to.
    cell : Cell
        Where the executor's side reads what runs.
    """

    def __init__(self, batches: int, results: int, rights: socket.socket, cell: Cell) -> None:
        rights.setblocking(True)
        self._reader = FrameReader(batches, rights)
        self._writer = FrameWriter(results, rights)
        self._poll = select.poll()
        self._poll.register(batches, select.POLLIN)
        self._idle_milliseconds: float | None = None
        self._cell = cell
        self.streams = _Streams()
        self._frames: deque[Frame] = deque()
        self._environment: dict[str, str] = {}
        self._terms = Terms("r", None, None, 0, 1, False, False)
        self._decoder = BatchDecoder(self._enter)
        self._entrance = Entrance()
        self._forgot = False
        self._arguments = {"r": SegmentReceiver("r")}
        self._results = SegmentSender(shares_again=False)
        self._announced: set[int] = set()

    def run(self) -> None:
        """Handle frames, one after the other."""
        handlers: dict[int, Callable[[int, Buffer, list[Descriptor]], None]] = {
            FrameKind.BATCH: self._run_batch,
            FrameKind.NEWS: self._take_news,
            FrameKind.TERMS: self._take_terms,
            FrameKind.HELLO: self._set_up,
            FrameKind.STDOUT: self._replace_stdout,
        }
        while True:
            while self._frames:
                kind, serial, payload, descriptors = self._frames.popleft()
                handlers[kind](serial, payload, descriptors)
                del payload
            try:
                frames = self._reader.receive()
            except BlockingIOError:
                if not self._poll.poll(self._idle_milliseconds):
                    return  # the idle time is over
                continue
            if frames is None:
                return
            self._frames.extend(frames)
            del frames

    def _set_up(self, serial: int, payload: Buffer, descriptors: list[Descriptor]) -> None:
        self._environment, path, idle_seconds = pickle.loads(payload)
        os.environ.clear()
        os.environ.update(self._environment)
        sys.path[:] = path
        self._idle_milliseconds = idle_seconds * 1e3

    def _take_terms(self, serial: int, payload: Buffer, descriptors: list[Descriptor]) -> None:
        self._terms = terms = Terms(*pickle.loads(payload))
        if terms.mode not in self._arguments:
            self._arguments[terms.mode] = SegmentReceiver(terms.mode)
        for name in THREAD_VARIABLES:
            if terms.threads_asked_for or name not in self._environment:
                os.environ[name] = str(terms.threads)

    def _take_news(self, serial: int, payload: Buffer, descriptors: list[Descriptor]) -> None:
        dropped, freed = pickle.loads(payload)
        for receiver in self._arguments.values():
            receiver.drop(dropped)
        self._results.release(SegmentReference(number, 0) for number in freed)

    def _run_batch(self, serial: int, payload: Buffer, descriptors: list[Descriptor]) -> None:
        cell = self._cell
        encoded, news, segments = unpack_batch(payload)
        receiver = self._arguments[self._terms.mode]
        for number, descriptor in zip(segments, descriptors, strict=True):
            receiver.add(number, descriptor)
        wanted = cell.claim(serial)
        size = 0
        try:
            if news is not None:
                # Later batches rely on what this one teaches, wanted or not.
                self._decoder.learn(news, receiver.fetch)
            if not wanted:
                raise _CancelledError
            context, calls, size = self._decoder.decode(encoded, receiver.fetch)
            prepare_process(context)
            ran = self._entrance.run(context, self._run_calls, calls, serial)
            cell.words[Cell.STAGE] = _ENCODING
            del calls
        except _CancelledError:
            self._send(_DROPPED, serial, ())
            return
        except BaseException as error:  # noqa: BLE001 - whatever it is, the calls have failed
            # What the executor believes to be known here may not be: let it send all again.
            self._forgot = True
            if not wanted:
                self._send(_DROPPED, serial, ())
                return
            cell.words[Cell.STAGE] = _ENCODING
            failed = range(size) if size else (UNDECODED,)
            ran = Ran([None] * size, dict.fromkeys(failed, failure_of(error)), 0.0, 0.0)
        self._send_result(serial, ran)

    def _enter(self, context: CallContext) -> None:
        """Let a context hold before what comes with it is imported, its initializer's work too."""
        replace_current(context.settings)
        prepare_process(context)
        with suppress(Exception):  # it is raised again where the calls run, which it fails
            self._entrance.run(context, _nothing)

    def _run_calls(self, calls: Iterable[Call], serial: int) -> Ran:
        self._cell.words[Cell.STAGE] = _RUNNING
        return run_calls(_marked(calls, self._cell, serial, timed=self._terms.timed))

    def _send_result(self, serial: int, ran: Ran) -> None:
        encoded = encode_ran(ran, self._share, self._terms.threshold)
        del ran
        sender = self._results
        dropped, sender.dropped = sender.dropped, []
        self._announced.difference_update(dropped)
        segments: list[int] = []
        descriptors: list[int] = []
        for reference in encoded.values.references:
            if reference.number not in self._announced:
                self._announced.add(reference.number)
                segments.append(reference.number)
                descriptors.append(sender.descriptor(reference))
        payload = pack_result(encoded, segments, dropped, forgot=self._forgot)
        self._forgot = False
        self._send(_RESULT, serial, payload, descriptors)

    def _share(self, buffer: memoryview) -> SegmentReference | None:
        self.streams.mend()
        if len(self._announced) >= self._terms.segments:
            return None  # each is an open file there: it travels with the payload
        try:
            return self._results.share(buffer)
        except TransportError:
            return None  # there is no room to share it: the same

    def _send(
        self,
        kind: int,
        serial: int,
        payload: Sequence[Buffer],
        descriptors: Sequence[int] = (),
    ) -> None:
        # What calls printed is there before their results are.
        self.streams.flush()
        self._writer.send(kind, serial, payload, descriptors)
        self._cell.words[Cell.STAGE] = _IDLE

    def _replace_stdout(self, serial: int, payload: Buffer, descriptors: list[Descriptor]) -> None:
        (descriptor,) = descriptors
        self.streams.replace_stdout(descriptor)


def _nothing() -> None:
    """Do nothing, where to be there is enough."""


def _marked(calls: Iterable[Call], cell: Cell, serial: int, *, timed: bool) -> Iterator[Call]:
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


class _Streams:
    """What calls print to; put back where a call closed it."""

    def __init__(self) -> None:
        self._kept = {number: os.dup(number) for number in (1, 2)}

    def flush(self) -> None:
        """Let what calls printed appear."""
        try:
            sys.stdout.flush()
        except (ValueError, OSError, AttributeError):
            self._restore(1, "stdout")
        try:
            sys.stderr.flush()
        except (ValueError, OSError, AttributeError):
            self._restore(2, "stderr")

    def mend(self) -> None:
        """Open again what a call closed, before anything else can take its number."""
        for number, name in ((1, "stdout"), (2, "stderr")):
            try:
                os.fstat(number)
            except OSError:
                self._restore(number, name)

    def _restore(self, number: int, name: str) -> None:
        # Its number would be the next segment's, and printing would write there.
        os.dup2(self._kept[number], number)
        stream = open(number, "w", buffering=1, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)

    def replace_stdout(self, descriptor: Descriptor) -> None:
        """Print to `descriptor` from now on, and close it."""
        self.flush()
        os.dup2(descriptor.number, 1)
        os.dup2(descriptor.number, self._kept[1], inheritable=False)
        descriptor.close()
