"""Clusters that the tests share, and deployments as administrators start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

distributed = pytest.importorskip("distributed")

DASK = str(Path(sys.executable).parent / "dask")


class Deployment:
    """``dask scheduler`` and ``dask worker``, processes with an environment of their own.

    Nothing of the tests' environment is handed on, so the user's project cannot be imported there.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._numbers = 0
        self.scheduler = self._start(
            "scheduler", "--port", "0", "--host", "127.0.0.1", **environment
        )
        deadline = time.monotonic() + 60
        while not self.file.exists() or not self.file.read_text():
            assert time.monotonic() < deadline
            assert self.scheduler.poll() is None
            time.sleep(0.05)
        self.url = f"dask://{self.file}"

    def _start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [DASK, *arguments, "--scheduler-file", str(self.file), "--no-dashboard"],
            cwd=self.folder,
            env={"PATH": os.defpath, "HOME": str(self.folder), **environment},
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "out.txt").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def add_worker(self, *arguments: str, **environment: str) -> str:
        """Start a worker, and return its name; it joins when it is ready."""
        self._numbers += 1
        name = f"worker-{self._numbers}"
        self.workers[name] = self._start(
            "worker",
            *("--name", name, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1"),
            *("--local-directory", str(self.folder / name)),
            *arguments,
            **environment,
        )
        return name

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a worker."""
        self.workers[name].send_signal(number)
        if number == signal.SIGKILL:
            self.workers.pop(name).wait(10)

    def client(self) -> Any:
        """Return a client for looking on."""
        return distributed.Client(scheduler_file=str(self.file), set_as_default=False)

    def tasks(self) -> list[str]:
        """Return the names of the tasks that the scheduler knows."""
        with self.client() as client:
            names: list[str] = client.run_on_scheduler(
                lambda dask_scheduler: [str(key) for key in dask_scheduler.tasks]
            )
        return names

    def held(self) -> list[str]:
        """Return the names of what the workers have."""
        with self.client() as client:
            found = client.run(
                lambda dask_worker: [
                    str(key) for key in (*dask_worker.state.tasks, *dask_worker.data)
                ]
            )
        return [name for names in found.values() for name in names]

    def wait_for(self, count: int) -> None:
        """Wait until there are so many workers."""
        with self.client() as client:
            wait_until(lambda: len(client.nthreads()) == count)

    def stop(self) -> None:
        """Kill all that is left."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.05)


@contextmanager
def two_workers(made: Deployment) -> Iterator[None]:
    """Give a deployment two workers, and stop it in the end."""
    try:
        made.add_worker()
        made.add_worker()
        made.wait_for(2)
        yield
    finally:
        made.stop()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A scheduler and two workers, which tests may kill; they leave two."""
    made = Deployment(tmp_path_factory.mktemp("deployment"))
    with two_workers(made):
        yield made


@pytest.fixture
def lone_scheduler(tmp_path: Path) -> Iterator[Deployment]:
    """A scheduler without workers."""
    made = Deployment(tmp_path)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Deployment]:
    """Two workers, and a scheduler that soon gives up a worker of which it hears nothing."""
    made = Deployment(tmp_path, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="1s")
    with two_workers(made):
        yield made


@pytest.fixture(scope="module")
def small_client() -> Iterator[Any]:
    """A client of a cluster with one worker of one thread."""
    from jobspan.backends.dask.connecting import close, start_cluster

    client = start_cluster(1, {})
    yield client
    close(client, own_cluster=True)


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait until something is true."""
    return wait_until
