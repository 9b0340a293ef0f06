"""What goes wrong on a cluster: workers killed, nodes gone, memory short; never a hang."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobspan import Parallel, delayed, parallel_config
from jobspan.errors import WorkerLostError
from jobspan.outcomes import FailureKind

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.timeout(90)


def wait_until(true: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until something holds, and fail if it does not in time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"did not hold within {seconds:g} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node with 2 CPUs, to which this process is connected."""
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "object_store_memory": 128 << 20,
            "include_dashboard": False,
        },
    )
    ray.init(address=made.address, logging_level="error", log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def mark_and_sleep(folder: str, number: int, seconds: float) -> int:
    (Path(folder) / f"{number}-{os.getpid()}").touch()
    time.sleep(seconds)
    return number


def pid_and_node(seconds: float, folder: str = "") -> tuple[int, str]:
    node = ray.get_runtime_context().get_node_id()
    if folder:
        Path(folder, node).touch()
    time.sleep(seconds)
    return os.getpid(), node


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    return thread, results


def test_worker_killed_in_mid_batch(cluster: Any, tmp_path: Path) -> None:
    """Only the call that ran is lost; with a retry nothing is."""
    with parallel_config("ray", n_jobs=2):
        for folder, retries in (("a", 0), ("b", 2)):
            place = tmp_path / folder
            place.mkdir()
            calls = [(str(place), number, 30 if number == 2 else 0.01) for number in range(8)]
            parallel = Parallel(batch_size=1, on_error="return", retries=retries)
            if retries:
                calls = [(*call[:2], 1.5 if call[1] == 2 else 0.01) for call in calls]
            thread, results = in_thread(
                lambda calls=calls, parallel=parallel: parallel(
                    delayed(mark_and_sleep)(*call) for call in calls
                )
            )
            wait_until(lambda place=place: list(place.glob("2-*")))
            time.sleep(0.3)  # so long that it must be this call which took the worker down
            pid = int(next(place.glob("2-*")).name.partition("-")[2])
            os.kill(pid, signal.SIGKILL)
            thread.join(60)
            (got,) = results
            if retries:
                assert got == list(range(8))
                assert parallel.stats.retries == 1
            else:
                assert got[:2] + got[3:] == [0, 1, 3, 4, 5, 6, 7]
                assert isinstance(got[2].exception, WorkerLostError)
                assert got[2].kind is FailureKind.LOST
                marks = [path.name.partition("-")[0] for path in place.iterdir()]
                assert marks.count("2") == 1  # no hidden retry


def test_more_jobs_than_the_cluster_has_room_for(cluster: Any) -> None:
    """Workers that never get a place hold no work back."""
    with parallel_config("ray", n_jobs=6):
        results = Parallel(batch_size=1)(delayed(pid_and_node)(0.01) for _ in range(30))
    assert len({pid for pid, _ in results}) <= 2


def test_node_added_and_removed(cluster: Any, tmp_path: Path) -> None:
    """``n_jobs=-1`` takes in a node that joins, and goes on without one that leaves."""
    with parallel_config("ray", n_jobs=-1, retries=3), Parallel(batch_size=1) as parallel:
        assert len({node for _, node in parallel([delayed(pid_and_node)(0.01)] * 10)}) == 1
        node = cluster.add_node(num_cpus=2, object_store_memory=80 << 20)
        thread, results = in_thread(lambda: parallel([delayed(pid_and_node)(0.1)] * 160))
        thread.join(60)
        assert len({node for _, node in results[0]}) == 2
        call = delayed(pid_and_node)(0.1, str(tmp_path))
        thread, results = in_thread(lambda: parallel([call] * 80))
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)  # it has work on both
        cluster.remove_node(node, allow_graceful=False)
        thread.join(60)
        assert len(results[0]) == 80


def test_memory_error_is_the_users(cluster: Any) -> None:
    """A call that asks for more memory than there is fails alone, and the worker goes on."""

    def greedy(x: int) -> int:
        if x == 1:
            np.ones(1 << 45)
        return x

    with parallel_config("ray", n_jobs=2):
        results = Parallel(on_error="return")(delayed(greedy)(x) for x in range(4))
    assert isinstance(results[1].exception, MemoryError)
    assert [results[0], results[2], results[3]] == [0, 2, 3]


