"""``Memory``: a cache of results, on this disk or in a bucket that a team shares."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar, overload

from jobspan.codecs.compression import read_compress
from jobspan.codecs.signing import read_sign_key
from jobspan.codecs.values import CODECS, Codec
from jobspan.errors import CodecError, EntryDamagedError
from jobspan.memory.eviction import Policy, evictable
from jobspan.memory.function import AsyncMemorizedFunc, MemorizedFunc, NotMemorizedFunc
from jobspan.memory.joblib_store import open_registered
from jobspan.memory.recall import Cache
from jobspan.store import ObjectStore, Sweeps, open_store

__all__ = ["Memory"]

P = ParamSpec("P")
R = TypeVar("R")

_MMAP_MODES = (None, "r", "r+", "w+", "c")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Memory:
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
        True, a level from 1 to 9, ``"zlib"``, ``"zstd"``, ``"lz4"``, or a pair of name and level.
    verbose : int
        1: calls that are computed are printed; more: those that are recalled, too.
    backend_options : dict, optional
        As `storage_options`, under joblib's name.
    storage_options : mapping, optional
        Options of the file system: keys, endpoints and the like. Never shown.
    local_tier : str or path, optional
        A folder in front of a remote store: what is there is not asked for again.
    mode : {"rw", "ro"}
        ``"ro"``: stored results are used, none is stored.
    single_flight : bool
        Whether callers who want the same result, on any host, wait for the one who computes it.
    sign_key : bytes, str or Ed25519 key, optional
        Entries are signed, and unsigned ones are not used.
    safe : bool
        Only formats that can run no code are read and written: JSON, npy, Arrow.
    codec : str or Codec, optional
        How values are written; ``"pickle"`` where it is not given.

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
    ) -> None:
        if mmap_mode not in _MMAP_MODES:
            raise ValueError(f"mmap_mode={mmap_mode!r}: pass one of {_MMAP_MODES}")
        if mode not in ("rw", "ro"):
            raise ValueError(f"mode={mode!r}: pass 'rw' to read and store, or 'ro' to read only")
        self.mmap_mode = mmap_mode
        self.compress = compress
        self.backend = backend
        self.location = location
        self.mode = mode
        self.single_flight = single_flight
        self._verbose = verbose
        compression = read_compress(compress)
        signer = read_sign_key(sign_key)
        chosen = _codec(codec, safe=safe)
        self._functions: dict[Any, Any] = {}
        self._cache: Cache | None = None
        if location is None:
            return
        options = {**(backend_options or {}), **(storage_options or {})}
        store: ObjectStore
        if isinstance(location, ObjectStore):
            store = location
        elif backend != "local":
            store = open_registered(backend, location, options)
        else:
            store = open_store(location, storage_options=options)
        tier = None
        if local_tier is not None:
            tier = open_store(os.path.expanduser(os.fspath(local_tier)))  # noqa: PTH111 - text
        self._cache = Cache(
            store,
            tier,
            chosen,
            compression,
            signer,
            safe,
            mode == "rw",
            mmap_mode,
        )

    @property
    def verbose(self) -> int:
        """How much is printed."""
        return self._verbose

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
            "ignore": tuple(ignore or ()),
            "version": version,
            "depends": tuple(depends),
            "verbose": self._verbose if verbose is None else verbose,
            "validation": cache_validation_callback,
            "expires": _seconds(expires),
            "single_flight": self.single_flight,
        }
        if cache_validation_callback is not None and not callable(cache_validation_callback):
            raise ValueError(
                f"cache_validation_callback needs to be callable. Got {cache_validation_callback}."
            )
        if func is None:
            return lambda function: self._memorized(function, mmap_mode, settings)
        return self._memorized(func, mmap_mode, settings)

    def _memorized(self, func: Any, mmap_mode: Any, settings: dict[str, Any]) -> Any:
        if isinstance(func, MemorizedFunc):
            func = func.func
        if not callable(func):
            raise TypeError(f"cache({func!r}): {type(func).__name__} is not callable")
        if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
            raise TypeError(
                f"{func.__qualname__} is a generator function, and a generator cannot be stored; "
                "cache a function that returns a list of what it yields"
            )
        if self._cache is None:
            return NotMemorizedFunc(func)
        cache = self._cache
        if mmap_mode is not False and mmap_mode != cache.mmap_mode:
            cache = Cache(
                cache.store,
                cache.tier,
                cache.codec,
                cache.compression,
                cache.signer,
                cache.safe,
                cache.writable,
                mmap_mode,
                cache.counts,
            )
        kind = AsyncMemorizedFunc if inspect.iscoroutinefunction(func) else MemorizedFunc
        return kind(func, cache, **settings)

    def eval(self, func: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Call a function through the cache."""
        if self._cache is None:
            return func(*args, **kwargs)
        result: R = self.cache(func)(*args, **kwargs)
        return result

    def clear(self, warn: bool = True) -> None:
        """Delete all results."""
        if self._cache is None:
            return
        if warn and self._verbose > 0:
            import logging

            logging.getLogger("jobspan").warning("Flushing completely the cache")
        self._cache.delete([info.name for info in self._cache.store.list()])

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
        if self._cache is None:
            return 0
        if policy not in ("lru", "cost"):
            raise ValueError(f"policy={policy!r}: pass 'lru' or 'cost'")
        if isinstance(age_limit, timedelta) and age_limit.total_seconds() < 0:
            raise ValueError("age_limit has to be a positive timedelta")
        store = self._cache.store
        costs = None
        if policy == "cost":
            costs = {name: header.seconds for name, header in self._cache.headers()}
        names = evictable(
            store.list(),
            time.time(),
            bytes_limit=_bytes(bytes_limit),
            items_limit=items_limit,
            age_limit=age_limit,
            costs=costs,
        )
        if isinstance(store, Sweeps):
            store.sweep()
        return self._cache.delete(names)

    def stats(self) -> dict[str, float]:
        """Return what this memory has done in this process: hits, misses, seconds saved, bytes."""
        counts = self._cache.counts if self._cache is not None else None
        names = ("hits", "misses", "seconds_saved", "bytes_read", "bytes_written", "failures")
        return {name: getattr(counts, name, 0) for name in names}

    def verify(self) -> list[str]:
        """Read every entry; return the names of those that are damaged or untrusted."""
        if self._cache is None:
            return []
        from jobspan.codecs.entry import Lease, unpack

        bad = []
        for info in list(self._cache.store.list()):
            try:
                data, _ = self._cache.store.get(info.name)
                if Lease.is_packed(data):
                    continue
                header, _ = unpack(data)
                signer = self._cache.signer
                if signer is not None and not signer.verify(header.signed_text(), header.signature):
                    bad.append(info.name)
            except KeyError:
                continue
            except EntryDamagedError:
                bad.append(info.name)
        return bad

    def prefetch(self, calls: Iterable[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> int:
        """Bring the stored results of calls into the local tier; how many were found.

        Parameters
        ----------
        calls : iterable of delayed calls
            Of functions cached by this memory.
        """
        found = 0
        by_function: dict[int, tuple[Any, list[tuple[Any, Any]]]] = {}
        for function, args, kwargs in calls:
            by_function.setdefault(id(function), (function, []))[1].append((args, kwargs))
        for function, arguments in by_function.values():
            found += sum(answer is not None for answer in function.recall_many(arguments))
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


def _codec(codec: str | Codec | None, *, safe: bool) -> Codec | None:
    if codec is None:
        return None
    if isinstance(codec, str):
        if codec not in CODECS:
            raise CodecError(f"codec={codec!r} is not known; pass one of {sorted(CODECS)}")
        codec = CODECS.load(codec)()
    if safe and not codec.safe:
        raise CodecError(f"codec={codec.name!r} can run code when it reads; leave safe=True out")
    return codec


def _seconds(expires: Any) -> float | None:
    if expires is None:
        return None
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
    if not isinstance(seconds, int | float) or not seconds > 0:
        raise ValueError(
            f"expires={expires!r}: pass a number of seconds above 0, or a datetime.timedelta"
        )
    return float(seconds)


def _bytes(value: int | str | None) -> int | None:
    if value is None or isinstance(value, int):
        return value
    try:
        return int(float(value[:-1]) * _UNITS[value[-1:].upper()])
    except (KeyError, ValueError):
        raise ValueError(
            f"bytes_limit={value!r} is no size; pass bytes, or text such as '10G'"
        ) from None
