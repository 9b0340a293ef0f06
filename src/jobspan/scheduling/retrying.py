"""When a failed call is tried again: a pure decision, the dice passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobspan.outcomes import Failure, FailureKind

__all__ = ["RetryPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Which failures are tried again, how often, and after how long.

    Parameters
    ----------
    attempts : int
        How often a call may be tried again after its function raised or ran out of time.
    lost_attempts : int or None
        The same for calls whose worker died; None: as `attempts`.
    exceptions : exception type or tuple of them
        Which exceptions of the function are worth another try. A lost worker always is.
    delay : float
        Seconds before the first retry; each further one waits `backoff` times as long.
    backoff : float
        Factor between two delays.
    longest_delay : float
        No delay is longer, in seconds.
    jitter : float
        Share of the delay that is drawn at random, so that calls do not come back together.

    Notes
    -----
    Exponential back-off with jitter: M. Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015.

    Examples
    --------
    >>> policy = RetryPolicy(attempts=3, exceptions=(ConnectionError,), jitter=0)
    >>> policy.pause(Failure(ConnectionError()), attempt=2)
    0.2
    >>> policy.pause(Failure(ValueError()), attempt=1) is None
    True
    """

    attempts: int = 0
    lost_attempts: int | None = None
    exceptions: type[BaseException] | tuple[type[BaseException], ...] = Exception
    delay: float = 0.1
    backoff: float = 2.0
    longest_delay: float = 60.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        for name in ("attempts", "lost_attempts"):
            value = getattr(self, name)
            if value is not None and not _is_number(value, int):
                raise ValueError(f"RetryPolicy({name}={value!r}): pass a whole number, 0 or more")
        if not _is_number(self.jitter, int | float) or self.jitter > 1:
            raise ValueError(f"RetryPolicy(jitter={self.jitter!r}): pass a share from 0 to 1")
        for name in ("delay", "backoff", "longest_delay"):
            value = getattr(self, name)
            if not _is_number(value, int | float):
                raise ValueError(f"RetryPolicy({name}={value!r}): pass a number, 0 or more")
        given: Any = self.exceptions
        kinds = given if isinstance(given, tuple) else (given,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise TypeError(
                f"RetryPolicy(exceptions={self.exceptions!r}): pass an exception type, or a tuple "
                "of them, such as (ConnectionError, TimeoutError)"
            )

    @property
    def never(self) -> bool:
        """Whether no failure is ever tried again."""
        return not self.attempts and not self.lost_attempts

    def pause(
        self, failure: Failure, attempt: int, dice: Callable[[], float] | None = None
    ) -> float | None:
        """Return the seconds to wait before the next attempt, or None where there is none.

        Parameters
        ----------
        failure : Failure
            What became of the last attempt.
        attempt : int
            Its number, from 1.
        dice : callable or None
            Draws a number from 0 to 1 for the jitter, as ``random.random``; None: no jitter.
        """
        if failure.kind is FailureKind.LOST:
            allowed = self.attempts if self.lost_attempts is None else self.lost_attempts
        elif failure.kind is FailureKind.TIMEOUT or isinstance(failure.exception, self.exceptions):
            allowed = self.attempts
        else:
            allowed = 0
        if attempt > allowed:
            return None
        pause = min(self.delay * self.backoff ** (attempt - 1), self.longest_delay)
        if dice is not None:
            pause *= 1 - self.jitter * dice()
        return pause


def _is_number(value: Any, kind: Any) -> bool:
    """Whether a number is of a kind, and not below 0."""
    return isinstance(value, kind) and not isinstance(value, bool) and bool(value >= 0)
