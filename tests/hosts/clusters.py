"""Clusters over several hosts: scheduler, workers, S3 server and driver each on its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from network import Host, Network
from tests.busyness import busyness

SCRIPTS = Path(sys.executable).parent
PROJECT = Path(__file__).with_name("project")
ENDS_WITHIN = 100
"""Seconds that a pipeline may take, where the machine does nothing else, as all limits here."""


def limit(seconds: float) -> float:
    """Return when to give up, by the monotonic clock: later where the machine is busy."""
    return time.monotonic() + seconds * min(busyness(), 4)


class Cluster:
    """Hosts with their servers running.

    Attributes
    ----------
    backend : str
        What the driver passes to `Parallel`.
    """

    worker_count = 2

    def __init__(self, network: Network) -> None:
        self.network = network
        self.head = network.host("head")
        self.store = network.host("store")
        self.workers = [network.host(f"worker{number}") for number in range(self.worker_count)]
        self.driver = network.host("driver")
        self.runs = 0
        self.backend = ""
        self.environment: dict[str, str] = {}
        self.store.start(str(SCRIPTS / "moto_server"), "-H", self.store.address, "-p", "5000")
        self.start()
        self.wait_for(self.store, 5000)
        self.make_bucket()

    def start(self) -> None:
        """Start scheduler and workers."""
        raise NotImplementedError

    @property
    def storage_options(self) -> dict[str, Any]:
        return {
            "key": "testing",
            "secret": "testing",
            "endpoint_url": f"http://{self.store.address}:5000",
            "client_kwargs": {"region_name": "us-east-1"},
            "config_kwargs": {"connect_timeout": 2, "read_timeout": 4},
        }

    def wait_for(self, host: Host, port: int, seconds: float = 60) -> None:
        """Wait until a server answers there."""
        code = f"import socket; socket.create_connection(({host.address!r}, {port}), 1).close()"
        deadline = limit(seconds)
        while subprocess.call(
            self.driver.command(sys.executable, "-c", code), stderr=subprocess.DEVNULL
        ):
            assert time.monotonic() < deadline, host.log.read_text()[-3000:]
            time.sleep(0.2)

    def make_bucket(self) -> None:
        code = (
            "import http.client; "
            f"c = http.client.HTTPConnection({self.store.address!r}, 5000); "
            "c.request('PUT', '/team'); print(c.getresponse().status)"
        )
        self.driver.run(sys.executable, "-c", code)

    def stored(self, cache: str) -> int:
        """Return how many results stand in a cache."""
        code = (
            "import json, sys; from jobspan.store import open_store; "
            "told = json.loads(sys.argv[1]); "
            "store = open_store(told['cache'], storage_options=told['storage_options']); "
            "print(sum(bytes(store.get(i.name, 0, 8)[0]) == b'jobspan\\0' for i in store.list()))"
        )
        told = json.dumps({"cache": cache, "storage_options": self.storage_options})
        done = subprocess.run(
            self.driver.command(sys.executable, "-c", code, told),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return int(done.stdout)

    def run(self, cache: str | None = None, files: int = 40, pause: float = 0.15) -> Run:
        """Start the pipeline on the driver's host."""
        self.runs += 1
        return Run(self, cache or f"s3://team/run{self.runs}", files, pause)

    def lost(self) -> list[str]:
        """Return which of its servers have ended."""
        return [
            " ".join(process.args[-4:])
            for process in self.network.processes
            if process.poll() is not None and process.stdout is None
        ]


