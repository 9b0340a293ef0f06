"""Parallel calls from coroutines."""

from __future__ import annotations

import asyncio
import time

import pytest

from jobspan import Parallel, delayed


def sleepy(seconds: float, value: int) -> int:
    time.sleep(seconds)
    return value


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_await_gives_a_list_and_the_loop_goes_on(n_jobs: int) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def main() -> list[int]:
        ticking = asyncio.create_task(tick())
        parallel = Parallel(n_jobs=n_jobs, backend="threads")
        results: list[int] = await parallel.acall(delayed(sleepy)(0.05, i) for i in range(6))
        ticking.cancel()
        return results

    assert asyncio.run(main()) == list(range(6))
    assert ticks > 5


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_async_for_over_generator_modes(return_as: str) -> None:
    async def main() -> list[int]:
        parallel = Parallel(n_jobs=2, backend="threads", return_as=return_as)
        calls = (delayed(sleepy)(0.001, i) for i in range(20))
        return [value async for value in parallel.acall(calls)]

    assert sorted(asyncio.run(main())) == list(range(20))


def test_errors_arrive() -> None:
    async def main() -> None:
        await Parallel(n_jobs=2, backend="threads").acall([delayed(int)("x")] * 3)

    with pytest.raises(ValueError, match="'x'"):
        asyncio.run(main())


def test_a_cancelled_coroutine_cancels_the_calls() -> None:
    started: list[int] = []

    def note(i: int) -> None:
        started.append(i)
        time.sleep(0.05)

    async def main() -> None:
        parallel = Parallel(n_jobs=2, backend="threads")
        async with asyncio.timeout(0.2):
            await parallel.acall(delayed(note)(i) for i in range(1000))

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    time.sleep(0.3)
    count = len(started)
    time.sleep(0.3)
    assert len(started) == count < 50
