"""Workers on a Ray of this machine: what they ask for, know and print, when they are given back."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jobspan
from jobspan import Parallel, delayed, parallel_config
from jobspan.errors import BackendUnreachableError, VersionMismatchError

ray = pytest.importorskip("ray")
from ray._private.internal_api import memory_summary  # noqa: E402

pytestmark = pytest.mark.timeout(90)


def wait_until(true: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until something holds, and fail if it does not in time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"did not hold within {seconds:g} s"
        time.sleep(0.1)


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    ray.init(
        "local",
        num_cpus=2,
        resources={"licence": 1},
        include_dashboard=False,
        object_store_memory=128 << 20,
        logging_level="error",
        log_to_driver=False,
    )
    yield
    ray.shutdown()


def assigned(_: int) -> dict[str, float]:
    resources: dict[str, float] = ray.get_runtime_context().get_assigned_resources()
    return resources


def free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0))


def test_demands_are_true_and_given_back() -> None:
    """A worker holds what it asks for, for as long as the block lasts."""
    with parallel_config("ray", n_jobs=1, num_cpus=2, resources={"licence": 1}):
        assert Parallel()([delayed(assigned)(0)]) == [{"CPU": 2.0, "licence": 1.0}]
        assert "CPU" not in ray.available_resources()
        assert jobspan.effective_n_jobs(-1) == 1
    wait_until(lambda: free_cpus() == 2)


def test_idle_workers_are_given_back() -> None:
    with parallel_config("ray", n_jobs=2, idle_worker_timeout=0.5):
        assert Parallel()(delayed(abs)(x) for x in [-1, -2]) == [1, 2]
        wait_until(lambda: free_cpus() == 2)
        assert Parallel()(delayed(abs)(x) for x in [-1, -2]) == [1, 2]


def test_no_room_is_an_error_in_seconds() -> None:
    with (
        parallel_config("ray", n_jobs=1, num_gpus=1, start_timeout=1.5),
        pytest.warns(jobspan.errors.JobspanWarning, match="GPU"),
        pytest.raises(BackendUnreachableError, match=r"GPU.*start_timeout"),
    ):
        Parallel()([delayed(abs)(-1)])


def test_plain_tasks() -> None:
    with parallel_config("ray", n_jobs=2, tasks=True):
        assert Parallel()(delayed(abs)(-x) for x in range(200)) == list(range(200))
        wait_until(lambda: free_cpus() == 2)


def test_one_put_in_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same array in three calls, nested and in a closure, is put once."""
    puts: list[int] = []
    put = ray.put
    monkeypatch.setattr(ray, "put", lambda value: puts.append(value.nbytes) or put(value))
    array = np.arange(1_000_000, dtype=float)
    with parallel_config("ray", n_jobs=2):
        for _ in range(3):
            calls = (delayed(lambda x: float(x["deep"][0].sum()))({"deep": [array]}),) * 4
            assert Parallel()(calls) == [array.sum()] * 4
        assert Parallel()(delayed(lambda i: array[i])(i) for i in range(4)) == [0, 1, 2, 3]
    assert puts == [8_000_000]


def test_results_are_freed_when_dropped() -> None:
    def used() -> int:
        """Return how many MiB of the object store are in use, as ``ray memory`` tells."""
        summary = memory_summary(ray.get_runtime_context().gcs_address, stats_only=True)
        told = re.search(r"Plasma memory usage (\d+) MiB", summary)
        assert told is not None
        return int(told[1])

    with parallel_config("ray", n_jobs=2):
        results = Parallel()(delayed(np.ones)(2_500_000) for _ in range(3))
        held = used()
        assert held >= 57
        del results
        wait_until(lambda: used() <= held - 56)


def test_initializer_that_fails_is_told() -> None:
    def fail() -> None:
        raise LookupError("no licence server")

    with parallel_config("ray", n_jobs=2), pytest.raises(LookupError, match="no licence server"):
        Parallel(initializer=fail)([delayed(abs)(-1)])


def test_function_names_are_task_names() -> None:
    def name_of_task(_: int) -> str:
        return str(ray.get_runtime_context().get_task_name())

    with parallel_config("ray", n_jobs=1):
        assert Parallel()([delayed(name_of_task)(0)]) == ["name_of_task"]


def test_user_modules_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that lack a module run its functions and raise its errors."""
    (tmp_path / "users_own.py").write_text(
        "class OwnError(Exception):\n    pass\n"
        "def helper(x):\n    return x + 1\n"
        "def work(x):\n    if x == 3:\n        raise OwnError(x)\n    return helper(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import users_own

    try:
        with parallel_config("ray", n_jobs=2):
            assert Parallel()(delayed(users_own.work)(x) for x in range(3)) == [1, 2, 3]
            with pytest.raises(users_own.OwnError):
                Parallel()([delayed(users_own.work)(3)])
    finally:
        del sys.modules["users_own"]


def test_version_clash_is_told_before_anything_runs(tmp_path: Path) -> None:
    source = Path(jobspan.__file__).parent
    shutil.copytree(source, tmp_path / "jobspan", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "jobspan" / "_version.py").write_text('__version__ = "0.0.1"\n')
    mark = tmp_path / "ran"
    other = {"env_vars": {"PYTHONPATH": str(tmp_path)}}
    with (
        parallel_config("ray", n_jobs=1, runtime_env=other),
        pytest.raises(VersionMismatchError, match=r"jobspan 0\.0\.1, this process"),
    ):
        Parallel()([delayed(Path.touch)(mark)])
    assert not mark.exists()


def test_what_calls_print_is_seen(start_driver: Callable[..., Any]) -> None:
    driver = start_driver(
        """
        import sys
        from jobspan import Parallel, delayed, parallel_config
        options = dict(num_cpus=1, object_store_memory=80 << 20)
        with parallel_config("ray", n_jobs=1, ray_options=options):
            Parallel()([delayed(print)("hello from a worker")])
            sys.stdin.readline()
        """
    )
    assert any("hello from a worker" in line for line in driver.stdout)
    driver.communicate("seen\n", timeout=30)
    assert driver.returncode == 0
