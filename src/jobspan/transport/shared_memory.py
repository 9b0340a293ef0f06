"""Anonymous shared memory: segments that travel by descriptor, so that nothing can be left behind.

A sender copies a buffer once into a segment and names it by a reference; the descriptor goes along
with the first message to each receiver, which maps it. Space is reserved before a segment is
written, so that a full disk or memory is an error there and then, never a SIGBUS later.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from jobspan.descriptors import Descriptor
from jobspan.errors import TransportError
from jobspan.room import available_memory

__all__ = ["SegmentReceiver", "SegmentReference", "SegmentSender"]

KEPT_BYTES = 1 << 30
"""How many bytes of arguments that no batch uses now stay shared, for they may be passed again."""

SPARE_BYTES = 1 << 29
"""How many bytes of freed segments a sender keeps: writing to used pages is six times faster."""

LARGEST_WASTE = 2.0
"""A spare segment serves a buffer that fills at least half of it."""

MOST_SEGMENTS = 256
"""A sender holds no more segments; further buffers travel with the payload."""

ASK_BYTES = 1 << 26
"""Larger segments are only made where so much memory is available."""

_numbers = count(1)


class SegmentReference(NamedTuple):
    """Names a buffer in a segment.

    Parameters
    ----------
    number : int
        The segment, unique among those of the sending process.
    size : int
        Bytes of the buffer, from the segment's start.
    """

    number: int
    size: int


@dataclass(slots=True)
class _Segment:
    """Shared memory that this process wrote."""

    number: int
    descriptor: Descriptor
    capacity: int
    memory: mmap.mmap
    source: memoryview | None = None
    users: int = 0

    def close(self) -> None:
        self.source = None
        self.memory.close()
        self.descriptor.close()


def create_segment(
    capacity: int, temp_folder: str | None = None, data: memoryview | None = None
) -> tuple[Descriptor, mmap.mmap]:
    """Return the descriptor and the mapping of new shared memory, its space reserved.

    Parameters
    ----------
    capacity : int
        Bytes.
    temp_folder : str or None
        Where a file without a name serves instead when memory is short.
    data : memoryview or None
        What it starts with; reaches into its last page.

    Raises
    ------
    TransportError
        If neither memory nor the folder has room.
    """
    reasons = []
    for in_memory in (True, False):
        try:
            descriptor = _memory_file(capacity) if in_memory else _unlinked_file(temp_folder)
        except OSError as error:
            reasons.append(error)
            continue
        try:
            if data is None:
                _reserve(descriptor.number, capacity)
            else:
                _write(descriptor.number, capacity, data)
            return descriptor, mmap.mmap(descriptor.number, capacity)
        except OSError as error:
            descriptor.close()
            reasons.append(error)
    raise TransportError(
        f"no room to share {capacity / 1e6:.3g} MB with workers: "
        f"{'; '.join(str(reason) for reason in reasons)}. Pass temp_folder= with a folder that has "
        "room, or max_nbytes=None to send data with every call instead."
    )


def _memory_file(capacity: int) -> Descriptor:
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, "no memory files on this system")
    # The kernel would rather kill somebody than refuse: ask before reserving a lot.
    if capacity > ASK_BYTES and capacity > available_memory():
        raise OSError(errno.ENOMEM, "not so much memory is available")
    return Descriptor(map(os.memfd_create, ("jobspan",), (os.MFD_CLOEXEC,)))


def _unlinked_file(folder: str | None) -> Descriptor:
    import tempfile  # rarely needed, and a worker's start should be short

    with tempfile.TemporaryFile(prefix="jobspan-", dir=folder, buffering=0) as file:
        return Descriptor(map(os.dup, (file.fileno(),)))


def _reserve(descriptor: int, capacity: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, capacity)
    else:
        os.ftruncate(descriptor, capacity)


def _write(descriptor: int, capacity: int, data: memoryview) -> None:
    """Write `data`, which reserves the space too: twice as fast as pages that are zeroed first."""
    os.ftruncate(descriptor, capacity)
    written = 0
    while written < data.nbytes:
        written += os.pwrite(descriptor, data[written:], written)


def _address(buffer: memoryview) -> int:
    """Return where a buffer lies, or what else names it while it is held."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return id(buffer.obj)
    return int(numpy.frombuffer(buffer, dtype="u1").__array_interface__["data"][0])


