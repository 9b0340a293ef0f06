"""joblib's class of callbacks, which scripts replace by one of their own to draw a bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["BatchCompletionCallBack", "batch_callback"]


class BatchCompletionCallBack:
    """What joblib calls after every batch; here for scripts that put a subclass in its place.

    ``Parallel(progress=True)`` draws a bar, and a callable as `progress` is told how far calls are.

    Parameters
    ----------
    dispatch_timestamp : float
        When the call began.
    batch_size : int
        How many calls the batch had.
    parallel : Parallel
        Whose batch it was.

    Examples
    --------
    >>> import jobspan.parallel
    >>> from jobspan import Parallel, delayed
    >>> done = []
    >>> class Counting(jobspan.parallel.BatchCompletionCallBack):
    ...     def __call__(self, *args, **kwargs):
    ...         done.append(self.batch_size)
    ...         return super().__call__(*args, **kwargs)
    >>> original = jobspan.parallel.BatchCompletionCallBack
    >>> jobspan.parallel.BatchCompletionCallBack = Counting
    >>> try:
    ...     results = Parallel(n_jobs=2, backend="threads")(delayed(abs)(x) for x in range(9))
    ... finally:
    ...     jobspan.parallel.BatchCompletionCallBack = original
    >>> sum(done)
    9
    """

    def __init__(self, dispatch_timestamp: float, batch_size: int, parallel: Any) -> None:
        self.dispatch_timestamp = dispatch_timestamp
        self.batch_size = batch_size
        self.parallel = parallel

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the scheduler knows what is done."""


_call = BatchCompletionCallBack.__call__


def batch_callback(parallel: Any) -> Callable[[int], None] | None:
    """Return what to call with the size of every batch that is done, where a script wants that.

    Parameters
    ----------
    parallel : Parallel
        Whose batches they are.
    """
    kind = sys.modules[__package__].BatchCompletionCallBack
    if kind is BatchCompletionCallBack and kind.__call__ is _call:
        return None
    began = time.time()

    def completed(calls: int) -> None:
        kind(began, calls, parallel)(None)

    return completed
