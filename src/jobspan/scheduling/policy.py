"""The decisions that the scheduler follows, frozen before the first call is dispatched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jobspan.scheduling.retrying import RetryPolicy

__all__ = ["OnError", "SchedulingPolicy"]

OnError = Literal["raise", "return", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulingPolicy:
    """How the calls of one ``Parallel`` call are scheduled.

    Parameters
    ----------
    ordered : bool
        Hand results on in the order of the calls, else as they come.
    batch_size : int or None
        Calls in a batch; None: automatic.
    target_seconds : float
        How long an automatic batch should run.
    largest_batch : int
        Calls in an automatic batch at most.
    pre_dispatch : int or None
        How many batches may be dispatched ahead of the results; None: all that there are.
    timeout : float or None
        Seconds to wait for a result before giving up.
    on_error : {"raise", "return", "skip"}
        What becomes of a call that fails for good.
    retries : RetryPolicy
        Which failures are tried again.
    bounded : bool
        Whether results wait for a consumer who may be slow, so that only so many may wait.
    max_pending : int or None
        How many results may wait for the consumer; None: so many that workers are kept busy and
        memory is not filled.
    """

    ordered: bool = True
    batch_size: int | None = None
    target_seconds: float = 0.005
    largest_batch: int = 8192
    pre_dispatch: int | None = None
    timeout: float | None = None
    on_error: OnError = "raise"
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    bounded: bool = False
    max_pending: int | None = None
