"""Look results up and store them: the local tier first, then the store, damaged entries as misses.

::

    look_up ── tier ── store ── unpack ── format ── value
    publish ── format ── store, tier
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeAlias

from jobspan.codecs.arriving import Arriving
from jobspan.codecs.compression import check_room
from jobspan.codecs.entry import check_start, unpack
from jobspan.codecs.header import Header, read_header, start_size
from jobspan.codecs.lease import Lease
from jobspan.errors import CodecError, EntryDamagedError, EntryUntrustedError, StoreError
from jobspan.keys import CallKey
from jobspan.memory.claims import Claim
from jobspan.memory.format import EntryFormat
from jobspan.memory.last_use import DAY, Uses
from jobspan.memory.naming import EntryPaths, entry_name
from jobspan.memory.reporting import report
from jobspan.memory.silence import Silence
from jobspan.store import (
    BulkDeletes,
    BulkReads,
    NameLocks,
    ObjectInfo,
    ObjectStore,
    WatchedReads,
)
from jobspan.store.local_files import MAPPED_BYTES, read_or_map

__all__ = ["Cache", "Counts", "Found"]


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
    stored : bool
        Whether it stands there at all; False for a result that could not be stored.
    """

    value: Any = None
    header: Header | None = None
    data: Any = b""
    token: str = ""
    stored: bool = True


