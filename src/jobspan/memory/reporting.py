"""What a cache says when it cannot do its work: once a cause, at the line that called it."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Hashable

from jobspan.errors import JobspanWarning
from jobspan.logger import level_of_user

__all__ = ["CacheWarning", "report"]

MOST_CAUSES = 10_000
"""Causes that are remembered; then all are forgotten, and each may be told once more."""


class CacheWarning(JobspanWarning):
    """The cache could not do its work; the call's result is right all the same."""


_ORDERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal might take for an order. Whoever wrote an entry has a say in what fails there."""

_reported: set[Hashable] = set()
_lock = threading.Lock()


def report(cause: Hashable, text: str) -> None:
    """Warn, unless this process was told of that cause before."""
    with _lock:
        if cause in _reported:
            return
        if len(_reported) >= MOST_CAUSES:
            _reported.clear()
        _reported.add(cause)
    text = _ORDERS.sub(lambda found: repr(found[0])[1:-1], text)
    warnings.warn(text, CacheWarning, stacklevel=level_of_user())
