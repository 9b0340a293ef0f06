"""Look results up and store them: the local tier first, then the store, damaged entries as misses.

::

    look_up ── tier ── store ── unpack ── verify ── decompress ── decode ── value
    publish ── encode ── compress ── sign ── pack ── store, tier
"""

from __future__ import annotations

import mmap
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from blake3 import blake3

from jobspan.codecs.compression import compress, decompress
from jobspan.codecs.entry import Header, Lease, pack, read_header, unpack
from jobspan.codecs.plain import choose_safe
from jobspan.codecs.signing import Signer
from jobspan.codecs.values import CODECS, Codec
from jobspan.errors import CodecError, EntryDamagedError, EntryUntrustedError, JobspanWarning
from jobspan.keys import CallKey
from jobspan.store import BulkReads, LocalPaths, NameLocks, ObjectStore

__all__ = ["Cache", "CacheWarning", "Found", "entry_name", "function_prefix"]

MAPPED_BYTES = 1 << 16
"""Local entries of at least so many bytes are mapped instead of read."""


class CacheWarning(JobspanWarning):
    """The cache could not do its work; the call's result is right all the same."""


class Found(NamedTuple):
    """What stands under a key.

    Parameters
    ----------
    value : object
        The result, where it is an entry.
    header : Header or None
        The entry's header; None where it is a claim.
    data : bytes-like
        The object, where it is a claim.
    token : str
        The object's state.
    """

    value: Any = None
    header: Header | None = None
    data: Any = b""
    token: str = ""


Usable: TypeAlias = "Callable[[Found], bool]"
"""Whether what was found is still good."""

_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@lru_cache(maxsize=4096)
def function_prefix(function: str) -> str:
    """Return the folder of a function's entries: its name as far as stores take it.

    Examples
    --------
    >>> function_prefix("project.features.<locals>.count")
    'project.features._locals_.count/'
    """
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in function)
    safe = safe.strip(".") or "_"
    if len(safe) <= 120 and safe.replace("_", "") == function.replace("_", "").replace(
        "<", ""
    ).replace(">", ""):
        return safe + "/"
    return f"{safe[:100]}-{blake3(function.encode()).hexdigest(4)}/"


def entry_name(key: CallKey) -> str:
    """Return the name of a key's entry: two digits of it spread the entries over prefixes."""
    return f"{function_prefix(key.function)}{key.digest[:2]}/{key.digest}"


@dataclass(slots=True)
class Counts:
    """What a cache has done in this process."""

    hits: int = 0
    misses: int = 0
    seconds_saved: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    failures: int = 0


