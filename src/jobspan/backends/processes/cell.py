"""The cell: a few words that a worker and its executor share, read and written without a call."""

from __future__ import annotations

import mmap
import os
import threading
from enum import IntEnum

from jobspan.descriptors import Descriptor

__all__ = ["Cell", "Stage", "new_cell"]

CELL_BYTES = mmap.PAGESIZE


class Stage(IntEnum):
    """What a worker does with a batch."""

    IDLE = 0
    DECODING = 1
    RUNNING = 2
    ENCODING = 3


_DECODING = int(Stage.DECODING)


class Cell:
    """Shared words, 64 bits each: the worker writes the first four, the executor the other two.

    Parameters
    ----------
    descriptor : int
        An open file of `CELL_BYTES` bytes; the caller closes it.

    Notes
    -----
    Threads and processes: worker and executor agree on who owns a batch without a lock. The worker
    claims it and then looks whether it was revoked; the executor revokes it and then looks whether
    it was claimed. With a memory barrier between the two steps on either side, at least one of them
    sees the other (Dekker's algorithm); a worker that sees the revocation gives way and says so,
    and an executor that sees the claim waits for that word.
    """

    __slots__ = ("_barrier", "_map", "words")

    SERIAL, STAGE, OFFSET, STARTED, REVOKED, CANCELLED = range(6)

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, CELL_BYTES)
        self.words = memoryview(self._map).cast("Q")
        self._barrier = threading.Lock()

    def claim(self, serial: int) -> bool:
        """Claim a batch, in the worker; whether it is still wanted."""
        words = self.words
        words[self.OFFSET] = 0
        words[self.STARTED] = 0
        words[self.STAGE] = _DECODING
        words[self.SERIAL] = serial
        with self._barrier:  # taking a lock is a memory barrier
            pass
        return words[self.REVOKED] != serial and words[self.CANCELLED] < serial

    def revoke(self, serial: int) -> bool:
        """Take a batch back, in the executor; whether the worker is sure to skip it."""
        self.words[self.REVOKED] = serial
        with self._barrier:
            pass
        return self.words[self.SERIAL] < serial

    def cancel(self, serial: int) -> None:
        """Have the worker skip every batch up to `serial`, and stop between two calls."""
        self.words[self.CANCELLED] = serial

    def close(self) -> None:
        """Unmap the cell."""
        self.words.release()
        self._map.close()


def new_cell() -> Descriptor:
    """Return a new file for a cell; nothing names it."""
    try:
        cell = Descriptor(map(os.memfd_create, ("jobspan-cell",), (os.MFD_CLOEXEC,)))
    except (AttributeError, OSError):  # not on this system, or not in this sandbox
        import tempfile

        with tempfile.TemporaryFile(buffering=0) as file:
            cell = Descriptor(map(os.dup, (file.fileno(),)))
    os.ftruncate(cell.number, CELL_BYTES)
    return cell
