"""``keep_results=True``: results stay on the cluster until somebody takes them."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from jobspan import Parallel, TaskFailure, delayed, parallel_config
from jobspan.backends.dask import KeptResult
from jobspan.errors import BackendUnreachableError, TransportError

np = pytest.importorskip("numpy")
distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.timeout(90)

BYTES = 8_000_000


def make(value: int) -> Any:
    if value == 13:
        raise ValueError("unlucky")
    return np.full(BYTES // 8, float(value))


def add(holder: Any, x: int) -> tuple[float, bool]:
    array = holder["deep"][0]
    return float(array[-1]) + x, array.flags.writeable


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_results_stay_until_they_are_taken(deployment: Any, until: Any, return_as: str) -> None:
    with parallel_config(deployment.url):
        parallel = Parallel(return_as=return_as, keep_results=True)
        kept = list(parallel(delayed(make)(x) for x in range(6)))
        assert all(type(each) is KeptResult for each in kept)
        assert parallel.stats.bytes_received < BYTES / 10
        assert sum(key.startswith("make") for key in deployment.tasks()) > 0
        taken = kept[5].result()
        assert taken.shape == (BYTES // 8,)
        taken += 1
        assert [float(each.result()[0]) for each in kept] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        del kept
        until(lambda: not any("make" in key for key in deployment.tasks()), seconds=5)


def test_a_call_gets_the_value_from_the_worker_that_has_it(deployment: Any) -> None:
    with parallel_config(deployment.url):
        kept = Parallel(keep_results=True)(delayed(make)(x) for x in range(4))
        again = Parallel(batch_size=1)
        found = again(delayed(add)({"deep": [each]}, 10) for each in kept)
        assert found == [(10.0 + x, False) for x in range(4)]
        assert again.stats.bytes_sent < BYTES / 10
        first = kept[1]
        closed_over = again(delayed(lambda x: add({"deep": [first]}, x))(x) for x in range(9))
        assert closed_over == [(1.0 + x, False) for x in range(9)]
        with pytest.raises(TransportError, match=r"what \.result\(\) returns"):
            Parallel(backend="processes", n_jobs=2)([delayed(len)(first)])


def test_a_call_that_fails_does_so_at_once(deployment: Any) -> None:
    with parallel_config(deployment.url, keep_results=True):
        with pytest.raises(ValueError, match="unlucky"):
            Parallel()(delayed(make)(x) for x in [12, 13])
        well, failed = Parallel(on_error="return", batch_size=2)(delayed(make)(x) for x in [12, 13])
        assert float(well.result()[0]) == 12.0
        assert isinstance(failed, TaskFailure)


def pid_of_worker() -> int:
    return os.getpid()


def test_what_was_lost_with_a_worker_is_computed_again(deployment: Any, until: Any) -> None:
    with parallel_config(deployment.url):
        parallel = Parallel(keep_results=True)
        (pid,) = parallel([delayed(pid_of_worker)()])
        (holder,) = parallel.stats.worker_seconds
        before = pid.result()
        deployment.kill(holder)
        deployment.wait_for(1)
        assert Parallel()([delayed(abs)(pid)]) == [pid.result()]
        assert pid.result() != before
    deployment.add_worker()
    deployment.wait_for(2)


def test_after_the_block_it_is_told_where_to_take_it(deployment: Any) -> None:
    with parallel_config(deployment.url):
        (kept,) = Parallel(keep_results=True)([delayed(make)(1)])
    begin = time.monotonic()
    with pytest.raises(BackendUnreachableError, match=r"inside of the parallel_config block"):
        kept.result()
    assert time.monotonic() - begin < 5
