"""A worker's stderr: passed on as it comes, its last lines kept for errors to show."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["StderrTail"]

TAIL_BYTES = 4096
TAIL_LINES = 15
READS_AT_ONCE = 16


class StderrTail:
    """Passes a worker's stderr on to this process's.

    Parameters
    ----------
    descriptor : int
        The non-blocking end of the pipe to read.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._tail = b""

    def pump(self) -> bool:
        """Pass on what there is, as far as it does not hold others up; False at the end."""
        for _ in range(READS_AT_ONCE):
            try:
                data = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            with suppress(OSError):  # a closed stderr of our own is no reason to stop
                _write_all(2, data)
        return True

    def text(self) -> str:
        """Return the last lines that came."""
        lines = self._tail.decode(errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
