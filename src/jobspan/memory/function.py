"""Functions that remember: called, they look their result up, and store it where it is missing."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

from jobspan.calls import Missed, Recalled
from jobspan.codecs.header import Header
from jobspan.errors import EntryDamagedError, JobspanError
from jobspan.keys import CallKey, FunctionKeys, explain
from jobspan.logger import Logger
from jobspan.memory.claims import Claim
from jobspan.memory.expiry import ValidFor
from jobspan.memory.inventory import last_use, survey
from jobspan.memory.naming import belongs_to_cache, entry_name, function_prefix
from jobspan.memory.opening import (
    open_cache,
    read_depends,
    read_expires,
    read_ignore,
    read_validation,
    read_verbose,
    read_version,
)
from jobspan.memory.reading import Found
from jobspan.memory.recall import Cache
from jobspan.memory.result import MemorizedResult, NotMemorizedResult, under_joblibs_names
from jobspan.memory.single_flight import Flight, Turn, turns
from jobspan.memory.telling import called, ended, loading, signature
from jobspan.memory.wrapping import Bound, Unlooked, global_name, look_like
from jobspan.store import LocalPaths, ObjectStore

__all__ = ["MemorizedFunc"]

P = ParamSpec("P")
R = TypeVar("R")

Validation = Callable[[Mapping[str, Any]], bool]

EXPLAINED = 1000
"""Entries with which `explain` compares, those used last."""


class MemorizedFunc(Logger, Generic[P, R]):
    """A function whose results are stored; made by :meth:`jobspan.Memory.cache`.

    Parameters
    ----------
    func : callable
        The function.
    location : str, path or Cache
        Where results are stored.
    backend, mmap_mode, compress
        As for `Memory`, where `location` is not the cache of one.
    ignore : sequence of str, optional
        Names of arguments on which the result does not depend.
    verbose : int
        How much is printed: from 1 up calls, from 2 up also results that are loaded.
    timestamp : float, optional
        When the memory was made, for what is printed.
    cache_validation_callback : callable, optional
        Given an entry's metadata, whether it is still good.
    version, depends, expires
        As for :meth:`jobspan.Memory.cache`.
    flight : Flight
        Whether and how long others wait who want the same result.

    Notes
    -----
    Threads and processes: may be called from any thread; pickled, it works on the same store.
    """

    def __init__(
        self,
        func: Callable[P, R],
        location: Any,
        backend: str = "local",
        ignore: Sequence[str] | None = None,
        mmap_mode: str | None = None,
        compress: Any = False,
        verbose: int = 1,
        timestamp: float | None = None,
        cache_validation_callback: Validation | None = None,
        *,
        version: str | int | None = None,
        depends: Sequence[Any] = (),
        expires: float | None = None,
        flight: Flight = Flight(),  # noqa: B008 - it is frozen
    ) -> None:
        Logger.__init__(self)
        if not isinstance(location, Cache):
            location = open_cache(location, backend=backend, mmap_mode=mmap_mode, compress=compress)
        if location is None:
            raise ValueError("location=None: pass where to store, or use Memory(None).cache")
        self.func = func
        self.cache: Cache = location
        self.backend = backend
        self.ignore = read_ignore(ignore)
        self.compress = compress
        self.timestamp = time.time() if timestamp is None else timestamp
        self.version = read_version(version)
        self.depends = read_depends(depends)
        self.cache_validation_callback = read_validation(cache_validation_callback)
        self.expires = read_expires(expires)
        self.flight = flight
        self._verbose = read_verbose(verbose)
        self._keys = FunctionKeys(func, self.ignore, version, self.depends)
        self._unlooked_reference: weakref.ref[Unlooked] | None = None
        look_like(self, func)

    @property
    def func_id(self) -> str:
        """Module and qualified name of the function."""
        return self._keys.name

    @property
    def location(self) -> str:
        """Where results are stored."""
        return self.cache.store.url

    @property
    def store_backend(self) -> ObjectStore:
        """The store that holds them."""
        return self.cache.store

    @property
    def mmap_mode(self) -> str | None:
        """How arrays are mapped."""
        return self.cache.mmap_mode

    @property
    def __jobspan_function__(self) -> Callable[P, R]:
        return self.func

    def __reduce__(self) -> tuple[Any, ...] | str:
        settings = {
            "backend": self.backend,
            "ignore": self.ignore,
            "compress": self.compress,
            "version": self.version,
            "depends": self.depends,
            "verbose": self._verbose,
            "cache_validation_callback": self.cache_validation_callback,
            "expires": self.expires,
            "flight": self.flight,
        }
        # A worker may not have the source: the code's part of the key goes along.
        return global_name(self) or (
            _rebuilt,
            (type(self), self.func, self.cache, settings, self._keys.code()),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(func={self.func}, location={self.location})"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else Bound(self, instance)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the stored result of a call, or call the function and store what it returns."""
        result: R = self._result(self._keys.key(args, kwargs), args, kwargs).value
        return result

    # --- joblib's methods ------------------------------------------------------------------

    def call_and_shelve(
        self, *args: P.args, **kwargs: P.kwargs
    ) -> MemorizedResult | NotMemorizedResult:
        """Call as usual, but return a small reference to the stored result, not the result.

        What could not be stored is kept in the reference.
        """
        key = self._keys.key(args, kwargs)
        found = self._stored(self.cache.look_at(key))
        if found is None:
            return self._shelved(key, self._result(key, args, kwargs))
        self._count_hit(found)
        if self._verbose >= 20:
            self._tell_query(key, args, kwargs)
        return self._shelved(key, found)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, dict[str, Any]]:
        """Call the function whatever is stored; store the result and return it with metadata."""
        key = self._keys.key(args, kwargs)
        found = self._compute(key, args, kwargs, Claim())
        return found.value, _metadata(key, found)

    def check_call_in_cache(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Whether the result of a call is stored and good; nothing is called and no value read."""
        return self._stored(self.cache.look_at(self._keys.key(args, kwargs))) is not None

    def clear(self, warn: bool = True) -> None:
        """Delete all stored results of the function, of every version of its code."""
        if self._verbose > 0 and warn:
            self.warn(f"Clearing function cache identified by {self.func_id}")
        listed = self.cache.store.list(function_prefix(self.func_id))
        self.cache.delete(info for info in listed if belongs_to_cache(info.name))

    # --- what is new -----------------------------------------------------------------------

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the stored result of one call; whether there was one, where the store tells."""
        return self.cache.forget(self._keys.key(args, kwargs))

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Say in words how a call differs from the nearest one that is stored."""
        key = self._keys.key(args, kwargs)
        if self._stored(self.cache.look_at(key)) is not None:
            return "nothing differs: the result is stored"
        listed = self.cache.store.list(function_prefix(self.func_id))
        latest = sorted(listed, key=last_use, reverse=True)[:EXPLAINED]
        found = survey(self.cache.store, self.func_id, infos=latest)
        return explain(key, [entry.header.components for entry in found.entries])

    def stored_only_here(self) -> str | None:
        """Return where results are stored if other machines do not see that place, else None."""
        store = self.cache.store
        return store.url if isinstance(store, LocalPaths) else None

    def recall_many(
        self, calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]
    ) -> list[Recalled | Missed | None]:
        """Look up the results of many calls at once; None: that is for the call to find out."""
        keys: list[CallKey | None] = []
        for args, kwargs in calls:
            try:
                keys.append(self._keys.key(args, kwargs))
            except (JobspanError, TypeError):
                keys.append(None)  # the call itself raises it, where the user expects it
        wanted = [key for key in keys if key is not None]
        found = iter(self.cache.look_up_many(wanted, self._usable))
        answers: list[Recalled | Missed | None] = []
        missed: Missed | bool = True
        for key in keys:
            one = None if key is None else next(found)
            stored = self._stored(one)
            if stored is not None:
                self._count_hit(stored)
                answers.append(Recalled(stored.value))
            elif key is None or one is not None:
                answers.append(None)
            else:
                if missed is True:
                    missed = self.flight.claims_in(self.cache) and Missed(self._unlooked())
                answers.append(missed or None)
        return answers

    def call_unlooked(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do as a call does, a moment after nothing was found stored: claim the key at once."""
        result: R = self._result(self._keys.key(args, kwargs), args, kwargs, looked=True).value
        return result

    # --- how it works ----------------------------------------------------------------------

    def _usable(self, found: Found) -> bool:
        """Whether an entry is still good."""
        if self.expires is None and self.cache_validation_callback is None:
            return True
        assert found.header is not None
        try:
            metadata = under_joblibs_names(found.header, found.header.components)
        except EntryDamagedError:
            return False
        if self.expires is not None and not ValidFor(self.expires)(metadata):
            return False
        validation = self.cache_validation_callback
        return validation is None or validation(metadata)

    def _stored(self, found: Found | None) -> Found | None:
        """Return what was found if it is an entry that is still good."""
        if found is None or found.header is None or not self._usable(found):
            return None
        return found

    def _unlooked(self) -> Unlooked:
        """Return the function for calls that need not look: one, for it travels once a worker."""
        unlooked = None if self._unlooked_reference is None else self._unlooked_reference()
        if unlooked is None:
            unlooked = Unlooked(self)
            self._unlooked_reference = weakref.ref(unlooked)
        return unlooked

    def _result(self, key: CallKey, args: Any, kwargs: Any, *, looked: bool = False) -> Found:
        begin = time.perf_counter() if self._verbose else 0.0
        found = None if looked else self.cache.look_up(key, self._usable)
        if found is not None and found.header is not None and self._usable(found):
            return self._hit(found, key, args, kwargs, begin)
        if not self.flight.single:
            return self._compute(key, args, kwargs, Claim())
        for turn, what in turns(self.cache, key, found, self._usable, self.flight):
            if turn is Turn.FOUND:
                return self._hit(what, key, args, kwargs, begin)
            if turn is Turn.COMPUTE:
                return self._compute(key, args, kwargs, what)
            time.sleep(what)
        raise AssertionError("somebody who wants a key is always told what to do")

    def _hit(self, found: Found, key: CallKey, args: Any, kwargs: Any, begin: float) -> Found:
        self._count_hit(found)
        if self._verbose > 1:
            self._tell_hit(key, args, kwargs, begin)
        return found

    def _tell_hit(self, key: CallKey, args: Any, kwargs: Any, begin: float) -> None:
        if self._verbose >= 20:
            self._tell_query(key, args, kwargs)
        age = time.time() - self.timestamp
        _print(loading(self.func_id, self._verbose, self._place(key), age, None))
        if self._verbose > 4:
            _print(ended(self.func_id, time.perf_counter() - begin, "cache loaded "))

    def _tell_query(self, key: CallKey, args: Any, kwargs: Any) -> None:
        import logging

        logging.basicConfig(level=logging.INFO)
        self.info(
            f"\nQuerying {self.func_id.rpartition('.')[2]} with signature\n"
            f"{signature(self.func_id, args, kwargs)}.\n\n(argument hash {key.digest})\n\n"
            f"The store location is {self.location}.\n"
        )

    def _place(self, key: CallKey) -> str:
        return f"{self.location}/{entry_name(key)}"

    def _count_hit(self, found: Found) -> None:
        assert found.header is not None
        counts = self.cache.counts
        counts.hits += 1
        counts.seconds_saved += found.header.seconds

    def _compute(self, key: CallKey, args: Any, kwargs: Any, claim: Claim) -> Found:
        published = False
        try:
            self._announce(key, args, kwargs)
            begin = time.perf_counter()
            claim.hold()
            value = self.func(*args, **kwargs)
            seconds = time.perf_counter() - begin
            published = self._publish(key, value, seconds, claim)
        finally:
            claim.release(published)
        return self._finished(key, value, seconds, published=published)

    def _announce(self, key: CallKey, args: Any, kwargs: Any) -> None:
        self.cache.counts.misses += 1
        if self._verbose > 0:
            if self._verbose >= 20:
                self._tell_query(key, args, kwargs)
            if self._verbose > 10:
                name = self.func_id.rpartition(".")[2]
                self.warn(
                    f"Computing func {name}, argument hash {key.digest} in location {self.location}"
                )
            _print(called(self.func_id, args, kwargs))

    def _publish(self, key: CallKey, value: Any, seconds: float, claim: Claim) -> bool:
        if self._verbose > 10:
            _print(f"Persisting in {self._place(key)}")
        claim.settle()
        published = self.cache.publish(key, value, seconds, claim)
        if self._verbose > 0:
            _print(ended(self.func_id, seconds))
        return published

    def _finished(self, key: CallKey, value: Any, seconds: float, *, published: bool) -> Found:
        """Return a computed result: the stored one where users asked for its mapped arrays."""
        if published and self.cache.maps:
            found = self._stored(self.cache.look_up(key, self._usable))
            if found is not None:
                return found
        header = Header(key.digest, key.function, time.time(), seconds)
        return Found(value, header, stored=published)

    def _shelved(self, key: CallKey, found: Found) -> MemorizedResult | NotMemorizedResult:
        if not found.stored:
            return NotMemorizedResult(found.value)
        return MemorizedResult(
            self.cache,
            (key.function, key.digest),
            self.backend,
            self.mmap_mode,
            self._verbose - 1,
            self.timestamp,
            _metadata(key, found),
        )


def _rebuilt(
    kind: Any, func: Any, cache: Cache, settings: dict[str, Any], code: dict[str, str]
) -> Any:
    function = kind(func, cache, **settings)
    function._keys.fix(code)
    return function


def _metadata(key: CallKey, found: Found) -> dict[str, Any]:
    """Return under joblib's names what is known of the result of a call."""
    assert found.header is not None
    return under_joblibs_names(found.header, key.components)


def _print(text: str) -> None:
    import sys

    sys.stdout.write(text + "\n")
