"""One cluster, several drivers: by address, ``ray://``, as a job, killed, two at once."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
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


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be read about does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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

    def open_client_door(self) -> tuple[str, subprocess.Popen[bytes]]:
        """Start what answers to ``ray://``; return its address.

        Not by way of Ray's proxy, whose servers take fixed ports of the machine.
        """
        port = free_port()
        where = ["--address", self.address, "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(
            [sys.executable, "-m", "ray.util.client.server", *where, "--mode", "specific-server"]
        )
        wait_until(lambda: is_open(port))
        return f"ray://127.0.0.1:{port}", server


def is_open(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


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


def test_by_ray_client(head: Head, run_driver: Callable[..., str]) -> None:
    data = """
import numpy as np
import pytest
from jobspan.errors import WorkerLostError
array = np.arange(300_000, dtype=float)
def total(holder):
    return float(holder["array"].sum())
def make(x):
    return np.full(300_000, x)
def die(x):
    os._exit(1) if x == 3 else x
with parallel_config({backend!r}, n_jobs=2):
    assert Parallel()(delayed(total)({{"array": array}}) for _ in range(4)) == [array.sum()] * 4
    assert [a[-1] for a in Parallel()(delayed(make)(x) for x in range(4))] == [0, 1, 2, 3]
    stream = Parallel(return_as="generator_unordered")(delayed(abs)(x) for x in range(20))
    assert sorted(stream) == list(range(20))
    results = Parallel(on_error="return")(delayed(die)(x) for x in range(6))
    assert isinstance(results.pop(3).exception, WorkerLostError)
    assert results == [None] * 5
"""
    address, server = head.open_client_door()
    try:
        source = SQUARES.format(backend=address, n_jobs=-1, options="")
        assert run_driver(source + data.format(backend=address), 80) == "right 2\n"
    finally:
        server.kill()
        server.wait(10)


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


def test_driver_killed(head: Head, start_driver: Callable[..., Any], tmp_path: Path) -> None:
    """What a killed driver had on the cluster is free within seconds."""
    driver = start_driver(
        f"""
        import os, time
        from jobspan import Parallel, delayed, parallel_config
        def hold(x):
            open({str(tmp_path)!r} + "/" + str(os.getpid()), "w").close()
            time.sleep(600)
        with parallel_config("ray", n_jobs=2):
            Parallel(batch_size=1)(delayed(hold)(x) for x in range(4))
        """,
        RAY_ADDRESS=head.address,
    )
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2, 40)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    driver.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids)), 30)


@pytest.mark.timeout(180)
def test_own_ray_of_a_killed_driver(start_driver: Callable[..., Any]) -> None:
    """A Ray that was started for a script dies with it."""
    driver = start_driver(
        """
        import os, time
        from jobspan import Parallel, delayed, parallel_config
        def hold(x):
            time.sleep(600)
        options = dict(num_cpus=1, object_store_memory=80 << 20)
        with parallel_config("ray", n_jobs=1, ray_options=options):
            Parallel()([delayed(os.getpid)()])
            print("up", flush=True)
            Parallel(batch_size=1)(delayed(hold)(x) for x in range(4))
        """
    )
    assert driver.stdout.readline() == "up\n"
    family = psutil.Process(driver.pid).children(recursive=True)
    # Ray's agents look for its head for a minute before they give up.
    agents = {each.pid for each in family if "Agent" in " ".join(each.cmdline())}
    workers = {each.pid for each in family} - agents
    assert len(workers) >= 3
    driver.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, workers)), 30)
    wait_until(lambda: not any(map(is_alive, agents)), 120)


def test_own_ray_in_a_thread(run_driver: Callable[..., str]) -> None:
    """A Ray that was started in a thread which ends serves the next thread, and is stopped."""
    out = run_driver(
        """
        import threading, psutil, ray
        from jobspan import Parallel, delayed
        from jobspan.backends.ray import RayBackend
        backend = RayBackend(ray_options=dict(num_cpus=1, object_store_memory=80 << 20))
        results = []
        def run():
            results.extend(Parallel(n_jobs=1, backend=backend)(delayed(abs)(x) for x in [-1, -2]))
        def run_in_thread():
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        for _ in range(2):
            run_in_thread()
        ray.shutdown()  # the user's own
        run_in_thread()
        print(results)
        backend.close()
        print(len(psutil.Process().children()))
        """
    )
    assert out == "[1, 2, 1, 2, 1, 2]\n0\n"
