"""Frames: how messages and descriptors travel to a worker and back.

Bytes go through a pipe each way, at half the cost of a socket. Descriptors, which no pipe takes, go
through a socket beside them, ahead of the frame that they belong to.
"""

from __future__ import annotations

import array
import mmap
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from itertools import islice
from typing import TypeAlias

from jobspan.descriptors import Descriptor
from jobspan.errors import JobspanError

__all__ = ["Buffer", "Frame", "FrameDamagedError", "FrameKind", "FrameReader", "FrameWriter"]

Buffer: TypeAlias = bytes | bytearray | memoryview

HEADER = struct.Struct("<QQII")
"""Bytes of payload, serial, kind, descriptors."""

HEADER_BYTES = HEADER.size

RECEIVE_BYTES = 1 << 16
SMALL_BYTES = 1 << 15
"""Up to here joining the parts costs less than handing them over one by one."""

MAPPED_BYTES = 1 << 25
"""Larger payloads are read into pages that take memory as they fill, not by what a header says."""

DESCRIPTORS_A_MESSAGE = 200
"""The kernel takes 253 descriptors with one message."""

BUFFERS_A_MESSAGE = 500
"""The kernel takes 1024 buffers with one message."""

_ANCILLARY_BYTES = socket.CMSG_SPACE(DESCRIPTORS_A_MESSAGE * 4)


class FrameKind(IntEnum):
    """What a frame is about."""

    HELLO = 0
    """To a worker, once: how to set itself up."""
    BATCH = 1
    """To a worker: run this."""
    STDOUT = 2
    """To a worker: print there from now on."""
    RESULT = 3
    """From a worker: what became of the batch with this serial."""
    DROPPED = 4
    """From a worker: the batch with this serial was skipped, as asked."""
    TERMS = 5
    """To a worker: work like this from now on."""
    NEWS = 6
    """To a worker: these segments are not needed any more, those may be used again."""


Frame: TypeAlias = tuple[int, int, Buffer, list[Descriptor]]
"""One message: kind, serial, payload, descriptors. Plain, for one is made for every batch."""


_KINDS = range(len(FrameKind))


class FrameDamagedError(JobspanError):
    """What came is no frame: user code has written to the pipe, or closed and reused it."""


