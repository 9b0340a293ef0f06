"""What lies between client, scheduler and workers: wires that break, and ways that are barred."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from jobspan import Parallel, delayed, parallel_config
from jobspan.errors import VersionMismatchError

np = pytest.importorskip("numpy")
distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.timeout(90)


def slow_square(x: int, seconds: float = 0.05) -> int:
    time.sleep(seconds)
    return x * x


class Wire:
    """Leads to a port on this machine, and can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._whole = True
        self._ends: set[asyncio.StreamWriter] = set()
        self.cuts = 0
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._lead, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *exception: object) -> None:
        self.cut()
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def cut(self) -> None:
        """Break all connections, and let none be made."""
        self._whole = False
        self._do(self._break())

    def mend(self) -> None:
        """Let connections be made again."""
        self._whole = True

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(5)

    async def _break(self) -> None:
        self.cuts += len(self._ends)
        for end in self._ends:
            end.transport.abort()

    async def _close(self) -> None:
        self._server.close()
        jobs = asyncio.all_tasks() - {asyncio.current_task()}
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        ends = {writer, far_writer}
        self._ends |= ends
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            self._ends -= ends


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
def wire(deployment: Any) -> Iterator[Wire]:
    address = json.loads(deployment.file.read_text())["address"]
    with Wire(int(address.rpartition(":")[2])) as made:
        yield made


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_the_wire_to_the_scheduler_breaks_for_a_second(
    deployment: Any, wire: Wire, until: Any, return_as: str
) -> None:
    array = np.full(300_000, 5.0)

    def add(x: int) -> float:
        time.sleep(0.05)
        return float(array[0] + x)

    def blip() -> None:
        wire.cut()
        time.sleep(1)
        wire.mend()

    with parallel_config(f"dask://127.0.0.1:{wire.port}"):
        breaking = threading.Timer(0.7, blip)
        breaking.start()
        results = Parallel(batch_size=1, return_as=return_as)(delayed(add)(x) for x in range(60))
        assert list(results) == [5.0 + x for x in range(60)]
        breaking.join()
    assert wire.cuts > 0
    until(lambda: not deployment.tasks(), seconds=10)


APART = """
import asyncio, sys
from distributed import Scheduler, Worker

async def main():
    # Who is outside of this process reaches the scheduler, but no worker.
    async with Scheduler(
        host=["127.0.0.1", None], port=[0, None], protocol=["tcp", "inproc"],
        dashboard_address=":0", scheduler_file=sys.argv[1],
    ) as scheduler:
        inside = scheduler.listeners[1].contact_address
        workers = [
            Worker(inside, nthreads=1, protocol="inproc", local_directory=sys.argv[2])
            for _ in range(2)
        ]
        async with workers[0], workers[1]:
            await scheduler.finished()

asyncio.run(main())
"""


def make(value: int) -> Any:
    return np.full(1_000_000, value)


def test_workers_that_cannot_be_reached_directly(tmp_path: Path, until: Any) -> None:
    file = tmp_path / "scheduler.json"
    process = subprocess.Popen(
        [sys.executable, "-c", APART, str(file), str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        until(lambda: file.exists() and bool(file.read_text()))
        with parallel_config(f"dask://{file}", connect_timeout=30):
            begin = time.monotonic()
            arrays = Parallel()(delayed(make)(x) for x in range(6))
            assert [int(array.sum()) for array in arrays] == [x * 1_000_000 for x in range(6)]
            assert Parallel()([delayed(len)(arrays[0])] * 4) == [1_000_000] * 4
            assert Parallel()(delayed(slow_square)(x) for x in range(5)) == [0, 1, 4, 9, 16]
            assert time.monotonic() - begin < 20
    finally:
        process.kill()
        process.wait(10)


OTHER_PYTHON = """
from distributed import versions
versions.get_system_info = lambda: {"python": "3.7.9.final.0"}
"""


def pretend_installed(folder: Path, name: str, version: str) -> str:
    """Return a folder that, as PYTHONPATH, has importlib.metadata tell this version."""
    described = folder / f"{name}-{version}.dist-info" / "METADATA"
    described.parent.mkdir(parents=True)
    described.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return str(folder)


@pytest.mark.parametrize("differs", ["Python 3.7", "jobspan 9.9", "cloudpickle 0.1"])
def test_versions_that_clash_are_told_in_one_line_before_anything_runs(
    lone_scheduler: Any, tmp_path: Path, differs: str
) -> None:
    name, version = differs.split()
    if name == "Python":
        preload = tmp_path / "other_python.py"
        preload.write_text(OTHER_PYTHON)
        lone_scheduler.add_worker("--preload", str(preload))
    else:
        path = pretend_installed(tmp_path / "other", name, version)
        lone_scheduler.add_worker(PYTHONPATH=path)
    lone_scheduler.wait_for(1)
    mark = tmp_path / "ran"
    with (
        parallel_config(lone_scheduler.url, connect_timeout=60),
        pytest.raises(VersionMismatchError, match=f"has {differs}, this process") as caught,
    ):
        Parallel()([delayed(mark.touch)()])
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def my_annotations(x: int) -> Any:
    worker = distributed.get_worker()
    return dict(worker.state.tasks[worker.get_current_task()].annotations)


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_annotations_of_dasks_own_block_pass_through(deployment: Any, return_as: str) -> None:
    import dask

    with parallel_config(deployment.url), dask.annotate(team="blue", priority=4):
        called = Parallel(return_as=return_as, annotations={"run": 7})
        found = list(called(delayed(my_annotations)(x) for x in range(3)))
    assert [(each["team"], each["priority"], each["run"]) for each in found] == [("blue", 4, 7)] * 3
