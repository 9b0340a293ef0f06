"""``Parallel.stats``, field by field, beside what the calls really did."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from jobspan import Memory, Parallel, RetryPolicy, delayed

BACKENDS = ["sequential", "threads", "processes"]


def doze(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fail_until(folder: str, name: int, failures: int) -> int:
    path = Path(folder) / str(name)
    with path.open("a") as file:
        file.write("x")
    if len(path.read_text()) <= failures:
        raise ValueError(name)
    return name


@pytest.mark.parametrize("backend", BACKENDS)
def test_times_and_utilisation(backend: str, tmp_path: Path) -> None:
    n_jobs = 1 if backend == "sequential" else 2
    page = tmp_path / "run.html"
    parallel = Parallel(n_jobs=n_jobs, backend=backend, batch_size=1, report=page)
    with parallel:
        parallel(delayed(doze)(0.001) for _ in range(4))  # workers start
        begin = time.perf_counter()
        parallel(delayed(doze)(0.05) for _ in range(8))
        took = time.perf_counter() - begin
    stats = parallel.stats
    assert (stats.backend, stats.n_jobs) == (backend, n_jobs)
    assert (stats.calls, stats.batches, len(stats.spans)) == (8, 8, 8)
    assert (stats.failures, stats.retries, stats.recalled) == (0, 0, 0)
    assert 8 * 0.05 <= stats.work_seconds <= n_jobs * took
    assert stats.work_seconds / n_jobs <= stats.elapsed_seconds <= took
    overhead = stats.elapsed_seconds * n_jobs - stats.work_seconds
    assert stats.overhead_seconds == pytest.approx(overhead)
    assert sum(stats.worker_seconds.values()) == pytest.approx(stats.work_seconds)
    assert len(stats.worker_seconds) == n_jobs
    assert stats.utilisation == {
        worker: pytest.approx(seconds / stats.elapsed_seconds)
        for worker, seconds in stats.worker_seconds.items()
    }
    assert {span.worker for span in stats.spans} == set(stats.worker_seconds)
    assert sorted(span.first for span in stats.spans) == list(range(8))
    assert stats.figures()["calls"] == "8"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_failures_and_retries(backend: str, return_as: Any, tmp_path: Path) -> None:
    n_jobs = 1 if backend == "sequential" else 2
    parallel = Parallel(
        n_jobs=n_jobs,
        backend=backend,
        on_error="return",
        return_as=return_as,
        retries=RetryPolicy(attempts=2, delay=0.001),
    )
    list(parallel(delayed(fail_until)(str(tmp_path), i, i) for i in range(5)))
    # 0 works at once, 1 and 2 after as many retries; 3 and 4 fail after two each.
    assert (parallel.stats.calls, parallel.stats.failures, parallel.stats.retries) == (5, 2, 7)
    assert parallel.n_completed_tasks == parallel.n_dispatched_tasks == 5
    list(parallel([delayed(abs)(-1)]))
    assert (parallel.stats.calls, parallel.stats.failures, parallel.stats.retries) == (1, 0, 0)


@pytest.mark.parametrize("progress", [None, lambda event: None], ids=["plain", "watched"])
def test_a_failure_that_ends_all_is_counted(progress: Any) -> None:
    for backend in BACKENDS:
        parallel = Parallel(n_jobs=2, backend=backend, progress=progress)
        with pytest.raises(ValueError, match="invalid literal"):
            parallel(delayed(int)(text) for text in ["1", "x"])
        assert parallel.stats.failures == 1
        assert parallel.stats.elapsed_seconds > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_bytes_moved(backend: str) -> None:
    parallel = Parallel(n_jobs=2, backend=backend, batch_size=1)
    parallel(delayed(bytes.upper)(b"x" * 10_000) for _ in range(10))
    stats = parallel.stats
    if backend == "processes":
        assert 100_000 < stats.bytes_sent < 200_000
        assert 100_000 < stats.bytes_received < 200_000
    else:
        assert (stats.bytes_sent, stats.bytes_received) == (0, 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_found_stored(backend: str, tmp_path: Path) -> None:
    cached = Memory(tmp_path, verbose=0).cache(doze)
    told: list[Any] = []
    for progress in (None, told.append):
        parallel = Parallel(n_jobs=2, backend=backend, progress=progress)
        cached.clear(warn=False)
        parallel(delayed(cached)(i / 1000) for i in range(3))
        assert (parallel.stats.calls, parallel.stats.recalled) == (3, 0)
        parallel(delayed(cached)(i / 1000) for i in range(5))
        assert (parallel.stats.calls, parallel.stats.recalled) == (5, 3)
        assert parallel.n_completed_tasks == parallel.n_dispatched_tasks == 5
        assert 1 <= parallel.stats.batches == parallel.n_dispatched_batches <= 2
    assert (told[-1].done, told[-1].recalled) == (5, 3)


def test_nothing_to_do() -> None:
    parallel = Parallel(n_jobs=2, backend="threads")
    assert parallel([]) == []
    assert (parallel.stats.calls, parallel.stats.utilisation) == (0, {})
    assert parallel.stats.overhead_seconds >= 0
    assert "<html" in parallel.stats.to_html()
