"""Seam 3: the object store, named bytes with conditional writes.

Everything that a cache needs of a disk or a bucket, and nothing more. A name is a relative
path of ``/``-separated segments. A write is atomic: a reader sees the object as it was or as it
is, never a part. What stands under a name is known by its :data:`Token`, which changes with
every write.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["ObjectInfo", "ObjectStore", "Token"]

Token = str
"""What a store calls one state of one object: an ETag, a generation, a digest of its facts."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing tells of one object.

    Parameters
    ----------
    name : str
        The object's name, relative to the store's root.
    size : int
        Size in bytes.
    modified : float
        When it was last written, in seconds since the epoch, by the store's clock.
    token : str or None
        The state's token where the listing tells it.
    """

    name: str
    size: int
    modified: float
    token: Token | None = None


@runtime_checkable
class ObjectStore(Protocol):
    """Named bytes with conditional writes, safe for use by any number of hosts at once.

    Notes
    -----
    Threads and processes: every method may be called from any thread; a store can be pickled
    and opens its connection anew in the process that unpickles it.
    """

    @property
    def url(self) -> str:
        """Where the store is, without secrets."""
        ...

    @property
    def conditional(self) -> bool:
        """Whether `create` and `swap` can be trusted here; probed once a process."""
        ...

    def get(self, name: str, start: int = 0, end: int | None = None) -> tuple[bytes, Token]:
        """Return the bytes from `start` to `end` of an object, and its token.

        Raises
        ------
        KeyError
            If there is no such object.
        """
        ...

    def put(self, name: str, data: bytes | memoryview) -> Token:
        """Write an object whatever stood there."""
        ...

    def create(self, name: str, data: bytes | memoryview) -> Token | None:
        """Write an object only where none is; None where somebody else was first."""
        ...

    def swap(self, name: str, data: bytes | memoryview, token: Token) -> Token | None:
        """Write an object only over the state that `token` names; None where it has changed."""
        ...

    def delete(self, name: str, token: Token | None = None) -> bool:
        """Delete an object, with `token` only in that state; whether it was there and is gone."""
        ...

    def list(self, prefix: str = "") -> Iterable[ObjectInfo]:
        """Yield every object whose name starts with `prefix`, in no order."""
        ...

    def close(self) -> None:
        """Let go of connections; a closed store opens them again when used."""
        ...
