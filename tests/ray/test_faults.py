"""What goes wrong on a cluster: workers killed, nodes gone, memory short; never a hang."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


def pid_and_node(seconds: float) -> tuple[int, str]:
    time.sleep(seconds)
    return os.getpid(), ray.get_runtime_context().get_node_id()


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
            time.sleep(0.3)  # it is in the midst of the call
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


def test_node_added_and_removed(cluster: Any) -> None:
    """``n_jobs=-1`` takes in a node that joins, and goes on without one that leaves."""
    with parallel_config("ray", n_jobs=-1, retries=3), Parallel(batch_size=1) as parallel:
        assert len({node for _, node in parallel([delayed(pid_and_node)(0.01)] * 10)}) == 1
        node = cluster.add_node(num_cpus=2, object_store_memory=80 << 20)
        thread, results = in_thread(lambda: parallel([delayed(pid_and_node)(0.1)] * 160))
        thread.join(60)
        assert len({node for _, node in results[0]}) == 2
        thread, results = in_thread(lambda: parallel([delayed(pid_and_node)(0.1)] * 80))
        time.sleep(1)
        cluster.remove_node(node, allow_graceful=False)
        thread.join(60)
        assert len(results[0]) == 80
