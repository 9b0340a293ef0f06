"""How long a result is good for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

__all__ = ["ValidFor", "expires_after"]


class ValidFor:
    """Says yes for results that are younger than so many seconds.

    Parameters
    ----------
    seconds : float
        How long a result is good for.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, metadata: Mapping[str, Any]) -> bool:
        """Whether the result that `metadata` describes is still good."""
        return time.time() - float(metadata["time"]) < self.seconds


def expires_after(
    days: float = 0,
    seconds: float = 0,
    microseconds: float = 0,
    milliseconds: float = 0,
    minutes: float = 0,
    hours: float = 0,
    weeks: float = 0,
) -> Callable[[Mapping[str, Any]], bool]:
    """Return a ``cache_validation_callback`` for results that are good for some time.

    Parameters
    ----------
    days, seconds, microseconds, milliseconds, minutes, hours, weeks : float
        How long, as for `datetime.timedelta`.

    Examples
    --------
    >>> expires_after(days=1)({"time": 0, "duration": 1.0})
    False
    """
    delta = timedelta(
        days=days,
        seconds=seconds,
        microseconds=microseconds,
        milliseconds=milliseconds,
        minutes=minutes,
        hours=hours,
        weeks=weeks,
    )
    return ValidFor(delta.total_seconds())
