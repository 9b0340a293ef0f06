"""Stores that are slow or fail, around any store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from jobspan.store.protocol import Content, Data, ObjectInfo, ObjectStore, Token

__all__ = ["FailingStore", "SlowStore", "WrappedStore"]


class WrappedStore:
    """A store that passes everything on to another.

    Parameters
    ----------
    store : ObjectStore
        The store to pass on to.

    Notes
    -----
    Subclasses override `before`, which is called ahead of each operation. Only the methods of
    :class:`~jobspan.store.ObjectStore` are passed on: the optional abilities are not.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def before(self, operation: str, name: str) -> None:
        """Do what the subclass wants before `operation` ("get", "put", ...) on `name`."""

    @property
    def url(self) -> str:
        """Where the inner store is."""
        return self.store.url

    @property
    def conditional(self) -> bool:
        """What the inner store says."""
        return self.store.conditional

    def get(self, name: str, start: int = 0, end: int | None = None) -> tuple[Content, Token]:
        """Return the bytes from `start` to `end` of an object, and its token."""
        self.before("get", name)
        return self.store.get(name, start, end)

    def put(self, name: str, data: Data) -> Token:
        """Write an object whatever stood there."""
        self.before("put", name)
        return self.store.put(name, data)

    def create(self, name: str, data: Data) -> Token | None:
        """Write an object only where none is; None where somebody else was first."""
        self.before("create", name)
        return self.store.create(name, data)

    def swap(self, name: str, data: Data, token: Token) -> Token | None:
        """Write an object only over the state that `token` names; None where it has changed."""
        self.before("swap", name)
        return self.store.swap(name, data, token)

    def delete(self, name: str, token: Token | None = None) -> bool:
        """Delete an object, with `token` only in that state; whether it was there and is gone."""
        self.before("delete", name)
        return self.store.delete(name, token)

    def list(self, prefix: str = "") -> Iterable[ObjectInfo]:
        """Yield every object whose name starts with `prefix`, in no order."""
        self.before("list", prefix)
        return self.store.list(prefix)

    def close(self) -> None:
        """Close the inner store."""
        self.store.close()


class SlowStore(WrappedStore):
    """A store as if it were far away.

    Parameters
    ----------
    store : ObjectStore
        The store to pass on to.
    latency : float
        Seconds before each operation; can be set anew at any time.

    Examples
    --------
    >>> from jobspan.store.memory import MemoryStore
    >>> store = SlowStore(MemoryStore("slow-example"), latency=0.001)
    >>> token = store.put("a", b"1")
    >>> store.get("a")[0]
    b'1'
    """

    def __init__(self, store: ObjectStore, latency: float) -> None:
        super().__init__(store)
        self.latency = latency

    def before(self, operation: str, name: str) -> None:
        """Wait."""
        time.sleep(self.latency)


class FailingStore(WrappedStore):
    """A store whose operations fail when they are told to.

    Parameters
    ----------
    store : ObjectStore
        The store to pass on to.
    failure : callable
        Takes the operation ("get", "put", ...) and the name; returns the error to raise, or None.

    Examples
    --------
    >>> from jobspan.store.memory import MemoryStore
    >>> full = lambda operation, name: OSError(28, "disk full") if operation == "put" else None
    >>> FailingStore(MemoryStore("failing-example"), full).put("a", b"1")
    Traceback (most recent call last):
    ...
    OSError: [Errno 28] disk full
    """

    def __init__(
        self, store: ObjectStore, failure: Callable[[str, str], BaseException | None]
    ) -> None:
        super().__init__(store)
        self.failure = failure

    def before(self, operation: str, name: str) -> None:
        """Raise what `failure` returns."""
        error = self.failure(operation, name)
        if error is not None:
            raise error
