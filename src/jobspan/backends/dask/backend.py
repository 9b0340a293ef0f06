"""The Dask backend: one connection, and what was scattered over it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from os import PathLike
from typing import Any

from jobspan.ambient import Settings
from jobspan.backends.addresses import shown_address
from jobspan.backends.counting import jobs_asked_for
from jobspan.backends.dask.connecting import (
    close,
    connect,
    distributed,
    scatter,
    start_cluster,
    threads_of_workers,
    workers_reachable,
)
from jobspan.backends.dask.executor import DaskExecutor
from jobspan.backends.dask.options import TASK_OPTIONS, TaskOptions
from jobspan.backends.dask.pool import inside_task
from jobspan.backends.dask.reporting import PerformanceReport
from jobspan.backends.dask.versions import check_versions
from jobspan.cores import cpu_count
from jobspan.plans import Capabilities, Plan
from jobspan.transport.content import ContentStore

__all__ = ["DaskBackend"]

CONNECT_SECONDS = 10.0
"""How long a scheduler may take to answer, and a cluster without workers to get one."""

NESTED_SECONDS = 300.0
"""So long where this process is a worker itself: its cluster is there, and slow if it is silent."""


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
    security : distributed.Security, optional
        The certificates for a ``tls://`` address; Dask's own configuration where not given.
    connect_timeout : float, optional
        Seconds to wait for the scheduler, and for the first worker: 10 where it is not given, for a
        cluster that is started here a minute at least, and five for that of the task that asks.
    n_workers : int, optional
        Workers of a cluster on this machine; all cores where it is not given.
    cluster_options : mapping, optional
        Further arguments for `distributed.LocalCluster`.
    resources, priority, workers, allow_other_workers, annotations
        Passed through to Dask with every task; ``Parallel`` takes them for a single call.
    keep_results : bool
        Whether results stay on the cluster, and handles come back: `KeptResult`. ``Parallel`` takes
        it for a single call.
    keep_freed_memory : bool
        Whether workers keep the memory that calls free until no more calls come, where Dask's
        setting hands it back at once; ``Parallel`` takes it for a single call.
    performance_report : str or PathLike, optional
        The file for Dask's own page about what the cluster did while the backend was open, or,
        passed to ``Parallel``, during one call.
    scheduler_host, wait_for_workers_timeout, scatter
        joblib's names: for `address`, `connect_timeout`, and data that is scattered beforehand,
        which needs no naming here.

    Notes
    -----
    Threads and processes: several threads may open executors; several backends may share a cluster.
    """

    name = "dask"
    capabilities = Capabilities(remote=True)
    call_options = (*TASK_OPTIONS, "performance_report")
    keeps_shared_data = True
    """Whether what was scattered stays from one call to the next, until `close`."""

    def __init__(
        self,
        address: str | None = None,
        *,
        client: Any = None,
        security: Any = None,
        connect_timeout: float | None = None,
        n_workers: int | None = None,
        cluster_options: Mapping[str, Any] | None = None,
        resources: Mapping[str, float] | None = None,
        priority: int | None = None,
        workers: Any = None,
        allow_other_workers: bool | None = None,
        annotations: Mapping[str, Any] | None = None,
        keep_results: bool = False,
        keep_freed_memory: bool = True,
        performance_report: str | PathLike[str] | None = None,
        scheduler_host: str | None = None,
        wait_for_workers_timeout: float | None = None,
        scatter: Any = None,
    ) -> None:
        distributed()
        self._address = address or scheduler_host
        self._given = client
        self._security = security
        self._patience = wait_for_workers_timeout or connect_timeout
        self._n_workers = n_workers
        self._cluster_options = dict(cluster_options or {})
        self._task_options = {
            "resources": resources,
            "priority": priority,
            "workers": workers,
            "allow_other_workers": allow_other_workers,
            "annotations": annotations,
            "keep_results": keep_results,
            "keep_freed_memory": keep_freed_memory,
        }
        self._report_path = performance_report
        self._report: PerformanceReport | None = None
        self._lock = threading.RLock()
        self._client: Any = None
        self._owned = False
        self._own_cluster = False
        self._direct: bool | None = None
        self._content: ContentStore | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown_address(self._address)!r})"

    @property
    def on_this_machine(self) -> bool:
        """Whether it is known that all workers are here: the cluster was started for them."""
        return self._own_cluster

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return how many threads the workers have, or as many of them as were asked for."""
        if n_jobs > 0:
            return n_jobs
        threads = sum(threads_of_workers(self._connected(), self._timeout).values())
        return jobs_asked_for(n_jobs, available=max(1, threads))

    def nested(self, settings: Settings) -> Settings:
        """Return settings under which inner calls run on the same cluster."""
        return Settings(backend="dask", level=settings.level + 1)

    def open(self, plan: Plan) -> DaskExecutor:
        """Connect, if need be, and return an executor."""
        with self._lock:
            client = self._connected()
            assert self._content is not None
            if self._direct is None:
                self._direct = workers_reachable(client, self._timeout)
        given = {**self._task_options, **plan.options}
        path = given.pop("performance_report", None)
        report = None if path is None else PerformanceReport(client, path)
        return DaskExecutor(
            client,
            plan,
            self._content,
            TaskOptions(given),
            self._timeout,
            direct=bool(self._direct),
            check=lambda addresses: check_versions(client, addresses),
            ended=lambda: self._ended(report),
        )

    def _ended(self, report: PerformanceReport | None) -> None:
        if report is not None:
            report.close()
        content = self._content
        if content is not None and not self.keeps_shared_data:
            content.clear()

    def close(self) -> None:
        """Drop what was scattered; close the client and the cluster that were made here."""
        with self._lock:
            client, self._client = self._client, None
            content, self._content = self._content, None
            report, self._report = self._report, None
            self._direct = None
            if report is not None:
                report.close()
            if content is not None:
                content.clear()
            if client is not None and self._owned:
                close(client, own_cluster=self._own_cluster)

    @property
    def _timeout(self) -> float:
        if self._patience is not None:
            return self._patience
        own = self._address is None and self._given is None and inside_task()
        return NESTED_SECONDS if own else CONNECT_SECONDS

    def _connected(self) -> Any:
        with self._lock:
            client = self._client
            if client is None or client.status in ("closed", "closing") or self._elsewhere(client):
                self._client = client = self._connect()
                self._direct = None
                self._content = ContentStore(
                    lambda array: scatter(client, array, direct=bool(self._direct)),
                    lambda future: future.status == "finished",
                )
                if self._report_path is not None:
                    self._report = PerformanceReport(client, self._report_path)
            return client

    def _elsewhere(self, client: Any) -> bool:
        """Whether this thread runs a task of another cluster than `client` is connected to."""
        if self._given is not None or self._address is not None or not inside_task():
            return False
        return client is not distributed().get_client()

    def _connect(self) -> Any:
        self._owned = self._own_cluster = False
        if self._given is not None:
            return self._given
        if self._address is not None:
            client = connect(self._address, self._timeout, self._security)
            self._owned = True
            return client
        package = distributed()
        if inside_task():
            return package.get_client()
        try:
            return package.default_client()
        except ValueError:
            client = start_cluster(
                self._n_workers or cpu_count(), self._cluster_options, self._timeout
            )
            self._owned = self._own_cluster = True
            return client
