"""What to delete to make room: a pure decision over the facts of a listing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Literal

from jobspan.memory.last_use import last_use
from jobspan.store import ObjectInfo

__all__ = ["Policy", "evictable"]

Policy = Literal["lru", "cost"]


def evictable(
    entries: Iterable[ObjectInfo],
    now: float,
    *,
    bytes_limit: int | None = None,
    items_limit: int | None = None,
    age_limit: timedelta | None = None,
    costs: dict[str, float] | None = None,
) -> list[str]:
    """Return the names of the entries to delete, so that the rest keeps within the limits.

    Parameters
    ----------
    entries : iterable of ObjectInfo
        What there is.
    now : float
        The time, in seconds since the epoch.
    bytes_limit : int or None
        How many bytes may stay.
    items_limit : int or None
        How many entries may stay.
    age_limit : timedelta or None
        How long an unused entry may stay.
    costs : dict or None
        Seconds that it takes to compute an entry again, by name. The cheapest a byte go first;
        None: those go first that have not been used for the longest time.

    Examples
    --------
    >>> entries = [ObjectInfo("a", 10, modified=1.0), ObjectInfo("b", 10, modified=2.0)]
    >>> evictable(entries, now=3.0, bytes_limit=10)
    ['a']
    """
    known = list(entries)

    def worth(info: ObjectInfo) -> tuple[float, float]:
        cost = 0.0 if costs is None else costs.get(info.name, 0.0) / max(info.size, 1)
        return cost, last_use(info)

    leaving: list[str] = []
    staying: list[ObjectInfo] = []
    for info in sorted(known, key=worth):
        if age_limit is not None and now - last_use(info) > age_limit.total_seconds():
            leaving.append(info.name)
        else:
            staying.append(info)
    size, items = sum(info.size for info in staying), len(staying)
    for info in staying:
        if (bytes_limit is None or size <= bytes_limit) and (
            items_limit is None or items <= items_limit
        ):
            break
        leaving.append(info.name)
        size -= info.size
        items -= 1
    return leaving
