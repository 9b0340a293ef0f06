"""The questions to a bucket, asked through one of fsspec's asynchronous file systems."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from jobspan.errors import StoreLocationError
from jobspan.store.event_loop import fetch_many, pages, run
from jobspan.store.locations import Location, scrub
from jobspan.store.protocol import Data, ObjectInfo, Token
from jobspan.store.requests import Condition, Facts, Fetched, Range

__all__ = ["AsynchronousRequests"]


class AsynchronousRequests(ABC):
    """Makes the requests of a store as coroutines in the event loop of a file system.

    A subclass names the file system and says how each request is made.

    Parameters
    ----------
    location : Location
        The bucket.
    options : mapping
        What the file system takes.

    Attributes
    ----------
    protocol : str
        What fsspec knows the file system by.
    library : str
        The package that it comes from, for messages.

    Raises
    ------
    StoreLocationError
        If the file system refuses the options.
    """

    protocol: ClassVar[str]
    library: ClassVar[str]

    def __init__(self, location: Location, options: Mapping[str, Any]) -> None:
        import fsspec

        self._url = location.url
        self._options = options
        try:
            self._fs = fsspec.filesystem(self.protocol, **self._fs_options(location, options))
        except Exception as error:  # noqa: BLE001 - any package of the user's choice may raise
            problem = f"{self._url}: {self.library} refuses the storage options: {error}"
            raise StoreLocationError(scrub(problem, options)) from None

    def _fs_options(self, location: Location, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what the file system is made with."""
        return options

    def fetch(self, part: Range) -> Fetched:
        """Read a range with one GET."""
        return run(self._fs.loop, self._fetch, part)

    def fetch_many(self, parts: Iterable[Range]) -> Iterator[tuple[Range, Fetched | None]]:
        """Read many ranges at once."""
        return fetch_many(self._fs.loop, self._fetch, parts)

    def send(self, key: str, data: Data, condition: Condition | None) -> Token:
        """Write an object, which appears at once."""
        return run(self._fs.loop, self._send, key, data, condition)

    def remove(self, key: str, token: Token | None) -> bool:
        """Delete an object with one DELETE."""
        return run(self._fs.loop, self._remove, key, token)

    def facts(self, key: str) -> Facts | None:
        """Tell of an object with one request for its metadata."""
        return run(self._fs.loop, self._facts, key)

    def pages(self, prefix: str) -> Iterator[Iterable[ObjectInfo]]:
        """List a thousand objects or more with each request."""
        return pages(self._fs.loop, lambda: self._pages(prefix))

    def close(self) -> None:  # noqa: B027 - nothing to do, and a subclass may leave it so
        """Leave the connections to fsspec, which shares them among equal file systems."""

    @abstractmethod
    async def _fetch(self, part: Range) -> Fetched: ...

    @abstractmethod
    async def _send(self, key: str, data: Data, condition: Condition | None) -> Token: ...

    @abstractmethod
    async def _remove(self, key: str, token: Token | None) -> bool: ...

    @abstractmethod
    async def _facts(self, key: str) -> Facts | None: ...

    @abstractmethod
    def _pages(self, prefix: str) -> AsyncIterator[Iterable[ObjectInfo]]: ...