def _most_segments() -> int:
    """Return how many segments may be open: each is two descriptors, and others want some too."""
    try:
        import resource
    except ImportError:
        return MOST_SEGMENTS
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_SEGMENTS if allowed < 0 else max(1, min(MOST_SEGMENTS, allowed // 8))


class SegmentSender:
    """Puts buffers into segments, each buffer once.

    Parameters
    ----------
    temp_folder : str or None
        Where data goes when memory is short.
    shares_again : bool
        Whether a buffer that is passed again while it is held is shared again, as for arguments;
        False for results, each of which is new.

    Notes
    -----
    Threads and processes: one thread at a time. A buffer is known by its address while the sender
    holds it; `begin` forgets all, so that what changed since is copied anew.
    """

    def __init__(self, temp_folder: str | None = None, *, shares_again: bool = True) -> None:
        self._temp_folder = temp_folder
        self._shares_again = shares_again
        self._segments: dict[int, _Segment] = {}
        self._known: OrderedDict[tuple[int, int], _Segment] = OrderedDict()
        self._known_bytes = 0
        self._spare: deque[_Segment] = deque()
        self._spare_bytes = 0
        self._most = _most_segments()
        self.dropped: list[int] = []
        self.bytes_shared = 0

    def share(self, buffer: memoryview) -> SegmentReference | None:
        """Copy a buffer into a segment, if it is not there yet; None where it cannot be shared."""
        key = (_address(buffer), buffer.nbytes) if self._shares_again else (0, 0)
        segment = self._known.get(key)
        if segment is None:
            segment = self._segment_for(buffer.nbytes, buffer)
            if segment is None:
                return None
            self.bytes_shared += buffer.nbytes
            if self._shares_again:
                segment.source = buffer
                self._known[key] = segment
                self._known_bytes += segment.capacity
        elif self._shares_again:
            self._known.move_to_end(key)
        segment.users += 1
        return SegmentReference(segment.number, buffer.nbytes)

    def descriptor(self, reference: SegmentReference) -> int:
        """Return the descriptor to send to a receiver that has not got the segment."""
        return self._segments[reference.number].descriptor.number

    def release(self, references: Iterable[SegmentReference]) -> None:
        """Note that a message's references are in use no more."""
        for reference in references:
            segment = self._segments.get(reference.number)
            if segment is None:
                continue
            segment.users -= 1
            if not segment.users and segment.source is None:
                self._retire(segment)
        self._shrink(KEPT_BYTES)

    def begin(self) -> None:
        """Forget which buffers are shared: what is passed from here on is copied anew."""
        self._shrink(0)
        for segment in self._known.values():
            segment.source = None
        self._known.clear()
        self._known_bytes = 0

    def _shrink(self, limit: int) -> None:
        if self._known_bytes <= limit:
            return
        for key, segment in list(self._known.items()):
            if segment.users:
                continue
            del self._known[key]
            self._known_bytes -= segment.capacity
            segment.source = None
            self._retire(segment)
            if self._known_bytes <= limit:
                return

    def _segment_for(self, size: int, data: memoryview | None = None) -> _Segment | None:
        for segment in self._spare:
            if size <= segment.capacity <= LARGEST_WASTE * size:
                self._spare.remove(segment)
                self._spare_bytes -= segment.capacity
                if data is not None:
                    segment.memory[:size] = data
                return segment
        if len(self._segments) >= self._most:
            return None
        capacity = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        descriptor, memory = create_segment(capacity, self._temp_folder, data)
        segment = _Segment(next(_numbers), descriptor, capacity, memory)
        self._segments[segment.number] = segment
        return segment

    def _retire(self, segment: _Segment) -> None:
        """Keep a result's segment for the next one; let an argument's go, workers may still look.

        A worker may have kept a view of an argument, which must not change under its eyes.
        """
        if not self._shares_again and self._spare_bytes + segment.capacity <= SPARE_BYTES:
            self._spare.append(segment)
            self._spare_bytes += segment.capacity
            return
        del self._segments[segment.number]
        self.dropped.append(segment.number)
        segment.close()

    def close(self) -> None:
        """Let go of every segment; receivers keep what they have mapped."""
        for segment in self._segments.values():
            segment.close()
        self.dropped.extend(self._segments)
        self._segments.clear()
        self._known.clear()
        self._spare.clear()
        self._known_bytes = self._spare_bytes = 0


class SegmentReceiver:
    """Maps the segments that a sender names.

    Parameters
    ----------
    mode : {"r", "c", "w"}
        Read-only; private copies on write, a new one at every `fetch`; or shared and writable.
    freed : callable or None
        Called with a segment's number when its last view has gone; the segment is mapped anew for
        every `fetch` then, and may be written again by its sender.
    """

    def __init__(self, mode: str = "r", freed: Callable[[int], object] | None = None) -> None:
        self._access = {"r": mmap.ACCESS_READ, "c": mmap.ACCESS_COPY, "w": mmap.ACCESS_WRITE}[mode]
        self._fresh = mode == "c" or freed is not None
        self._freed = freed
        self._descriptors: dict[int, Descriptor] = {}
        self._maps: dict[int, mmap.mmap] = {}

    def add(self, number: int, descriptor: Descriptor) -> None:
        """Take the descriptor of a segment."""
        self._descriptors.setdefault(number, descriptor)

    def __contains__(self, number: object) -> bool:
        return number in self._descriptors

    def fetch(self, reference: SegmentReference) -> memoryview:
        """Return the buffer that a reference names."""
        number, size = reference
        memory = self._maps.get(number)
        if memory is None:
            try:
                descriptor = self._descriptors[number].number
            except KeyError:
                raise TransportError(f"segment {number} never arrived") from None
            if os.fstat(descriptor).st_size < size:
                raise TransportError(f"segment {number} is shorter than its {size} bytes")
            memory = mmap.mmap(descriptor, size, access=self._access)
            if self._freed is not None:
                weakref.finalize(memory, self._freed, number)
            if not self._fresh:
                self._maps[number] = memory
        return memoryview(memory)[:size]

    def drop(self, numbers: Iterable[int]) -> None:
        """Forget segments; views of them stay valid for as long as somebody holds them."""
        for number in numbers:
            self._maps.pop(number, None)
            self._descriptors.pop(number, None)

    def close(self) -> None:
        """Forget all segments."""
        self.drop(list(self._descriptors))
