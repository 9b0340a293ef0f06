"""What calls free is kept for the next ones, where Dask would hand it back, and not for long."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.dask.conftest import Deployment

from jobspan import Parallel, delayed, parallel_config
from jobspan.backends.dask import freed_memory

np = pytest.importorskip("numpy")
distributed = pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.skipif(freed_memory._is_glibc() is False, reason="needs glibc on 64 bits"),
]

AS_NANNIES_DO = {"MALLOC_TRIM_THRESHOLD_": "65536"}
HERE = {"PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One worker, its allocator set as Dask's nannies set it."""
    made = Deployment(tmp_path_factory.mktemp("freed"), **HERE)
    try:
        made.add_worker(**HERE, **AS_NANNIES_DO)
        made.wait_for(1)
        yield made
    finally:
        made.stop()


def faults(rounds: int = 20) -> int:
    """Return how many pages of memory arithmetic on arrays of 1 MB took from the system."""
    x = np.ones(1 << 17)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(rounds):
        ((x * 2 + 1) * x - 3).sum()
    return int(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)


def resident() -> float:
    """Return how many MB this process holds."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def hold(megabytes: int) -> float:
    """Hold so much for a moment."""
    arrays = [np.ones(1 << 17) for _ in range(megabytes)]
    most = resident()
    time.sleep(2 * freed_memory.LOOK_SECONDS)
    del arrays
    return most


def held_by(client: Any) -> float:
    (found,) = client.run(resident).values()
    return float(found)


def held_soon_below(client: Any, megabytes: float) -> bool:
    deadline = time.monotonic() + 30
    while held_by(client) > megabytes and time.monotonic() < deadline:
        time.sleep(0.2)
    return held_by(client) < megabytes


def test_kept_for_the_next_call(deployed: Deployment) -> None:
    calls = [delayed(faults)() for _ in range(3)]
    with parallel_config(deployed.url):
        plain = Parallel(batch_size=1, keep_freed_memory=False)(calls)
        kept = Parallel(batch_size=1)(calls)
    assert min(plain) > 20 * 256  # one array after the other, at least
    assert max(kept[1:]) < min(plain) / 10


def test_given_back_when_no_more_calls_come(deployed: Deployment) -> None:
    with deployed.client() as client, parallel_config(deployed.url):
        Parallel()([delayed(hold)(10)])
        assert held_soon_below(client, 10_000)
        time.sleep(3 * freed_memory.IDLE_SECONDS)
        before = held_by(client)
        (most,) = Parallel()([delayed(hold)(300)])
        assert most > before + 250
        assert held_by(client) > before + 250
        assert held_soon_below(client, before + 50)
        # So is what others run there afterwards.
        assert client.submit(hold, 300, pure=False).result() > before + 250
        assert held_soon_below(client, before + 50)


def test_given_back_by_the_threads_of_calls_with_a_time_limit(deployed: Deployment) -> None:
    with deployed.client() as client, parallel_config(deployed.url, task_timeout=60):
        Parallel()([delayed(hold)(10)])
        time.sleep(3 * freed_memory.IDLE_SECONDS)
        before = held_by(client)
        Parallel()([delayed(hold)(300)])
        assert held_soon_below(client, before + 50)


def test_results_freed_later_are_given_back_too(deployed: Deployment) -> None:
    """A result that stays on the cluster outlives the calls that ran when it was made."""
    with deployed.client() as client, parallel_config(deployed.url):
        Parallel()([delayed(hold)(10)])
        time.sleep(3 * freed_memory.IDLE_SECONDS)
        before = held_by(client)
        kept = Parallel(keep_results=True)(delayed(np.ones)(1 << 17) for _ in range(100))
        time.sleep(3 * freed_memory.IDLE_SECONDS)
        assert held_by(client) > before + 80
        del kept
        assert held_soon_below(client, before + 50)


def test_not_kept_where_memory_is_short(tmp_path: Path) -> None:
    """More than half of what the worker may use is in use when the call ends."""
    deployment = Deployment(tmp_path, **HERE)
    try:
        deployment.add_worker("--memory-limit", "500MB", **HERE, **AS_NANNIES_DO)
        deployment.wait_for(1)
        with deployment.client() as client, parallel_config(deployment.url):
            Parallel()([delayed(hold)(10)])
            before = held_by(client)
            (most,) = Parallel()([delayed(hold)(220)])
            assert most > 250
            assert held_by(client) < before + 50
    finally:
        deployment.stop()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**AS_NANNIES_DO, "MALLOC_ARENA_MAX": "2"},
        {**AS_NANNIES_DO, "GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"},
        {"MALLOC_TRIM_THRESHOLD_": "much"},
    ],
)
def test_left_alone_where_others_have_set_the_allocator(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert freed_memory._keeper.__wrapped__() is None


@pytest.mark.parametrize("where", ["another system", "another library"])
def test_left_alone_without_glibc(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(*next(iter(AS_NANNIES_DO.items())))
    assert freed_memory._keeper.__wrapped__() is not None

    def unknown(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    if where == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.setattr(os, "confstr", unknown)
    assert freed_memory._keeper.__wrapped__() is None
