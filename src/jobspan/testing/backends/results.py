"""What calls give: the results of the plain loop, however they are asked for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from jobspan import Parallel, delayed, parallel_config
from jobspan.testing.backends.suite import BackendTests
from jobspan.testing.backends.work import UserError, fail_at, sleep_and_return, square

__all__ = ["Results"]


class Results(BackendTests):
    """What calls give: the results of the plain loop, however they are asked for."""

    def test_results_in_order(self) -> None:
        """Results come in the order of the calls."""
        calls = (delayed(sleep_and_return)(0.01 * (5 - i % 5) / 5, i) for i in range(40))
        assert Parallel()(calls) == list(range(40))

    def test_many_small_calls(self) -> None:
        """Thousands of small calls give the results of the plain loop."""
        assert Parallel()(delayed(square)(i) for i in range(3000)) == [i * i for i in range(3000)]

    @pytest.mark.parametrize("batch_size", [1, 7, "auto"])
    @pytest.mark.parametrize("pre_dispatch", ["all", 1, "3 * n_jobs"])
    def test_batches(self, batch_size: Any, pre_dispatch: Any) -> None:
        """Any batch size and pre-dispatch gives the same results."""
        parallel = Parallel(batch_size=batch_size, pre_dispatch=pre_dispatch)
        assert parallel(delayed(square)(i) for i in range(50)) == [i * i for i in range(50)]

    def test_pre_dispatch(self) -> None:
        """The input is read no further than ``pre_dispatch=`` allows."""
        moments: list[float] = []

        def calls() -> Iterator[Any]:
            for i in range(6):
                moments.append(time.monotonic())
                yield delayed(sleep_and_return)(0.2, i)

        assert Parallel(pre_dispatch=3, batch_size=1)(calls()) == list(range(6))
        assert sum(moment < moments[0] + 0.2 for moment in moments) <= 3

    def test_empty(self) -> None:
        """No calls give no results, from an empty list or an exhausted iterator."""
        exhausted = iter([delayed(square)(1)])
        next(exhausted)
        assert Parallel()([]) == []
        assert Parallel()(exhausted) == []
        assert list(Parallel(return_as="generator")([])) == []

    def test_functions_by_value(self) -> None:
        """Lambdas, closures and keyword arguments work."""
        offset = 10
        functions = [lambda x, *, y=1: x + y + offset, lambda x, *, y=1: x * y * offset]
        calls = [delayed(function)(3, y=2) for function in functions]
        assert Parallel()(calls) == [15, 60]

    def test_map(self) -> None:
        """``map`` is a shorthand."""
        assert Parallel().map(pow, [2, 3], [5, 2]) == [32, 9]

    def test_reused_in_with_block(self) -> None:
        """A ``with`` block serves many calls, also after one that failed."""
        with Parallel() as parallel:
            assert parallel(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]
            with pytest.raises(UserError):
                parallel(delayed(fail_at)(i, 3) for i in range(10))
            assert parallel(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]

    def test_several_threads(self) -> None:
        """Several threads use one backend at once, each through its own ``Parallel``."""
        results: dict[int, Any] = {}

        def run(number: int) -> None:
            with parallel_config(backend=self.backend, n_jobs=self.n_jobs, **self.options):
                results[number] = Parallel()(delayed(square)(i) for i in range(20))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {number: [i * i for i in range(20)] for number in range(3)}

    def test_awaited(self) -> None:
        """``await`` and ``async for`` do not block the event loop."""

        async def both() -> tuple[list[int], list[int], int]:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            ticking = asyncio.create_task(tick())
            calls = [delayed(sleep_and_return)(0.02, i) for i in range(8)]
            collected = await Parallel().acall(calls)
            streamed = [result async for result in Parallel(return_as="generator").acall(calls)]
            ticking.cancel()
            return collected, streamed, ticks

        collected, streamed, ticks = asyncio.run(both())
        assert collected == streamed == list(range(8))
        assert ticks >= 3

    def test_subclass(self) -> None:
        """A subclass that overrides ``__call__`` runs as any other."""

        class Doubling(Parallel):
            def __call__(self, iterable: Any) -> Any:
                return super().__call__(
                    (function, args, kwargs) for function, args, kwargs in [*iterable, *iterable]
                )

        assert Doubling()([delayed(square)(i) for i in range(3)]) == [0, 1, 4, 0, 1, 4]
