"""Seam 3: the object store, named bytes with conditional writes.

Everything that a cache needs of a disk or a bucket, and nothing more. A name is a relative
path of ``/``-separated segments (:mod:`jobspan.store.names`). A write is atomic: a reader sees the
object as it was or as it is, never a part. What stands under a name is known by its :data:`Token`,
which changes with every write of other bytes.

:class:`ObjectStore` is all that a store must have. What only some stores can do well is a
protocol of its own (:class:`LocalPaths`, :class:`BulkReads`, :class:`BulkDeletes`,
:class:`WatchedReads`, :class:`StoreClock`, :class:`Touches`, :class:`Sweeps`); a caller asks with
`isinstance` and does without where the answer is no.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

__all__ = [
    "BulkDeletes",
    "BulkReads",
    "Content",
    "Data",
    "LocalPaths",
    "Lock",
    "NameLocks",
    "ObjectInfo",
    "ObjectStore",
    "StoreClock",
    "Sweeps",
    "Token",
    "Touches",
    "Watch",
    "WatchedReads",
]

Token: TypeAlias = str
"""What a store calls one state of one object: an ETag, a generation, a digest of its facts.

Two states of different bytes never share a token. Two writes of the same bytes do on S3, whose
ETag is a digest of them: what claims something therefore writes bytes that nobody else writes.
"""

Data: TypeAlias = bytes | bytearray | memoryview
"""Bytes to write; a memoryview is contiguous and of format ``B``."""

Content: TypeAlias = bytes | memoryview
"""Bytes that were read. A large object (over 8 MiB) may come as a memoryview of format ``B``
instead of `bytes`, lest it be copied once more; what is smaller always comes as `bytes`. Where the
view can be written to, its memory is the caller's own."""


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
    touched : float or None
        When it was last touched (:class:`Touches`), where the store keeps that.
    """

    name: str
    size: int
    modified: float
    token: Token | None = None
    touched: float | None = None


@runtime_checkable
class ObjectStore(Protocol):
    """Named bytes with conditional writes, safe for use by any number of hosts at once.

    Notes
    -----
    Threads and processes: every method may be called from any thread; a store can be pickled
    and opens its connection anew in the process that unpickles it, and after a fork.

    A store that is not `conditional` still has `create`, `swap` and `delete` with a token. They
    look first and write then, and two writers at the same moment may both be told that they won.
    """

    @property
    def url(self) -> str:
        """Where the store is, without secrets."""
        ...

    @property
    def conditional(self) -> bool:
        """Whether `create` and `swap` can be trusted here; probed once a process."""
        ...

    def get(self, name: str, start: int = 0, end: int | None = None) -> tuple[Content, Token]:
        """Return the bytes from `start` to `end` of an object, and its token.

        A range is cut off where the object ends. All the bytes belong to one state.

        Raises
        ------
        KeyError
            If there is no such object.
        """
        ...

    def put(self, name: str, data: Data) -> Token:
        """Write an object whatever stood there."""
        ...

    def create(self, name: str, data: Data) -> Token | None:
        """Write an object only where none is; None where somebody else was first."""
        ...

    def swap(self, name: str, data: Data, token: Token) -> Token | None:
        """Write an object only over the state that `token` names; None where it has changed."""
        ...

    def delete(self, name: str, token: Token | None = None) -> bool:
        """Delete an object, with `token` only in that state; whether it was there and is gone.

        Without a token, a store that is not told whether there was anything (S3) says True.
        """
        ...

    def list(self, prefix: str = "") -> Iterable[ObjectInfo]:
        """Yield every object whose name starts with `prefix`, in no order."""
        ...

    def close(self) -> None:
        """Let go of connections; a closed store opens them again when used."""
        ...


@runtime_checkable
class LocalPaths(Protocol):
    """A store whose objects are files of this machine, which can be mapped into memory."""

    def local_path(self, name: str) -> str:
        """Return the path of the file that holds an object, whether there is one or not.

        The file is never written to: a new state is a new file under the same path. What was
        opened or mapped stays as it was.
        """
        ...


@runtime_checkable
class BulkReads(Protocol):
    """A store that reads many objects at once."""

    def get_many(self, names: Iterable[str]) -> Iterator[tuple[str, Content | None]]:
        """Yield the whole content of each object as it arrives, None for one that is not there.

        The pairs come in any order, each name once for each time that it was asked for. A failing
        request raises; what has not been taken by then is lost.
        """
        ...


Watch: TypeAlias = "Callable[[memoryview, int], None]"
"""Told of an object that arrives: its place in memory, and how many first bytes are there."""

W = TypeVar("W", bound=Watch)


@runtime_checkable
class WatchedReads(Protocol):
    """A store whose large objects can be worked on while they arrive."""

    def get_watched(self, name: str, begin: Callable[[], W]) -> tuple[Content, Token, W]:
        """Return the whole of an object, its token, and the watch that has seen it arrive.

        `begin` makes a watch for each attempt at reading; the last one is returned. It is told in
        the caller's thread, each time of more, in the end of all; of a small object of nothing.
        """
        ...


@runtime_checkable
class BulkDeletes(Protocol):
    """A store that deletes many objects at once."""

    def delete_many(self, states: Iterable[tuple[str, Token | None]]) -> int:
        """Delete objects as `delete` does, by name and token; how many were there and are gone."""
        ...


class Lock(Protocol):
    """A name that is claimed."""

    def release(self) -> None:
        """Let others have it."""
        ...


@runtime_checkable
class NameLocks(Protocol):
    """A store whose names can be claimed without writing: a claim ends with its holder's life."""

    @property
    def locks_names(self) -> bool:
        """Whether it can, where it is."""
        ...

    def try_lock(self, name: str) -> Lock | None:
        """Claim a name until released; None while another thread, on any host, has it."""
        ...


@runtime_checkable
class StoreClock(Protocol):
    """A store that tells how old an object is by its own clock, whatever this machine's says."""

    def age(self, name: str) -> float | None:
        """Return the seconds since an object was last written, None where there is none."""
        ...


@runtime_checkable
class Touches(Protocol):
    """A store that notes an object's last use without writing the object."""

    def touch(self, name: str) -> None:
        """Note that an object was used now; its token stays. An absent object is no error."""
        ...


@runtime_checkable
class Sweeps(Protocol):
    """A store in which a writer that was killed can leave something behind."""

    def sweep(self, older_than: float = 3600.0) -> int:
        """Remove what dead writers left `older_than` seconds ago; how many things were removed."""
        ...
