"""Where batches come from: the user's calls, read as they are wanted, without those found stored.

::

    calls ── check ── recall ──┬─ found stored ── delivery
                               └─ take ── batch
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from jobspan.calls import Call, Missed, Recallable, is_recallable
from jobspan.scheduling.delivery import Delivery
from jobspan.scheduling.observer import Observer

__all__ = ["Check", "Supply", "recall"]

LOOK_AHEAD = 256
"""How many calls are looked up at once in a cache that can tell what it holds."""

Check = Callable[[list[Any], int], tuple[list[Call], bool]]
"""Given calls as they were read and the index of the first, returns them and whether one of them
can tell what it has stored, or refuses them."""


class Supply:
    """The calls of one ``Parallel`` call, read only as far as they are taken.

    Parameters
    ----------
    calls : iterable of Call
        The user's.
    check : Check or None
        Looks at calls as they are read.
    observer : Observer
        Is told of the end, and of results that are found stored.
    delivery : Delivery
        Takes in the results of calls that need not run.

    Attributes
    ----------
    read : int
        How many calls were read so far.
    exhausted : bool
        Whether the iterable has ended.
    """

    def __init__(
        self,
        calls: Iterable[Call],
        check: Check | None,
        observer: Observer,
        delivery: Delivery,
    ) -> None:
        self._source = iter(calls)
        self._check = check
        self._observer = observer
        self._delivery = delivery
        self.read = 0
        self.exhausted = False
        self._ready: deque[tuple[Sequence[int], list[Call]]] = deque()
        self._ready_calls = 0
        self._ready_start = 0

    @property
    def empty(self) -> bool:
        """Whether no call is left."""
        return self.exhausted and not self._ready

    def left(self, total: int | None) -> int | None:
        """Return how many calls are left, given how many there are in all; None: nobody knows."""
        known = self.read if self.exhausted else total
        return None if known is None else max(known - self.read + self._ready_calls, 0)

    def read_all(self) -> None:
        """Read the user's iterable to its end."""
        if not self.exhausted:
            self._queue(*self._take(None), ended=True)

    def take(self, size: int, parts: int | None) -> tuple[Sequence[int], Sequence[Call]]:
        """Return calls for one batch with their indexes; empty where none is at hand.

        Parameters
        ----------
        size : int
            How many at most.
        parts : int or None
            In how many batches the last calls are shared out, where the end is seen only now.
        """
        if not self._ready and not self.exhausted:
            calls, recallable = self._take(size)
            ended = len(calls) < size
            if ended and parts is not None:
                size = max(1, len(calls) // parts)
            if len(calls) > size or recallable:
                self._queue(calls, recallable, ended=ended)
            else:
                first = self.read
                self.read += len(calls)
                if ended:
                    self._end()
                return range(first, self.read), calls
        return self._from_queue(size)

    def _take(self, count: int | None, ahead: int = 0) -> tuple[list[Call], bool]:
        """Read so many calls of the user's iterable, or all; refuse what is none.

        Tells, too, whether one of them can tell what it has stored. `ahead` calls were read before
        them and are not counted yet.
        """
        calls = list(self._source if count is None else islice(self._source, count))
        if self._check is not None:
            return self._check(calls, self.read + ahead)
        return calls, any(is_recallable(function) for function, _, _ in calls)

    def _from_queue(self, size: int) -> tuple[Sequence[int], Sequence[Call]]:
        """Return at most so many calls that were read ahead."""
        if not self._ready:
            return (), ()
        indexes, calls = self._ready[0]
        start = self._ready_start
        end = start + size
        if end >= len(calls):
            self._ready.popleft()
            self._ready_start = 0
        else:
            self._ready_start = end
        taken = calls[start:end]
        self._ready_calls -= len(taken)
        return indexes[start:end], taken

    def _queue(self, calls: list[Call], recallable: bool, *, ended: bool) -> None:
        """Queue calls that were read, but for those whose results are found stored."""
        if recallable and not ended:
            more = max(0, LOOK_AHEAD - len(calls))
            further, _ = self._take(more, len(calls))
            calls += further
            ended = len(further) < more
        first = self.read
        self.read += len(calls)
        indexes: Sequence[int] = range(first, self.read)
        found = recall(calls) if recallable else {}
        if found:
            for offset, value in found.items():
                self._delivery.arrive(first + offset, 1, [value])
            self._observer.recalled(len(found))
            self._observer.settled(len(found), 0)
            missing = [offset for offset in range(len(calls)) if offset not in found]
            indexes = [first + offset for offset in missing]
            calls = [calls[offset] for offset in missing]
        if calls:
            self._ready.append((indexes, calls))
            self._ready_calls += len(calls)
        if ended:
            self._end()

    def _end(self) -> None:
        if not self.exhausted:
            self.exhausted = True
            self._observer.exhausted(self.read)


def recall(calls: list[Call]) -> dict[int, Any]:
    """Return the results that are found stored, by the offset of their calls.

    Of the other calls, those are replaced that need not look once more.
    """
    by_function: dict[int, tuple[Recallable, list[int]]] = {}
    for offset, (function, _, _) in enumerate(calls):
        if is_recallable(function):
            by_function.setdefault(id(function), (function, []))[1].append(offset)
    found: dict[int, Any] = {}
    for recallable, offsets in by_function.values():
        answers = recallable.recall_many([calls[offset][1:] for offset in offsets])
        for offset, answer in zip(offsets, answers, strict=True):
            if isinstance(answer, Missed):
                calls[offset] = (answer.function, *calls[offset][1:])
            elif answer is not None:
                found[offset] = answer.value
    return found
