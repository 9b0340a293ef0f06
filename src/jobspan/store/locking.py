"""One lock among processes and threads, that the system lets go of when its holder dies."""

from __future__ import annotations

import os
import struct
import sys
import time
from types import TracebackType

from blake3 import blake3

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

    __slots__ = ("_descriptor", "_path", "_patience")

    def __init__(self, path: str, patience: float = 60.0) -> None:
        self._path = path
        self._patience = patience
        self._descriptor = -1

    def __enter__(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOINHERIT", 0)
        try:
            descriptor = os.open(self._path, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            descriptor = os.open(self._path, flags, 0o666)
        try:
            if not _try_lock(descriptor):
                self._wait(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

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
            _unlock(self._descriptor)
        finally:
            os.close(self._descriptor)


class NameLock:
    """One name of a store, claimed by one thread of one process.

    A byte of one lock file stands for the name, and is locked by an open file description of its
    own (``F_OFD_SETLK``, Linux): threads exclude each other as processes do, and the system undoes
    it when its holder dies. Two names may share a byte, once in 2^62: then one waits for the other.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: str, name: str) -> NameLock | None:
        """Return the lock, or None where another one has the name."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            descriptor = os.open(path, flags, 0o666)
        position = int.from_bytes(blake3(name.encode()).digest(8), "little") >> 2
        try:
            fcntl.fcntl(
                descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, position, 1, 0)
            )
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Let others have the name."""
        # Not left to close(): a child forked meanwhile holds a copy of the descriptor.
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, 0, 0, 0, 0))
        os.close(self._descriptor)