NESTED = """
import os, ray
from jobspan import Parallel, delayed, parallel_config
options = dict(include_dashboard=False, object_store_memory=80 << 20, logging_level="error")
ray.init("local", num_cpus=1, **options)
def inner(x):
    return x * x
@ray.remote
def task(depth):
    if depth:
        with parallel_config("ray", n_jobs=2):
            Parallel()(delayed(inner)(x) for x in range(4))
            return sum(Parallel(batch_size=1)(delayed(inner)(x) for x in range(20)))
    return sum(ray.get([task.remote(depth + 1) for _ in range(2)]))
@ray.remote(num_cpus=1)
class Actor:
    def run(self):
        with parallel_config("ray", n_jobs=2):
            return sum(Parallel()(delayed(inner)(x) for x in range(20)))
def outer(x):
    return sum(Parallel(n_jobs=2, backend="ray")(delayed(inner)(y) for y in range(x)))
print(ray.get(task.remote(0)))
actor = Actor.remote()
print(ray.get(actor.run.remote()))
ray.kill(actor)
with parallel_config("ray", n_jobs=1):
    print(Parallel()(delayed(outer)(x) for x in range(3)))
"""


def test_nested_on_one_cpu(run_driver: Callable[..., str]) -> None:
    """Inside Ray tasks, an actor that holds the CPU, and calls that name the backend again."""
    assert run_driver(NESTED, 80) == "4940\n2470\n[0, 0, 1]\n"


SMALL_STORE = """
import ray
import numpy as np
from jobspan import Parallel, delayed, parallel_config
options = dict(include_dashboard=False, object_store_memory=80 << 20, logging_level="error")
ray.init("local", num_cpus=2, **options)
def make(x):
    return np.full(5 << 20, x, dtype="f4")
def total(array, x):
    return float(array[0]) + x
with parallel_config("ray", n_jobs=2):
    results = Parallel()(delayed(make)(x) for x in range(10))
    assert [float(r[0] + r[-1]) for r in results] == [2.0 * x for x in range(10)]
    print(sum(r.nbytes for r in results) >> 20)
    for array in results:
        Parallel()(delayed(total)(array, x) for x in range(2))
    del results, array
    count = 0
    for result in Parallel(return_as="generator")(delayed(make)(x) for x in range(10)):
        count += int(result[5])
    print(count)
"""


def test_small_object_store(run_driver: Callable[..., str]) -> None:
    """200 MB of results come through a store of 80 MB, and so do 200 MB of arguments."""
    assert run_driver(SMALL_STORE, 80) == "200\n45\n"


HUNGRY = """
import os, time
import numpy as np
import psutil
memory = psutil.virtual_memory()
used = (memory.total - memory.available) / memory.total
os.environ["RAY_memory_usage_threshold"] = str(min(0.97, used + (2 << 30) / memory.total))
os.environ["RAY_memory_monitor_refresh_ms"] = "100"
from jobspan import Parallel, delayed, parallel_config
def eat(x):
    if x == 2:
        hoard = []
        for _ in range(64):
            hoard.append(np.ones(16 << 20))
            time.sleep(0.05)
        time.sleep(30)
    return x
options = dict(num_cpus=1, object_store_memory=80 << 20)
with parallel_config("ray", n_jobs=1, on_error="return", ray_options=options):
    results = Parallel(batch_size=1)(delayed(eat)(x) for x in range(4))
failure = results.pop(2)
print(results, failure.kind.value, "memory" in str(failure.exception).lower())
"""


def test_actor_out_of_memory(run_driver: Callable[..., str]) -> None:
    """Ray ends a worker before the machine's memory does; only its call is lost, and says why."""
    assert run_driver(HUNGRY, 80).splitlines()[-1] == "[0, 1, 3] lost True"


def die_soon(seconds: float) -> float:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)
    return seconds


def test_a_worker_that_dies_as_all_is_cancelled_takes_nothing_of_the_next_call(
    cluster: Any,
) -> None:
    with parallel_config(backend="ray"):
        for pause in (0.0, 0.03, 0.06):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # calls have been cancelled
                results = Parallel(n_jobs=2, return_as="generator", batch_size=1)(
                    delayed(function)(seconds)
                    for function, seconds in [(abs, 1.0), (die_soon, pause), (time.sleep, 5.0)]
                )
                assert next(results) == 1.0
                results.close()
            assert Parallel(n_jobs=2)(delayed(abs)(-x) for x in range(8)) == list(range(8))
