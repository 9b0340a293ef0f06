"""A store that does not answer is left alone for a while, lest it hold up every call."""

from __future__ import annotations

import time

from jobspan.errors import StoreUnavailableError

__all__ = ["Silence"]

PATIENT_SECONDS = 0.5
"""A store that took longer to fail is left alone for three times as long as it took."""

LONGEST_BREAK = 30.0
"""Seconds for which it is left alone at most."""


class Silence:
    """How long a store is not worth asking.

    Notes
    -----
    Threads and processes: safe from any thread, for it holds one number.

    Examples
    --------
    >>> silence = Silence()
    >>> silence.is_over()
    True
    >>> silence.failed(time.monotonic() - 5.0, StoreUnavailableError("no answer for five seconds"))
    >>> silence.is_over()
    False
    """

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = 0.0

    def is_over(self) -> bool:
        """Whether the store is worth asking."""
        return not self._until or time.monotonic() >= self._until

    def failed(self, begin: float, error: BaseException) -> None:
        """Note how a request ended that began at `begin`, by the monotonic clock."""
        now = time.monotonic()
        if isinstance(error, StoreUnavailableError) and now - begin > PATIENT_SECONDS:
            self._until = now + min(3 * (now - begin), LONGEST_BREAK)
