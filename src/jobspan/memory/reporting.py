"""What a cache did in this process, in figures; what it could not do is told, once a cause."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Hashable
from dataclasses import dataclass

from jobspan.errors import JobspanWarning
from jobspan.logger import level_of_user

__all__ = ["CacheWarning", "Counts"]

MOST_CAUSES = 10_000
"""Causes that are remembered; then all are forgotten, and each may be told once more."""


class CacheWarning(JobspanWarning):
    """The cache could not do its work; the call's result is right all the same."""


_ORDERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal might take for an order. Whoever wrote an entry has a say in what fails there."""

_reported: set[Hashable] = set()
_lock = threading.Lock()


@dataclass(slots=True)
class Counts:
    """What a cache has done in this process."""

    hits: int = 0
    misses: int = 0
    seconds_saved: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    failures: int = 0

    def failed(self, cause: Hashable, text: str) -> None:
        """Count a failure; warn of it, unless this process was told of that cause before."""
        self.failures += 1
        _report(cause, text)

    def store_failed(self, done: str, url: str, error: Exception) -> None:
        """Count a store's failure to be read or written, and tell of it, whatever calls meet it."""
        self.failed(
            (url, type(error), getattr(error, "errno", None)),
            f"the cache {url} cannot be {done}: {error}. Calls are computed and return "
            "their results all the same",
        )


def _report(cause: Hashable, text: str) -> None:
    with _lock:
        if cause in _reported:
            return
        if len(_reported) >= MOST_CAUSES:
            _reported.clear()
        _reported.add(cause)
    text = _ORDERS.sub(lambda found: repr(found[0])[1:-1], text)
    warnings.warn(text, CacheWarning, stacklevel=level_of_user())
