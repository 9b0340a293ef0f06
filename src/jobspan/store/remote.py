"""A bucket as an object store: keys, conditions that were probed, parallel reads.

A bucket is asked five small questions (:mod:`jobspan.store.requests`), each with one request. On
these this module builds the whole of :class:`~jobspan.store.protocol.ObjectStore`, for every cloud
and every library in the same way.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from jobspan.errors import StoreError
from jobspan.store.conditions import probe, send_if, warn_without_conditions
from jobspan.store.fresh_memory import fresh_memory
from jobspan.store.locations import Location
from jobspan.store.names import RESERVED_PREFIX, can_name, check_name, check_prefix
from jobspan.store.protocol import Content, Data, ObjectInfo, Token, Watch
from jobspan.store.requests import CHUNK, ObjectChangedError, Range, Requests, RequestsFactory

__all__ = ["RemoteStore"]

W = TypeVar("W", bound=Watch)

_DELETES = 32

_PROBED: dict[tuple[Any, ...], tuple[bool, bool]] = {}
"""What this process has found out: by bucket, options and library, whether conditions are kept."""


class RemoteStore:
    """Objects in a bucket.

    Parameters
    ----------
    location : Location
        The bucket and the folder in it.
    options : mapping
        Storage options; kept out of `repr` and of messages.
    connect : callable
        Makes the requests for a location and options. Called again in a process that was
        forked or that unpickled the store, so it must be importable.

    Notes
    -----
    Threads and processes: safe among all of them. A pickled store carries the storage options, the
    credentials included, and what was found out about the bucket's conditions.
    """

    def __init__(
        self,
        location: Location,
        options: Mapping[str, Any],
        connect: RequestsFactory,
    ) -> None:
        self._location = location
        self._options = dict(options)
        self._connect = connect
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._locks = (os.getpid(), threading.Lock())
        self._requests: tuple[int, Requests] | None = None
        self._conditional: bool | None = None
        self._conditional_delete = True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._location.url}>"

    def __reduce__(self) -> tuple[Callable[..., RemoteStore], tuple[Any, ...]]:
        known = (self._conditional, self._conditional_delete)
        return _restore, (type(self), self._location, self._options, self._connect, known)

    @property
    def url(self) -> str:
        """The bucket and folder, without secrets."""
        return self._location.url

    @property
    def conditional(self) -> bool:
        """Whether the bucket keeps conditions on writes; probed once, with a warning if not."""
        if self._conditional is None:
            requests = self._open()
            place = (
                self._location.scheme,
                self._location.bucket,
                repr(self._options),
                type(requests),
            )
            with self._lock():
                if self._conditional is None:
                    known = _PROBED.get(place)
                    if known is None:
                        known = _PROBED[place] = probe(requests, self._prefix)
                        if not known[0]:
                            warn_without_conditions(self.url)
                    self._conditional, self._conditional_delete = known
        return self._conditional

    def check(self) -> None:
        """Make sure that the bucket is there and lets us in, with one request."""
        for _ in self._open().pages(self._prefix + RESERVED_PREFIX):
            return

    def get(self, name: str, start: int = 0, end: int | None = None) -> tuple[Content, Token]:
        """Return the bytes from `start` to `end` of an object, and its token.

        One request, unless the object is larger than 8 MiB; the rest is then read in parallel.
        """
        return self._get(name, start, end, lambda: _unwatched)[:2]

    def get_watched(self, name: str, begin: Callable[[], W]) -> tuple[Content, Token, W]:
        """Return the whole of an object, its token, and the watch that has seen it arrive."""
        return self._get(name, 0, None, begin)

    def _get(
        self, name: str, start: int, end: int | None, begin: Callable[[], W]
    ) -> tuple[Content, Token, W]:
        key = self._key(name)
        requests = self._open()
        for _ in range(8):
            watch = begin()
            try:
                return *_read(requests, key, start, end, watch), watch
            except ObjectChangedError:
                continue  # written anew while its parts were read
            except KeyError:
                raise KeyError(name) from None
        raise StoreError(f"{name!r} in {self.url} is written faster than it can be read")

    def get_many(self, names: Iterable[str]) -> Iterator[tuple[str, Content | None]]:
        """Yield the whole content of each object as it arrives, None for one that is not there."""
        requests = self._open()
        skip = len(self._prefix)
        parts = (Range(self._key(name), 0, CHUNK) for name in names)
        for part, fetched in requests.fetch_many(parts):
            name = part.key[skip:]
            if fetched is None:
                yield name, None
            elif len(fetched.data) == fetched.size:
                yield name, fetched.data
            else:
                try:
                    yield name, self.get(name)[0]
                except KeyError:
                    yield name, None

    def put(self, name: str, data: Data) -> Token:
        """Write an object whatever stood there."""
        return self._open().send(self._key(name), data, None)

    def create(self, name: str, data: Data) -> Token | None:
        """Write an object only where none is; None where somebody else was first."""
        key = self._key(name)
        requests = self._open()
        if not self.conditional:
            return None if requests.facts(key) is not None else requests.send(key, data, None)
        return send_if(requests, key, data, None)

    def swap(self, name: str, data: Data, token: Token) -> Token | None:
        """Write an object only over the state that `token` names; None where it has changed."""
        key = self._key(name)
        requests = self._open()
        if not self.conditional:
            found = requests.facts(key)
            return requests.send(key, data, None) if found and found.token == token else None
        return send_if(requests, key, data, token)

    def delete(self, name: str, token: Token | None = None) -> bool:
        """Delete an object, with `token` only in that state; whether it was there and is gone."""
        key = self._key(name)
        requests = self._open()
        if token is not None and not (self.conditional and self._conditional_delete):
            found = requests.facts(key)
            if found is None or found.token != token:
                return False
            token = None
        return requests.remove(key, token)

    def delete_many(self, states: Iterable[tuple[str, Token | None]]) -> int:
        """Delete objects as `delete` does, many at once; how many were there and are gone."""
        remaining = iter(states)
        gone = 0
        with ThreadPoolExecutor(_DELETES, thread_name_prefix="jobspan-store") as pool:
            while some := list(itertools.islice(remaining, 1000)):
                gone += sum(pool.map(lambda state: self.delete(*state), some))
        return gone

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with `prefix`, in no order."""
        check_prefix(prefix)
        return self._list(prefix)

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        skip = len(self._prefix)
        for page in self._open().pages(self._prefix + prefix):
            for info in page:
                name = info.name[skip:]
                if can_name(name):
                    yield ObjectInfo(name, info.size, info.modified, info.token, info.touched)

    def age(self, name: str) -> float | None:
        """Return the seconds since an object was last written, by the bucket's clock."""
        facts = self._open().facts(self._key(name))
        return None if facts is None else max(facts.age, 0.0)

    def close(self) -> None:
        """Let go of connections; the store opens them again when used."""
        with self._lock():
            opened, self._requests = self._requests, None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()

    def _lock(self) -> threading.Lock:
        if self._locks[0] != os.getpid():
            # A lock that was held when this process was forked would never be let go of here.
            self._locks = (os.getpid(), threading.Lock())
        return self._locks[1]

    def _key(self, name: str) -> str:
        check_name(name)
        return self._prefix + name

    def _open(self) -> Requests:
        opened = self._requests
        process = os.getpid()
        if opened is not None and opened[0] == process:
            return opened[1]
        with self._lock():
            opened = self._requests
            if opened is None or opened[0] != process:
                if opened is not None:
                    # Kept alive: closing what was inherited would end the parent's connections.
                    _INHERITED.append(opened[1])
                opened = (process, self._connect(self._location, self._options))
                self._requests = opened
            return opened[1]


