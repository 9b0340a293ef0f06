"""When entries were last used: noted at most once a day an entry, never by a write a hit.

An entry that was stored less than a day ago needs no note. For an older one, a store that keeps
times of access is touched where the last touch is older than a day. A bucket keeps none: there a
mark of a few bytes beside the entry tells the day, written over when another day has come, by
whoever is first on that day. Marks are read and written in a thread of their own, after the hit.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from jobspan.memory.naming import MARK, entry_of, is_entry
from jobspan.store import LocalPaths, ObjectInfo, ObjectStore, Touches

__all__ = ["DAY", "Uses", "last_use", "with_uses"]

DAY = 86400.0
"""Seconds for which a use is not noted again."""

MOST_NOTES = 100_000
"""Names that a process remembers to have noted, and notes that wait; more are dropped."""


def last_use(info: ObjectInfo) -> float:
    """Return when an object was last used, or written where the store keeps no more than that.

    Examples
    --------
    >>> last_use(ObjectInfo("a", 1, modified=10.0, touched=12.0))
    12.0
    """
    return info.modified if info.touched is None else max(info.touched, info.modified)


def with_uses(infos: Iterable[ObjectInfo]) -> tuple[list[ObjectInfo], list[ObjectInfo]]:
    """Return the entries of a listing with what their marks tell, and the marks.

    Parameters
    ----------
    infos : iterable of ObjectInfo
        The listing; what in it is no cache's is left out.

    Examples
    --------
    >>> name = "project.double/0/" + 64 * "0"
    >>> entry, mark = ObjectInfo(name, 9, 1.0), ObjectInfo(name + ".used", 5, 7.0)
    >>> with_uses([entry, mark])[0][0].touched
    7.0
    """
    entries: list[ObjectInfo] = []
    marks: dict[str, ObjectInfo] = {}
    for info in infos:
        if is_entry(info.name):
            entries.append(info)
        elif is_entry(entry_of(info.name)):
            marks[entry_of(info.name)] = info
    if marks:
        entries = [
            replace(info, touched=max(last_use(info), marks[info.name].modified))
            if info.name in marks
            else info
            for info in entries
        ]
    return entries, list(marks.values())


class Uses:
    """Notes the use of a cache's entries.

    Parameters
    ----------
    store : ObjectStore or None
        Where entries are; None where nothing may be written there.
    tier : ObjectStore or None
        The local store before it.
    """

    def __init__(self, store: ObjectStore | None, tier: ObjectStore | None) -> None:
        self._stores = [each for each in (tier, store) if each is not None]
        self._noted: dict[str, int] = {}

    def note(self, name: str) -> None:
        """Note that an entry was used today, unless this process has done so."""
        today = int(time.time() // DAY)
        if self._noted.get(name) == today:
            return
        if len(self._noted) >= MOST_NOTES:
            self._noted.clear()
        self._noted[name] = today
        for store in self._stores:
            if isinstance(store, Touches):
                with suppress(OSError):  # a use that is not noted costs a computation at most
                    _touch(store, name)
            else:
                _marks.put(store, name, today)


def _touch(store: Touches, name: str) -> None:
    if isinstance(store, LocalPaths):
        try:
            facts = Path(store.local_path(name)).stat()
        except FileNotFoundError:
            return
        if time.time() - max(facts.st_atime, facts.st_mtime) < DAY:
            return
    store.touch(name)


class _Marks:
    """Marks that wait to be written, and the thread that writes them.

    The thread is started with the first mark and ends with the last one. It is no daemon: a program
    that only reads and ends leaves its marks, too.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[ObjectStore, str, int]] = deque(maxlen=MOST_NOTES)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, store: ObjectStore, name: str, day: int) -> None:
        """Have a mark written."""
        with self._lock:
            self._waiting.append((store, name, day))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jobspan-marks")
                self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until all marks are written, or so long."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        for store, name, day in self._taken():
            with suppress(OSError, ValueError):  # tried again on another day
                _mark(store, name + MARK, b"%d" % day)

    def _taken(self) -> Iterator[tuple[ObjectStore, str, int]]:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                one = self._waiting.popleft()
            yield one


def _mark(store: ObjectStore, name: str, day: bytes) -> None:
    """Write a mark, unless somebody has done so today."""
    try:
        data, token = store.get(name)
    except KeyError:
        store.create(name, day)
    else:
        if data != day:
            store.swap(name, day, token)


_marks = _Marks()


def _forget_marks() -> None:
    global _marks
    _marks = _Marks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_marks)
