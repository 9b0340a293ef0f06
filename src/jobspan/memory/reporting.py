"""What a cache says when it cannot do its work: once a cause, at the line that called it."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Hashable
from pathlib import Path

from jobspan.errors import JobspanWarning

__all__ = ["CacheWarning", "report"]

MOST_CAUSES = 10_000
"""Causes that are remembered; then all are forgotten, and each may be told once more."""


class CacheWarning(JobspanWarning):
    """The cache could not do its work; the call's result is right all the same."""


_reported: set[Hashable] = set()
_lock = threading.Lock()
_PACKAGE = str(Path(__file__).parents[1]) + os.sep


def report(cause: Hashable, text: str) -> None:
    """Warn, unless this process was told of that cause before."""
    with _lock:
        if cause in _reported:
            return
        if len(_reported) >= MOST_CAUSES:
            _reported.clear()
        _reported.add(cause)
    warnings.warn(text, CacheWarning, stacklevel=_level_of_user())


def _level_of_user() -> int:
    """Return how far up the first frame is that is not jobspan's, as `warnings.warn` counts."""
    frame, level = sys._getframe(2), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    return level
