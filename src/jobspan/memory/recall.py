"""Look results up and store them: the local tier first, then the store; what fails is a miss.

::

    look_up ── tier ── store
    publish ── format ── store, tier
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from jobspan.errors import EntryDamagedError, EntryUntrustedError, StoreError
from jobspan.keys import CallKey
from jobspan.memory.claims import Claim
from jobspan.memory.format import EntryFormat
from jobspan.memory.last_use import Uses
from jobspan.memory.naming import entry_name
from jobspan.memory.reading import EntryReader, Found, Usable
from jobspan.memory.reporting import Counts
from jobspan.memory.silence import Silence
from jobspan.memory.tier import Tier
from jobspan.store import BulkDeletes, BulkReads, NameLocks, ObjectInfo, ObjectStore

__all__ = ["Cache"]


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
    locks: NameLocks | None = field(init=False, repr=False)
    silence: Silence = field(init=False, repr=False)
    _tier: Tier | None = field(init=False, repr=False)
    _reader: EntryReader = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Not isinstance: before Python 3.12 it looks at properties, of which one needs a disk.
        store: Any = self.store
        self.locks = store if hasattr(type(store), "try_lock") else None
        self.silence = Silence()
        uses = Uses(self.store if self.writable else None, self.tier)
        how = (self.format, self.mmap_mode, self.counts, uses)
        tier = None if self.tier is None else Tier(EntryReader(self.tier, *how), self.counts)
        self._tier = tier
        self._reader = EntryReader(self.store, *how, fetched=None if tier is None else tier.fill)

    @property
    def maps(self) -> bool:
        """Whether what was just stored is mapped when it is looked up, without a request."""
        return self._reader.maps or (self._tier is not None and self._tier.reader.maps)

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
        if self._tier is not None:
            found = self._tier.look_up(key, usable)
            if found is not None:
                return found
        return self._look_in_store(key)

    def look_up_many(self, keys: list[CallKey], usable: Usable | None = None) -> list[Found | None]:
        """Return what stands under many keys, read at once where the store can do that."""
        found: list[Found | None] = [None] * len(keys)
        if self._tier is not None:
            found = [self._tier.look_up(key, usable) for key in keys]
        wanted = [index for index, one in enumerate(found) if one is None]
        if not self.silence.is_over():
            return found
        if not isinstance(self.store, BulkReads) or len(wanted) < 2:
            for index in wanted:
                found[index] = self._look_in_store(keys[index])
            return found
        begin = time.monotonic()
        try:
            for place, one in self._reader.read_many([keys[index] for index in wanted]):
                found[wanted[place]] = one
        except Exception as error:  # noqa: BLE001 - whatever fails there, the calls go on
            self.silence.failed(begin, error)
            self.counts.store_failed("read", self.store.url, error)
        return found

    def look_at(self, key: CallKey) -> Found | None:
        """Return what stands under a key without its value, of which as little is read as can be.

        A large entry of a bucket is known by its header then; whether all of it is whole shows
        when it is read.
        """
        readers = [self._reader] if self._tier is None else [self._tier.reader, self._reader]
        for reader in readers:
            try:
                return reader.read_header(key)
            except KeyError:
                continue
            except (EntryDamagedError, EntryUntrustedError) as error:
                reader.refuse(key, error)
            except Exception as error:  # noqa: BLE001 - whatever fails there, the call goes on
                self.counts.store_failed("read", reader.store.url, error)
        return None

    def _look_in_store(self, key: CallKey) -> Found | None:
        if not self.silence.is_over():
            return None
        begin = time.monotonic()
        try:
            return self._reader.read(key)
        except Exception as error:  # noqa: BLE001 - whatever fails there, the call goes on
            self.silence.failed(begin, error)
            self.counts.store_failed("read", self.store.url, error)
            return None

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
            self.counts.failed(
                (self.store.url, key.function, str(error)),
                f"cannot store the result of {key.function}: {error}",
            )
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
            self.counts.store_failed("written", self.store.url, error)
            return False
        self.counts.bytes_written += len(view)
        if self._tier is not None:
            self._tier.fill(name, view)
        return True

    def _is_published(self, key: CallKey) -> bool:
        try:
            return self._reader.read_header(key).header is not None
        except (KeyError, EntryDamagedError, EntryUntrustedError):
            return False

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

    def __getstate__(self) -> dict[str, Any]:
        state = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        return {**state, "counts": Counts()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.__post_init__()
