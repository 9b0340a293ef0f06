"""Read what stands under a key in one store: mapped where it is a file, fetched where it is not.

::

    read          all of it ── unpack ── format ── value
    read_header   how it begins ── header
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from jobspan.codecs.arriving import Arriving
from jobspan.codecs.compression import check_room
from jobspan.codecs.entry import check_start, unpack
from jobspan.codecs.header import Header, read_header, start_size
from jobspan.codecs.lease import Lease
from jobspan.errors import CodecError, EntryDamagedError, EntryUntrustedError
from jobspan.keys import CallKey
from jobspan.memory.format import EntryFormat
from jobspan.memory.last_use import DAY, Uses
from jobspan.memory.naming import EntryPaths, entry_name
from jobspan.memory.reporting import Counts
from jobspan.store import BulkReads, ObjectStore, WatchedReads
from jobspan.store.local_files import MAPPED_BYTES, read_or_map

__all__ = ["EntryReader", "Found", "Usable"]


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


class EntryReader:
    """Reads entries and claims of one store; what is damaged is told of, and is not there.

    Parameters
    ----------
    store : ObjectStore
        Where they are.
    format : EntryFormat
        What is read.
    mmap_mode : str or None
        How arrays of local entries are mapped; None: private and writable.
    counts : Counts
        Where bytes and failures are counted.
    uses : Uses
        Where uses are noted.
    fetched : callable or None
        Called with the name and the bytes of every entry that was fetched and is good.

    Notes
    -----
    Threads and processes: safe from any thread. What the store raises goes to the caller.
    """

    __slots__ = (
        "_copies",
        "_counts",
        "_fetched",
        "_format",
        "_guarded",
        "_paths",
        "_private",
        "_signed",
        "_uses",
        "_watched",
        "_writable",
        "store",
    )

    def __init__(
        self,
        store: ObjectStore,
        format: EntryFormat,
        mmap_mode: str | None,
        counts: Counts,
        uses: Uses,
        fetched: Callable[[str, Any], None] | None = None,
    ) -> None:
        self.store = store
        self._format = format
        self._counts = counts
        self._uses = uses
        self._fetched = fetched
        self._paths = EntryPaths.of_store(store)
        # Not isinstance: before Python 3.12 it looks at properties, of which one needs a disk.
        watched: Any = store if hasattr(type(store), "get_watched") else None
        self._watched: WatchedReads | None = watched
        self._private = mmap_mode is None
        self._writable = mmap_mode != "r"
        self._signed = format.signer is not None
        # Others may write to the files, also while they are read.
        self._guarded = self._signed or format.safe
        self._copies = self._guarded and self._private

    @property
    def maps(self) -> bool:
        """Whether arrays of entries are mapped as the user asked for, without a request."""
        return self._paths is not None and not self._private

    def read(self, key: CallKey) -> Found | None:
        """Return what stands under a key; None where nothing does that can be used."""
        if self._paths is not None:
            try:
                data = read_or_map(
                    self._paths.of(key),
                    writable=self._writable,
                    copied=self._check_start if self._copies else None,
                )
            except (EntryDamagedError, EntryUntrustedError) as error:
                self.refuse(key, error)
                return None
            if data is None:
                return None
            found = self._decoded(data, "", key, mapped=type(data) is not bytes)
            if found is None or found.header is not None:
                return found
        # A bucket, or a claim, which counts with its token.
        name = entry_name(key)
        digests = None
        try:
            if self._watched is not None:
                data, token, arriving = self._watched.get_watched(name, Arriving)
                digests = arriving.digests
            else:
                data, token = self.store.get(name)
        except KeyError:
            return None
        found = self._decoded(data, token, key, digests=digests)
        if self._fetched is not None and _is_entry(found):
            self._fetched(name, data)
        return found

    def read_many(self, keys: Sequence[CallKey]) -> Iterator[tuple[int, Found | None]]:
        """Ask a store that can do that for many keys at once; yield what is there as it comes.

        Yields
        ------
        int
            The place of a key among the keys.
        Found or None
            What stands under it.
        """
        assert isinstance(self.store, BulkReads)
        places: dict[str, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(entry_name(key), []).append(place)
        for name, data in self.store.get_many(list(places)):
            if data is None:
                continue
            found: Found | None = None
            for place in places[name]:
                found = self._decoded(data, "", keys[place])
                yield place, found
            if self._fetched is not None and _is_entry(found):
                self._fetched(name, data)

    def read_header(self, key: CallKey) -> Found:
        """Return what stands under a key without its value, of which as little is read as can be.

        Raises
        ------
        KeyError
            If nothing stands there.
        EntryDamagedError, EntryUntrustedError
            If it cannot be used, or may not be.
        """
        name = entry_name(key)
        data: Any
        if self._paths is None:
            data, _ = self.store.get(name, 0, MAPPED_BYTES)
        else:
            data = read_or_map(self._paths.of(key), writable=self._writable)
        if data is None:
            raise KeyError(name)
        if Lease.is_packed(data):
            return Found(data=data)
        if self._paths is None and len(data) >= MAPPED_BYTES:
            if (size := start_size(data)) > len(data):
                data, _ = self.store.get(name, 0, size)
            header = read_header(data, key.digest)[0]
        else:
            header = unpack(data, key.digest, check=type(data) is bytes)[0]
        self._format.verify(header)
        return Found(header=header)

    def refuse(self, key: CallKey, error: Exception) -> None:
        """Tell of an entry that is not used, and why."""
        name = entry_name(key)
        self._counts.failed(
            (self.store.url, name, str(error)), f"the entry {name} is not used: {error}"
        )

    def _check_start(self, begun: bytes, size: int) -> None:
        """Refuse a large file by how it begins: it may be sparse, and of any size."""
        header = check_start(begun, size)
        if header is not None:
            self._format.verify(header)
        if header is None or not self._signed:
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
            check = self._signed or not mapped or self._private
            settled = not self._guarded or type(data) is not mmap.mmap
            header, parts = unpack(data, key.digest, check=check, digests=digests, settled=settled)
            if self._signed:
                self._format.verify(header)
            value = self._format.value(header, parts, writable=not mapped and self._writable)
        except (EntryDamagedError, EntryUntrustedError, CodecError) as error:
            if Lease.is_packed(data):
                return Found(data=data, token=token)
            self.refuse(key, error)
            return None
        self._counts.bytes_read += len(data)
        if time.time() - header.created > DAY:
            self._uses.note(entry_name(key))
        return Found(value, header, b"", token)


def _is_entry(found: Found | None) -> bool:
    return found is not None and found.header is not None
