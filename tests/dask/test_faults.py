"""What goes wrong on a cluster ends in the right result, or in a clear error within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from jobspan import Parallel, delayed, parallel_config
from jobspan.backends.dask import DaskBackend
from jobspan.errors import (
    BackendError,
    BackendUnreachableError,
    JobspanWarning,
    TransportError,
)
from jobspan.plans import Plan

np = pytest.importorskip("numpy")
distributed = pytest.importorskip("distributed")

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(90)


def slow_square(x: int, seconds: float = 0.05) -> int:
    time.sleep(seconds)
    return x * x


def after(seconds: float, action: Any) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("stays where it is")


class UnpicklableError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("stays where it is")


def give_unpicklable(x: int) -> Any:
    return Unpicklable()


def raise_unpicklable(x: int) -> Any:
    raise UnpicklableError(f"number {x}")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (delayed(slow_square)(Unpicklable()), "Unpicklable"),  # type: ignore[arg-type]
        (delayed(give_unpicklable)(1), "Unpicklable"),
        (delayed(raise_unpicklable)(1), "UnpicklableError.*number 1"),
    ],
    ids=["argument", "result", "exception"],
)
def test_what_cannot_be_pickled_is_named_within_seconds(
    deployment: Any, call: Any, said: str
) -> None:
    begin = time.monotonic()
    with parallel_config(deployment.url), pytest.raises(TransportError, match=said):
        Parallel()([delayed(slow_square)(2), call, delayed(slow_square)(3)])
    assert time.monotonic() - begin < 10


def refuse(reason: str) -> Any:
    raise ValueError(reason)


class Unreadable:
    """Can be pickled, but not read again."""

    def __reduce__(self) -> Any:
        return refuse, ("cannot be read here",)


def test_an_argument_that_a_worker_cannot_unpickle_fails_its_own_call(deployment: Any) -> None:
    calls = [delayed(slow_square)(x) for x in range(4)]
    calls[2] = delayed(slow_square)(Unreadable())  # type: ignore[arg-type]
    with parallel_config(deployment.url):
        results = Parallel(on_error="return", batch_size=4)(calls)
    assert [*results[:2], results[3]] == [0, 1, 9]
    assert "cannot be read here" in str(results[2].exception)


def test_a_worker_killed_in_mid_batch(deployment: Any) -> None:
    victim = next(iter(deployment.workers))
    with parallel_config(deployment.url):
        after(0.7, lambda: deployment.kill(victim))
        results = Parallel(batch_size=4)(delayed(slow_square)(x) for x in range(60))
    assert victim not in deployment.workers
    assert results == [x * x for x in range(60)]
    deployment.add_worker()
    deployment.wait_for(2)


def named_then_slow(file: str) -> str:
    with Path(file).open("a") as workers:
        workers.write(f"{os.getpid()}\n")
    time.sleep(1.0)
    return "done"


def test_a_call_is_not_blamed_for_two_workers_that_die_of_something_else(
    tmp_path: Path, until: Any
) -> None:
    file = tmp_path / "workers"
    file.touch()

    def kill_whoever_runs_it() -> None:
        for time_ in (1, 2):
            until(lambda so_often=time_: file.read_text().count("\n") == so_often)
            os.kill(int(file.read_text().split()[-1]), signal.SIGKILL)

    with parallel_config("dask", n_workers=2):
        killer = after(0.0, kill_whoever_runs_it)
        assert Parallel()([delayed(named_then_slow)(str(file))]) == ["done"]
    killer.join()
    assert file.read_text().count("\n") == 3


def test_all_workers_killed_is_told_with_the_reason(deployment: Any) -> None:
    def kill_all() -> None:
        for name in list(deployment.workers):
            deployment.kill(name)

    with parallel_config(deployment.url, connect_timeout=2):
        after(0.7, kill_all)
        begin = time.monotonic()
        with (
            pytest.warns(JobspanWarning, match="no workers; waiting 2 s"),
            pytest.raises(BackendUnreachableError, match=r"no workers after 2 s.*unfinished"),
        ):
            Parallel()(delayed(slow_square)(x, 0.5) for x in range(200))
        assert time.monotonic() - begin < 15
    deployment.add_worker()
    deployment.add_worker()
    deployment.wait_for(2)


def test_all_workers_killed_and_one_joins_in_time(deployment: Any) -> None:
    def replace_all() -> None:
        for name in list(deployment.workers):
            deployment.kill(name)
        deployment.add_worker()
        deployment.add_worker()

    with parallel_config(deployment.url, connect_timeout=60):
        after(0.7, replace_all)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = Parallel()(delayed(slow_square)(x) for x in range(60))
    assert results == [x * x for x in range(60)]
    deployment.wait_for(2)


def test_a_paused_worker(deployment: Any) -> None:
    name = next(iter(deployment.workers))
    with parallel_config(deployment.url):
        after(0.5, lambda: deployment.kill(name, signal.SIGSTOP))
        after(3.0, lambda: deployment.kill(name, signal.SIGCONT))
        results = Parallel(batch_size=1)(delayed(slow_square)(x) for x in range(60))
    assert results == [x * x for x in range(60)]


def scaled(array: Any, x: int) -> Any:
    time.sleep(0.02)
    return array * x


def test_a_worker_that_stands_still_for_ever(impatient: Any) -> None:
    """It is given up with the results that it has, and with what was being sent to it."""
    name = next(iter(impatient.workers))
    array = np.full(300_000, 5.0)
    with parallel_config(impatient.url):
        after(0.6, lambda: impatient.kill(name, signal.SIGSTOP))
        parallel = Parallel(batch_size=1, return_as="generator")
        results = parallel(delayed(scaled)(array + x % 3, x) for x in range(90))
        assert [float(each[0]) for each in results] == [(5.0 + x % 3) * x for x in range(90)]
    assert impatient.workers[name].poll() is None


def add_sum(array: Any, x: int) -> float:
    time.sleep(0.1)
    return float(array[0] + x)


def test_lost_copies_are_sent_again(deployment: Any, until: Any) -> None:
    array = np.full(300_000, 5.0)
    with parallel_config(deployment.url), Parallel(n_jobs=1) as parallel:
        assert parallel([delayed(add_sum)(array, 1)]) == [6.0]
        (holder,) = parallel.stats.worker_seconds
        deployment.kill(holder)
        deployment.wait_for(1)
        assert parallel(delayed(add_sum)(array, x) for x in range(4)) == [5.0, 6.0, 7.0, 8.0]
        # A worker dies with the only copy while calls that need it run.
        (holder,) = parallel.stats.worker_seconds
        deployment.add_worker()
        deployment.wait_for(2)
        after(0.35, lambda: deployment.kill(holder))
        assert parallel(delayed(add_sum)(array, x) for x in range(9)) == [5.0 + x for x in range(9)]
    deployment.add_worker()
    deployment.wait_for(2)


def test_a_worker_that_joins_late_gets_the_shared_data(deployment: Any) -> None:
    late = []
    array = np.full(300_000, 5.0)
    with parallel_config(deployment.url):
        after(0.2, lambda: late.append(deployment.add_worker()))
        parallel = Parallel(batch_size=1)
        results = parallel(delayed(add_sum)(array, x) for x in range(150))
    assert results == [5.0 + x for x in range(150)]
    assert late[0] in parallel.stats.worker_seconds
    deployment.kill(late[0])
    deployment.wait_for(2)


def test_no_worker_yet_none_that_will_do_and_no_scheduler(lone_scheduler: Any) -> None:
    after(1.5, lone_scheduler.add_worker)
    with (
        parallel_config(lone_scheduler.url, connect_timeout=60),
        pytest.warns(JobspanWarning, match="no workers; waiting 60 s"),
    ):
        assert Parallel()(delayed(slow_square)(x) for x in range(5)) == [0, 1, 4, 9, 16]
    begin = time.monotonic()
    with (
        parallel_config(lone_scheduler.url, connect_timeout=1.2, resources={"FPGA": 2}),
        pytest.raises(BackendUnreachableError, match=r"no workers with resources=.*FPGA.*after 1"),
        pytest.warns(JobspanWarning, match="no workers with resources"),
    ):
        Parallel()([delayed(slow_square)(1)])
    assert time.monotonic() - begin < 10

    # The scheduler dies under a run.
    with parallel_config(lone_scheduler.url, connect_timeout=2):
        after(1.0, lone_scheduler.scheduler.kill)
        begin = time.monotonic()
        with pytest.raises(BackendUnreachableError, match=r"scheduler at .* is gone.*unfinished"):
            Parallel()(delayed(slow_square)(x, 0.5) for x in range(100))
        assert time.monotonic() - begin < 15
    with (
        parallel_config(lone_scheduler.url, connect_timeout=1),
        pytest.raises(BackendUnreachableError, match="no Dask scheduler answers"),
    ):
        Parallel()([delayed(slow_square)(1)])


INTERRUPTED = """
import time
from jobspan import Parallel, delayed, parallel_config

