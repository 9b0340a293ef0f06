"""One lock among processes and threads, that the system lets go of when its holder dies."""

from __future__ import annotations

import os
import struct
import sys
import time
from types import TracebackType

from blake3 import blake3

from jobspan.descriptors import Descriptor
from jobspan.errors import StoreUnavailableError

__all__ = ["LOCKS_NAMES", "FileLock", "NameLock"]

LOCKS_NAMES = sys.platform == "linux"
"""Whether the system has locks of parts of a file that threads hold apart and death undoes."""

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        # Not left to close(): a child forked meanwhile holds a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


_FLOCK = struct.Struct("@hhqqi4x")
"""``struct flock`` of Linux: kind, from where, start, length, process (which must be 0)."""


def _lock_file(path: str, flags: int) -> Descriptor:
    """Return an open lock file, which is made where it is missing."""
    opening = (path,), (flags,), (0o666,)
    try:
        return Descriptor(map(os.open, *opening))
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return Descriptor(map(os.open, *opening))


class FileLock:
    """Exclusive use of a file's name, for a moment.

    Parameters
    ----------
    path : str
        The lock file. It is made where it is missing and never removed, for whoever removes a
        lock file may take it from under its holder.
    patience : float
        Seconds to wait for another holder, who needs far less unless it is stopped.

    Raises
    ------
    StoreUnavailableError
        On entering, if the lock was not free within `patience` seconds.
    OSError
        On entering, if the file system has no locks.
    """

    def __init__(self, path: str, patience: float = 60.0) -> None:
        self._path = path
        self._patience = patience

    def __enter__(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOINHERIT", 0)
        self._file = _lock_file(self._path, flags)
        try:
            if not _try_lock(self._file.number):
                self._wait(self._file.number)
        except BaseException:
            self._file.close()
            raise

    def _wait(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._patience
        pause = 0.0002
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise StoreUnavailableError(
                    f"another process has held the lock {self._path!r} for "
                    f"{self._patience:g} s; is it stopped? End it, and call again"
                )
            time.sleep(pause)
            pause = min(pause * 2, 0.02)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            _unlock(self._file.number)
        finally:
            self._file.close()


class NameLock:
    """One name of a store, claimed by one thread of one process.

    A byte of one lock file stands for the name, and is locked by an open file description of its
    own (``F_OFD_SETLK``, Linux): threads exclude each other as processes do, and the system undoes
    it when its holder dies. Two names may share a byte, once in 2^62: then one waits for the other.
    """

    def __init__(self, path: str) -> None:
        self._file = _lock_file(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)

    @classmethod
    def acquire(cls, path: str, name: str) -> NameLock | None:
        """Return the lock, or None where another one has the name."""
        lock = cls(path)
        position = int.from_bytes(blake3(name.encode()).digest(8), "little") >> 2
        try:
            lock._set(fcntl.F_WRLCK, position, 1)
        except (BlockingIOError, PermissionError):
            lock._file.close()
            return None
        return lock

    def _set(self, kind: int, position: int, length: int) -> None:
        flock = _FLOCK.pack(kind, 0, position, length, 0)
        fcntl.fcntl(self._file.number, fcntl.F_OFD_SETLK, flock)

    def release(self) -> None:
        """Let others have the name."""
        try:
            # Not left to close(): a child forked meanwhile holds a copy of the descriptor.
            self._set(fcntl.F_UNLCK, 0, 0)
        finally:
            self._file.close()