@dataclass(slots=True)
class Cache:
    """Entries in a store, perhaps with a local tier before it.

    Parameters
    ----------
    store : ObjectStore
        Where entries are.
    tier : ObjectStore or None
        A local store that is looked into first, and filled on the way.
    codec : Codec or None
        How values are written; None: pickle, or with `safe` what fits.
    compression : tuple of str and int
        Name and level; an empty name: none.
    signer : Signer or None
        Signs and verifies entries.
    safe : bool
        Whether only formats that can run no code are read and written.
    writable : bool
        Whether results are stored.
    mmap_mode : str or None
        How arrays of local entries are mapped; None: private and writable.

    Notes
    -----
    Threads and processes: safe from any thread; pickled without its counts.
    """

    store: ObjectStore
    tier: ObjectStore | None = None
    codec: Codec | None = None
    compression: tuple[str, int] = ("", 0)
    signer: Signer | None = None
    safe: bool = False
    writable: bool = True
    mmap_mode: str | None = None
    counts: Counts = field(default_factory=Counts)
    _path: Callable[[str], str] | None = field(init=False, default=None, repr=False)
    _tier_path: Callable[[str], str] | None = field(init=False, default=None, repr=False)
    locks: NameLocks | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self._path = _local_path(self.store)
        self._tier_path = _local_path(self.tier)
        self.locks = self.store if isinstance(self.store, NameLocks) else None

    def look_up(self, key: CallKey, usable: Usable | None = None) -> Found | None:
        """Return what stands under a key; None where nothing does that can be used.

        Never raises for the store's sake: what fails is warned of, and is a miss.

        Parameters
        ----------
        key : CallKey
            The key.
        usable : callable or None
            Whether an entry of the local tier is still good; else the store is asked.
        """
        name = entry_name(key)
        try:
            if self.tier is not None:
                found = self._read(self.tier, self._tier_path, name, key.digest)
                if found is not None and (usable is None or usable(found)):
                    return found
            return self._read(self.store, self._path, name, key.digest)
        except OSError as error:
            self._warn(f"cannot read the entry {name}", error)
            return None

    def look_up_many(self, keys: list[CallKey], usable: Usable | None = None) -> list[Found | None]:
        """Return what stands under many keys, read at once where the store can do that."""
        names = [entry_name(key) for key in keys]
        found: list[Found | None] = [None] * len(keys)
        if self.tier is not None:
            for index, key in enumerate(keys):
                try:
                    one = self._read(self.tier, self._tier_path, names[index], key.digest)
                except OSError as error:
                    self._warn(f"cannot read the entry {names[index]}", error)
                else:
                    if one is not None and (usable is None or usable(one)):
                        found[index] = one
        wanted = [index for index, one in enumerate(found) if one is None]
        if not isinstance(self.store, BulkReads) or len(wanted) < 2:
            for index in wanted:
                found[index] = self._look_in_store(names[index], keys[index].digest)
            return found
        places: dict[str, list[int]] = {}
        for index in wanted:
            places.setdefault(names[index], []).append(index)
        try:
            for name, data in self.store.get_many(list(places)):
                if data is None:
                    continue
                for index in places[name]:
                    found[index] = self._decoded(data, "", name, keys[index].digest)
                if _is_entry(found[places[name][0]]):
                    self._fill_tier(name, data)
        except OSError as error:
            self._warn("cannot read entries", error)
        return found

    def _look_in_store(self, name: str, digest: str) -> Found | None:
        try:
            return self._read(self.store, self._path, name, digest)
        except OSError as error:
            self._warn(f"cannot read the entry {name}", error)
            return None

    def _read(
        self, store: ObjectStore, path: Callable[[str], str] | None, name: str, digest: str
    ) -> Found | None:
        if path is not None:
            data = _read_local(path(name), self.mmap_mode)
            if data is None:
                return None
            if not Lease.is_packed(data):
                return self._decoded(data, "", name, digest, mapped=type(data) is not bytes)
        try:
            data, token = store.get(name)
        except KeyError:
            return None
        found = self._decoded(data, token, name, digest)
        if store is self.store and _is_entry(found):
            self._fill_tier(name, data)
        return found

    def _decoded(
        self, data: Any, token: str, name: str, digest: str, *, mapped: bool = False
    ) -> Found | None:
        if Lease.is_packed(data):
            return Found(data=data, token=token)
        try:
            signed = self.signer is not None
            check = signed or not mapped or self.mmap_mode is None
            header, parts = unpack(data, digest, check=check)
            if signed:
                self._verify(header, name)
            value = self._value(header, parts, writable=not mapped)
        except (EntryDamagedError, EntryUntrustedError, CodecError) as error:
            self._warn(f"the entry {name} is not used", error)
            return None
        self.counts.bytes_read += len(data)
        return Found(value, header, b"", token)

    def _verify(self, header: Header, name: str) -> None:
        assert self.signer is not None
        if not self.signer.verify(header.signed_text(), header.signature):
            problem = "wrong" if header.signature else "missing"
            raise EntryUntrustedError(f"the signature of {name} is {problem}")

    def _value(self, header: Header, parts: list[memoryview], *, writable: bool) -> Any:
        try:
            codec = CODECS.load(header.codec)()
        except KeyError:
            raise CodecError(f"no codec is called {header.codec!r}; see register_codec") from None
        if self.safe and not codec.safe:
            raise CodecError(f"safe=True does not read the codec {header.codec!r}")
        given: list[Any] = list(parts)
        if header.compression:
            given = [
                decompress(header.compression, part, size)
                for part, size in zip(parts, header.sizes, strict=True)
            ]
        if writable and len(given) > 1:
            given = [given[0], *(bytearray(part) for part in given[1:])]
        try:
            return codec.decode(given)
        except (EntryDamagedError, CodecError, KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:
            raise CodecError(f"the value cannot be decoded: {error}") from error

    def _fill_tier(self, name: str, data: Any) -> None:
        if self.tier is not None:
            try:
                self.tier.put(name, data)
            except OSError as error:
                self._warn("cannot fill the local tier", error)

    def packed(self, key: CallKey, value: Any, seconds: float) -> bytearray:
        """Return the entry for a value.

        Raises
        ------
        CodecError
            If no codec can write it.
        """
        codec = self.codec
        if codec is None:
            codec = choose_safe(value) if self.safe else CODECS.load("pickle")()
        parts = list(codec.encode(value))
        sizes = [len(part) for part in parts]
        name, level = self.compression
        if name:
            parts = [compress(name, level, part) for part in parts]
        header = Header(
            key.digest,
            key.function,
            time.time(),
            seconds,
            codec.name,
            name,
            sizes if name else (),
            key.components,
        )
        sign = self.signer.sign if self.signer is not None and self.signer.can_sign else None
        return pack(header, parts, sign)

    def publish(
        self,
        key: CallKey,
        value: Any,
        seconds: float,
        token: str | None = None,
        *,
        fresh: bool = False,
    ) -> bool:
        """Store a result; whether it is stored. Never raises for the store's sake.

        Parameters
        ----------
        key : CallKey
            The call's key.
        value : object
            Its result.
        seconds : float
            How long it took.
        token : str or None
            The state of one's own claim, which is written over; None: whatever stands there.
        fresh : bool
            Whether nothing stood there when it was looked up.
        """
        if not self.writable:
            return False
        name = entry_name(key)
        try:
            data = self.packed(key, value, seconds)
            view = memoryview(data)
            written = None
            if token is not None:
                written = self.store.swap(name, view, token)
            elif fresh:
                written = self.store.create(name, view)
            if written is None:
                self.store.put(name, view)
            self.counts.bytes_written += len(data)
        except (OSError, CodecError) as error:
            self._warn(f"cannot store the result of {key.function}", error)
            return False
        self._fill_tier(name, view)
        return True

    def headers(self, function: str | None = None) -> Iterator[tuple[str, Header]]:
        """Yield the headers of the entries there are, of one function or of all."""
        prefix = "" if function is None else function_prefix(function)
        for info in self.store.list(prefix):
            try:
                data, _ = self.store.get(info.name, 0, 1 << 16)
                yield info.name, read_header(memoryview(data))[0]
            except (KeyError, EntryDamagedError):
                continue

    def delete(self, names: Iterable[str]) -> int:
        """Delete entries, from the tier too; how many there were."""
        deleted = 0
        for name in names:
            if self.tier is not None:
                self.tier.delete(name)
            deleted += self.store.delete(name)
        return deleted

    def _warn(self, what: str, error: Exception) -> None:
        self.counts.failures += 1
        text = f"{what}: {error}"
        with _warned_lock:
            if text in _warned:
                return
            if len(_warned) > 10_000:
                _warned.clear()
            _warned.add(text)
        warnings.warn(text, CacheWarning, stacklevel=6)

    def __getstate__(self) -> dict[str, Any]:
        state = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        return {**state, "counts": Counts()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.__post_init__()


def _local_path(store: Any) -> Callable[[str], str] | None:
    return store.local_path if isinstance(store, LocalPaths) else None


def _is_entry(found: Found | None) -> bool:
    return found is not None and found.header is not None


def _read_local(path: str, mmap_mode: str | None) -> Any:
    """Return the bytes of a local object, its pages where it is large, or None."""
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = os.read(descriptor, MAPPED_BYTES)
        if len(data) < MAPPED_BYTES:
            return data
        access = mmap.ACCESS_READ if mmap_mode == "r" else mmap.ACCESS_COPY
        return mmap.mmap(descriptor, 0, access=access)
    except IsADirectoryError:
        return None
    finally:
        os.close(descriptor)


_warned: set[str] = set()
_warned_lock = threading.Lock()
