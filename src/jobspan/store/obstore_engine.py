"""Buckets through obstore, the fast engine: Rust underneath, native conditional writes.

obstore is called synchronously; it releases the interpreter's lock, so threads are what reads many
objects at once. It does not hand on the condition of a delete, which is looked up first instead.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError

from jobspan.errors import StoreError, StoreLocationError, StoreUnavailableError
from jobspan.store.locations import Location, scrub
from jobspan.store.obstore_options import build_store
from jobspan.store.protocol import Content, Data, ObjectInfo, Token
from jobspan.store.requests import (
    WRITE_ID,
    Condition,
    Facts,
    Fetched,
    ObjectChangedError,
    Range,
    WriteRefusedError,
)

if TYPE_CHECKING:
    from jobspan.store.receiving import Receiver

__all__ = ["ForkedError", "ObstoreRequests"]

T = TypeVar("T")

# What obstore raises: errors of its own, and some of the builtin ones.
_ERRORS = (BaseError, OSError, ValueError)
_THREADS = 32
_ATTEMPTS = 4
_SINGLE_PUT = 64 * 2**20
_LARGEST_PUT = 5 * 2**30
_STATUS = re.compile(r"status code: (\d{3})")
_RETRIES = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
_NO_RETRIES = {"max_retries": 0, "retry_timeout": timedelta(seconds=30)}

# obstore's threads do not survive a fork; the first process that used it is the only one that can.
_used_by: int | None = None


class ForkedError(StoreError):
    """obstore was used before this process was forked, and cannot be used here."""


class ObstoreRequests:
    """The requests of a store in a bucket that obstore knows.

    Parameters
    ----------
    location : Location
        The bucket.
    options : mapping
        fsspec's storage options for it, which are translated.

    Raises
    ------
    ForkedError
        If a process that had used obstore was forked, and this is its child.
    """

    def __init__(self, location: Location, options: Mapping[str, Any]) -> None:
        global _used_by
        if _used_by not in {None, os.getpid()}:
            raise ForkedError(
                f"{location.url}: obstore was used before this process was forked, and does "
                f"not work after a fork. Install s3fs (gcsfs, adlfs), or start workers by spawn"
            )
        _used_by = os.getpid()
        self._url = location.url
        self._bucket = location.bucket
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._options = options
        try:
            self._store = build_store(location, options, _RETRIES)
            # Conditional writes are sent again by hand: only so is it known that they were.
            self._once = build_store(location, options, _NO_RETRIES)
        except (*_ERRORS, TypeError) as error:
            raise StoreLocationError(
                scrub(f"{self._url}: obstore refuses the storage options: {error}", options)
            ) from None
        self._versions = type(self._store).__name__ == "GCSStore"
        self._pool: ThreadPoolExecutor | None = None
        self._receiving: Receiver | None = None
        self._lock = threading.Lock()
        self._clock: float | None = None

    def fetch(self, part: Range) -> Fetched:
        """Read a range with one GET."""
        if part.end <= part.start:
            return self._fetch_nothing(part)
        if part.into is not None and not self._versions:
            received = self._receiver().receive(part)
            if received is not None:
                return received
        options: obstore.GetOptions = {"range": (part.start, part.end)}
        if part.token is not None and not self._versions:
            options["if_match"] = part.token
        try:
            answer = obstore.get(self._store, part.key, options=options)
            data = _taken(answer.bytes(), part.into)
        except _ERRORS as error:
            if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
                raise KeyError(part.key) from None
            if _is(error, "PreconditionError"):
                raise ObjectChangedError from None
            if _status(error) == 416 or "Wanted range starting" in str(error):
                return self._fetch_nothing(part)
            raise self._translated(error, part.key) from None
        token = self._token(answer.meta)
        if part.token not in {None, token}:
            raise ObjectChangedError
        return Fetched(data, token, answer.meta["size"])

    def _fetch_nothing(self, part: Range) -> Fetched:
        found = self._head(part.key)
        if found is None:
            raise KeyError(part.key)
        return Fetched(b"", self._token(found.meta), found.meta["size"])

    def fetch_many(self, parts: Iterable[Range]) -> Iterator[tuple[Range, Fetched | None]]:
        """Read many ranges at once, in threads."""

        def fetch(part: Range) -> tuple[Range, Fetched | None]:
            try:
                return part, self.fetch(part)
            except KeyError:
                return part, None

        return _as_they_come(self._threads(), fetch, parts)

    def send(self, key: str, data: Data, condition: Condition | None) -> Token:
        """Write an object, up to 64 MiB or with a condition with one PUT."""
        size = memoryview(data).nbytes
        if condition is not None and size > _LARGEST_PUT:
            # obstore sends parts without a condition only: look first, then.
            found = self._head(key)
            if (found and self._token(found.meta)) != condition.token:
                raise WriteRefusedError(retried=False)
            condition = None
        if condition is None:
            try:
                answer = obstore.put(self._store, key, data, use_multipart=size > _SINGLE_PUT)
            except _ERRORS as error:
                raise self._translated(error, key) from None
            return self._token(answer)
        if condition.token is None:
            mode: Any = "create"
        else:
            mode = {"version" if self._versions else "e_tag": condition.token}
            if self._versions and not condition.token.isdecimal():
                raise WriteRefusedError(retried=False)
        for attempt in range(_ATTEMPTS):
            try:
                answer = obstore.put(
                    self._once, key, data, mode=mode, attributes={WRITE_ID: condition.write_id}
                )
                return self._token(answer)
            except _ERRORS as error:
                if (
                    _is(error, "AlreadyExistsError", "PreconditionError")
                    or (condition.token is not None and _is_absent(error))
                    or "precondition failure" in str(error).lower()
                ):
                    raise WriteRefusedError(retried=attempt > 0) from None
                status = _status(error)
                worth_it = status is None or status >= 500 or status in {409, 429}
                if not worth_it or attempt + 1 == _ATTEMPTS:
                    raise self._translated(error, key) from None
                time.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    def remove(self, key: str, token: Token | None) -> bool:
        """Delete an object; with `token` after a look at the state that it is in."""
        if token is not None:
            found = self._head(key)
            if found is None or self._token(found.meta) != token:
                return False
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            return False
        except _ERRORS as error:
            raise self._translated(error, key) from None
        return True

    def facts(self, key: str) -> Facts | None:
        """Tell of an object with one HEAD."""
        found = self._head(key)
        if found is None:
            return None
        age = time.monotonic() + self._clock_offset() - found.meta["last_modified"].timestamp()
        write_id = {str(k).lower(): v for k, v in found.attributes.items()}.get(WRITE_ID)
        return Facts(self._token(found.meta), age, write_id)

    def pages(self, prefix: str) -> Iterator[Iterable[ObjectInfo]]:
        """List a thousand objects with each request."""
        # obstore takes whole folders only.
        folder = prefix.rpartition("/")[0]
        try:
            for page in obstore.list(self._store, folder or None, chunk_size=1000):
                yield [
                    ObjectInfo(
                        meta["path"],
                        meta["size"],
                        meta["last_modified"].timestamp(),
                        self._listed_token(meta),
                    )
                    for meta in page
                    if meta["path"].startswith(prefix)
                ]
        except _ERRORS as error:
            if "invalid path" in str(error):
                text = scrub(str(error), self._options)
                raise StoreError(
                    f"{self._url}: obstore lists nothing where an object has such a name: {text}. "
                    "Delete that object with the provider's own tools, or pass "
                    "open_store(url, engine='fsspec') as the location"
                ) from None
            raise self._translated(error, prefix) from None

    def close(self) -> None:
        """End the threads and the connections that are ours."""
        with self._lock:
            pool, self._pool = self._pool, None
            receiving, self._receiving = self._receiving, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        if receiving is not None:
            receiving.close()

    def _head(self, key: str) -> Any:
        try:
            return obstore.get(self._store, key, options={"head": True})
        except _ERRORS as error:
            if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
                return None
            raise self._translated(error, key) from None

    def _token(self, facts: Any) -> Token:
        token = facts["version"] if self._versions else facts["e_tag"]
        return str(token)

    def _listed_token(self, facts: Any) -> Token | None:
        if self._versions:
            return None  # a listing does not tell the generation
        etag = str(facts["e_tag"])
        return etag if etag.startswith('"') else f'"{etag}"'  # as Azure lists them

    def _clock_offset(self) -> float:
        """Return what the bucket's clock is ahead of the monotonic one; found out once."""
        if self._clock is None:
            key = f"{self._prefix}.jobspan-clock"
            try:
                obstore.put(self._store, key, b"")
                now = time.monotonic()
                written = obstore.head(self._store, key)["last_modified"].timestamp()
            except _ERRORS as error:
                raise self._translated(error, key) from None
            self._clock = written - now
        return self._clock

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="jobspan-store")
            return self._pool

    def _receiver(self) -> Receiver:
        with self._lock:
            if self._receiving is None:
                from jobspan.store.receiving import Receiver  # large objects only

                self._receiving = Receiver(self._store)
            return self._receiving

    def _translated(self, error: Exception, key: str) -> StoreError:
        """Say what failed in words that tell what to do."""
        if isinstance(error, StoreError):
            return error
        status = _status(error)
        text = scrub(_in_words(str(error).partition("\n\nDebug source")[0]), self._options)
        if status == 404 or "NoSuchBucket" in text or "ContainerNotFound" in text:
            return StoreLocationError(
                f"{self._url}: there is no bucket {self._bucket!r}. Create it, or correct its "
                f"name ({text})"
            )
        if status in {401, 403} or _is(error, "PermissionDeniedError", "UnauthenticatedError"):
            return StoreLocationError(
                f"{self._url}: the credentials are not accepted ({text}). Pass them as "
                f"storage_options, or set them in the environment"
            )
        if status is None or status >= 500 or status == 429:
            return StoreUnavailableError(
                f"{self._url}: the store does not answer as it should ({text}). Is the "
                f"endpoint right, and the network up?"
            )
        return StoreError(f"{self._url}: the store refused a request for {key!r}: {text}")


