"""From what the user typed to a Dask client: live, by address, of this task, or of a new one."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from jobspan.backends.addresses import shown_address, without_credentials
from jobspan.backends.dask.scratch import Scratch
from jobspan.backends.dask.unbroken import unbroken
from jobspan.errors import (
    BackendError,
    BackendUnreachableError,
    MissingExtraError,
)

__all__ = [
    "close",
    "connect",
    "distributed",
    "scatter",
    "start_cluster",
    "threads_of_workers",
    "workers_reachable",
]

T = TypeVar("T")

START_SECONDS = 60
"""How long the workers of a cluster on this machine may take to start."""

SCATTERINGS = 5
"""How often something is scattered to a worker that dies before it has it."""

REACH_SECONDS = 1.0
"""How long a worker may take to be reached directly; else its results come by the scheduler."""


def distributed() -> Any:
    """Return the package ``distributed``.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import distributed as package
    except ImportError as error:
        raise MissingExtraError("backend 'dask'", "dask") from error
    return package


def connect(address: str, timeout: float, security: Any = None) -> Any:
    """Return a client of the scheduler at an address.

    Raises
    ------
    BackendUnreachableError
        If nobody answers within `timeout` seconds.
    """
    package = distributed()
    target = address.removeprefix("dask://")
    if target.endswith(".json"):
        arguments: dict[str, Any] = {"scheduler_file": target}
    else:
        arguments = {"address": target if "://" in target else f"tcp://{target}"}
    if security is not None:
        arguments["security"] = security
    try:
        return package.Client(**arguments, timeout=timeout, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise BackendUnreachableError(
            f"no Dask scheduler answers at {shown_address(address)!r} within {timeout:g} s "
            f"({without_credentials(error)}). Check the address, start one with 'dask scheduler', "
            "or pass backend='dask' for a cluster on this machine"
        ) from None


def start_cluster(n_workers: int, options: dict[str, Any], timeout: float = 0.0) -> Any:
    """Return a client of a new cluster on this machine, which the client closes with itself.

    It works in a folder of its own, for Dask leaves locks where it has worked. Workers that are
    late join while it works.

    Raises
    ------
    BackendUnreachableError
        If no worker has started after `timeout` seconds, or `START_SECONDS` if that is longer.
    """
    seconds = max(timeout, START_SECONDS)
    package = distributed()  # before its settings are changed: it brings their defaults
    import dask

    scratch = Scratch()
    folder = scratch.path
    cluster = client = None
    quiet = "silence_logs" not in options
    if quiet:
        _silence.begin()
    try:
        # Dask's settings are the process's: two who set them at once would not put them back.
        with (
            _starting,
            dask.config.set(
                {"distributed.scheduler.allowed-failures": 0, "temporary-directory": folder}
            ),
        ):
            cluster = unbroken(
                lambda: _new_cluster(n_workers, folder, options), lambda made: made.close()
            )
        cluster.scratch = scratch
        cluster.quiet = quiet
        client = unbroken(
            lambda: package.Client(cluster, set_as_default=False), lambda made: made.close()
        )
        with contextlib.suppress(TimeoutError):
            client.wait_for_workers(n_workers, timeout=seconds)
        if not client.nthreads():
            raise BackendUnreachableError(
                f"no worker of a Dask cluster on this machine has started after {seconds:g} s. "
                "Is the machine busy? Pass a longer connect_timeout=, or backend='processes'"
            )
    except BaseException:
        if client is not None:
            close(client, own_cluster=False)
        if cluster is not None:
            _close_cluster(cluster)
        elif quiet:
            _silence.end()
        scratch.remove()
        raise
    return client


class _Silence:
    """Keeps Dask from logging below critical while there is a cluster that was started here.

    Each cluster could do so itself, but the first one to end would let all others speak.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clusters = 0
        self._undo = contextlib.ExitStack()

    def begin(self) -> None:
        from distributed.utils import silence_logging_cmgr

        with self._lock:
            self._clusters += 1
            if self._clusters == 1:
                for root in ("distributed", "bokeh"):
                    self._undo.enter_context(silence_logging_cmgr(50, root=root))

    def end(self) -> None:
        with self._lock:
            self._clusters -= 1
            if self._clusters == 0:
                self._undo.close()


_silence = _Silence()
_starting = threading.Lock()


def _new_cluster(n_workers: int, folder: str, options: dict[str, Any]) -> Any:
    """Start a cluster.

    Its workers are started by a command, not by `multiprocessing`, which would import the user's
    script again and so ask for a main guard.
    """
    package = distributed()
    if sys.platform == "win32" or options:
        return package.LocalCluster(
            **{
                "n_workers": n_workers,
                "threads_per_worker": 1,
                "dashboard_address": None,
                "silence_logs": 50,
                "local_directory": folder,
                **options,
            }
        )
    from distributed.deploy.spec import SpecCluster
    from distributed.deploy.subprocess import SubprocessWorker

    worker = {
        "cls": SubprocessWorker,
        "options": {
            "worker_class": "distributed.Nanny",
            "worker_kwargs": {
                "nthreads": 1,
                "host": "127.0.0.1",
                "dashboard": False,
                "silence_logs": 50,
                "local_directory": folder,
            },
        },
    }
    scheduler = {
        "cls": package.Scheduler,
        # Pages are off, but their port is not; and that of somebody's own cluster is taken.
        "options": {
            "host": "127.0.0.1",
            "port": 0,
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
        },
    }
    return SpecCluster(  # type: ignore[no-untyped-call]
        workers=dict.fromkeys(range(n_workers), worker),
        scheduler=scheduler,
        name="jobspan",
        silence_logs=50,
    )


def _in_loop(client: Any, work: Callable[[], Awaitable[T]], timeout: float) -> T:
    """Await `work` in the client's event loop, and return what it returns.

    What `Client.sync` starts fails in the event loop, which logs that, where Ctrl-C comes before
    the loop has got to the work.

    Raises
    ------
    TimeoutError
        If that takes longer than `timeout` seconds.
    BackendError
        If this is the event loop's thread.
    """
    if client.asynchronous:
        raise BackendError(
            "Parallel was called in the event loop of its Dask client, which waits while Parallel "
            "does. Call it in another thread: await asyncio.to_thread(...)"
        )
    came: SimpleQueue[tuple[T, None] | tuple[None, Exception]] = SimpleQueue()

    async def told() -> None:
        try:
            came.put((await work(), None))
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            came.put((None, error))

    going_on = asyncio.run_coroutine_threadsafe(told(), client.loop.asyncio_loop)
    try:
        result = came.get(timeout=timeout)
    except Empty:
        raise TimeoutError(f"no answer came within {timeout:g} s") from None
    finally:
        going_on.cancel()
    if result[1] is not None:
        raise result[1]
    return result[0]


def threads_of_workers(client: Any, timeout: float) -> dict[str, int]:
    """Return how many threads each worker has, by its address.

    Raises
    ------
    BackendUnreachableError
        If the scheduler does not say so within `timeout` seconds.
    """
    try:
        threads: dict[str, int] = _in_loop(client, client.scheduler.ncores, timeout)
    except TimeoutError:
        raise BackendUnreachableError(
            f"the Dask scheduler has not said after {timeout:g} s which workers there are. Is its "
            "machine busy? Pass a longer connect_timeout="
        ) from None
    return threads


def workers_reachable(client: Any, timeout: float) -> bool:
    """Whether workers can be reached from here without the scheduler in between.

    Raises
    ------
    BackendUnreachableError
        If the scheduler does not say within `timeout` seconds which there are.
    """
    package = distributed()
    workers = list(threads_of_workers(client, timeout))
    if not workers:
        return False

    async def reach() -> None:
        comm = await package.core.connect(
            workers[0], timeout=REACH_SECONDS, **client.connection_args
        )
        await comm.close()

    try:
        _in_loop(client, reach, timeout)
    except (OSError, TimeoutError, ValueError):
        return False
    return True


def scatter(client: Any, value: Any, *, direct: bool) -> Any:
    """Put a value on the cluster, or each one of a list; return its future, or theirs."""
    for _ in range(SCATTERINGS - 1):
        with contextlib.suppress(OSError):
            return client.scatter(value, hash=False, direct=direct)
    return client.scatter(value, hash=False, direct=direct)


def close(client: Any, *, own_cluster: bool) -> None:
    """Close a client, and the cluster that was started for it."""
    cluster = client.cluster if own_cluster else None

    def end() -> None:
        with contextlib.suppress(TimeoutError, OSError):
            client.close(timeout=5)
        if cluster is not None:
            _close_cluster(cluster)

    unbroken(end)


def _close_cluster(cluster: Any) -> None:
    with contextlib.suppress(TimeoutError, OSError):
        cluster.close(timeout=10)
    cluster.scratch.remove()
    if cluster.quiet:
        _silence.end()
