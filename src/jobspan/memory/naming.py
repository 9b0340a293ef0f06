"""What objects of a cache are called: entries under their function, spread over prefixes by key."""

from __future__ import annotations

import re
from functools import lru_cache

from blake3 import blake3

from jobspan.keys import CallKey

__all__ = [
    "MARK",
    "belongs_to_cache",
    "entry_name",
    "entry_of",
    "function_prefix",
    "is_entry",
]

_ENTRY = re.compile(r"[A-Za-z0-9._-]+/[0-9a-f]{2}/[0-9a-f]{64}\Z")

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
    """Return the name of a key's entry: two digits of it spread the entries over prefixes."""
    return f"{function_prefix(key.function)}{key.digest[:2]}/{key.digest}"


def is_entry(name: str) -> bool:
    """Whether a name is that of an entry, or of a claim, which stands under the entry's name."""
    return _ENTRY.match(name) is not None


def entry_of(mark: str) -> str:
    """Return the name of the entry that a mark is of."""
    return mark.removesuffix(MARK)


def belongs_to_cache(name: str) -> bool:
    """Whether an object is a cache's: an entry, a claim or a mark; others are left alone."""
    return is_entry(name.removesuffix(MARK))
