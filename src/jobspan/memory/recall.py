"""Look results up and store them: the local tier first, then the store, damaged entries as misses.

::

    look_up ── tier ── store ── unpack ── verify ── decompress ── decode ── value
    publish ── encode ── compress ── sign ── pack ── store, tier
"""

from __future__ import annotations

import mmap
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jobspan.codecs.compression import compress, decompress
from jobspan.codecs.entry import Header, Lease, pack, unpack
from jobspan.codecs.plain import choose_safe
from jobspan.codecs.signing import Signer
from jobspan.codecs.values import CODECS, Codec
from jobspan.errors import CodecError, EntryDamagedError, EntryUntrustedError, JobspanWarning
from jobspan.keys import CallKey
from jobspan.store import BulkReads, LocalPaths, ObjectStore

__all__ = ["Cache", "CacheWarning", "Found", "entry_name", "function_prefix"]

MAPPED_BYTES = 1 << 16
"""Local entries of at least so many bytes are mapped instead of read."""


class CacheWarning(JobspanWarning):
    """The cache could not do its work; the call's result is right all the same."""


@dataclass(frozen=True, slots=True)
class Found:
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
    from blake3 import blake3

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

    def look_up(self, key: CallKey) -> Found | None:
        """Return what stands under a key; None where nothing does that can be used.

        Never raises for the store's sake: what fails is warned of, and is a miss.
        """
        name = entry_name(key)
        try:
            if self.tier is not None:
                found = self._read(self.tier, name, key.digest)
                if found is not None:
                    return found
            return self._read(self.store, name, key.digest)
        except OSError as error:
            self._warn(f"cannot read the entry {name}", error)
            return None

    def look_up_many(self, keys: list[CallKey]) -> list[Found | None]:
        """Return what stands under many keys, read at once where the store can do that."""
        names = [entry_name(key) for key in keys]
        found: list[Found | None] = [None] * len(keys)
        if self.tier is not None:
            for index, key in enumerate(keys):
                try:
                    found[index] = self._read(self.tier, names[index], key.digest)
                except OSError as error:
                    self._warn(f"cannot read the entry {names[index]}", error)
        wanted = [index for index, one in enumerate(found) if one is None]
        if not isinstance(self.store, BulkReads) or len(wanted) < 2:
            for index in wanted:
                found[index] = self.look_up(keys[index])
            return found
        places: dict[str, list[int]] = {}
        for index in wanted:
            places.setdefault(names[index], []).append(index)
        try:
            for name, data in self.store.get_many(list(places)):
                if data is not None:
                    for index in places[name]:
                        found[index] = self._decoded(data, "", name, keys[index].digest)
        except OSError as error:
            self._warn("cannot read entries", error)
        return found

    def _read(self, store: ObjectStore, name: str, digest: str) -> Found | None:
        if isinstance(store, LocalPaths):
            mapped = self._mapped(store.local_path(name), name, digest)
            if mapped is not None:
                return mapped
        try:
            data, token = store.get(name)
        except KeyError:
            return None
        found = self._decoded(data, token, name, digest)
        if found is not None and found.header is not None and store is self.store:
            self._fill_tier(name, data)
        return found

    def _mapped(self, path: str, name: str, digest: str) -> Found | None:
        """Return a large local entry whose buffers are the file's pages; None for a small one."""
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - one call on the way of every hit
                file.seek(0, 2)
                if file.tell() < MAPPED_BYTES:
                    return None
                access = mmap.ACCESS_READ if self.mmap_mode == "r" else mmap.ACCESS_COPY
                memory = mmap.mmap(file.fileno(), 0, access=access)
        except (OSError, ValueError):
            return None  # the store's own way of reading says what is wrong
        return self._decoded(memory, "", name, digest, mapped=True)

    def _decoded(
        self, data: Any, token: str, name: str, digest: str, *, mapped: bool = False
    ) -> Found | None:
        if Lease.is_packed(data):
            return Found(data=data, token=token)
        try:
            header, parts = unpack(data, digest, check=not mapped or self.mmap_mode is None)
            if self.signer is not None:
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
        if header.codec not in CODECS:
            raise CodecError(f"no codec is called {header.codec!r}; see register_codec")
        codec = CODECS.load(header.codec)()
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
            key=key.digest,
            function=key.function,
            created=time.time(),
            seconds=seconds,
            codec=codec.name,
            compression=name,
            sizes=sizes if name else [],
            components=key.components,
        )
        sign = self.signer.sign if self.signer is not None and self.signer.can_sign else None
        return pack(header, parts, sign)

    def publish(self, key: CallKey, value: Any, seconds: float, token: str | None = None) -> bool:
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
        """
        if not self.writable:
            return False
        name = entry_name(key)
        try:
            data = self.packed(key, value, seconds)
            view = memoryview(data)
            if token is None or self.store.swap(name, view, token) is None:
                self.store.put(name, view)
            self.counts.bytes_written += len(data)
        except (OSError, CodecError) as error:
            self._warn(f"cannot store the result of {key.function}", error)
            return False
        self._fill_tier(name, view)
        return True

    def headers(self, function: str | None = None) -> Iterator[tuple[str, Header]]:
        """Yield the headers of the entries there are, of one function or of all."""
        from jobspan.codecs.entry import read_header

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
        state = {name: getattr(self, name) for name in self.__slots__}
        return {**state, "counts": Counts()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


_warned: set[str] = set()
_warned_lock = threading.Lock()