def _in_words(text: str) -> str:
    """Return the text of an error, of a service's page of XML only what it says."""
    before, start, page = text.partition("<?xml")
    said = re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", page, re.DOTALL)
    return f"{before}{said[1]}, {said[2]}" if said else before + start + page


def _as_they_come(
    pool: ThreadPoolExecutor, call: Callable[[Range], T], parts: Iterable[Range]
) -> Iterator[T]:
    """Call in the pool's threads, reading `parts` no further ahead than twice their number."""
    source = iter(parts)
    pending: set[Future[T]] = set()
    try:
        while True:
            while len(pending) < 2 * _THREADS:
                part = next(source, None)
                if part is None:
                    break
                pending.add(pool.submit(call, part))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in pending:
            future.cancel()


def _taken(data: Any, into: memoryview | None) -> Content:
    """Return obstore's bytes as Python's, or put them where they are wanted."""
    if into is None or len(into) != len(data):
        content: bytes = data.to_bytes()
        return content
    into[:] = memoryview(data)
    return into


def _is(error: Exception, *names: str) -> bool:
    return type(error).__name__ in names


def _is_absent(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError)


def _status(error: Exception) -> int | None:
    """Return the HTTP status of a server's answer, None where there was no answer."""
    if isinstance(error, FileNotFoundError):
        return 404
    match = _STATUS.search(str(error))
    return int(match[1]) if match else None