def work(x):
    time.sleep(0.05)
    return x

def tell(event):
    if event.done and event.kind != "finished":
        print("going", flush=True)

with parallel_config({url!r}):
    Parallel(batch_size=1, progress=tell)(delayed(work)(x) for x in range(2000))
"""


def test_an_interrupted_run_leaves_nothing(deployment: Any, until: Any) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(url=deployment.url)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in said
    until(lambda: not deployment.tasks(), seconds=5)
    until(lambda: not deployment.held(), seconds=5)


INTERRUPTED_AT_BOTH_ENDS = """
import os, signal, tempfile, threading, time
from collections import Counter
from tests.interrupts import opened
from jobspan import Parallel, delayed, parallel_config

def there():
    return opened() + Counter(thread.name for thread in threading.enumerate())

def interrupt_after(seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()

def once(end=None):
    with parallel_config("dask", n_workers=1):
        Parallel()([delayed(abs)(-1)] * 2)
        if end is not None:
            interrupt_after(end)

once()
before = there()
for moment in (0.05, 0.2, 0.6, None):
    try:
        if moment is None:
            once(0.01)
        else:
            interrupt_after(moment)
            once()
        time.sleep(5)
    except KeyboardInterrupt:
        print("interrupted")
end = time.monotonic() + 10
while there() - before:
    assert time.monotonic() < end, there() - before
    time.sleep(0.05)
print(os.listdir(tempfile.gettempdir()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_cluster_of_ones_own_that_is_interrupted_as_it_starts_or_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT_BOTH_ENDS],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.stdout == "interrupted\n" * 4 + "[]\n", done.stderr


def test_a_client_of_an_event_loop_is_used_from_other_threads() -> None:
    quiet = {"dashboard_address": ":0", "processes": False, "asynchronous": True}

    async def main() -> list[int]:
        async with (
            distributed.LocalCluster(n_workers=1, **quiet) as cluster,
            distributed.Client(cluster, asynchronous=True) as client,
        ):
            parallel = Parallel(backend="dask", client=client)
            calls = [delayed(abs)(-1)] * 2
            with pytest.raises(BackendError, match=r"another thread: await asyncio\.to_thread"):
                parallel(calls)
            found: list[int] = await asyncio.to_thread(parallel, calls)
            return found

    assert asyncio.run(main()) == [1, 1]


INTERRUPTED_OFTEN = """
import random, threading, time
from collections import Counter
from dask.distributed import Client, LocalCluster
from tests.interrupts import interrupt, opened
from jobspan import Parallel, delayed, parallel_config

def there():
    found = opened()
    del found["socket"]  # Dask keeps as many connections open as it once used at a time
    return found + Counter(thread.name for thread in threading.enumerate())

def round():
    Parallel()(delayed(abs)(x) for x in range(8))
    list(Parallel(return_as="generator")(delayed(abs)(x) for x in range(4)))

quiet = {"dashboard_address": ":0", "processes": False}
with LocalCluster(n_workers=1, threads_per_worker=2, **quiet) as cluster, Client(cluster) as client:
    with parallel_config("dask", client=client):
        round()
        before = there()
        interrupt(round, 50, 0.02, random.Random(7))
        round()
    deadline = time.monotonic() + 10
    while cluster.scheduler.tasks or client.futures or there() - before:
        assert time.monotonic() < deadline, (cluster.scheduler.tasks, there() - before)
        time.sleep(0.05)
print("nothing is left")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_interrupts_again_and_again_leave_nothing_on_a_cluster_that_goes_on() -> None:
    script = [sys.executable, "-c", INTERRUPTED_OFTEN]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.stdout == "nothing is left\n", done.stderr
    # Dask's own way to wait for its event loop told of a NameError there.
    assert "<function sync" not in done.stderr


def test_an_executor_that_nobody_closed_asks_the_scheduler_no_more(
    deployment: Any, until: Any
) -> None:
    """Ctrl-C may come when it is open and has no owner yet."""
    with deployment.client() as client, contextlib.closing(DaskBackend(client=client)) as backend:

        async def asking() -> int:
            return sum("look" in repr(task.get_coro()) for task in asyncio.all_tasks())

        executor = backend.open(Plan(n_jobs=2))
        assert client.sync(asking) == 1
        del executor
        gc.collect()
        until(lambda: client.sync(asking) == 0, seconds=5)


def test_a_cluster_of_ones_own_whose_workers_are_late(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One is enough to begin with; where none comes in time it is told, and all of it goes."""
    from jobspan.backends.dask import connecting

    monkeypatch.setattr(connecting, "START_SECONDS", 0.02)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    late = {"n_workers": 1, "connect_timeout": 0.02}
    with (
        pytest.raises(BackendUnreachableError, match=r"no worker .* after 0\.02 s"),
        parallel_config("dask", **late),
    ):
        Parallel()([delayed(abs)(-1)])
    assert not list(tmp_path.iterdir())

    reported = distributed.Client.wait_for_workers

    def one_is_late(client: Any, n_workers: int, timeout: float) -> None:
        reported(client, 1, timeout=timeout)
        raise TimeoutError(f"Only 1/{n_workers} workers arrived")

    monkeypatch.setattr(distributed.Client, "wait_for_workers", one_is_late)
    with parallel_config("dask", n_workers=2, connect_timeout=80.0):
        assert Parallel()(delayed(abs)(-x) for x in range(4)) == [0, 1, 2, 3]
    assert not list(tmp_path.iterdir())


def fail(x: int) -> None:
    raise ValueError(f"number {x}")


def leave_marks(folder: str, x: int) -> None:
    time.sleep(0.1)
    Path(folder, str(x)).touch()


def test_nothing_is_left_after_an_error_or_a_closed_generator(
    deployment: Any, until: Any, tmp_path: Path
) -> None:
    array = np.zeros(300_000)
    with parallel_config(deployment.url):
        calls = [delayed(leave_marks)(str(tmp_path), x) for x in range(60)]
        with pytest.raises(ValueError, match="number 3"):
            Parallel(batch_size=30)([*[delayed(fail)(3)] * 30, *calls])
        until(lambda: not any("leave_marks" in key for key in deployment.tasks()), 5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            generator = Parallel(return_as="generator", batch_size=1)(
                delayed(add_sum)(array, x) for x in range(500)
            )
            assert next(generator) == 0
            generator.close()
        until(lambda: not any("add_sum" in key for key in deployment.tasks()), 5)
        # A batch that was running stops before its next call.
        time.sleep(0.3)
        marks = len(list(tmp_path.iterdir()))
        time.sleep(0.5)
        assert len(list(tmp_path.iterdir())) == marks < 30
    until(lambda: not deployment.tasks(), 5)


def sum_of_squares(x: int, folder: str) -> int:
    Parallel(n_jobs=2)([delayed(slow_square)(1, 0)])  # the worker has a client now
    Path(folder, "outer").touch()
    time.sleep(1.0)  # the scheduler is stopped now
    return sum(Parallel(n_jobs=2)(delayed(slow_square)(y, 0) for y in range(x)))


@pytest.mark.parametrize("seconds", [3.0, pytest.param(15.0, marks=pytest.mark.soak)])
def test_a_scheduler_that_stands_still_as_a_call_calls(
    deployment: Any, tmp_path: Path, until: Any, seconds: float
) -> None:
    """A worker knows that its cluster is there, however long the scheduler takes to say so."""

    def stand_still() -> None:
        until(Path(tmp_path, "outer").exists, seconds=60)
        deployment.scheduler.send_signal(signal.SIGSTOP)
        time.sleep(1.0 + seconds)
        deployment.scheduler.send_signal(signal.SIGCONT)

    after(0.0, stand_still)
    with parallel_config(deployment.url):
        assert Parallel()([delayed(sum_of_squares)(4, str(tmp_path))]) == [14]


def test_a_scheduler_that_does_not_say_which_workers_there_are(deployment: Any) -> None:
    """Before the first call, and before a later one."""
    said = pytest.raises(BackendUnreachableError, match=r"has not said after 1\.5 s which workers")
    with (
        deployment.client() as client,
        parallel_config("dask", client=client, connect_timeout=1.5),
    ):
        for again in (False, True):
            if again:
                assert Parallel(n_jobs=2)([delayed(abs)(-1)]) == [1]
            deployment.scheduler.send_signal(signal.SIGSTOP)
            try:
                with said:
                    Parallel(n_jobs=2)([delayed(abs)(-1)])
            finally:
                deployment.scheduler.send_signal(signal.SIGCONT)
    with parallel_config(deployment.url):
        assert Parallel(n_jobs=2)([delayed(abs)(-1)]) == [1]


def test_two_clients_on_one_cluster(deployment: Any) -> None:
    results: dict[int, Any] = {}
    array = np.full(300_000, 5.0)

    def run(number: int) -> None:
        with parallel_config(deployment.url):
            results[number] = Parallel(batch_size=1)(
                delayed(add_sum)(array, number + x) for x in range(8 * (number + 1))
            )

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [5.0 + n + x for x in range(8 * (n + 1))] for n in range(2)}


def test_a_deployment_that_lacks_the_users_project(deployment: Any, tmp_path: Path) -> None:
    project = tmp_path / "users_project"
    project.mkdir()
    (project / "__init__.py").write_text("")
    (project / "shapes.py").write_text(
        textwrap.dedent(
            """
            FACTOR = 3
            class Shape:
                def __init__(self, side): self.side = side
                def area(self): return FACTOR * self.side
            class OddError(Exception): pass
            """
        )
    )
    (project / "jobs.py").write_text(
        textwrap.dedent(
            """
            from users_project import shapes
            def job(x):
                if x == 99:
                    raise shapes.OddError(x)
                return shapes.Shape(shapes.Shape(x).area())
            """
        )
    )
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from jobspan import Parallel, delayed, parallel_config
            from users_project import jobs, shapes
            with parallel_config({deployment.url!r}):
                assert [s.area() for s in Parallel()(delayed(jobs.job)(x) for x in range(4))] == [
                    0, 9, 18, 27]
                assert type(Parallel()([delayed(jobs.job)(1)])[0]) is shapes.Shape
                try:
                    Parallel()([delayed(jobs.job)(99)])
                except shapes.OddError:
                    print("right")
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("right\n", 0), done.stderr


def test_the_folder_of_a_program_that_was_killed_goes_when_the_next_one_starts(
    tmp_path, monkeypatch
):
    """While it lives it is let alone, and so is a new one, which may be about to be locked."""
    from jobspan.backends.dask.scratch import Scratch

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import sys, time; from jobspan.backends.dask.scratch import Scratch; "
        "kept = Scratch(); print(kept.path, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        left = Path(program.stdout.readline().strip())
        (left / "dask-scratch-space").mkdir()
        os.utime(left / "jobspan.lock", (0, 0))
        Scratch().remove()
        assert left.is_dir()
        program.kill()
    os.utime(left / "jobspan.lock")
    Scratch().remove()
    assert left.is_dir()
    os.utime(left / "jobspan.lock", (0, 0))
    Scratch().remove()
    assert not list(tmp_path.iterdir())
