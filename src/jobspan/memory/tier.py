"""A local store before another: looked into first, filled on the way. It saves time, no more."""

from __future__ import annotations

from typing import Any

from jobspan.keys import CallKey
from jobspan.memory.reading import EntryReader, Found, Usable
from jobspan.memory.reporting import Counts
from jobspan.store import ObjectStore

__all__ = ["Tier"]


class Tier:
    """The entries of a local tier, of which nothing is ever missed but time.

    Parameters
    ----------
    reader : EntryReader
        Reads them.
    counts : Counts
        Where failures are counted.
    """

    __slots__ = ("_counts", "reader")

    def __init__(self, reader: EntryReader, counts: Counts) -> None:
        self.reader = reader
        self._counts = counts

    def look_up(self, key: CallKey, usable: Usable | None) -> Found | None:
        """Return what stands under a key, if it is still good."""
        try:
            found = self.reader.read(key)
        except Exception as error:  # noqa: BLE001 - the store may have it
            self._counts.store_failed("read", self.reader.store.url, error)
            return None
        return found if found is not None and (usable is None or usable(found)) else None

    def fill(self, name: str, data: Any) -> None:
        """Keep an entry that is stored behind the tier."""
        store: ObjectStore = self.reader.store
        try:
            store.put(name, data)
        except Exception as error:  # noqa: BLE001 - what is not kept is read again
            self._counts.store_failed("written", store.url, error)
