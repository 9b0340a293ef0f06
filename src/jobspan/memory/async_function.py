"""Coroutine functions that remember: the store is read and written in other threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from jobspan.keys import CallKey
from jobspan.memory.claims import Claim
from jobspan.memory.function import MemorizedFunc
from jobspan.memory.reading import Found
from jobspan.memory.result import under_joblibs_names
from jobspan.memory.single_flight import Step, Turn, turns

__all__ = ["AsyncMemorizedFunc"]

P = ParamSpec("P")
R = TypeVar("R")


class AsyncMemorizedFunc(MemorizedFunc[P, R]):
    """The same for a coroutine function: the store is read and written in other threads."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:  # type: ignore[override]
        """Return the stored result of a call, or await the function and store what it returns."""
        key = self._keys.key(args, kwargs)
        return (await self._awaited(key, args, kwargs)).value

    async def call_and_shelve(self, *args: P.args, **kwargs: P.kwargs) -> Any:  # type: ignore[override]
        """Call as usual, but return a small reference to the stored result."""
        key = self._keys.key(args, kwargs)
        found = self._stored(await asyncio.to_thread(self.cache.look_at, key))
        if found is None:
            return self._shelved(key, await self._awaited(key, args, kwargs))
        self._count_hit(found)
        return self._shelved(key, found)

    async def call(self, *args: P.args, **kwargs: P.kwargs) -> Any:  # type: ignore[override]
        """Await the function whatever is stored; store the result and return it with metadata."""
        key = self._keys.key(args, kwargs)
        found = await self._computed(key, args, kwargs, Claim())
        assert found.header is not None
        return found.value, under_joblibs_names(found.header, key.components)

    async def _awaited(self, key: CallKey, args: Any, kwargs: Any) -> Found:
        begin = time.perf_counter()
        found = await asyncio.to_thread(self.cache.look_up, key, self._usable)
        stored = self._stored(found)
        if stored is not None:
            return self._hit(stored, key, args, kwargs, begin)
        if not self.flight.single:
            return await self._computed(key, args, kwargs, Claim())
        steps = turns(self.cache, key, found, self._usable, self.flight)
        while (step := await _next_step(steps)) is not None:
            turn, what = step
            if turn is Turn.FOUND:
                return self._hit(what, key, args, kwargs, begin)
            if turn is Turn.COMPUTE:
                return await self._computed(key, args, kwargs, what)
            await asyncio.sleep(what)
        raise AssertionError("somebody who wants a key is always told what to do")

    async def _computed(self, key: CallKey, args: Any, kwargs: Any, claim: Claim) -> Found:
        published = False
        try:
            self._announce(key, args, kwargs)
            begin = time.perf_counter()
            claim.hold()
            value = await cast("Coroutine[Any, Any, Any]", self.func(*args, **kwargs))
            seconds = time.perf_counter() - begin
            published = await asyncio.to_thread(self._publish, key, value, seconds, claim)
        finally:
            await asyncio.shield(asyncio.to_thread(claim.release, published))
        return await asyncio.to_thread(self._finished, key, value, seconds, published=published)


async def _next_step(steps: Iterator[Step]) -> Step | None:
    """Return the next step; a claim that comes after its coroutine was cancelled is given up."""
    coming = asyncio.ensure_future(asyncio.to_thread(next, steps, None))
    try:
        return await asyncio.shield(coming)
    except asyncio.CancelledError:
        coming.add_done_callback(_give_up)
        raise


def _give_up(coming: asyncio.Future[Step | None]) -> None:
    if not coming.cancelled() and coming.exception() is None:
        step = coming.result()
        if step is not None and step[0] is Turn.COMPUTE:
            asyncio.get_running_loop().run_in_executor(None, step[1].release, False)
