"""The Ray backend: one connection, its worker actors, and what was put into its object store."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from jobspan.ambient import Settings
from jobspan.backends.counting import jobs_asked_for
from jobspan.backends.ray.connecting import connect, inside_worker, ray_package
from jobspan.backends.ray.crew import Crew
from jobspan.backends.ray.executor import RayExecutor
from jobspan.plans import Capabilities, Plan
from jobspan.transport.content import ContentStore

__all__ = ["RayBackend"]

CONNECT_SECONDS = 10.0
"""How long a Ray may take to answer."""


class RayBackend:
    """Runs calls on a Ray cluster.

    Parameters
    ----------
    address : str, optional
        ``ray://host:10001``, or ``ray://auto`` for the Ray on this machine. None: the Ray that this
        process is connected to, else that of ``RAY_ADDRESS``, else one that is started here and
        stopped with the backend.
    connect_timeout : float
        Seconds to wait for an answer.
    ray_options : mapping, optional
        Further arguments for `ray.init`.
    num_cpus, num_gpus, resources, memory, runtime_env, scheduling_strategy
        What a worker asks of the cluster; one CPU where it is not given.

    Notes
    -----
    Threads and processes: used by one thread at a time. Workers are kept from one ``Parallel``
    call to the next and given back when the backend is closed. Calls nested in calls run in threads
    of their worker, then one after the other: they take no CPU that the cluster counts.
    """

    name = "ray"
    capabilities = Capabilities(remote=True, kills_calls=True)

    def __init__(
        self,
        address: str | None = None,
        *,
        connect_timeout: float = CONNECT_SECONDS,
        ray_options: Mapping[str, Any] | None = None,
        num_cpus: float = 1,
        num_gpus: float | None = None,
        resources: Mapping[str, float] | None = None,
        memory: int | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        scheduling_strategy: Any = None,
    ) -> None:
        ray_package()
        self._address = address
        self._timeout = connect_timeout
        self._ray_options = dict(ray_options or {})
        self._num_cpus = num_cpus
        demands = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "resources": resources,
            "memory": memory,
            "runtime_env": runtime_env,
            "scheduling_strategy": scheduling_strategy,
        }
        self._demands = {name: value for name, value in demands.items() if value is not None}
        self._lock = threading.Lock()
        self._owned = False
        self._crew: Crew | None = None
        self._content: ContentStore | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address!r})"

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return how many workers the cluster has room for, or as many as were asked for."""
        if n_jobs > 0:
            return n_jobs
        self._connected()
        return jobs_asked_for(n_jobs, available=self._room())

    def nested(self, settings: Settings) -> Settings:
        """Return settings under which inner calls run in threads, then one after the other."""
        level = settings.level + 1
        return Settings(backend="threads" if level <= 1 else "sequential", level=level)

    def open(self, plan: Plan) -> RayExecutor:
        """Connect, if need be, and return an executor."""
        crew, content = self._connected()
        return RayExecutor(plan, crew, content, self._room)

    def close(self) -> None:
        """Give the workers back; stop the Ray that was started here."""
        with self._lock:
            crew, self._crew = self._crew, None
            content, self._content = self._content, None
            if content is not None:
                content.clear()
            ray = ray_package()
            if crew is not None and ray.is_initialized():
                crew.dismiss()
            if self._owned:
                self._owned = False
                ray.shutdown()

    def _connected(self) -> tuple[Crew, ContentStore]:
        with self._lock:
            ray = ray_package()
            if self._crew is None or self._content is None or not ray.is_initialized():
                self._owned = connect(self._address, self._ray_options, self._timeout)
                self._crew = Crew(self._demands, tasks=inside_worker())
                self._content = ContentStore(ray.put, lambda _handle: True)
            return self._crew, self._content

    def _room(self) -> int:
        """Return for how many workers the cluster has CPUs."""
        cpus = float(ray_package().cluster_resources().get("CPU", 1))
        return max(1, int(cpus / self._num_cpus)) if self._num_cpus else max(1, int(cpus))
