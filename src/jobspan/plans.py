"""The frozen decision for one ``Parallel`` call, and the facts about a backend it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Capabilities", "Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do; facts that never change.

    Parameters
    ----------
    shared_memory : bool
        Calls run in the caller's own memory: what they change, the caller sees.
    remote : bool
        Workers may be on other machines; where a backend can tell that they are not, it is a
        `jobspan.executors.LocatesWorkers` as well.
    kills_calls : bool
        A running call can be stopped.
    in_caller : bool
        Calls run in the thread that asks for completed batches, one after the other.
    own_warning_filters : bool
        Workers have warning filters of their own; the caller's do not hold there.
    """

    shared_memory: bool = False
    remote: bool = False
    kills_calls: bool = False
    in_caller: bool = False
    own_warning_filters: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings with which a backend opens an executor.

    Parameters
    ----------
    n_jobs : int
        How many calls may run at once, at least 1. Where `follow` holds, how many it is now.
    follow : bool
        The user asked for all there is (``n_jobs=-1``): follow the cluster as it grows.
    batch_size : int or None
        Calls in a batch; None: automatic.
    task_timeout : float or None
        Seconds that one call may run, from its own start.
    max_nbytes : int or None
        Buffers of at least so many bytes are shared instead of sent; None: never.
    mmap_mode : {"r", "c", "r+", "w+"} or None
        How shared arrays arrive, as in joblib; None: private copies.
    temp_folder : str or None
        Where large data spills to when shared memory is short.
    inner_max_num_threads : int or None
        Threads for BLAS and OpenMP in a worker; None: cores divided by `n_jobs`.
    options : mapping
        What else the user passed to the backend.
    """

    n_jobs: int
    follow: bool = False
    batch_size: int | None = None
    task_timeout: float | None = None
    max_nbytes: int | None = 1 << 20
    mmap_mode: Literal["r", "c", "r+", "w+"] | None = "r"
    temp_folder: str | None = None
    inner_max_num_threads: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
