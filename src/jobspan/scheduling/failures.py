"""What a call that failed for good leaves: an exception to raise, or a value in its place."""

from __future__ import annotations

from dataclasses import dataclass

from jobspan.errors import RemoteTraceback
from jobspan.outcomes import Failure, FailureKind

__all__ = ["TaskFailure", "raisable"]


@dataclass(frozen=True, slots=True, eq=False)
class TaskFailure:
    """Stands in the place of a result with ``on_error="return"``.

    Parameters
    ----------
    exception : BaseException
        What the call raised, or the error that says what became of it.
    traceback : str
        The traceback in the worker, as text.
    index : int
        Which call it was, counted from 0.
    worker : str
        Name of the worker that ran it; empty where none did.
    attempts : int
        How often it was tried.
    kind : FailureKind
        ``"error"``, ``"lost"`` (its worker died) or ``"timeout"``.

    Examples
    --------
    >>> from jobspan import Parallel, delayed
    >>> results = Parallel(on_error="return")(delayed(int)(text) for text in ["1", "x"])
    >>> results[1].index, type(results[1].exception).__name__
    (1, 'ValueError')
    """

    exception: BaseException
    traceback: str = ""
    index: int = 0
    worker: str = ""
    attempts: int = 1
    kind: FailureKind = FailureKind.ERROR

    def __repr__(self) -> str:
        return (
            f"TaskFailure({self.exception!r}, index={self.index}, worker={self.worker!r}, "
            f"attempts={self.attempts}, kind={self.kind.value!r})"
        )

    def reraise(self) -> None:
        """Raise the exception, the worker's traceback as its cause."""
        raise raisable(Failure(self.exception, self.traceback, self.kind))


def raisable(failure: Failure) -> BaseException:
    """Return the failure's exception, its remote traceback added as the root of its causes."""
    exception = failure.exception
    if failure.traceback and exception.__traceback__ is None and exception.__cause__ is None:
        exception.__cause__ = RemoteTraceback(failure.traceback)
    return exception
