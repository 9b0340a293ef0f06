"""fsspec's in-memory file system as an object store, made atomic by a lock."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

from jobspan.store.names import check_name, check_prefix
from jobspan.store.protocol import Data, ObjectInfo, Token

__all__ = ["MemoryStore"]

# The file system is one a process, so its lock is too.
_LOCK = threading.RLock()
_WRITES = itertools.count(1)


class MemoryStore:
    """Objects in this process's memory, where fsspec's ``memory://`` URLs find them too.

    Parameters
    ----------
    root : str
        The folder in the in-memory file system.

    Notes
    -----
    Threads and processes: safe among threads. Each process has a memory of its own: a store that is
    pickled to another process is another store there.

    Examples
    --------
    >>> store = MemoryStore("docs-example")
    >>> token = store.put("a/b", b"1")
    >>> store.swap("a/b", b"2", token) is not None
    True
    >>> store.swap("a/b", b"3", token) is None
    True
    >>> store.delete("a/b")
    True
    """

    def __init__(self, root: str = "") -> None:
        from fsspec.implementations.memory import MemoryFileSystem

        self._root = root.strip("/")
        self._prefix = f"/{self._root}/" if self._root else "/"
        self._fs = MemoryFileSystem()
        self._files: dict[str, Any] = MemoryFileSystem.store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._root!r})"

    def __reduce__(self) -> tuple[type[MemoryStore], tuple[str]]:
        return type(self), (self._root,)

    @property
    def url(self) -> str:
        """The folder as a ``memory://`` URL."""
        return f"memory://{self._root}"

    @property
    def conditional(self) -> bool:
        """True: a lock makes every method one step."""
        return True

    def get(self, name: str, start: int = 0, end: int | None = None) -> tuple[bytes, Token]:
        """Return the bytes from `start` to `end` of an object, and its token."""
        with _LOCK:
            file = self._file(name)
            if file is None:
                raise KeyError(name)
            return bytes(file.getbuffer()[start:end]), _token(file)

    def put(self, name: str, data: Data) -> Token:
        """Write an object whatever stood there."""
        check_name(name)
        with _LOCK:
            self._fs.pipe_file(self._prefix + name, bytes(data))
            return _token(self._files[self._prefix + name])

    def create(self, name: str, data: Data) -> Token | None:
        """Write an object only where none is; None where somebody else was first."""
        with _LOCK:
            return self.put(name, data) if self._file(name) is None else None

    def swap(self, name: str, data: Data, token: Token) -> Token | None:
        """Write an object only over the state that `token` names; None where it has changed."""
        with _LOCK:
            file = self._file(name)
            return self.put(name, data) if file is not None and _token(file) == token else None

    def delete(self, name: str, token: Token | None = None) -> bool:
        """Delete an object, with `token` only in that state; whether it was there and is gone."""
        with _LOCK:
            file = self._file(name)
            if file is None or (token is not None and _token(file) != token):
                return False
            del self._files[self._prefix + name]
            return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with `prefix`, in no order."""
        check_prefix(prefix)
        start = self._prefix + prefix
        with _LOCK:
            found = [
                ObjectInfo(
                    path[len(self._prefix) :], file.size, file.modified.timestamp(), _token(file)
                )
                for path, file in self._files.items()
                if path.startswith(start)
            ]
        return iter(found)

    def age(self, name: str) -> float | None:
        """Return the seconds since an object was last written, None where there is none."""
        with _LOCK:
            file = self._file(name)
            return None if file is None else max(time.time() - file.modified.timestamp(), 0.0)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _file(self, name: str) -> Any:
        check_name(name)
        return self._files.get(self._prefix + name)


def _token(file: Any) -> Token:
    # The time of writing is too coarse to tell two states apart, so each file is numbered.
    number = file.__dict__.get("jobspan_token")
    if number is None:
        number = file.jobspan_token = str(next(_WRITES))
    return str(number)
