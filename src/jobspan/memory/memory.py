"""``Memory``: a cache of results, on this disk or in a bucket that a team shares."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar, overload

from jobspan.calls import Recalled, check_call, check_iterable, is_recallable
from jobspan.codecs.values import Codec
from jobspan.logger import Logger
from jobspan.memory.async_function import AsyncMemorizedFunc
from jobspan.memory.eviction import Policy, evictable
from jobspan.memory.function import MemorizedFunc
from jobspan.memory.inventory import problems, survey
from jobspan.memory.last_use import with_uses
from jobspan.memory.naming import belongs_to_cache, entry_of, is_entry
from jobspan.memory.opening import (
    open_cache,
    read_bytes,
    read_expires,
    read_flight,
    read_items,
    read_mmap_mode,
    read_validation,
    read_verbose,
)
from jobspan.memory.pass_through import AsyncNotMemorizedFunc, NotMemorizedFunc
from jobspan.memory.wrapping import Bound
from jobspan.store import ObjectStore, Sweeps

__all__ = ["Memory"]

P = ParamSpec("P")
R = TypeVar("R")

PREFETCHED_AT_ONCE = 256
"""Results that `prefetch` asks for at a time: their values are read, and let go of."""


class Memory(Logger):
    """A cache of function results.

    Parameters
    ----------
    location : str, path or None
        A folder, or any URL that fsspec knows: ``s3://bucket/prefix``, ``gs://…``, ``az://…``,
        ``memory://…``. None: nothing is stored, and functions are called every time.
    backend : str
        ``"local"``, or the name of a store registered with `register_store_backend`.
    mmap_mode : {None, "r", "r+", "w+", "c"}
        ``"r"``: large arrays of local entries are mapped read-only, without reading them.
    compress : bool, int, str or tuple
        True, a level from 1 to 9, a name (``"zlib"``, ``"zstd"``, ``"lz4"``, ``"gzip"``, ``"bz2"``,
        ``"lzma"``, ``"xz"``), or a pair of name and level.
    verbose : int
        1: calls that are computed are printed; more: those that are recalled, too.
    backend_options : dict, optional
        As `storage_options`, under joblib's name.
    storage_options : mapping, optional
        Options of the file system: keys, endpoints and the like. Never shown.
    local_tier : str or path, optional
        A folder in front of a remote store: what is there is not asked for again.
    mode : {"rw", "ro"}
        ``"ro"``: stored results are used, none is stored or deleted.
    single_flight : bool
        Whether callers who want the same result, on any host, wait for the one who computes it.
    sign_key : bytes, str or Ed25519 key, optional
        Entries are signed, and unsigned ones are not used. Text may be a PEM.
    safe : bool
        Only formats that can run no code are read and written: JSON, npy, Arrow.
    codec : str or Codec, optional
        How values are written: ``"pickle"``, ``"npy"``, ``"arrow"``, ``"json"``, ``"auto"`` (what
        fits the value's type of the three, else a pickle), or one of your own; ``"pickle"`` where
        it is not given.
    lease_seconds : float
        After how long without a sign of life the claim of one who computes is taken over.
    patience_seconds : float
        How long anybody waits for another's result before computing it himself.

    Raises
    ------
    StoreLocationError
        If `location` cannot be a store: a file, an unknown scheme, a bucket that is not there.

    Notes
    -----
    Threads and processes: any number of threads, processes and hosts may use one location at once.
    Code is part of every key: two versions of a function live side by side, nothing is wiped.

    Examples
    --------
    >>> from jobspan import Memory
    >>> memory = Memory("memory://example", verbose=0)
    >>> @memory.cache
    ... def double(x):
    ...     return 2 * x
    >>> double(4), double.check_call_in_cache(4), double.check_call_in_cache(5)
    (8, True, False)
    """

    def __init__(
        self,
        location: str | os.PathLike[str] | ObjectStore | None = None,
        backend: str = "local",
        mmap_mode: str | None = None,
        compress: bool | int | str | tuple[str, int] = False,
        verbose: int = 1,
        backend_options: Mapping[str, Any] | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        local_tier: str | os.PathLike[str] | None = None,
        mode: Literal["rw", "ro"] = "rw",
        single_flight: bool = True,
        sign_key: Any = None,
        safe: bool = False,
        codec: str | Codec | None = None,
        lease_seconds: float = 30.0,
        patience_seconds: float = 900.0,
    ) -> None:
        Logger.__init__(self)
        self.mmap_mode = mmap_mode
        self.compress = compress
        self.backend = backend
        if backend_options is not None and not isinstance(backend_options, Mapping):
            raise TypeError(f"backend_options is a {type(backend_options).__name__}; pass a dict")
        self.backend_options = dict(backend_options or {})
        self.location = location
        self.mode = mode
        self.timestamp = time.time()
        self._verbose = read_verbose(verbose)
        self._flight = read_flight(single_flight, lease_seconds, patience_seconds)
        self._cache = open_cache(
            location,
            backend=backend,
            mmap_mode=mmap_mode,
            compress=compress,
            options=storage_options
            if not backend_options
            else {**backend_options, **(storage_options or {})},
            local_tier=local_tier,
            mode=mode,
            sign_key=sign_key,
            safe=safe,
            codec=codec,
        )

    @property
    def verbose(self) -> int:
        """How much is printed."""
        return self._verbose

    @property
    def single_flight(self) -> bool:
        """Whether callers who want the same result wait for the one who computes it."""
        return self._flight.single

    @property
    def store_backend(self) -> ObjectStore | None:
        """Where results are stored; None where nothing is."""
        return None if self._cache is None else self._cache.store

    @overload
    def cache(self, func: Callable[P, R], *args: Any, **kwargs: Any) -> MemorizedFunc[P, R]: ...

    @overload
    def cache(
        self, func: None = None, *args: Any, **kwargs: Any
    ) -> Callable[[Callable[P, R]], MemorizedFunc[P, R]]: ...

    def cache(
        self,
        func: Any = None,
        ignore: Sequence[str] | None = None,
        verbose: int | None = None,
        mmap_mode: Any = False,
        cache_validation_callback: Callable[[Mapping[str, Any]], bool] | None = None,
        *,
        version: str | int | None = None,
        depends: Sequence[Any] = (),
        expires: float | timedelta | None = None,
    ) -> Any:
        """Return a function that stores its results, with or without parentheses as a decorator.

        Parameters
        ----------
        func : callable
            The function.
        ignore : sequence of str, optional
            Names of arguments on which the result does not depend.
        verbose : int, optional
            As for the memory.
        mmap_mode : str or None, optional
            As for the memory.
        cache_validation_callback : callable, optional
            Given an entry's metadata (``time``, ``duration``, ``input_args``), whether it is good.
        version : str or int, optional
            Replaces the fingerprint of the function's code: results stay until it changes.
        depends : sequence, optional
            What the result depends on besides: functions, modules, paths of files, values.
        expires : float or timedelta, optional
            Seconds that a result is good for; above 0.

        Returns
        -------
        MemorizedFunc
            Called like the function; see its methods.
        """
        settings: dict[str, Any] = {
            "backend": self.backend,
            "ignore": ignore,
            "compress": self.compress,
            "verbose": self._verbose if verbose is None else verbose,
            "timestamp": self.timestamp,
            "cache_validation_callback": read_validation(cache_validation_callback),
            "version": version,
            "depends": depends,
            "expires": read_expires(expires),
            "flight": self._flight,
        }
        cache = self._cache
        if cache is not None and mmap_mode is not False and mmap_mode != cache.mmap_mode:
            cache = replace(cache, mmap_mode=read_mmap_mode(mmap_mode))

        def memorized(function: Any) -> Any:
            function = _plain(function)
            is_coroutine = inspect.iscoroutinefunction(function)
            if cache is None:
                return (AsyncNotMemorizedFunc if is_coroutine else NotMemorizedFunc)(function)
            return (AsyncMemorizedFunc if is_coroutine else MemorizedFunc)(
                function, cache, **settings
            )

        return memorized if func is None else memorized(func)

    def eval(self, func: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Call a function through the cache."""
        result: R = self.cache(_plain(func))(*args, **kwargs)
        return result

    def clear(self, warn: bool = True) -> None:
        """Delete all results."""
        if warn:
            self.warn("Flushing completely the cache")
        if self._cache is not None:
            listed = self._cache.store.list()
            self._cache.delete(info for info in listed if belongs_to_cache(info.name))

    def reduce_size(
        self,
        bytes_limit: int | str | None = None,
        items_limit: int | None = None,
        age_limit: timedelta | None = None,
        *,
        policy: Policy = "lru",
    ) -> int:
        """Delete results until the rest keeps within the limits; how many were deleted.

        Parameters
        ----------
        bytes_limit : int or str, optional
            Bytes, or text such as ``"10G"``.
        items_limit : int, optional
            How many results may stay.
        age_limit : timedelta, optional
            How long an unused result may stay.
        policy : {"lru", "cost"}
            Which go first: those unused for the longest time, or those that cost the least time a
            byte to compute again.

        Notes
        -----
        Threads and processes: safe beside readers, writers and other evictions, on any host.
        """
        if policy not in ("lru", "cost"):
            raise ValueError(f"policy={policy!r}: pass 'lru' or 'cost'")
        if age_limit is not None and not isinstance(age_limit, timedelta):
            raise TypeError(
                f"age_limit={age_limit!r}: pass a datetime.timedelta, such as timedelta(days=30)"
            )
        if age_limit is not None and age_limit.total_seconds() < 0:
            raise ValueError("age_limit has to be a positive timedelta")
        limits: dict[str, Any] = {
            "bytes_limit": read_bytes(bytes_limit),
            "items_limit": read_items(items_limit),
            "age_limit": age_limit,
        }
        cache = self._cache
        if cache is None or not any(limit is not None for limit in limits.values()):
            return 0
        cache.refuse_if_read_only()
        if isinstance(cache.store, Sweeps):
            cache.store.sweep()
        if policy == "cost":
            found = survey(cache.store)
            costs = {entry.info.name: entry.header.seconds for entry in found.entries}
            infos = [entry.info for entry in found.entries] + found.damaged
            marks = found.marks
        else:
            costs = None
            infos, marks = with_uses(cache.store.list())
        leaving = set(evictable(infos, time.time(), costs=costs, **limits))
        deleted = cache.delete(info for info in infos if info.name in leaving)
        known = {info.name for info in infos} - leaving
        cache.delete(mark for mark in marks if entry_of(mark.name) not in known)
        return deleted

    def stats(self) -> dict[str, float]:
        """Return what this memory has done in this process: hits, misses, seconds saved, bytes."""
        counts = self._cache.counts if self._cache is not None else None
        names = ("hits", "misses", "seconds_saved", "bytes_read", "bytes_written", "failures")
        return {name: getattr(counts, name, 0) for name in names}

    def verify(self) -> list[str]:
        """Read every entry; return the names of those that are damaged or untrusted."""
        if self._cache is None:
            return []
        store = self._cache.store
        names = [info.name for info in store.list() if is_entry(info.name)]
        return [name for name, _ in problems(store, names, self._cache.format.signer)]

    def prefetch(self, calls: Iterable[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> int:
        """Bring the stored results of calls into the local tier; how many were found.

        Parameters
        ----------
        calls : iterable of delayed calls
            Of plain functions, or of functions cached by this memory.
        """
        check_iterable(calls, "memory.prefetch")
        waiting: dict[int, tuple[Any, list[tuple[Any, Any]]]] = {}
        for index, call in enumerate(calls):
            check_call(call, index, "memory.prefetch")
            function, args, kwargs = call
            if id(function) not in waiting:
                cached = function if is_recallable(function) else self.cache(function)
                waiting[id(function)] = (cached, [])
            waiting[id(function)][1].append((args, kwargs))
        found = 0
        for cached, arguments in waiting.values():
            if not is_recallable(cached):
                continue  # there is no store
            for first in range(0, len(arguments), PREFETCHED_AT_ONCE):
                answers = cached.recall_many(arguments[first : first + PREFETCHED_AT_ONCE])
                found += sum(isinstance(answer, Recalled) for answer in answers)
        return found

    def __repr__(self) -> str:
        where = None if self._cache is None else self._cache.store.url
        return f"{type(self).__name__}(location={where})"

    def _repr_html_(self) -> str:
        from jobspan.memory.pictures import memory_table

        url = None if self._cache is None else self._cache.store.url
        return memory_table(url, self.stats())

    def __jobspan_key__(self) -> str:
        """Return what a memory stands for in keys: where it is makes no difference to results."""
        return "Memory"


def _plain(function: Any) -> Any:
    """Return the function to cache; refuse what is none, and generators with the way out."""
    if isinstance(function, MemorizedFunc):
        function = function.func
    elif isinstance(function, Bound):
        function = function.__jobspan_function__
    if not callable(function):
        kind = type(function).__name__
        raise TypeError(f"cache({function!r}): {kind} is not callable; pass a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function.__qualname__} is a generator function, and a generator cannot be stored; "
            "cache a function that returns a list of what it yields"
        )
    return function
