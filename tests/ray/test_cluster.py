"""One cluster, several drivers: by address, ``ray://``, as a job, killed, two at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.timeout(90)


def wait_until(true: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until something holds, and fail if it does not in time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"did not hold within {seconds:g} s"
        time.sleep(0.1)


def free_port() -> int:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


class Head:
    """A cluster of one node with 2 CPUs, and where its doors are."""

    def __init__(self) -> None:
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2,
                "object_store_memory": 128 << 20,
                "include_dashboard": False,
            },
        )
        self.address = self.cluster.address


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    made = Head()
    yield made
    made.cluster.shutdown()


SQUARES = """
from jobspan import Parallel, delayed, parallel_config
import os, time
def square(x):
    return x * x
def who(_):
    time.sleep(0.2)
    return os.getpid()
with parallel_config({backend!r}, n_jobs={n_jobs}{options}):
    assert Parallel()(delayed(square)(x) for x in range(300)) == [x * x for x in range(300)]
    workers = set(Parallel(batch_size=1)(delayed(who)(x) for x in range(16)))
    again = set(Parallel(batch_size=1)(delayed(who)(x) for x in range(8)))
    assert os.getpid() not in workers
print("right", len(workers | again))
"""


def test_by_address(head: Head, run_driver: Callable[..., str]) -> None:
    source = SQUARES.format(backend="ray", n_jobs=-1, options=f", address={head.address!r}")
    assert run_driver(source) == "right 2\n"


def test_by_environment(head: Head, run_driver: Callable[..., str]) -> None:
    """As in a job that was submitted to a cluster, whose entry point finds RAY_ADDRESS."""
    source = SQUARES.format(backend="ray", n_jobs=-1, options="")
    assert run_driver(source, RAY_ADDRESS=head.address) == "right 2\n"


def test_two_drivers(head: Head, start_driver: Callable[..., Any]) -> None:
    """The second one waits for its turn, says so, and both get what they asked for."""
    source = """
    import time, warnings
    from jobspan import Parallel, delayed, parallel_config
    warnings.simplefilter("ignore")
    def slow(x):
        time.sleep(0.05)
        return x
    with parallel_config("ray", n_jobs=-1):
        for _ in range(3):
            assert Parallel()(delayed(slow)(x) for x in range(20)) == list(range(20))
    print("right")
    """
    drivers = [start_driver(source, RAY_ADDRESS=head.address) for _ in range(2)]
    for driver in drivers:
        out, err = driver.communicate(timeout=60)
        assert (driver.returncode, out) == (0, "right\n"), err


def test_own_ray_in_a_thread(run_driver: Callable[..., str]) -> None:
    """A Ray that was started in a thread which ends serves the next thread, and is stopped."""
    out = run_driver(
        """
        import threading, psutil
        from jobspan import Parallel, delayed
        from jobspan.backends.ray import RayBackend
        backend = RayBackend(ray_options=dict(num_cpus=1, object_store_memory=80 << 20))
        results = []
        def run():
            results.extend(Parallel(n_jobs=1, backend=backend)(delayed(abs)(x) for x in [-1, -2]))
        for _ in range(2):
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        print(results)
        backend.close()
        print(len(psutil.Process().children()))
        """
    )
    assert out == "[1, 2, 1, 2]\n0\n"
