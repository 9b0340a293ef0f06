"""Functions that remember: called, they look their result up, and store it where it is missing."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, cast

from jobspan.calls import Recalled
from jobspan.codecs.entry import Header
from jobspan.errors import JobspanError
from jobspan.keys import CallKey, FunctionKeys, explain
from jobspan.memory.expiry import ValidFor
from jobspan.memory.recall import Cache, Found, entry_name
from jobspan.memory.result import MemorizedResult, NotMemorizedResult
from jobspan.memory.single_flight import LEASE_SECONDS, Claim, Turn, turns

__all__ = ["AsyncMemorizedFunc", "MemorizedFunc", "NotMemorizedFunc"]

P = ParamSpec("P")
R = TypeVar("R")

Validation = Callable[[Mapping[str, Any]], bool]


class NotMemorizedFunc(Generic[P, R]):
    """A function with the methods of a cached one, for there is no store.

    Parameters
    ----------
    func : callable
        The function.
    """

    def __init__(self, func: Callable[P, R]) -> None:
        self.func = func
        _look_like(self, func)

    @property
    def __jobspan_function__(self) -> Callable[P, R]:
        return self.func

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.func(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def call_and_shelve(self, *args: P.args, **kwargs: P.kwargs) -> NotMemorizedResult:
        """Call the function and return a reference to its result, kept in memory."""
        return NotMemorizedResult(self.func(*args, **kwargs))

    def call(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, dict[str, Any]]:
        """Call the function; return its result and no metadata."""
        return self.func(*args, **kwargs), {}

    def check_call_in_cache(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Return False: nothing is stored."""
        return False

    def clear(self, warn: bool = True) -> None:
        """Do nothing: nothing is stored."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(func={self.func})"


class MemorizedFunc(Generic[P, R]):
    """A function whose results are stored.

    Made by :meth:`jobspan.Memory.cache`.

    Parameters
    ----------
    func : callable
        The function.
    cache : Cache
        Where results are stored.
    ignore, version, depends
        As for `jobspan.keys.FunctionKeys`.
    verbose : int
        How much is printed, as in joblib.
    validation : callable or None
        Given an entry's metadata, whether it is still good.
    expires : float or None
        Seconds that a result is good for.
    single_flight : bool
        Whether others who want the same result wait for the one who computes it.

    Notes
    -----
    Threads and processes: may be called from any thread; pickled, it works on the same store.
    """

    def __init__(
        self,
        func: Callable[P, R],
        cache: Cache,
        *,
        ignore: Sequence[str] = (),
        version: str | int | None = None,
        depends: Sequence[Any] = (),
        verbose: int = 1,
        validation: Validation | None = None,
        expires: float | None = None,
        single_flight: bool = True,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.func = func
        self.cache = cache
        self.ignore = list(ignore)
        self.version = version
        self.depends = tuple(depends)
        self.cache_validation_callback = validation
        self.expires = expires
        self.single_flight = single_flight
        self.lease_seconds = lease_seconds
        self._verbose = verbose
        self._keys = FunctionKeys(func, ignore, version, depends)
        _look_like(self, func)

    @property
    def __jobspan_function__(self) -> Callable[P, R]:
        return self.func

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {
            "ignore": self.ignore,
            "version": self.version,
            "depends": self.depends,
            "verbose": self._verbose,
            "validation": self.cache_validation_callback,
            "expires": self.expires,
            "single_flight": self.single_flight,
            "lease_seconds": self.lease_seconds,
        }
        # A worker may not have the source: the code's part of the key goes along.
        return _rebuilt, (type(self), self.func, self.cache, settings, self._keys.code())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(func={self.func}, location={self.cache.store.url})"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the stored result of a call, or call the function and store what it returns."""
        result: R = self._result(self._keys.key(args, kwargs), args, kwargs).value
        return result

    # --- joblib's methods ------------------------------------------------------------------

    def call_and_shelve(self, *args: P.args, **kwargs: P.kwargs) -> MemorizedResult:
        """Call as usual, but return a small reference to the stored result."""
        key = self._keys.key(args, kwargs)
        return MemorizedResult(self.cache, key, _metadata(key, self._result(key, args, kwargs)))

    def call(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, dict[str, Any]]:
        """Call the function whatever is stored; store the result and return it with metadata."""
        key = self._keys.key(args, kwargs)
        found = self._compute(key, args, kwargs, Claim())
        return found.value, _metadata(key, found)

    def check_call_in_cache(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Whether the result of a call is stored and good; nothing is called."""
        return self._stored(self._look_up(self._keys.key(args, kwargs))) is not None

    def clear(self, warn: bool = True) -> None:
        """Delete all stored results of the function, of every version of its code."""
        if self._verbose > 0 and warn:
            _log(f"Clearing function cache identified by {self._keys.name}")
        from jobspan.memory.recall import function_prefix

        names = [info.name for info in self.cache.store.list(function_prefix(self._keys.name))]
        self.cache.delete(names)

    # --- what is new -----------------------------------------------------------------------

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the stored result of one call; whether there was one."""
        name = entry_name(self._keys.key(args, kwargs))
        return bool(self.cache.delete([name]))

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Say in words how a call differs from the nearest one that is stored."""
        key = self._keys.key(args, kwargs)
        if self._stored(self._look_up(key)) is not None:
            return "nothing differs: the result is stored"
        stored = [header.components for _, header in self.cache.headers(self._keys.name)]
        return explain(key, stored)

    def recall_many(
        self, calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]
    ) -> list[Recalled | None]:
        """Look up the results of many calls at once; None where nothing is stored."""
        keys: list[CallKey | None] = []
        for args, kwargs in calls:
            try:
                keys.append(self._keys.key(args, kwargs))
            except (JobspanError, TypeError):
                keys.append(None)  # the call itself raises it, where the user expects it
        wanted = [key for key in keys if key is not None]
        found = iter(self.cache.look_up_many(wanted, self._usable))
        answers: list[Recalled | None] = []
        for key in keys:
            stored = None if key is None else self._stored(next(found))
            if stored is not None:
                self._count_hit(stored)
            answers.append(None if stored is None else Recalled(stored.value))
        return answers

    # --- how it works ----------------------------------------------------------------------

    def _look_up(self, key: CallKey) -> Found | None:
        return self.cache.look_up(key, self._usable)

    def _usable(self, found: Found) -> bool:
        """Whether an entry is still good."""
        if self.expires is None and self.cache_validation_callback is None:
            return True
        metadata = _metadata_of_entry(found)
        if self.expires is not None and not ValidFor(self.expires)(metadata):
            return False
        validation = self.cache_validation_callback
        return validation is None or validation(metadata)

    def _stored(self, found: Found | None) -> Found | None:
        """Return what was found if it is an entry that is still good."""
        if found is None or found.header is None or not self._usable(found):
            return None
        return found

    def _result(self, key: CallKey, args: Any, kwargs: Any) -> Found:
        found = self._look_up(key)
        if found is not None and found.header is not None and self._usable(found):
            return self._hit(found, key)
        if not self.single_flight:
            return self._compute(key, args, kwargs, Claim())
        for turn, what in turns(self.cache, key, found, self._usable, self.lease_seconds):
            if turn is Turn.FOUND:
                return self._hit(what, key)
            if turn is Turn.COMPUTE:
                return self._compute(key, args, kwargs, what)
            time.sleep(what)
        raise AssertionError("somebody who wants a key is always told what to do")

    def _hit(self, found: Found, key: CallKey) -> Found:
        self._count_hit(found)
        if self._verbose > 1:
            _log(f"Loading {self._keys.name} from {self.cache.store.url}")
        return found

    def _count_hit(self, found: Found) -> None:
        assert found.header is not None
        self.cache.counts.hits += 1
        self.cache.counts.seconds_saved += found.header.seconds

    def _compute(self, key: CallKey, args: Any, kwargs: Any, claim: Claim) -> Found:
        self._announce(args, kwargs)
        begin = time.perf_counter()
        published = False
        claim.hold()
        try:
            value = self.func(*args, **kwargs)
            seconds = time.perf_counter() - begin
            published = self._publish(key, value, seconds, claim)
        finally:
            claim.release(published)
        return self._finished(key, value, seconds, published=published)

    def _announce(self, args: Any, kwargs: Any) -> None:
        self.cache.counts.misses += 1
        if self._verbose > 0:
            _print(_call_text(self._keys.name, args, kwargs))

    def _publish(self, key: CallKey, value: Any, seconds: float, claim: Claim) -> bool:
        published = self.cache.publish(key, value, seconds, claim.token, fresh=claim.fresh)
        if self._verbose > 0:
            text = f"{self._keys.name.rpartition('.')[2]} - {seconds:.1f}s, {seconds / 60:.1f}min"
            _print(max(0, 80 - len(text)) * "_" + text)
        return published

    def _finished(self, key: CallKey, value: Any, seconds: float, *, published: bool) -> Found:
        """Return a computed result: the stored one where users asked for its mapped arrays."""
        if published and self.cache.mmap_mode is not None:
            found = self._stored(self._look_up(key))
            if found is not None:
                return found
        return Found(value, Header(key.digest, key.function, time.time(), seconds))


class AsyncMemorizedFunc(MemorizedFunc[P, R]):
    """The same for a coroutine function: the store is read and written in other threads."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:  # type: ignore[override]
        """Return the stored result of a call, or await the function and store what it returns."""
        key = self._keys.key(args, kwargs)
        return (await self._awaited(key, args, kwargs)).value

    async def call_and_shelve(self, *args: P.args, **kwargs: P.kwargs) -> Any:  # type: ignore[override]
        """Call as usual, but return a small reference to the stored result."""
        key = self._keys.key(args, kwargs)
        return MemorizedResult(
            self.cache, key, _metadata(key, await self._awaited(key, args, kwargs))
        )

    async def call(self, *args: P.args, **kwargs: P.kwargs) -> Any:  # type: ignore[override]
        """Await the function whatever is stored; store the result and return it with metadata."""
        key = self._keys.key(args, kwargs)
        found = await self._computed(key, args, kwargs, Claim())
        return found.value, _metadata(key, found)

    async def _awaited(self, key: CallKey, args: Any, kwargs: Any) -> Found:
        found = await asyncio.to_thread(self._look_up, key)
        stored = self._stored(found)
        if stored is not None:
            return self._hit(stored, key)
        if not self.single_flight:
            return await self._computed(key, args, kwargs, Claim())
        steps = turns(self.cache, key, found, self._usable, self.lease_seconds)
        while (step := await asyncio.to_thread(next, steps, None)) is not None:
            turn, what = step
            if turn is Turn.FOUND:
                return self._hit(what, key)
            if turn is Turn.COMPUTE:
                return await self._computed(key, args, kwargs, what)
            await asyncio.sleep(what)
        raise AssertionError("somebody who wants a key is always told what to do")

    async def _computed(self, key: CallKey, args: Any, kwargs: Any, claim: Claim) -> Found:
        self._announce(args, kwargs)
        begin = time.perf_counter()
        published = False
        claim.hold()
        try:
            value = await cast("Coroutine[Any, Any, Any]", self.func(*args, **kwargs))
            seconds = time.perf_counter() - begin
            published = await asyncio.to_thread(self._publish, key, value, seconds, claim)
        finally:
            await asyncio.shield(asyncio.to_thread(claim.release, published))
        return await asyncio.to_thread(self._finished, key, value, seconds, published=published)


def _rebuilt(
    kind: Any, func: Any, cache: Cache, settings: dict[str, Any], code: dict[str, str]
) -> Any:
    function = kind(func, cache, **settings)
    function._keys.fix(code)
    return function


def _metadata(key: CallKey, found: Found) -> dict[str, Any]:
    """Return under joblib's names what is known of the result of a call."""
    assert found.header is not None
    return _under_joblibs_names(found.header, key.components)


def _metadata_of_entry(found: Found) -> dict[str, Any]:
    """Return an entry's metadata under joblib's names."""
    header = found.header
    return {} if header is None else _under_joblibs_names(header, header.components)


def _under_joblibs_names(header: Header, components: Mapping[str, str]) -> dict[str, Any]:
    arguments = {
        name.removeprefix("argument: "): text.partition(" ")[2]
        for name, text in components.items()
        if name.startswith("argument: ")
    }
    return {"duration": header.seconds, "time": header.created, "input_args": arguments}


def _look_like(wrapper: Any, func: Any) -> None:
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        if hasattr(func, name):
            setattr(wrapper, name, getattr(func, name))
    if not inspect.isclass(func):
        wrapper.__wrapped__ = func


def _call_text(name: str, args: Any, kwargs: Any) -> str:
    shown = [_short(arg) for arg in args] + [f"{k}={_short(v)}" for k, v in kwargs.items()]
    line = f"[Memory] Calling {name}..."
    return f"{80 * '_'}\n{line}\n{name.rpartition('.')[2]}({', '.join(shown)})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 1500 else text[:700] + "..." + text[-700:]


def _print(text: str) -> None:
    import sys

    sys.stdout.write(text + "\n")


def _log(text: str) -> None:
    import logging

    logging.getLogger("jobspan").warning("%s", text)
