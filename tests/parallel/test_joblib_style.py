"""Backends written for joblib: every name and hook that such classes override is asked."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import joblib.parallel
import pytest

import jobspan
from jobspan import Parallel, delayed, parallel_config, register_parallel_backend
from jobspan.backends.choosing import BACKENDS
from jobspan.backends.sequential import SequentialBackend
from jobspan.testing.backends import BackendConformance

BASES = [jobspan.ParallelBackendBase, joblib.parallel.ParallelBackendBase]


class Hooks:
    """Runs batches in threads and notes which of its hooks were asked, with what."""

    supports_retrieve_callback = True
    supports_sharedmem = True
    uses_threads = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.asked: Counter[str] = Counter()
        self.seen: dict[str, Any] = {}
        self._pool: ThreadPoolExecutor | None = None

    def effective_n_jobs(self, n_jobs: int) -> int:
        self.asked["effective_n_jobs"] += 1
        return 2 if n_jobs < 0 else n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        self.asked["configure"] += 1
        self.seen["configure"] = options
        self.parallel = parallel
        n_jobs = self.effective_n_jobs(n_jobs)
        self._pool = ThreadPoolExecutor(n_jobs)
        return n_jobs

    def start_call(self) -> None:
        self.asked["start_call"] += 1

    def stop_call(self) -> None:
        self.asked["stop_call"] += 1

    def terminate(self) -> None:
        self.asked["terminate"] += 1
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None

    def submit(self, func: Callable[[], Any], callback: Any = None) -> Future[Any]:
        self.asked["submit"] += 1
        assert self._pool is not None
        job = self._pool.submit(func)
        if callback is not None:
            job.add_done_callback(callback)
        return job

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        self.asked["retrieve_result_callback"] += 1
        return out.result()

    def compute_batch_size(self) -> int:
        self.asked["compute_batch_size"] += 1
        return 4

    def batch_completed(self, batch_size: int, duration: float) -> None:
        self.asked["batch_completed"] += batch_size

    def abort_everything(self, ensure_ready: bool = True) -> None:
        self.asked["abort_everything"] += 1
        self.seen["ensure_ready"] = ensure_ready

    def get_nested_backend(self) -> Any:
        self.asked["get_nested_backend"] += 1
        return super().get_nested_backend()  # type: ignore[misc]

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        self.asked["retrieval_context"] += 1
        yield


def backend_class(base: Any, *more: type) -> Any:
    return type("HookedBackend", (*more, Hooks, base), {})


@pytest.mark.parametrize("base", BASES, ids=["jobspan", "joblib"])
def test_every_hook_is_asked(base: Any) -> None:
    backend = backend_class(base)()
    parallel = Parallel(n_jobs=2, backend=backend)
    assert parallel(delayed(abs)(-i) for i in range(20)) == list(range(20))
    asked = backend.asked
    assert asked["batch_completed"] == 20
    assert asked["submit"] == asked["retrieve_result_callback"] == parallel.stats.batches == 5
    for once in ("configure", "start_call", "stop_call", "terminate"):
        assert asked[once] == 1, once
    for hook in ("effective_n_jobs", "compute_batch_size", "get_nested_backend"):
        assert asked[hook] >= 1, hook
    assert asked["retrieval_context"] >= 1
    assert asked["abort_everything"] == 0
    assert {"max_nbytes", "mmap_mode", "temp_folder", "prefer", "require"} <= {
        *backend.seen["configure"]
    }
    assert backend.nesting_level == 0


@pytest.mark.parametrize("base", BASES, ids=["jobspan", "joblib"])
def test_a_failure_aborts_what_runs(base: Any) -> None:
    backend = backend_class(base)()
    calls = [delayed(int)("x"), *(delayed(time.sleep)(0.05) for _ in range(50))]
    with pytest.raises(ValueError, match="'x'"):
        Parallel(n_jobs=2, backend=backend, batch_size=1)(calls)
    assert backend.asked["abort_everything"] == 1
    assert backend.seen["ensure_ready"] is True
    assert backend.asked["submit"] < 20
    assert backend.asked["terminate"] == 1


@pytest.mark.parametrize("base", BASES, ids=["jobspan", "joblib"])
def test_a_block_configures_once(base: Any) -> None:
    backend = backend_class(base)()
    with Parallel(n_jobs=2, backend=backend) as parallel:
        for _ in range(3):
            assert parallel([delayed(abs)(-1)] * 4) == [1] * 4
        assert backend.asked["terminate"] == 0
    assert (backend.asked["configure"], backend.asked["terminate"]) == (1, 1)


@pytest.mark.parametrize("base", BASES, ids=["jobspan", "joblib"])
def test_results_fetched_one_by_one(base: Any) -> None:
    """Backends without a callback that brings the result: `retrieve_result` is asked."""

    class Fetching:
        supports_retrieve_callback = False

        def retrieve_result(self, out: Any, timeout: float | None = None) -> Any:
            self.asked["retrieve_result"] += 1  # type: ignore[attr-defined]
            return out.result()

    backend = backend_class(base, Fetching)()
    results = Parallel(n_jobs=2, backend=backend)(delayed(abs)(-i) for i in range(20))
    assert results == list(range(20))
    assert backend.asked["retrieve_result"] == 5
    assert backend.asked["retrieve_result_callback"] == 0


@pytest.mark.parametrize("base", BASES, ids=["jobspan", "joblib"])
def test_apply_async_of_older_backends(base: Any) -> None:
    class Older(base):  # type: ignore[misc]
        supports_sharedmem = True

        def effective_n_jobs(self, n_jobs: int) -> int:
            return 2

        def apply_async(self, func: Callable[[], Any], callback: Any = None) -> Any:
            done: Any = type("Job", (), {})()
            ran = threading.Event()

            def run() -> None:
                done.value = func()
                ran.set()
                callback(done.value)

            threading.Thread(target=run).start()

            def get(timeout: float | None = None) -> Any:
                assert ran.wait(timeout or 30)
                return done.value

            done.get = get
            return done

    assert Parallel(n_jobs=2, backend=Older())(delayed(abs)(-i) for i in range(9)) == list(range(9))


def test_the_backend_is_let_go_whatever_fails_as_a_call_starts() -> None:
    class Broken:
        def __iter__(self) -> Iterator[Any]:
            raise ZeroDivisionError

    def told(event: Any) -> None:
        raise ZeroDivisionError

    for progress, calls in ((None, Broken()), (told, [delayed(abs)(-1)])):
        for return_as in ("list", "generator"):
            backend = backend_class(jobspan.ParallelBackendBase)()
            parallel = Parallel(n_jobs=2, backend=backend, progress=progress, return_as=return_as)
            for _ in range(2):
                with pytest.raises(ZeroDivisionError):
                    parallel(calls)
            assert (backend.asked["configure"], backend.asked["terminate"]) == (2, 2)


def test_a_backend_that_refuses_to_start_says_so() -> None:
    class NoWorkers:
        def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
            return 0

    backend = backend_class(jobspan.ParallelBackendBase, NoWorkers)()
    with pytest.raises(RuntimeError, match="HookedBackend has no active worker"):
        Parallel(n_jobs=2, backend=backend)([delayed(abs)(-1)])


@pytest.mark.parametrize("base", BASES, ids=["jobspan", "joblib"])
def test_by_name_class_and_context(base: Any) -> None:
    kind = backend_class(base)
    register_parallel_backend("hooked", kind)
    try:
        for given in ("hooked", kind, kind()):
            parallel = Parallel(n_jobs=2, backend=given)
            assert parallel([delayed(abs)(-1)] * 5) == [1] * 5
            with parallel_config(backend=given, n_jobs=2):
                parallel = Parallel()
                assert parallel([delayed(abs)(-1)] * 5) == [1] * 5
                assert (parallel.stats.backend, parallel.stats.n_jobs) == ("HookedBackend", 2)
        with parallel_config(backend="hooked", n_jobs=2, inner_max_num_threads=1):
            assert Parallel()([delayed(abs)(-1)] * 5) == [1] * 5
    finally:
        BACKENDS.unregister("hooked")


def nested_kind() -> str:
    inner = Parallel(n_jobs=2)
    inner(delayed(abs)(-1) for _ in range(3))
    return inner.stats.backend


def test_the_nested_backend_that_it_names() -> None:
    class Nesting:
        def get_nested_backend(self) -> Any:
            return SequentialBackend(), None

    backend = backend_class(jobspan.ParallelBackendBase, Nesting)()
    assert set(Parallel(n_jobs=2, backend=backend)([delayed(nested_kind)()] * 4)) == {"sequential"}
    plain = backend_class(jobspan.ParallelBackendBase)()
    assert set(Parallel(n_jobs=2, backend=plain)([delayed(nested_kind)()] * 4)) == {"threads"}


def test_calls_that_run_at_once_each_have_a_nested_backend_of_their_own() -> None:
    configured = []

    class Inner:
        def configure(self, *args: Any, **kwargs: Any) -> Any:
            configured.append(self)
            return super().configure(*args, **kwargs)  # type: ignore[misc]

    class Nesting:
        def get_nested_backend(self) -> Any:
            return backend_class(jobspan.ParallelBackendBase, Inner)(), None

    both_run = threading.Barrier(2)

    def inner() -> int:
        both_run.wait(10)
        return sum(Parallel(n_jobs=2)(delayed(abs)(-1) for _ in range(3)))

    backend = backend_class(jobspan.ParallelBackendBase, Nesting)()
    assert Parallel(n_jobs=2, backend=backend)([delayed(inner)()] * 2) == [3, 3]
    assert len({id(each) for each in configured}) == 2


class TestWrittenForJoblib(BackendConformance):
    """The whole suite, on a backend that knows nothing of jobspan."""

    backend = backend_class(joblib.parallel.ParallelBackendBase)
    can_share_memory = True
