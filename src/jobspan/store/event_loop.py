"""Coroutines of an asynchronous fsspec file system, run in fsspec's event-loop thread."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from jobspan.store.requests import Fetched, Range

__all__ = ["CONCURRENCY", "fetch_many", "run"]

CONCURRENCY = 64
"""Requests on their way at once in a bulk read."""

T = TypeVar("T")


def run(loop: asyncio.AbstractEventLoop, call: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run a coroutine function in `loop`'s thread and return its result."""
    from fsspec.asyn import sync

    result: T = sync(loop, call, *args)
    return result


def fetch_many(
    loop: asyncio.AbstractEventLoop,
    fetch: Callable[[Range], Coroutine[Any, Any, Fetched]],
    parts: Iterable[Range],
) -> Iterator[tuple[Range, Fetched | None]]:
    """Read ranges with `fetch`, at most `CONCURRENCY` at once, and yield each as it arrives.

    What the consumer has not taken yet is bounded: `parts` is read no further ahead than that.
    """
    arrived: queue.SimpleQueue[tuple[Range, Fetched | BaseException | None]] = queue.SimpleQueue()

    async def one(part: Range) -> None:
        try:
            arrived.put((part, await fetch(part)))
        except KeyError:
            arrived.put((part, None))
        except BaseException as error:  # noqa: BLE001 - raised in the consumer's thread
            arrived.put((part, error))

    source = iter(parts)
    waiting: set[Any] = set()
    under_way = 0
    try:
        while True:
            while under_way < CONCURRENCY:
                part = next(source, None)
                if part is None:
                    break
                task = asyncio.run_coroutine_threadsafe(one(part), loop)
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                under_way += 1
            if not under_way:
                return
            part, fetched = arrived.get()
            under_way -= 1
            if isinstance(fetched, BaseException):
                raise fetched
            yield part, fetched
    finally:
        for task in list(waiting):
            task.cancel()


def pages(loop: asyncio.AbstractEventLoop, listing: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """Yield what an asynchronous generator in `loop` yields, one at a time."""
    source = listing()
    done = object()

    async def following() -> Any:
        return await anext(source, done)

    while (page := run(loop, following)) is not done:
        yield page
