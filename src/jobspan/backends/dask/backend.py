"""The Dask backend: one connection, and what was scattered over it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from jobspan.ambient import Settings
from jobspan.backends.addresses import shown_address
from jobspan.backends.counting import jobs_asked_for
from jobspan.backends.dask.connecting import (
    check_versions,
    close,
    connect,
    distributed,
    inside_task,
    start_cluster,
)
from jobspan.backends.dask.executor import DaskExecutor
from jobspan.cores import cpu_count
from jobspan.plans import Capabilities, Plan
from jobspan.transport.content import ContentStore

__all__ = ["DaskBackend"]

CONNECT_SECONDS = 10.0
"""How long a scheduler may take to answer, and a cluster without workers to get one."""


class DaskBackend:
    """Runs calls on a Dask cluster.

    Parameters
    ----------
    address : str, optional
        ``dask://host:port``, ``tcp://host:port``, ``tls://host:port``, or ``dask://`` and the path
        of a scheduler file. None: inside a Dask task its own cluster; else the default client of
        this process; else a cluster on this machine, started and closed with the backend.
    client : distributed.Client, optional
        A live client, which stays open.
    connect_timeout : float
        Seconds to wait for the scheduler, and for the first worker.
    n_workers : int, optional
        Workers of a cluster on this machine; all cores where it is not given.
    cluster_options : mapping, optional
        Further arguments for `distributed.LocalCluster`.
    resources, priority, workers, allow_other_workers, retries
        Passed through to Dask with every task.
    scheduler_host, wait_for_workers_timeout, scatter
        joblib's names: for `address`, `connect_timeout`, and data that is scattered beforehand,
        which needs no naming here.

    Notes
    -----
    Threads and processes: used by one thread at a time; several backends may share a cluster.
    """

    name = "dask"
    capabilities = Capabilities(remote=True)

    def __init__(
        self,
        address: str | None = None,
        *,
        client: Any = None,
        connect_timeout: float = CONNECT_SECONDS,
        n_workers: int | None = None,
        cluster_options: Mapping[str, Any] | None = None,
        resources: Mapping[str, float] | None = None,
        priority: int | None = None,
        workers: Any = None,
        allow_other_workers: bool | None = None,
        scheduler_host: str | None = None,
        wait_for_workers_timeout: float | None = None,
        scatter: Any = None,
    ) -> None:
        distributed()
        self._address = address or scheduler_host
        self._given = client
        self._timeout = wait_for_workers_timeout or connect_timeout
        self._n_workers = n_workers
        self._cluster_options = dict(cluster_options or {})
        options = {
            "resources": resources,
            "priority": priority,
            "workers": workers,
            "allow_other_workers": allow_other_workers,
        }
        self._task_options = {name: value for name, value in options.items() if value is not None}
        self._lock = threading.Lock()
        self._client: Any = None
        self._owned = False
        self._own_cluster = False
        self._scattered: ContentStore | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown_address(self._address)!r})"

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return how many threads the workers have, or as many of them as were asked for."""
        if n_jobs > 0:
            return n_jobs
        return jobs_asked_for(n_jobs, available=max(1, self._threads(self._connected())))

    def nested(self, settings: Settings) -> Settings:
        """Return settings under which inner calls run on the same cluster."""
        return Settings(backend="dask", level=settings.level + 1)

    def open(self, plan: Plan) -> DaskExecutor:
        """Connect, if need be, and return an executor."""
        client = self._connected()
        assert self._scattered is not None
        return DaskExecutor(client, plan, self._scattered, self._task_options, self._timeout)

    def close(self) -> None:
        """Drop what was scattered; close the client and the cluster that were made here."""
        with self._lock:
            client, self._client = self._client, None
            scattered, self._scattered = self._scattered, None
            if scattered is not None:
                scattered.clear()
            if client is not None and self._owned:
                close(client, own_cluster=self._own_cluster)

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None or self._client.status in ("closed", "closing"):
                self._client = self._connect()
                client = self._client
                self._scattered = ContentStore(
                    lambda array: client.scatter(array, hash=False),
                    lambda future: future.status == "finished",
                )
            return self._client

    def _connect(self) -> Any:
        self._owned = self._own_cluster = False
        if self._given is not None:
            check_versions(self._given)
            return self._given
        if self._address is not None:
            client = connect(self._address, self._timeout)
            self._owned = True
            try:
                check_versions(client)
            except BaseException:
                close(client, own_cluster=False)
                raise
            return client
        package = distributed()
        if inside_task():
            return package.get_client()
        try:
            return package.default_client()
        except ValueError:
            client = start_cluster(self._n_workers or cpu_count(), self._cluster_options)
            self._owned = self._own_cluster = True
            return client

    @staticmethod
    def _threads(client: Any) -> int:
        return sum(client.nthreads().values())