_INHERITED: list[Requests] = []


def _restore(
    kind: type[RemoteStore],
    location: Location,
    options: Mapping[str, Any],
    connect: RequestsFactory,
    known: tuple[bool | None, bool],
) -> RemoteStore:
    store = kind(location, options, connect)
    store._conditional, store._conditional_delete = known
    return store


def _unwatched(content: memoryview, filled: int) -> None:
    pass


def _read(
    requests: Requests, key: str, start: int, end: int | None, watch: Watch
) -> tuple[Content, Token]:
    stop = start + CHUNK if end is None else min(end, start + CHUNK)
    first = requests.fetch(Range(key, start, stop))
    stop = start + len(first.data)
    last = first.size if end is None else min(end, first.size)
    if stop >= last:
        return first.data, first.token
    # Filled as the parts arrive, and not copied again.
    content = fresh_memory(last - start)
    content[: len(first.data)] = first.data
    ends = ((at, min(at + CHUNK, last)) for at in range(stop, last, CHUNK))
    parts = (Range(key, at, to, first.token, content[at - start : to - start]) for at, to in ends)
    filled = stop - start
    ahead: dict[int, int] = {}
    watch(content, filled)
    for part, fetched in requests.fetch_many(parts):
        if fetched is None or len(fetched.data) != part.end - part.start:
            raise ObjectChangedError
        if fetched.data is not part.into:
            content[part.start - start : part.end - start] = fetched.data
        ahead[part.start - start] = part.end - start
        if filled in ahead:
            while filled in ahead:
                filled = ahead.pop(filled)
            watch(content, filled)
    return content, first.token
