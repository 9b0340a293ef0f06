"""How generators end: read to the end, closed, dropped, collected as garbage; beside joblib."""

from __future__ import annotations

import gc
import re
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import joblib
import pytest

import jobspan

WARNED = re.compile(
    r"(\d+ tasks have been successfully executed  but not used\.( Additionally, )?)?"
    r"(\d+ tasks which were still being processed by the workers have been cancelled\.)?"
    r" You could benefit from adjusting the input task iterator to limit unnecessary computation "
    r"time\."
)


def doze(i: int) -> int:
    time.sleep(0.005)
    return i


def close(generator: Any) -> None:
    generator.close()


def collect(generator: Any) -> None:
    """Put it where only the collector of garbage finds it."""
    ring = [generator]
    ring.append(ring)


def read(generator: Any) -> None:
    list(generator)


def fail(generator: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        generator.throw(ZeroDivisionError)


ENDS: list[Callable[[Any], None]] = [close, collect, fail]


def begun(library: Any, return_as: str, n_jobs: int = 2) -> tuple[Any, Any]:
    parallel = library.Parallel(n_jobs=n_jobs, backend="threading", return_as=return_as)
    generator = parallel(library.delayed(doze)(i) for i in range(60))
    next(generator)
    return parallel, generator


def told(library: Any, end: Callable[[Any], None], return_as: str) -> list[str]:
    """Return what is warned of when a generator ends so."""
    parallel, generator = begun(library, return_as)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        end(generator)
        del generator
        gc.collect()
    if library is jobspan:  # joblib may hand on a result of before
        again = parallel(library.delayed(doze)(i) for i in range(4))
        assert sorted(again) == list(range(4))
    return [str(warning.message) for warning in caught if warning.category is UserWarning]


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
@pytest.mark.parametrize("end", ENDS)
def test_what_was_thrown_away_is_told_as_joblib_tells_it(
    end: Callable[[Any], None], return_as: str
) -> None:
    for library in (joblib, jobspan):
        messages = told(library, end, return_as)
        if end is fail:  # whoever throws knows: joblib is silent, and jobspan tells
            continue
        assert len(messages) == 1, library
        assert WARNED.fullmatch(messages[0]), messages
    assert told(jobspan, read, return_as) == told(joblib, read, return_as) == []


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_nothing_goes_on_behind_it(end: Callable[[Any], None], n_jobs: int) -> None:
    before = set(threading.enumerate())
    _, generator = begun(jobspan, "generator", n_jobs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        end(generator)
        del generator
        gc.collect()
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(5)
    assert not [thread for thread in left if thread.is_alive()]


def test_garbage_collected_in_another_thread() -> None:
    parallel, generator = begun(jobspan, "generator")
    collect(generator)
    del generator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collector = threading.Thread(target=gc.collect)
        collector.start()
        collector.join(20)
    assert not collector.is_alive()
    assert list(parallel(jobspan.delayed(doze)(i) for i in range(4))) == list(range(4))


def test_a_generator_keeps_its_calls_going_without_their_parallel() -> None:
    generator = jobspan.Parallel(n_jobs=2, backend="threads", return_as="generator")(
        jobspan.delayed(doze)(i) for i in range(20)
    )
    gc.collect()
    assert list(generator) == list(range(20))


def test_one_that_nobody_reads_is_dropped() -> None:
    parallel = jobspan.Parallel(n_jobs=2, backend="threads", return_as="generator")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parallel(jobspan.delayed(doze)(i) for i in range(60))
        gc.collect()
    assert list(parallel([jobspan.delayed(doze)(1)])) == [1]
