"""A folder for each cluster of one's own, and the end of those whose program was killed.

A folder is locked for as long as its program lives, and the system unlocks it whatever ends that.
Whoever starts a cluster removes folders beside his own that nobody has locked.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from jobspan.store.locking import FileLock

__all__ = ["Scratch"]

_PREFIX = "jobspan-dask-"
_LOCK = "jobspan.lock"

_NEW_SECONDS = 60.0
"""A younger folder may be about to be locked."""


class Scratch:
    """A temporary folder of this program, which is gone with it, or when the next one starts.

    Attributes
    ----------
    path : str
        The folder.

    Examples
    --------
    >>> scratch = Scratch()
    >>> os.path.isdir(scratch.path)
    True
    >>> scratch.remove()
    >>> os.path.isdir(scratch.path)
    False
    """

    def __init__(self) -> None:
        _remove_left()
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        self._locked = ExitStack()
        with suppress(OSError):  # a file system without locks: then nobody else removes it
            self._locked.enter_context(FileLock(f"{self.path}{os.sep}{_LOCK}", patience=0.0))

    def remove(self) -> None:
        """Remove it; what cannot be removed stays."""
        self._locked.close()
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_left() -> None:
    """Remove the folders of programs that were killed."""
    folder = tempfile.gettempdir()
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False):
                _remove_if_left(entry.path)


def _remove_if_left(path: str) -> None:
    lock = Path(path, _LOCK)
    with suppress(OSError):  # locked, or gone
        if time.time() - lock.stat().st_mtime < _NEW_SECONDS:
            return
        with FileLock(str(lock), patience=0.0):
            pass
        shutil.rmtree(path, ignore_errors=True)
