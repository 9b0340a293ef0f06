"""What objects of a cache are called: entries under their function, spread over prefixes by key."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

from blake3 import blake3

from jobspan.keys import CallKey
from jobspan.store import LocalPaths

__all__ = [
    "MARK",
    "EntryPaths",
    "belongs_to_cache",
    "entry_name",
    "entry_of",
    "function_prefix",
    "is_digest",
    "is_entry",
]

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
# Two digits: as earlier versions spread entries, which are listed and deleted, and not looked for.
_ENTRY = re.compile(r"[A-Za-z0-9._-]+/[0-9a-f]{1,2}/[0-9a-f]{64}\Z")

SPREAD = 1
"""Digits of a key that spread entries: 16 prefixes a function. Making a folder takes longer than
storing a result, so that the many folders of two digits would cost more than they save; and no
disk minds some 10,000 files in one."""

MARK = ".used"
"""What the name of a mark has at its end: the entry before it was used on the day that it tells."""


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
    return f"{safe[:100]}-{blake3(function.encode('utf-8', 'surrogatepass')).hexdigest(4)}/"


def entry_name(key: CallKey) -> str:
    """Return the name of a key's entry: a digit of it spreads the entries over prefixes."""
    return f"{function_prefix(key.function)}{key.digest[:SPREAD]}/{key.digest}"


class EntryPaths:
    """Where the files of a local store's entries are; the store is asked once a function.

    Examples
    --------
    >>> from jobspan.keys import call_key
    >>> from jobspan.store import open_store
    >>> store, key = open_store("here"), call_key(len, ((),), {})
    >>> EntryPaths(store).of(key) == store.local_path(entry_name(key))
    True
    """

    __slots__ = ("_folders", "_store")

    def __init__(self, store: LocalPaths) -> None:
        self._store = store
        self._folders: dict[str, str] = {}

    @classmethod
    def of_store(cls, store: Any) -> EntryPaths | None:
        """Return the paths of a store whose objects are files, else None."""
        return cls(store) if isinstance(store, LocalPaths) else None

    def of(self, key: CallKey) -> str:
        """Return the path of a key's entry."""
        digest = key.digest
        folder = self._folders.get(key.function)
        if folder is None:
            path = self._store.local_path(entry_name(key))
            end = f"{digest[:SPREAD]}{os.sep}{digest}"
            if not path.endswith(end):
                return path  # a store that has its own way with names
            folder = self._folders[key.function] = path.removesuffix(end)
        return f"{folder}{digest[:SPREAD]}{os.sep}{digest}"


def is_digest(text: str) -> bool:
    """Whether a text can be a key's digest, which names a file."""
    return _DIGEST.match(text) is not None


def is_entry(name: str) -> bool:
    """Whether a name is that of an entry, or of a claim, which stands under the entry's name."""
    return _ENTRY.match(name) is not None


def entry_of(mark: str) -> str:
    """Return the name of the entry that a mark is of."""
    return mark.removesuffix(MARK)


def belongs_to_cache(name: str) -> bool:
    """Whether an object is a cache's: an entry, a claim or a mark; others are left alone."""
    return is_entry(name.removesuffix(MARK))
