"""The Ray backend: one connection, its worker actors, and what was put into its object store."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from jobspan.ambient import Settings
from jobspan.backends.addresses import shown_address
from jobspan.backends.counting import jobs_asked_for
from jobspan.backends.ray.connecting import Connection, inside_worker, ray_package
from jobspan.backends.ray.crew import Crew
from jobspan.backends.ray.executor import RayExecutor
from jobspan.backends.ray.room import Room
from jobspan.plans import Capabilities, Plan
from jobspan.transport.content import ContentStore

__all__ = ["RayBackend"]

CONNECT_SECONDS = 30.0
"""How long it may take until a Ray has let this process in."""

START_SECONDS = 120.0
"""How long a worker may take that the cluster, as it is, has no room for: it may have to grow."""

IDLE_SECONDS = 60.0
"""How long a worker is kept that has nothing to do."""


class RayBackend:
    """Runs calls on a Ray cluster.

    Parameters
    ----------
    address : str, optional
        ``ray://host:10001``, or ``ray://auto`` for the Ray on this machine. None: the Ray that this
        process is connected to, else that of ``RAY_ADDRESS``, else one that is started here and
        stopped with the backend.
    connect_timeout : float
        Seconds until the Ray at the address must have let this process in.
    start_timeout : float
        Seconds to wait for a worker for which no node of the cluster is large enough, until the
        cluster has grown.
    idle_worker_timeout : float
        Seconds until a worker that has nothing to do is given back to the cluster.
    ray_options : mapping, optional
        Further arguments for `ray.init`.
    tasks : bool, optional
        Whether batches run as plain tasks instead of in worker actors, which hold their place for
        the whole ``with`` block. None: as tasks inside of Ray tasks and actors, else in actors.
    num_cpus, num_gpus, resources, memory, runtime_env, scheduling_strategy
        What a worker asks of the cluster; one CPU where it is not given.

    Notes
    -----
    Threads and processes: safe to use from several threads. Workers are kept from one ``Parallel``
    call to the next and given back when the backend is closed. Calls nested in calls run in threads
    of their worker, then one after the other: they take no CPU that the cluster counts.

    Examples
    --------
    >>> from jobspan import Parallel, delayed, parallel_config
    >>> with parallel_config("ray", n_jobs=2):  # doctest: +SKIP
    ...     Parallel()(delayed(abs)(x) for x in [-1, -2])
    [1, 2]
    """

    name = "ray"
    capabilities = Capabilities(remote=True, kills_calls=True)

    def __init__(
        self,
        address: str | None = None,
        *,
        connect_timeout: float = CONNECT_SECONDS,
        start_timeout: float = START_SECONDS,
        idle_worker_timeout: float = IDLE_SECONDS,
        ray_options: Mapping[str, Any] | None = None,
        tasks: bool | None = None,
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
        self._start_timeout = start_timeout
        self._idle_seconds = idle_worker_timeout
        self._ray_options = dict(ray_options or {})
        self._tasks = tasks
        demands = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "resources": resources,
            "memory": memory,
            "runtime_env": runtime_env,
            "scheduling_strategy": scheduling_strategy,
        }
        self._demands = {name: value for name, value in demands.items() if value is not None}
        self._room = Room(self._demands)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._crew: Crew | None = None
        self._content: ContentStore | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown_address(self._address)!r})"

    @property
    def on_this_machine(self) -> bool:
        """Whether it is known that all workers are here: Ray was started for them."""
        return self._connection is not None and self._connection.on_this_machine

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return how many workers the cluster has room for, or as many as were asked for."""
        if n_jobs > 0:
            return n_jobs
        self._connected()
        return jobs_asked_for(n_jobs, available=self._room.workers())

    def nested(self, settings: Settings) -> Settings:
        """Return settings under which inner calls run in threads, then one after the other."""
        level = settings.level + 1
        return Settings(
            backend="threads" if level <= 1 else "sequential",
            level=level,
            cores=max(1, int(self._demands["num_cpus"])),
        )

    def open(self, plan: Plan) -> RayExecutor:
        """Connect, if need be, and return an executor."""
        crew, content = self._connected()
        nested = inside_worker()
        tasks = nested if self._tasks is None else self._tasks
        return RayExecutor(
            plan,
            crew,
            content,
            self._room,
            # A task's own start is not seen from here: what has a time limit runs in actors.
            tasks=tasks and plan.task_timeout is None,
            nested=nested,
            start_timeout=self._start_timeout,
        )

    def close(self) -> None:
        """Give the workers back; stop the Ray that was started here."""
        with self._lock:
            crew, self._crew = self._crew, None
            content, self._content = self._content, None
            connection, self._connection = self._connection, None
        if content is not None:
            content.clear()
        if connection is None:
            return
        if crew is not None and connection.alive:
            crew.dismiss()
        connection.close()

    def _connected(self) -> tuple[Crew, ContentStore]:
        with self._lock:
            connection = self._connection
            if (
                self._crew is None
                or self._content is None
                or connection is None
                or not connection.alive
            ):
                self._connection = Connection(self._address, self._ray_options, self._timeout)
                # Tasks and actors wait for others of their kind: what they would keep is missed.
                idle_seconds = 0.0 if inside_worker() else self._idle_seconds
                self._crew = Crew(self._demands, idle_seconds)
                self._content = ContentStore(ray_package().put, lambda _handle: True)
            return self._crew, self._content