class FrameReader:
    """Reads frames from a pipe.

    Parameters
    ----------
    pipe : int
        Where they come from; whether a read waits is the pipe's to say.
    rights : socket
        Where descriptors come from, ahead of their frames.
    """

    def __init__(self, pipe: int, rights: socket.socket) -> None:
        self._pipe = pipe
        self._rights = rights
        self._pending = b""
        self._large: tuple[int, int, int] | None = None  # kind, serial, descriptors
        self._body: memoryview = memoryview(b"")
        self._filled = 0
        self._received = _Received()

    def receive(self) -> list[Frame] | None:
        """Read once and return the frames that are complete now; None at the end of the stream.

        Raises
        ------
        BlockingIOError
            If nothing is there and the pipe does not block.
        FrameDamagedError
            If what came is no frame.
        """
        if self._large is not None:
            return self._receive_large()
        data = os.read(self._pipe, RECEIVE_BYTES)
        if not data:
            return None
        if self._pending:
            data = self._pending + data
            self._pending = b""
        return self._split(data)

    def _split(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        position = 0
        end = len(data)
        while end - position >= HEADER_BYTES:
            length, serial, kind, descriptors = HEADER.unpack_from(data, position)
            start = position + HEADER_BYTES
            if kind not in _KINDS:
                raise FrameDamagedError(f"no frame is of kind {kind}")
            if start + length > end:
                if start + length - position > RECEIVE_BYTES:
                    # Too large for one read: the rest goes straight to where it will stay.
                    self._body = _room(length)
                    self._filled = end - start
                    self._body[: self._filled] = data[start:]
                    self._large = (kind, serial, descriptors)
                    return frames
                break
            position = start + length
            rights = self._take(descriptors) if descriptors else []
            frames.append((kind, serial, data[start:position], rights))
        if position < end:
            self._pending = data[position:]
        return frames

    def _receive_large(self) -> list[Frame] | None:
        received = os.readv(self._pipe, [self._body[self._filled :]])
        if not received:
            return None
        self._filled += received
        if self._filled < len(self._body) or self._large is None:
            return []
        kind, serial, descriptors = self._large
        body = self._body
        self._large = None
        self._body = memoryview(b"")
        return [(kind, serial, body, self._take(descriptors) if descriptors else [])]

    def _take(self, count: int) -> list[Descriptor]:
        """Return the descriptors of a frame; they came before it did."""
        received = self._received
        while len(received.numbers) < count and received.more(self._rights):
            pass
        found = received.take()
        if len(found) != count:
            raise FrameDamagedError(f"{len(found)} descriptors came, not {count}")
        return found


class _Received:
    """Owns the descriptors that came and that no frame has taken yet."""

    def __init__(self) -> None:
        self.numbers = array.array("i")

    def more(self, rights: socket.socket) -> bool:
        """Receive what one message has; False where none is there."""
        numbers = self.numbers
        size = len(numbers)
        try:
            # As in `jobspan.descriptors`: no call stands between their coming and their owner.
            ((_, ancillary, _, _),) = map(
                rights.recvmsg, (1,), (_ANCILLARY_BYTES,), (socket.MSG_DONTWAIT,)
            )
        except OSError:
            return False
        for level, kind, some in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers.frombytes(some)
        for number in numbers[size:]:
            os.set_inheritable(number, False)
        return len(numbers) > size

    def take(self) -> list[Descriptor]:
        """Hand them over."""
        pop = self.numbers.pop
        return [Descriptor(map(pop, (0,))) for _ in range(len(self.numbers))]

    def __del__(self) -> None:
        self.take()


def _room(length: int) -> memoryview:
    if length <= MAPPED_BYTES:
        return memoryview(bytearray(length))
    try:
        return memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    except (OSError, OverflowError) as error:
        raise FrameDamagedError(f"no room for a frame of {length} bytes") from error


class FrameWriter:
    """Writes frames to a pipe; what does not fit into a non-blocking one waits in a queue.

    Parameters
    ----------
    pipe : int
        Where they go.
    rights : socket
        Where descriptors go, ahead of their frames.

    Notes
    -----
    Descriptors handed in stay the caller's; those that wait are duplicated.
    """

    def __init__(self, pipe: int, rights: socket.socket) -> None:
        self._pipe = pipe
        self._rights = rights
        self._waiting: deque[tuple[memoryview, list[Descriptor]]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether something waits for the pipe to take it."""
        return bool(self._waiting)

    def send(
        self, kind: int, serial: int, payload: Sequence[Buffer], descriptors: Sequence[int] = ()
    ) -> int:
        """Send a frame, or queue what the pipe does not take; return its size in bytes."""
        length = sum(map(len, payload))
        if length <= SMALL_BYTES and not (descriptors or self._waiting):
            data = b"".join((HEADER.pack(length, serial, kind, 0), *payload))
            try:
                sent = os.write(self._pipe, data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self._waiting.append((memoryview(data)[sent:], []))
                self.flush()
            return length
        parts = [memoryview(part).cast("B") for part in payload]
        length = sum(map(len, parts))
        head = memoryview(HEADER.pack(length, serial, kind, len(descriptors)))
        copies = [Descriptor(map(os.dup, (number,))) for number in descriptors]
        self._waiting.append((head, copies))
        self._waiting.extend((part, []) for part in parts if len(part))
        self.flush()
        return length

    def flush(self) -> None:
        """Send what waits, as far as the pipe takes it."""
        try:
            while self._waiting:
                _, descriptors = self._waiting[0]
                if descriptors:
                    self._send_rights(descriptors)
                # Up to the next frame that has descriptors of its own: those go first.
                vectors = [self._waiting[0][0]]
                for part, more in islice(self._waiting, 1, BUFFERS_A_MESSAGE):
                    if more:
                        break
                    vectors.append(part)
                self._drop(os.writev(self._pipe, vectors))
        except BlockingIOError:
            return

    def _send_rights(self, descriptors: list[Descriptor]) -> None:
        while descriptors:
            some = array.array("i", (each.number for each in descriptors[:DESCRIPTORS_A_MESSAGE]))
            self._rights.sendmsg([b"R"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, some)])
            del descriptors[: len(some)]

    def _drop(self, sent: int) -> None:
        """Take the first `sent` bytes off the queue."""
        while sent:
            part, _ = self._waiting[0]
            if sent < len(part):
                self._waiting[0] = (part[sent:], [])
                return
            sent -= len(part)
            self._waiting.popleft()

    def close(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
