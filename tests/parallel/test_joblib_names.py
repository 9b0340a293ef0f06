"""What scripts take from joblib.parallel and from joblib's other modules, taken from jobspan's."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import jobspan
import jobspan.errors
import jobspan.parallel
from jobspan import Parallel, delayed, parallel_config

BACKENDS = ["sequential", "threads", "processes"]


class Bar:
    """Counts what a progress bar would draw."""

    def __init__(self) -> None:
        self.done = 0

    def update(self, n: int) -> None:
        self.done += n


@contextlib.contextmanager
def drawing_on(bar: Bar) -> Iterator[None]:
    """Put another class in place of the one that is called after each batch, as many scripts do."""

    class Drawing(jobspan.parallel.BatchCompletionCallBack):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            bar.update(n=self.batch_size)
            return super().__call__(*args, **kwargs)

    before = jobspan.parallel.BatchCompletionCallBack
    jobspan.parallel.BatchCompletionCallBack = Drawing  # type: ignore[misc]
    try:
        yield
    finally:
        jobspan.parallel.BatchCompletionCallBack = before  # type: ignore[misc]


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_class_in_place_of_joblibs_callback_is_told_of_every_call(
    backend: str, return_as: Any
) -> None:
    bar, parallel = Bar(), Parallel(n_jobs=2, backend=backend, return_as=return_as)
    with drawing_on(bar):
        assert sorted(parallel(delayed(abs)(-i) for i in range(50))) == list(range(50))
        assert bar.done == 50
    list(parallel(delayed(abs)(-i) for i in range(50)))
    assert bar.done == 50


def test_a_method_in_place_of_the_callbacks_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original: Callable[..., Any] = jobspan.parallel.BatchCompletionCallBack.__call__

    def counting(self: Any, out: Any) -> Any:
        sizes.append(self.batch_size)
        assert self.parallel.n_completed_tasks == sum(sizes)
        return original(self, out)

    monkeypatch.setattr(jobspan.parallel.BatchCompletionCallBack, "__call__", counting)
    Parallel(n_jobs=2, backend="threads")(delayed(abs)(-i) for i in range(9))
    assert sum(sizes) == 9


def test_the_backend_that_holds_can_be_asked_for() -> None:
    from jobspan.parallel import LokyBackend, ThreadingBackend, get_active_backend

    assert isinstance(get_active_backend()[0], LokyBackend)
    assert get_active_backend()[1] is None
    assert isinstance(get_active_backend(prefer="threads")[0], ThreadingBackend)
    with parallel_config("threading", n_jobs=3):
        backend, n_jobs = get_active_backend()
        assert isinstance(backend, ThreadingBackend)
        assert n_jobs == 3
        assert isinstance(Parallel()._backend, ThreadingBackend)
    with parallel_config("loky", n_jobs=3):
        assert isinstance(get_active_backend(require="sharedmem")[0], ThreadingBackend)


def test_backends_are_kept_in_a_mapping() -> None:
    from jobspan.parallel import BACKENDS, ThreadingBackend

    assert {"loky", "multiprocessing", "threading", "sequential"} <= set(BACKENDS)
    assert BACKENDS["threading"] is ThreadingBackend
    BACKENDS["other"] = ThreadingBackend
    try:
        assert Parallel(n_jobs=2, backend="other")(delayed(abs)(-i) for i in range(3)) == [0, 1, 2]
    finally:
        del BACKENDS["other"]
    assert "other" not in BACKENDS
    with pytest.raises(KeyError):
        BACKENDS["other"]


def test_modules_are_reached_as_joblibs_are() -> None:
    code = (
        "import jobspan as joblib\n"
        "assert joblib.parallel.Parallel is joblib.Parallel\n"
        "assert joblib.memory.Memory is joblib.Memory\n"
        "assert joblib.hashing.hash is joblib.hash\n"
        "assert joblib.numpy_pickle.load is joblib.load\n"
        "assert joblib.logger.PrintTime is joblib.PrintTime\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_times_are_written_as_joblib_writes_them() -> None:
    import joblib.logger

    from jobspan.logger import format_time, pformat, short_format_time

    for seconds in (0.04, 1.25, 59.96, 60, 61.2, 5400.0):
        assert format_time(seconds) == joblib.logger.format_time(seconds)
        assert short_format_time(seconds) == joblib.logger.short_format_time(seconds)
    value = {"a": list(range(99)), "b": [[[["deep"]]]]}
    assert pformat(value, indent=2) == joblib.logger.pformat(value, indent=2)


def test_names_that_are_not_there_are_missing() -> None:
    with pytest.raises(AttributeError, match=r"jobspan\.parallel.*nothing"):
        jobspan.parallel.nothing  # noqa: B018 - it is looked up


@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_a_timeout_is_caught_as_joblibs_is(backend: str) -> None:
    """joblib raises multiprocessing's error, which is no builtin ``TimeoutError``."""
    import multiprocessing

    parallel = Parallel(n_jobs=2, backend=backend, timeout=0.01)
    with pytest.raises(multiprocessing.TimeoutError) as caught:
        parallel(delayed(time.sleep)(0.5) for _ in range(2))
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, jobspan.errors.ParallelTimeoutError)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, multiprocessing.TimeoutError)
    assert str(copy) == str(caught.value)


def test_a_timeout_loads_no_multiprocessing() -> None:
    code = (
        "import sys, jobspan.errors\n"
        "error = jobspan.errors.ParallelTimeoutError('late')\n"
        "assert 'multiprocessing' not in sys.modules\n"
        "assert type(error) is jobspan.errors.ParallelTimeoutError\n"
        "import multiprocessing\n"
        "error = jobspan.errors.ParallelTimeoutError('late')\n"
        "assert isinstance(error, multiprocessing.TimeoutError)\n"
        "assert type(error).__name__ == 'ParallelTimeoutError'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_timeout_that_one_job_cannot_keep_is_told_of(backend: str) -> None:
    parallel = Parallel(n_jobs=1, backend=backend, timeout=60)
    with pytest.warns(UserWarning, match="does not support timeout") as told:
        assert parallel(delayed(abs)(-i) for i in range(50)) == list(range(50))
    assert [warning.filename for warning in told] == [__file__]


def test_a_backend_without_workers_is_told_of() -> None:
    from jobspan.parallel import ThreadingBackend

    class Empty(ThreadingBackend):
        def effective_n_jobs(self, n_jobs: int) -> int:
            return 0

    with pytest.raises(RuntimeError, match="Empty has no active worker"):
        Parallel(n_jobs=2, backend=Empty())(delayed(abs)(i) for i in range(2))
