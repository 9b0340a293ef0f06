"""Results for coroutines: the generator of a ``Parallel`` call, waited for without blocking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["collect", "iterate"]

_END = object()


async def iterate(
    start: Callable[[], Iterator[Any]], interrupt: Callable[[], None]
) -> AsyncIterator[Any]:
    """Yield what a generator yields, without blocking the event loop.

    Parameters
    ----------
    start : callable
        Starts the calls and returns their generator.
    interrupt : callable
        Makes a generator that waits for a result end soon; from any thread.

    Notes
    -----
    One thread of its own uses the generator. When the coroutine is cancelled or closed, what runs
    is cancelled.
    """
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="jobspan-async")
    try:
        results = await loop.run_in_executor(thread, start)
        try:
            while (result := await loop.run_in_executor(thread, next, results, _END)) is not _END:
                yield result
        finally:
            interrupt()
            thread.submit(results.close)  # type: ignore[attr-defined]  # it is a generator
    finally:
        thread.shutdown(wait=False)


async def collect(start: Callable[[], Iterator[Any]], interrupt: Callable[[], None]) -> list[Any]:
    """Return what a generator yields as a list, without blocking the event loop."""
    return [result async for result in iterate(start, interrupt)]
