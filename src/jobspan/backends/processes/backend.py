"""The processes backend: how many workers, with which options."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobspan.ambient import Settings
from jobspan.backends.counting import jobs_asked_for
from jobspan.backends.processes.launching import start_template
from jobspan.cores import cpu_count
from jobspan.errors import BackendError
from jobspan.plans import Capabilities, Plan

if TYPE_CHECKING:
    from jobspan.backends.processes.executor import ProcessExecutor

__all__ = ["LokyBackend", "ProcessBackend"]

IDLE_SECONDS = 300.0


class ProcessBackend:
    """Runs calls in processes on this machine.

    Parameters
    ----------
    idle_worker_timeout : float, optional
        Seconds after which a worker that has nothing to do leaves; the default is
        ``JOBSPAN_IDLE_TIMEOUT``, else 300.
    timeout : float, optional
        The same, under the name that joblib's users know.
    maxtasksperchild : int, optional
        After how many batches a worker is replaced by a fresh one; for calls that leak memory.
    context : object, optional
        Accepted for joblib's users and ignored: workers start in one way only.

    Examples
    --------
    >>> from jobspan import Parallel, delayed
    >>> Parallel(n_jobs=2, backend="processes")(delayed(abs)(x) for x in [-1, -2])
    [1, 2]
    """

    name = "processes"
    capabilities = Capabilities(kills_calls=True)

    def __init__(
        self,
        *,
        idle_worker_timeout: float | None = None,
        timeout: float | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        given = timeout if idle_worker_timeout is None else idle_worker_timeout
        self.idle_seconds = _idle_seconds(given)
        if maxtasksperchild is not None and maxtasksperchild < 1:
            raise ValueError(f"maxtasksperchild={maxtasksperchild!r}: pass a number above 0")
        self._maxtasksperchild = maxtasksperchild

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return the number of workers for what the user asked."""
        return jobs_asked_for(n_jobs, available=cpu_count())

    def nested(self, settings: Settings) -> Settings:
        """Return settings under which the first inner level runs in threads, the next in turn."""
        level = settings.level + 1
        return Settings(backend="threads" if level <= 1 else "sequential", level=level)

    def open(self, plan: Plan) -> ProcessExecutor:
        """Return an executor, whose workers start when they are needed.

        Raises
        ------
        BackendError
            If this system has no processes of the kind that is needed.
        """
        if not (hasattr(os, "posix_spawn") and hasattr(os, "fork")):
            raise BackendError(
                f"backend='processes' needs a POSIX system, and this is {sys.platform!r}; pass "
                "backend='threads', or backend='dask' for a cluster on this machine"
            )
        # The template loads its modules while this process loads the executor's.
        start_template()
        from jobspan.backends.processes.executor import ProcessExecutor

        return ProcessExecutor(plan, self.idle_seconds, self._maxtasksperchild)

    def close(self) -> None:
        """Do nothing: idle workers serve the next call, whoever makes it."""


class LokyBackend(ProcessBackend):
    """The same under joblib's name for it: workers have warning filters of their own.

    Code that names loky was written for workers in which the caller's filters do not hold, as
    scikit-learn's, which brings to its own calls the filters that they need.
    """

    name = "loky"
    capabilities = replace(ProcessBackend.capabilities, own_warning_filters=True)


def _idle_seconds(given: float | None) -> float:
    source = "idle_worker_timeout"
    value: Any = given
    if value is None:
        source = "JOBSPAN_IDLE_TIMEOUT"
        value = os.environ.get(source, "").strip() or IDLE_SECONDS
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ValueError(f"{source}={value!r}: pass seconds above 0")
    return seconds
