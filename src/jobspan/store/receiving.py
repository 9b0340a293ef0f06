"""Parts of large objects, received straight where they belong.

obstore hands on what it has read as memory of its own, put together there once and copied once
more to its place: in all that takes as long as receiving it. Here the standard library asks a URL
that obstore has signed, and the system writes the answer to its place.

That is tried with plain HTTP only, as in one's own network, where it counts. Encrypted answers
have to be copied anyhow, and whom to trust is obstore's business. So is everything that goes wrong.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from datetime import timedelta
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import obstore

from jobspan.store.requests import Fetched, ObjectChangedError, Range

__all__ = ["Receiver"]

_SECONDS = 30.0
"""Without a byte for so long, a request has failed; obstore gives up as late."""

_VALID_FOR = timedelta(minutes=15)

_AT_ONCE = 8
"""Parts that are received at once. In a network of one's own more would not come sooner, and all
would end at the same time: nobody could do anything with the first ones meanwhile."""


class Receiver:
    """Receives ranges of objects where they belong, as far as that can be done.

    Parameters
    ----------
    store : obstore.store.ObjectStore
        Signs the requests.

    Notes
    -----
    Threads and processes: safe from any thread, each request on a connection of its own.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._possible = True
        self._process = os.getpid()
        self._idle: list[HTTPConnection] = []
        self._turns = threading.Semaphore(_AT_ONCE)

    def receive(self, part: Range) -> Fetched | None:
        """Read a range to where it is wanted; None: somebody else has to read it.

        Raises
        ------
        ObjectChangedError
            If the object is in another state.
        """
        if not self._possible or part.into is None or not part.into.nbytes:
            return None
        if os.getpid() != self._process:
            return None  # a forked child has the parent's connections
        try:
            url = urlsplit(obstore.sign(self._store, "GET", part.key, _VALID_FOR))
        except Exception:  # noqa: BLE001 - whatever it has against signing, it can still read
            self._possible = False
            return None
        if url.scheme != "http" or _is_behind_proxy(url.hostname or ""):
            self._possible = False
            return None
        with self._turns:
            return self._received(url, part)

    def _received(self, url: SplitResult, part: Range) -> Fetched | None:
        target = f"{url.path}?{url.query}" if url.query else url.path
        while True:
            try:
                connection, used = self._idle.pop(), True
            except IndexError:
                connection, used = HTTPConnection(url.netloc, timeout=_SECONDS), False
            fetched = None
            try:
                fetched = self._asked(connection, target, part)
            except (OSError, HTTPException, ValueError) as error:
                if used and not isinstance(error, TimeoutError):
                    continue  # closed while nobody used it, as others may be
                return None
            finally:
                if fetched is None:
                    connection.close()
                else:
                    self._idle.append(connection)
            return fetched

    def _asked(self, connection: HTTPConnection, target: str, part: Range) -> Fetched | None:
        headers = {"Range": f"bytes={part.start}-{part.end - 1}"}
        if part.token is not None:
            headers["If-Match"] = part.token
        connection.request("GET", target, headers=headers)
        answer = connection.getresponse()
        token = answer.headers["ETag"]
        if answer.status == 412 or (answer.status == 206 and part.token not in {None, token}):
            raise ObjectChangedError
        if answer.status != 206 or token is None:
            # Not what was asked for, nor a server that is only busy: it will not be so again.
            self._possible = answer.status >= 500 or answer.status in {404, 429}
            return None
        covered, _, size = answer.headers["Content-Range"].rpartition("/")
        if covered != f"bytes {part.start}-{part.end - 1}" or not _is_filled(answer, part.into):
            return None
        assert part.into is not None
        return Fetched(part.into, token, int(size))

    def close(self) -> None:
        """Let go of the connections."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


def _is_filled(answer: HTTPResponse, place: Any) -> bool:
    filled = 0
    while filled < len(place):
        count = answer.readinto(place[filled:])
        if not count:
            return False
        filled += count
    return True


def _is_behind_proxy(host: str) -> bool:
    """Whether obstore would go through a proxy."""
    proxies = getproxies()
    return ("http" in proxies or "all" in proxies) and not proxy_bypass(host)