Usable: TypeAlias = "Callable[[Found], bool]"
"""Whether what was found is still good."""


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
    format : EntryFormat
        How values are written, and what is read.
    writable : bool
        Whether results are stored.
    mmap_mode : str or None
        How arrays of local entries are mapped; None: private and writable.
    deletes : bool
        Whether anything is ever deleted.

    Notes
    -----
    Threads and processes: safe from any thread; pickled without its counts.
    """

    store: ObjectStore
    tier: ObjectStore | None = None
    format: EntryFormat = field(default_factory=EntryFormat)
    writable: bool = True
    mmap_mode: str | None = None
    counts: Counts = field(default_factory=Counts)
    deletes: bool = True
    _paths: EntryPaths | None = field(init=False, default=None, repr=False)
    _tier_paths: EntryPaths | None = field(init=False, default=None, repr=False)
    _watched: WatchedReads | None = field(init=False, default=None, repr=False)
    locks: NameLocks | None = field(init=False, default=None, repr=False)
    silence: Silence = field(init=False, repr=False)
    _guarded: bool = field(init=False, default=False, repr=False)
    _uses: Uses = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._paths = EntryPaths.of_store(self.store)
        self._tier_paths = EntryPaths.of_store(self.tier)
        # Not isinstance: before Python 3.12 it looks at properties, of which one needs a disk.
        store: Any = self.store
        self.locks = store if hasattr(type(store), "try_lock") else None
        self._watched = store if hasattr(type(store), "get_watched") else None
        self.silence = Silence()
        # Others may write to the files, also while they are read.
        self._guarded = self.format.signer is not None or self.format.safe
        self._uses = Uses(self.store if self.writable else None, self.tier)

    @property
    def maps(self) -> bool:
        """Whether what was just stored is mapped when it is looked up, without a request."""
        return self.mmap_mode is not None and (
            self._paths is not None or self._tier_paths is not None
        )

    # --- reading ---------------------------------------------------------------------------

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
        if self.tier is not None:
            found = self._look_in_tier(key, usable)
            if found is not None:
                return found
        return self._look_in_store(key)

    def look_up_many(self, keys: list[CallKey], usable: Usable | None = None) -> list[Found | None]:
        """Return what stands under many keys, read at once where the store can do that."""
        found: list[Found | None] = [None] * len(keys)
        if self.tier is not None:
            for index, key in enumerate(keys):
                found[index] = self._look_in_tier(key, usable)
        wanted = [index for index, one in enumerate(found) if one is None]
        if not self.silence.is_over():
            return found
        if not isinstance(self.store, BulkReads) or len(wanted) < 2:
            for index in wanted:
                found[index] = self._look_in_store(keys[index])
            return found
        places: dict[str, list[int]] = {}
        for index in wanted:
            places.setdefault(entry_name(keys[index]), []).append(index)
        begin = time.monotonic()
        try:
            for name, data in self.store.get_many(list(places)):
                if data is None:
                    continue
                for index in places[name]:
                    found[index] = self._decoded(data, "", keys[index])
                if _is_entry(found[places[name][0]]):
                    self._fill_tier(name, data)
        except Exception as error:  # noqa: BLE001 - whatever fails there, the calls go on
            self.silence.failed(begin, error)
            self._failed("read", self.store, error)
        return found

    def look_at(self, key: CallKey) -> Found | None:
        """Return what stands under a key without its value, of which as little is read as can be.

        A large entry of a bucket is known by its header then; whether all of it is whole shows
        when it is read.
        """
        name = entry_name(key)
        for store, paths in ((self.tier, self._tier_paths), (self.store, self._paths)):
            if store is None:
                continue
            try:
                found = self._header_of(store, paths, key)
            except KeyError:
                continue
            except (EntryDamagedError, EntryUntrustedError) as error:
                self._not_used(name, store, error)
            except Exception as error:  # noqa: BLE001 - whatever fails there, the call goes on
                self._failed("read", store, error)
            else:
                if found is not None:
                    return found
        return None

    def _header_of(
        self, store: ObjectStore, paths: EntryPaths | None, key: CallKey
    ) -> Found | None:
        """Return what stands under a key in a store, without its value."""
        data: Any
        if paths is None:
            data, _ = store.get(entry_name(key), 0, MAPPED_BYTES)
        else:
            data = read_or_map(paths.of(key), writable=self.mmap_mode != "r")
        if data is None:
            return None
        if Lease.is_packed(data):
            return Found(data=data)
        if paths is None and len(data) >= MAPPED_BYTES:
            if (size := start_size(data)) > len(data):
                data, _ = store.get(entry_name(key), 0, size)
            header = read_header(data, key.digest)[0]
        else:
            header = unpack(data, key.digest, check=type(data) is bytes)[0]
        self.format.verify(header)
        return Found(header=header)

    def _look_in_tier(self, key: CallKey, usable: Usable | None) -> Found | None:
        assert self.tier is not None
        try:
            found = self._read(self.tier, self._tier_paths, key)
        except Exception as error:  # noqa: BLE001 - the store may have it
            self._failed("read", self.tier, error)
            return None
        return found if found is not None and (usable is None or usable(found)) else None

    def _look_in_store(self, key: CallKey) -> Found | None:
        if not self.silence.is_over():
            return None
        begin = time.monotonic()
        try:
            return self._read(self.store, self._paths, key)
        except Exception as error:  # noqa: BLE001 - whatever fails there, the call goes on
            self.silence.failed(begin, error)
            self._failed("read", self.store, error)
            return None

    def _read(self, store: ObjectStore, paths: EntryPaths | None, key: CallKey) -> Found | None:
        if paths is not None:
            try:
                data = read_or_map(
                    paths.of(key),
                    writable=self.mmap_mode != "r",
                    copied=self._before if self._guarded and self.mmap_mode is None else None,
                )
            except (EntryDamagedError, EntryUntrustedError) as error:
                self._not_used(entry_name(key), store, error)
                return None
            if data is None:
                return None
            found = self._decoded(data, "", key, mapped=type(data) is not bytes)
            if found is None or found.header is not None:
                return found
        # A bucket, or a claim, which counts with its token.
        name = entry_name(key)
        watched = self._watched if store is self.store else None
        digests = None
        try:
            if watched is not None:
                data, token, arriving = watched.get_watched(name, Arriving)
                digests = arriving.digests
            else:
                data, token = store.get(name)
        except KeyError:
            return None
        found = self._decoded(data, token, key, digests=digests)
        if store is self.store and _is_entry(found):
            self._fill_tier(name, data)
        return found

    def _before(self, begun: bytes, size: int) -> None:
        """Refuse a large file by how it begins: it may be sparse, and of any size."""
        header = check_start(begun, size)
        if header is not None:
            self.format.verify(header)
        if header is None or self.format.signer is None:
            check_room(size)

    def _decoded(
        self,
        data: Any,
        token: str,
        key: CallKey,
        *,
        mapped: bool = False,
        digests: tuple[bytes, bytes] | None = None,
    ) -> Found | None:
        try:
            signed = self.format.signer is not None
            check = signed or not mapped or self.mmap_mode is None
            settled = not self._guarded or type(data) is not mmap.mmap
            header, parts = unpack(data, key.digest, check=check, digests=digests, settled=settled)
            if signed:
                self.format.verify(header)
            value = self.format.value(header, parts, writable=not mapped and self.mmap_mode != "r")
        except (EntryDamagedError, EntryUntrustedError, CodecError) as error:
            if Lease.is_packed(data):
                return Found(data=data, token=token)
            self._not_used(entry_name(key), self.store, error)
            return None
        self.counts.bytes_read += len(data)
        if time.time() - header.created > DAY:
            self._uses.note(entry_name(key))
        return Found(value, header, b"", token)

    # --- writing ---------------------------------------------------------------------------

    def publish(self, key: CallKey, value: Any, seconds: float, claim: Claim) -> bool:
        """Store a result; whether it is stored. Never raises for the store's sake.

        Parameters
        ----------
        key : CallKey
            The call's key.
        value : object
            Its result.
        seconds : float
            How long it took.
        claim : Claim
            Under which it was computed.
        """
        if not self.writable or not self.silence.is_over():
            return False
        name = entry_name(key)
        try:
            view = memoryview(self.format.packed(key, value, seconds))
        except Exception as error:  # noqa: BLE001 - the caller has a result, stored or not
            self.counts.failures += 1
            text = f"cannot store the result of {key.function}: {error}"
            report((self.store.url, key.function, str(error)), text)
            return False
        begin = time.monotonic()
        try:
            written = None
            if claim.token is not None:
                written = self.store.swap(name, view, claim.token)
            elif claim.fresh:
                written = self.store.create(name, view)
            if written is None and claim.contested and self._is_published(key):
                return True  # whoever took the claim over was quicker
            if written is None:
                self.store.put(name, view)
        except Exception as error:  # noqa: BLE001 - the caller has a result, stored or not
            self.silence.failed(begin, error)
            self._failed("written", self.store, error)
            return False
        self.counts.bytes_written += len(view)
        self._fill_tier(name, view)
        return True

    def _is_published(self, key: CallKey) -> bool:
        try:
            found = self._header_of(self.store, self._paths, key)
        except (KeyError, EntryDamagedError, EntryUntrustedError):
            return False
        return found is not None and found.header is not None

    def _fill_tier(self, name: str, data: Any) -> None:
        if self.tier is not None:
            try:
                self.tier.put(name, data)
            except Exception as error:  # noqa: BLE001 - the tier saves time, no more
                self._failed("written", self.tier, error)

    # --- looking after it ------------------------------------------------------------------

    def delete(self, objects: Iterable[ObjectInfo]) -> int:
        """Delete objects in the state that was listed, from the tier too; how many there were."""
        self.refuse_if_read_only()
        states = [(info.name, info.token) for info in objects]
        if self.tier is not None:
            for name, _ in states:
                self.tier.delete(name)
        if isinstance(self.store, BulkDeletes):
            return self.store.delete_many(states)
        return sum(self.store.delete(name, token) for name, token in states)

    def refuse_if_read_only(self) -> None:
        """Raise StoreError where nothing is to be deleted."""
        if not self.deletes:
            raise StoreError(
                f"{self.store.url} was opened with mode='ro', and nothing is deleted there. "
                "Open it with mode='rw' to delete results"
            )

    def forget(self, key: CallKey) -> bool:
        """Delete the entry of a key, from the tier too; whether there was one."""
        self.refuse_if_read_only()
        name = entry_name(key)
        here = self.tier is not None and self.tier.delete(name)
        return self.store.delete(name) or here

    # --- what went wrong -------------------------------------------------------------------

    def _not_used(self, name: str, store: ObjectStore, error: Exception) -> None:
        self.counts.failures += 1
        report((store.url, name, str(error)), f"the entry {name} is not used: {error}")

    def _failed(self, done: str, store: ObjectStore, error: Exception) -> None:
        """Tell once of a store that fails, whatever calls meet it, in reading or in writing."""
        self.counts.failures += 1
        report(
            (store.url, type(error), getattr(error, "errno", None)),
            f"the cache {store.url} cannot be {done}: {error}. Calls are computed and return "
            "their results all the same",
        )

    def __getstate__(self) -> dict[str, Any]:
        state = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        return {**state, "counts": Counts()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.__post_init__()


def _is_entry(found: Found | None) -> bool:
    return found is not None and found.header is not None
