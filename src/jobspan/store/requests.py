"""What a bucket is asked: five small questions, each with one request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from jobspan.store.locations import Location
from jobspan.store.protocol import Content, Data, ObjectInfo, Token

__all__ = [
    "CHUNK",
    "WRITE_ID",
    "Condition",
    "Facts",
    "Fetched",
    "ObjectChangedError",
    "Range",
    "Requests",
    "RequestsFactory",
    "WriteRefusedError",
]

CHUNK = 8 * 2**20
"""Bytes of one range of a large object; what is smaller arrives with the first request."""

WRITE_ID = "jobspanwrite"
"""Name of the metadata that tells whose write made an object, such as every bucket allows."""


class ObjectChangedError(Exception):
    """An object is no longer in the state that was asked for."""


class WriteRefusedError(Exception):
    """The bucket refused a write because its condition does not hold.

    Parameters
    ----------
    retried : bool
        Whether an attempt before may have been acted upon, its answer being lost.
    """

    def __init__(self, *, retried: bool) -> None:
        super().__init__("the condition of a write does not hold")
        self.retried = retried


@dataclass(frozen=True, slots=True)
class Range:
    """A part of an object to read.

    Parameters
    ----------
    key : str
        The object.
    start, end : int
        Its first byte, and the one after its last.
    token : str or None
        Read this state only.
    into : memoryview or None
        Where the bytes may be put, of the length of the range; they may also be returned.
    """

    key: str
    start: int
    end: int
    token: Token | None = None
    into: memoryview | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes of a range, the state they are of, and the whole object's size."""

    data: Content
    token: Token
    size: int


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold for a write: `token` None for "there is no object yet"."""

    token: Token | None
    write_id: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a bucket tells of an object without its bytes."""

    token: Token
    age: float
    write_id: str | None


class Requests(Protocol):
    """The requests that a bucket store is made of; each method is one of them.

    All raise StoreError for what cannot be helped, StoreUnavailableError where nobody answers and
    StoreLocationError where the bucket or the credentials are wrong.
    """

    def fetch(self, part: Range) -> Fetched:
        """Read a range; KeyError where there is no object, ObjectChangedError for another state."""
        ...

    def fetch_many(self, parts: Iterable[Range]) -> Iterator[tuple[Range, Fetched | None]]:
        """Read many ranges at once, None for an object that is not there."""
        ...

    def send(self, key: str, data: Data, condition: Condition | None) -> Token:
        """Write an object; WriteRefusedError where the condition does not hold."""
        ...

    def remove(self, key: str, token: Token | None) -> bool:
        """Delete an object, with `token` only in that state."""
        ...

    def facts(self, key: str) -> Facts | None:
        """Tell of an object, None where there is none."""
        ...

    def pages(self, prefix: str) -> Iterator[Iterable[ObjectInfo]]:
        """List the objects whose keys start with `prefix`, by their keys."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


RequestsFactory: TypeAlias = Callable[[Location, Mapping[str, Any]], Requests]
"""What connects to a bucket with storage options."""
