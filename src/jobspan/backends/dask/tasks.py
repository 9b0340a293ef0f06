"""A batch as a task of Dask's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobspan.backends.dask.kept import KeptResult
from jobspan.calls import Batch
from jobspan.outcomes import Failure

__all__ = ["Task"]


class Task:
    """A batch on the cluster, or one call of a batch whose worker died.

    Parameters
    ----------
    batch : Batch
        The calls.
    suspect : bool
        Whether it may be what ended a worker.
    spared : bool
        Whether another worker was lost since, too soon to blame it.

    Attributes
    ----------
    future : distributed.Future or None
        Its answer.
    kept : distributed.Future or None
        Its results, where they stay on the cluster.
    held : distributed.Future or None
        What was scattered for this task alone.
    sendings, size : int
        How often it was sent, and how many bytes that took.
    sent : float
        When, by the monotonic clock.
    """

    __slots__ = (
        "batch",
        "future",
        "held",
        "kept",
        "sendings",
        "sent",
        "size",
        "spared",
        "suspect",
    )

    def __init__(self, batch: Batch, *, suspect: bool = False, spared: bool = False) -> None:
        self.batch = batch
        self.suspect = suspect
        self.spared = spared
        self.future: Any = None
        self.kept: Any = None
        self.held: Any = None
        self.sendings = 0
        self.sent = 0.0
        self.size = 0

    @property
    def name(self) -> str:
        """What Dask's dashboard shows: the name of the function."""
        function: Any = self.batch.calls[0][0]
        while hasattr(function, "func"):  # functools.partial, a cached function
            function = function.func
        name = getattr(function, "__name__", None) or type(function).__name__
        return str(name).strip("<>").replace("-", "_")

    @property
    def futures(self) -> list[Any]:
        """All that it is on the cluster."""
        return [future for future in (self.kept, self.future) if future is not None]

    def handles(self, failures: Mapping[int, Failure]) -> list[Any]:
        """Return what stands for the results that stay on the cluster."""
        size = len(self.batch.calls)
        return [
            None if offset in failures else KeptResult(self.kept, offset, size)
            for offset in range(size)
        ]
