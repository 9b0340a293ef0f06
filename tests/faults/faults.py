"""The faults, one an entry: what goes wrong, where, and what may come of it."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FAULTS", "FOLDER", "FaultSpec", "die_while_storing"]

FOLDER = "JOBSPAN_FAULT_FOLDER"
"""The environment variable that tells a call where it may leave a sign."""


@dataclass(frozen=True)
class FaultSpec:
    """One fault.

    Parameters
    ----------
    about : str
        What goes wrong, for the table.
    in_call : callable or None
        What one call does, in its worker, each time or the first time.
    always : bool
        Whether it does so each time: then its call fails, and no other one.
    errors : tuple of str
        The errors, by name, that may come of it; where there are none the result must be right.
    options : dict
        Further arguments of `Parallel`.
    backends, stores : tuple of str
        Where it makes sense.
    limits : dict
        Limits of the process, by the names in `resource`.
    mounts : tuple of str
        Folders that are a small disk for this run: "/dev/shm", "CACHE" or "TEMP".
    proxy : tuple of dict
        What the proxy before the store does to requests.
    latency : float
        Seconds for which it holds each of them back.
    clock : bool
        Whether the program has a wall clock that it can set.
    environment : dict
        Environment variables of the program.
    scene : str
        The function of `tests.faults.scene` that runs it.
    """

    about: str
    in_call: Callable[[], Any] | None = None
    always: bool = False
    errors: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    backends: tuple[str, ...] = ("processes",)
    stores: tuple[str, ...] = ("none",)
    limits: dict[str, int] = field(default_factory=dict)
    mounts: tuple[str, ...] = ()
    proxy: tuple[dict[str, Any], ...] = ()
    latency: float = 0.0
    clock: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    scene: str = "calls"


# --- in a call -------------------------------------------------------------------------------


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)


def segfault() -> None:
    ctypes.string_at(0)


def take_all_memory() -> None:
    taken = Path("/proc/self/statm").read_text().split()[0]
    here = int(taken) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (here + (200 << 20), limits[1]))
    try:
        bytearray(400 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def fork_and_exit() -> None:
    child = os.fork()
    if child == 0:
        os._exit(3)
    os.waitpid(child, 0)


def fork_and_fall_through() -> None:
    """What a library does that forgets where it is: the child raises out of the call."""
    child = os.fork()
    if child == 0:
        sys.exit(3)
    os.waitpid(child, 0)


def fork_and_compute() -> None:
    """A child that uses jobspan itself."""
    child = os.fork()
    if child == 0:
        from jobspan import Parallel, delayed

        done = Parallel(n_jobs=2, backend="threads")(delayed(abs)(-x) for x in range(4))
        os._exit(0 if done == [0, 1, 2, 3] else 4)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"the child ended with {status}")


def open_all() -> None:
    opened = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[0]), limits[1]))
    try:
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise OSError(error.errno, "no descriptors left") from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def die_while_storing() -> None:
    """Let this process die as it stores: half a file is written, a request is on its way."""
    from jobspan.memory.recall import Cache
    from jobspan.store import local_files

    def die() -> None:
        Path(os.environ[FOLDER], "died").touch()
        kill()

    def write_half(descriptor: int, data: Any) -> None:
        os.write(descriptor, memoryview(data)[: len(data) // 2])
        die()

    publish: Any = Cache.publish

    def publish_and_die(*arguments: Any) -> Any:
        threading.Timer(0.15, die).start()
        return publish(*arguments)

    local_files._fill = write_half
    Cache.publish = publish_and_die  # type: ignore[method-assign]


def exit_in_thread() -> None:
    threading.Thread(target=os._exit, args=(9,)).start()
    time.sleep(30)


CLUSTERS = ("processes", "dask", "ray")
ALL = ("threads", *CLUSTERS)
STORES = ("none", "disk", "s3")
LOST = ("WorkerLostError",)

FAULTS: dict[str, FaultSpec] = {
    "SIGKILL, retried": FaultSpec(
        "a worker is killed once", kill, options={"retries": 2}, backends=CLUSTERS, stores=STORES
    ),
    "SIGKILL, again and again": FaultSpec(
        "one call kills every worker", kill, always=True, errors=LOST, backends=CLUSTERS
    ),
    "SIGSEGV, retried": FaultSpec(
        "a worker crashes once", segfault, options={"retries": 2}, backends=CLUSTERS, stores=STORES
    ),
    "SIGSEGV, again and again": FaultSpec(
        "one call crashes every worker", segfault, always=True, errors=LOST, backends=CLUSTERS
    ),
    "SIGSTOP": FaultSpec(
        "one call stops its worker",
        stop,
        always=True,
        errors=("TaskTimeoutError",),
        options={"task_timeout": 3.0},
        backends=("processes", "ray"),
        stores=("none", "disk"),
    ),
    "SIGSTOP on Dask": FaultSpec(
        "one call stops its worker; Dask's worker-ttl is 10 s, five minutes by default",
        stop,
        always=True,
        errors=("WorkerLostError",),
        backends=("dask",),
        environment={"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"},
    ),
    "SIGSTOP, retried": FaultSpec(
        "a worker stops once",
        stop,
        options={"task_timeout": 3.0, "retries": 2},
        backends=("processes", "ray"),
        stores=STORES,
    ),
    "os._exit in a thread": FaultSpec(
        "a worker ends without a word", exit_in_thread, always=True, errors=LOST, backends=CLUSTERS
    ),
    "out of memory": FaultSpec(
        "a call asks for more than its limit (RLIMIT_AS)",
        take_all_memory,
        always=True,
        errors=("MemoryError",),
        backends=ALL,
    ),
    "descriptors used up in a call": FaultSpec(
        "a call opens files until none can be opened",
        open_all,
        always=True,
        errors=("OSError",),
        backends=CLUSTERS,
    ),
    "few descriptors": FaultSpec(
        "the program may open 128 files, and shares 100 arrays",
        limits={"RLIMIT_NOFILE": 128},
        scene="arrays",
        backends=ALL,
        stores=("none", "disk"),
    ),
    "shared memory full": FaultSpec(
        "/dev/shm holds a megabyte, arrays are larger",
        mounts=("/dev/shm",),
        scene="arrays",
        backends=("processes", "dask", "ray"),
    ),
    "no memory to share": FaultSpec(
        "the kernel refuses memory files, the temporary folder holds a megabyte",
        mounts=("TEMP",),
        scene="arrays_without_memory",
        errors=("TransportError",),
    ),
    "disk full": FaultSpec(
        "the cache's disk holds a megabyte",
        mounts=("CACHE",),
        scene="arrays",
        backends=("sequential", *ALL),
        stores=("disk",),
    ),
    "temporary disk full": FaultSpec(
        "the temporary folder holds a megabyte",
        mounts=("TEMP",),
        scene="arrays",
        backends=("processes", "dask"),
        stores=("none", "disk"),
    ),
    "temporary disk full on Ray": FaultSpec(
        "the temporary folder, where Ray's session lies and its store spills, holds a megabyte",
        mounts=("TEMP",),
        scene="arrays",
        errors=("TransportError",),
        backends=("ray",),
        stores=("none", "disk"),
    ),
    "clock jumps": FaultSpec(
        "the wall clock of the program and its workers is set by a day, to and fro",
        clock=True,
        scene="clocks",
        backends=("threads", "processes", "ray"),
        stores=STORES,
    ),
    "clock set ahead": FaultSpec(
        "the wall clock of the program, its workers and their cluster is set a day ahead",
        clock=True,
        scene="clock_set",
        backends=CLUSTERS,
        stores=("none", "disk"),
    ),
    "program suspended": FaultSpec(
        "the program and its workers sleep for three seconds, as a laptop does",
        scene="suspended",
        backends=ALL,
        stores=("none", "disk"),
    ),
    "torn entries": FaultSpec(
        "entries were cut off when a machine lost its power",
        scene="torn",
        backends=("sequential", *ALL),
        stores=("disk", "s3"),
    ),
    "writer killed": FaultSpec(
        "a program is killed while it stores results",
        scene="writer_killed",
        backends=ALL,
        stores=("disk", "s3"),
    ),
    "worker killed as it stores": FaultSpec(
        "a worker dies within a write: half a file is there, or a request is on its way",
        die_while_storing,
        options={"retries": 2},
        latency=0.3,
        backends=CLUSTERS,
        stores=("disk", "s3"),
    ),
    "fork, the child exits": FaultSpec("a call forks", fork_and_exit, always=True, backends=ALL),
    "fork, the child falls through": FaultSpec(
        "a call forks, and the child leaves it by an exception",
        fork_and_fall_through,
        always=True,
        backends=ALL,
    ),
    "fork, the child computes": FaultSpec(
        "a call forks, and the child uses jobspan",
        fork_and_compute,
        always=True,
        backends=ALL,
    ),
    "interpreter ends": FaultSpec(
        "the program ends while results are on their way",
        scene="ends_early",
        backends=ALL,
        stores=STORES,
    ),
    "interpreter ends in a thread": FaultSpec(
        "the program ends while another thread computes",
        scene="ends_beside",
        backends=ALL,
    ),
    "Ctrl-C": FaultSpec(
        "Ctrl-C at random moments",
        scene="interrupted",
        errors=("KeyboardInterrupt",),
        backends=("sequential", *ALL),
        stores=STORES,
    ),
    "store 500": FaultSpec(
        "the store answers 500 eight times",
        proxy=({"kind": "error", "times": 8},),
        backends=("sequential", *ALL),
        stores=("s3",),
    ),
    "store 503": FaultSpec(
        "the store answers 503 eight times",
        proxy=({"kind": "unavailable", "times": 8},),
        backends=ALL,
        stores=("s3",),
    ),
    "store 503 for ever": FaultSpec(
        "the store answers 503 from now on",
        proxy=({"kind": "unavailable", "times": 10**9},),
        backends=ALL,
        stores=("s3",),
    ),
    "store slow": FaultSpec(
        "each answer takes 300 ms",
        latency=0.3,
        backends=ALL,
        stores=("s3",),
    ),
    "store silent": FaultSpec(
        "six requests are never answered",
        proxy=({"kind": "silence", "times": 6},),
        backends=ALL,
        stores=("s3",),
    ),
    "lost answers": FaultSpec(
        "ten writes are done and not answered",
        proxy=({"kind": "lost answer", "times": 10, "method": "PUT"},),
        backends=ALL,
        stores=("s3",),
    ),
    "torn answers": FaultSpec(
        "the connection breaks within ten answers",
        proxy=({"kind": "torn answer", "times": 10},),
        backends=ALL,
        stores=("s3",),
    ),
    "lost requests": FaultSpec(
        "ten requests never arrive",
        proxy=({"kind": "lost request", "times": 10},),
        backends=ALL,
        stores=("s3",),
    ),
}
