"""Whether scheduler and workers are there: waited for at first, looked after while calls run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

from jobspan.backends.dask.arrivals import Arrivals
from jobspan.backends.dask.options import TaskOptions
from jobspan.errors import BackendUnreachableError, JobspanWarning
from jobspan.logger import level_of_user

__all__ = ["SLICE_SECONDS", "Presence"]

SLICE_SECONDS = 0.5
"""How often a waiting executor looks whether the cluster is still there."""


class Presence:
    """Tells whether the cluster that an executor works on can be worked on.

    Parameters
    ----------
    client : distributed.Client
        The connection.
    arrivals : Arrivals
        Knows the workers there are.
    options : TaskOptions
        What a worker must have.
    patience : float
        Seconds to wait for a worker, or for a scheduler that is gone.
    check : callable
        Given the addresses of workers that it has not seen, refuses those that cannot be used.
    """

    def __init__(
        self,
        client: Any,
        arrivals: Arrivals,
        options: TaskOptions,
        patience: float,
        check: Callable[[set[str]], None],
    ) -> None:
        self._client = client
        self._arrivals = arrivals
        self._options = options
        self._patience = patience
        self._check = check
        self._seen: set[str] = set()
        self._missing_since: float | None = None
        self._told = False

    def await_workers(self, key: str) -> None:
        """Wait for a first worker; a task named `key` tells the cluster that one is wanted."""
        self._arrivals.wait(SLICE_SECONDS)
        probe: Any = None
        while not self._arrivals.threads:
            if probe is None and self._arrivals.looked and self._client.status == "running":
                # A cluster that adapts grows for a task that waits.
                with self._options.annotated():
                    probe = self._client.submit(int, key=key, **self._options.arguments)
            self._arrivals.wait(0.1)
            self.look()
        self.look()

    def look(self, unfinished: int = 0) -> None:
        """Refuse workers that cannot be used; give up where scheduler or workers are gone.

        Parameters
        ----------
        unfinished : int
            How many batches would be lost.
        """
        running = self._client.status == "running"
        if running and self._arrivals.threads:
            self._missing_since, self._told = None, False
            new = self._arrivals.addresses.keys() - self._seen
            if new:
                self._seen |= new
                self._check(new)
            return
        now = time.monotonic()
        if self._missing_since is None:
            self._missing_since = now
        waited = now - self._missing_since
        if running and self._arrivals.looked and not self._told and waited > 2 * SLICE_SECONDS:
            self._told = True
            warnings.warn(
                f"the Dask cluster has no workers{self._options.wanted}; waiting "
                f"{self._patience:g} s for one",
                JobspanWarning,
                stacklevel=level_of_user(),
            )
        if waited > self._patience or self._client.status == "closed":
            raise self.gone(unfinished, running=running)

    def gone(self, unfinished: int, *, running: bool) -> BackendUnreachableError:
        """Return the error that says what is missing, and what to do about it."""
        where = self._options.address(self._client)
        left = f" with {unfinished} batches unfinished" if unfinished else ""
        if not running:
            return BackendUnreachableError(
                f"the Dask scheduler at {where} is gone{left}. Start it again, and the run with "
                "it; with memory= what was computed is not computed again"
            )
        if not self._arrivals.looked:
            return BackendUnreachableError(
                f"the Dask scheduler at {where} has not said after {self._patience:g} s which "
                f"workers there are{left}. Is its machine busy? Pass a longer connect_timeout="
            )
        return BackendUnreachableError(
            f"the Dask cluster at {where} has no workers{self._options.wanted} after "
            f"{self._patience:g} s{left}; start some with 'dask worker', or pass a longer "
            "connect_timeout="
        )