class Run:
    """A pipeline that runs."""

    def __init__(self, cluster: Cluster, cache: str, files: int, pause: float) -> None:
        self.cluster = cluster
        self.cache = cache
        self.log = cluster.network.folder / f"computed{cluster.runs}.txt"
        self.log.touch()
        self.done = 0
        self.answer: dict[str, Any] = {}
        told = {
            "backend": cluster.backend,
            "cache": cache,
            "storage_options": cluster.storage_options,
            "files": files,
            "pause": pause,
            "log": str(self.log),
        }
        self.process = cluster.driver.start(
            sys.executable,
            str(PROJECT / "pipeline.py"),
            json.dumps(told),
            environment={**cluster.environment, "PIPED": "1"},
            cwd=PROJECT,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                self.done = told.get("done", self.done)
                if "right" in told:
                    self.answer = told

    def wait_until(self, done: int) -> None:
        """Wait until so many results have come."""
        deadline = limit(ENDS_WITHIN)
        while self.done < done:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, f"{self.done} of {done}: {self.said()}"
            time.sleep(0.05)

    def end(self) -> dict[str, Any]:
        """Wait for the end; return what the pipeline says of itself."""
        try:
            self.process.wait(limit(ENDS_WITHIN) - time.monotonic())
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it hangs after {self.done} results: {self.said()}") from None
        self._reader.join()
        assert self.process.returncode == 0, self.said()
        return self.answer

    def kill(self) -> None:
        """Kill the driver as the kernel does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._reader.join()

    def computed(self) -> list[tuple[int, str]]:
        """Return which files were computed, and on which host."""
        lines = self.log.read_text().split("\n")[:-1]
        return [(int(line.split()[0]), line.split()[1]) for line in lines]

    def said(self) -> str:
        return self.cluster.driver.log.read_text()[-3000:]


class DaskCluster(Cluster):
    """Dask's own command line, as anybody starts it."""

    def start(self) -> None:
        dask = str(SCRIPTS / "dask")
        self.backend = f"dask://{self.head.address}:8786"
        plain = ("--no-dashboard",)
        self.head.start(dask, "scheduler", "--host", self.head.address, "--port", "8786", *plain)
        for worker in self.workers:
            worker.start(
                *(dask, "worker", f"tcp://{self.head.address}:8786"),
                *("--host", worker.address, "--nthreads", "1", "--name", worker.name),
                *("--local-directory", str(worker.folder / "scratch"), *plain),
            )
        self.wait_for(self.head, 8786)


class RayCluster(Cluster):
    """Ray's own command line; the driver connects to the head as a client."""

    def start(self) -> None:
        ray = str(SCRIPTS / "ray")
        self.environment = {
            "RAY_USAGE_STATS_ENABLED": "0",
            # Who has the token of this cluster may use it; it is made for this test.
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        self.backend = f"ray://{self.head.address}:10001"
        common = ("--disable-usage-stats", "--block", f"--object-store-memory={100 << 20}")
        self.head.start(
            *(ray, "start", "--head", f"--node-ip-address={self.head.address}", "--port=6379"),
            *("--num-cpus=0", "--include-dashboard=false", "--ray-client-server-port=10001"),
            *(f"--temp-dir={self.network.shared}/ray", *common),
            environment=self.environment,
        )
        self.wait_for(self.head, 6379)
        for worker in self.workers:
            worker.start(
                *(ray, "start", f"--address={self.head.address}:6379"),
                *(f"--node-ip-address={worker.address}", "--num-cpus=1", *common),
                environment=self.environment,
            )
        self.wait_for(self.head, 10001)
        self._wait_for_nodes()

    def _wait_for_nodes(self, seconds: float = 90) -> None:
        """Wait until all have joined: a client that comes earlier may hang in Ray for ever."""
        code = (
            "import ray, sys; ray.init(sys.argv[1], logging_level='error'); "
            "sys.exit(sum(node['Alive'] for node in ray.nodes()) != int(sys.argv[2]))"
        )
        command = self.driver.command(
            sys.executable, "-c", code, self.backend, str(1 + len(self.workers))
        )
        deadline = limit(seconds)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                environment = {**os.environ, **self.environment}
                if not subprocess.call(
                    command,
                    env=environment,
                    timeout=limit(20) - time.monotonic(),
                    stderr=subprocess.DEVNULL,
                ):
                    return
            assert time.monotonic() < deadline, self.head.log.read_text()[-3000:]
            time.sleep(1)
