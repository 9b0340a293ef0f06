"""Results that come while calls go on: generators, closed early or consumed slowly."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobspan import Parallel, delayed
from jobspan.testing.backends.suite import BackendTests
from jobspan.testing.backends.work import (
    come_after,
    mark_and_return,
    sleep_and_return,
    square,
)

__all__ = ["Generators"]


class Generators(BackendTests):
    """Results that come while calls go on: generators, closed early or consumed slowly."""

    def test_generator(self) -> None:
        """``return_as="generator"`` yields results in order while calls go on."""
        generator = Parallel(return_as="generator")(delayed(square)(i) for i in range(100))
        assert next(generator) == 0
        assert list(generator) == [i * i for i in range(1, 100)]

    def test_generator_unordered(self, tmp_path: Path) -> None:
        """``return_as="generator_unordered"`` yields every result once, as they come."""
        parallel = Parallel(return_as="generator_unordered", batch_size=1)
        list(parallel(delayed(sleep_and_return)(0.05, i) for i in range(8)))  # workers start
        folder = str(tmp_path)
        calls: list[Any] = [delayed(come_after)(folder, 0 if self.sequential else 7)]
        calls += [delayed(mark_and_return)(folder, i) for i in range(1, 10)]
        results = list(parallel(calls))
        assert sorted(results) == list(range(10))
        if not self.sequential:
            assert results.index(0) >= 5  # seven ran: at most two wait behind a slow one

    def test_generator_closed_early(self) -> None:
        """A generator that is closed or dropped cancels the rest and leaves all usable."""
        parallel = Parallel(return_as="generator")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            generator = parallel(delayed(sleep_and_return)(0.01, i) for i in range(1000))
            assert next(generator) == 0
            generator.close()
            generator = parallel(delayed(sleep_and_return)(0.01, i) for i in range(1000))
            assert next(generator) == 0
            del generator
            gc.collect()
        assert list(parallel(delayed(square)(i) for i in range(5))) == [0, 1, 4, 9, 16]

    def test_busy(self) -> None:
        """One object runs one call at a time, and says so."""
        parallel = Parallel(return_as="generator")
        generator = parallel(delayed(square)(i) for i in range(5))
        with pytest.raises(RuntimeError, match="already running"):
            parallel(delayed(square)(i) for i in range(5))
        assert list(generator) == [0, 1, 4, 9, 16]

    def test_block_left_with_a_generator_open(self) -> None:
        """Leaving a ``with`` block ends its open generator, and leaves nothing running."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Parallel(return_as="generator") as parallel:
                generator = parallel(delayed(sleep_and_return)(0.01, i) for i in range(10_000))
                assert next(generator) == 0
            if not self.sequential:
                assert len(list(generator)) < 9_999
        assert Parallel()([delayed(square)(3)]) == [9]

    def test_slow_consumer(self) -> None:
        """A consumer that is slower than the workers bounds what is computed ahead of it."""
        read: list[int] = []

        def calls() -> Iterator[Any]:
            for i in range(10_000):
                read.append(i)
                yield delayed(square)(i)

        parallel = Parallel(return_as="generator", max_pending=5, batch_size=1)
        generator = parallel(calls())
        assert next(generator) == 0
        time.sleep(0.5)
        ahead = len(read)
        assert ahead <= 5 + 2 + 4 * parallel.stats.n_jobs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            generator.close()
