"""Frames: how messages and descriptors travel over a worker's socket."""

from __future__ import annotations

import array
import mmap
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from typing import TypeAlias

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


Frame: TypeAlias = tuple[int, int, Buffer, list[int]]
"""One message: kind, serial, payload, descriptors. Plain, for one is made for every batch."""


_KINDS = range(len(FrameKind))


class FrameDamagedError(JobspanError):
    """What came is no frame: user code has written to the socket, or closed and reused it."""


class FrameReader:
    """Reads frames from a socket, blocking or not as the socket is.

    Parameters
    ----------
    connection : socket
        Where they come from.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._view = memoryview(bytearray(RECEIVE_BYTES))
        self._pending = bytearray()
        self._descriptors: deque[int] = deque()
        self._large: tuple[int, int, int] | None = None  # kind, serial, descriptors
        self._body: memoryview = memoryview(b"")
        self._filled = 0

    def receive(self) -> list[Frame] | None:
        """Read once and return the frames that are complete now; None at the end of the stream.

        Raises
        ------
        BlockingIOError
            If nothing is there and the socket does not block.
        FrameDamagedError
            If what came is no frame.
        """
        if self._large is not None:
            return self._receive_large()
        received, ancillary, _, _ = self._connection.recvmsg_into([self._view], _ANCILLARY_BYTES)
        if ancillary:
            self._take_descriptors(ancillary)
        if not received:
            return None
        data = bytes(self._view[:received])
        if self._pending:
            self._pending += data
            data = bytes(self._pending)
            self._pending.clear()
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
            self._pending += data[position:]
        return frames

    def _receive_large(self) -> list[Frame] | None:
        received, ancillary, _, _ = self._connection.recvmsg_into(
            [self._body[self._filled :]], _ANCILLARY_BYTES
        )
        if ancillary:
            self._take_descriptors(ancillary)
        if not received:
            return None
        self._filled += received
        if self._filled < len(self._body) or self._large is None:
            return []
        kind, serial, descriptors = self._large
        body = self._body
        self._large = None
        self._body = memoryview(b"")
        return [(kind, serial, body, self._take(descriptors))]

    def _take(self, count: int) -> list[int]:
        if count > len(self._descriptors):
            raise FrameDamagedError(f"{len(self._descriptors)} descriptors came, not {count}")
        return [self._descriptors.popleft() for _ in range(count)]

    def _take_descriptors(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(data[: len(data) - len(data) % received.itemsize])
                for descriptor in received:
                    os.set_inheritable(descriptor, False)
                    self._descriptors.append(descriptor)

    def close(self) -> None:
        """Close the descriptors that came without their frame."""
        while self._descriptors:
            os.close(self._descriptors.popleft())


def _room(length: int) -> memoryview:
    if length <= MAPPED_BYTES:
        return memoryview(bytearray(length))
    try:
        return memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    except (OSError, OverflowError) as error:
        raise FrameDamagedError(f"no room for a frame of {length} bytes") from error


class FrameWriter:
    """Writes frames to a socket; what does not fit into a non-blocking one waits in a queue.

    Parameters
    ----------
    connection : socket
        Where they go.

    Notes
    -----
    Descriptors handed in stay the caller's; those that wait are duplicated.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._waiting: deque[tuple[memoryview, list[int]]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether something waits for the socket to take it."""
        return bool(self._waiting)

    def send(
        self, kind: int, serial: int, payload: Sequence[Buffer], descriptors: Sequence[int] = ()
    ) -> int:
        """Send a frame, or queue what the socket does not take; return its size in bytes."""
        if not (descriptors or self._waiting):
            length = sum(map(len, payload))
            if length <= SMALL_BYTES:
                data = b"".join((HEADER.pack(length, serial, kind, 0), *payload))
                try:
                    sent = self._connection.send(data)
                except BlockingIOError:
                    sent = 0
                if sent < len(data):
                    self._queue([memoryview(data)[sent:]], [], duplicate=False)
                    if self._connection.gettimeout() is None:
                        self.flush()
                return length
        parts = [memoryview(part).cast("B") for part in payload]
        length = sum(len(part) for part in parts)
        head = memoryview(HEADER.pack(length, serial, kind, len(descriptors)))
        parts.insert(0, head)
        owned = list(descriptors)
        if self._waiting:
            self._queue(parts, owned, duplicate=True)
            return length
        while parts:
            some = owned[:DESCRIPTORS_A_MESSAGE]
            # More descriptors than one message carries: a byte of the header carries the first.
            vectors = [head[:1]] if len(owned) > len(some) else parts[:BUFFERS_A_MESSAGE]
            try:
                sent = self._connection.sendmsg(vectors, _ancillary(some))
            except BlockingIOError:
                self._queue(parts, owned, duplicate=True)
                return length
            del owned[: len(some)]
            if vectors[0] is not parts[0]:
                head = head[1:]
                parts[0] = head
                continue
            _drop(parts, sent)
        return length

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self._waiting:
            part, descriptors = self._waiting[0]
            some = descriptors[:DESCRIPTORS_A_MESSAGE]
            vector = part[:1] if len(descriptors) > len(some) else part
            try:
                sent = self._connection.sendmsg([vector], _ancillary(some))
            except BlockingIOError:
                return
            for descriptor in some:
                os.close(descriptor)
            del descriptors[: len(some)]
            if sent < len(part):
                self._waiting[0] = (part[sent:], descriptors)
            else:
                self._waiting.popleft()

    def _queue(self, parts: list[memoryview], descriptors: list[int], *, duplicate: bool) -> None:
        kept = [os.dup(descriptor) for descriptor in descriptors] if duplicate else descriptors
        for part in parts:
            if len(part):
                self._waiting.append((part, kept))
                kept = []

    def close(self) -> None:
        """Forget what waits."""
        while self._waiting:
            for descriptor in self._waiting.popleft()[1]:
                os.close(descriptor)


def _ancillary(descriptors: list[int]) -> list[tuple[int, int, array.array[int]]]:
    if not descriptors:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]


def _drop(parts: list[memoryview], sent: int) -> None:
    """Remove the first `sent` bytes from `parts`."""
    done = 0
    for part in parts:
        if sent < len(part):
            break
        sent -= len(part)
        done += 1
    del parts[:done]
    if parts and sent:
        parts[0] = parts[0][sent:]
