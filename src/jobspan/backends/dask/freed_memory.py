"""Memory that calls free is kept for the next ones, and given back when none follow.

Dask's nannies start workers with ``MALLOC_TRIM_THRESHOLD_``: glibc then hands what is freed to the
system at once, and takes each block of more than 128 KiB fresh from it. Every step of a numpy
expression is made of pages that the system clears and maps one by one, which can take several times
as long as the arithmetic. While batches run, glibc keeps what they free, as it does in any other
process. Soon after the last one all of it is given back, and Dask's setting holds again.

::

    keeping ── a batch begins ───────► glibc keeps what is freed
       │                                   │  unless half of the worker's memory is in use
       └── none has run for a while ─► as before; what is free is given back, and again later
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

__all__ = ["keeping", "note_thread"]

IDLE_SECONDS = 0.5
"""How long no batch may have run before memory is given back."""

LATER_SECONDS = (1.0, 4.0, 16.0, 60.0)
"""When that is done again, the last for as long as the worker lives: a result, say, was allocated
meanwhile and is freed later, and blocks of others are made of what lies between."""

LOOK_SECONDS = 0.1
"""How often a worker is asked how much memory it uses."""

FRACTION = 0.5
"""The part of a worker's memory in use from which on nothing is kept; Dask spills from 0.7 on."""

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters by glibc's numbers for them."""

KEEP = {TRIM_THRESHOLD: 1 << 30, TOP_PAD: 64 << 20, MMAP_THRESHOLD: 32 << 20}
"""Blocks of up to 32 MiB, glibc's own limit, are made of what is there."""

DEFAULTS = {TOP_PAD: 128 << 10, MMAP_THRESHOLD: 128 << 10}
"""glibc's, which hold beside what Dask sets."""

NOTE_BYTES = 96 << 10
"""A block of that size: when it is freed, glibc hands back the end of its arena."""

VARIABLE = "MALLOC_TRIM_THRESHOLD_"


class _Glibc:
    """glibc's allocator, in a process for which Dask has set it.

    Parameters
    ----------
    trim_threshold : int
        What Dask has set.
    """

    def __init__(self, trim_threshold: int) -> None:
        library = ctypes.CDLL(None)
        self._mallopt, self._trim = library.mallopt, library.malloc_trim
        self._malloc, self._free = library.malloc, library.free
        self._trim.argtypes = self._malloc.argtypes = [ctypes.c_size_t]
        self._malloc.restype = ctypes.c_void_p
        self._free.argtypes, self._free.restype = [ctypes.c_void_p], None
        self._before = {**DEFAULTS, TRIM_THRESHOLD: trim_threshold}

    def keep(self) -> None:
        """Keep what is freed."""
        self._set(KEEP)

    def give_back(self, notes: list[int]) -> None:
        """Keep nothing any more, and hand what is free to the system.

        `malloc_trim` leaves the end of a thread's arena alone; that is handed back when the block
        which was noted there is freed.
        """
        self._set(self._before)
        for block in notes:
            self._free(block)
        self.trim()

    def trim(self) -> None:
        """Hand what is free to the system."""
        self._trim(0)

    def note(self) -> int:
        """Take a block of this thread's arena."""
        return int(self._malloc(NOTE_BYTES) or 0)

    def _set(self, parameters: dict[int, int]) -> None:
        for name, value in parameters.items():
            self._mallopt(name, value)


class _Keeper:
    """Keeps what is freed while batches run in this process.

    Parameters
    ----------
    allocator : _Glibc
        Whose memory it is.

    Notes
    -----
    Threads and processes: safe to use from several threads.
    """

    def __init__(self, allocator: _Glibc) -> None:
        self._allocator = allocator
        self._lock = threading.Lock()
        self._here = threading.local()
        self._running = 0
        self._keeps = False
        self._period = 0
        self._notes: list[int] = []
        self._ended = 0.0
        self._looked = 0.0
        self._room = True
        self._looking = False

    def enter(self, worker: Any) -> None:
        """A batch begins."""
        with self._lock:
            self._running += 1
            if not self._keeps and self._has_room(worker):
                self._keeps = True
                self._period += 1
                self._allocator.keep()
        self.note_thread()

    def leave(self, worker: Any) -> None:
        """A batch has ended."""
        with self._lock:
            self._running -= 1
            self._ended = time.monotonic()
            if not self._has_room(worker):
                self._give_back()
            if not self._looking:
                self._looking = True
                worker.loop.add_callback(self._look, worker.loop)

    def note_thread(self) -> None:
        """Note this thread's arena, once while memory is kept."""
        if getattr(self._here, "period", 0) == self._period:
            return
        with self._lock:
            if self._keeps:
                self._here.period = self._period
                self._notes.append(self._allocator.note())

    def _has_room(self, worker: Any) -> bool:
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            limit = worker.memory_manager.memory_limit
            self._room = not limit or worker.monitor.get_process_memory() < FRACTION * limit
        return self._room

    def _give_back(self) -> None:
        if self._keeps:
            self._keeps = False
            notes, self._notes = self._notes, []
            self._allocator.give_back(notes)

    # --- in the worker's event loop ------------------------------------------------------

    def _look(self, loop: Any) -> None:
        """Give back what is kept, once no batch has run for a while."""
        with self._lock:
            if self._running or time.monotonic() - self._ended < IDLE_SECONDS:
                loop.call_later(IDLE_SECONDS, self._look, loop)
                return
            self._looking = False
            self._give_back()
            period = self._period
        self._trim_later(loop, period, LATER_SECONDS)

    def _trim_later(self, loop: Any, period: int, delays: tuple[float, ...]) -> None:
        loop.call_later(delays[0], self._trim, loop, period, delays[1:] or delays)

    def _trim(self, loop: Any, period: int, delays: tuple[float, ...]) -> None:
        if period == self._period:  # else memory is kept again
            self._allocator.trim()
            self._trim_later(loop, period, delays)


@contextmanager
def keeping(worker: Any, *, wanted: bool) -> Iterator[None]:
    """Keep what is freed while a batch runs, and a little longer.

    Parameters
    ----------
    worker : distributed.Worker or None
        Where it runs.
    wanted : bool
        False: Dask's setting holds.
    """
    keeper = _keeper() if wanted and worker is not None else None
    if keeper is None:
        yield
        return
    keeper.enter(worker)
    try:
        yield
    finally:
        keeper.leave(worker)


def note_thread() -> None:
    """Note that a batch runs in this thread, too, so that what it frees is given back."""
    keeper = _keeper()
    if keeper is not None:
        keeper.note_thread()


@lru_cache(maxsize=1)
def _keeper() -> _Keeper | None:
    """Return what keeps memory in this process, if Dask has set its allocator and nobody else."""
    names = [name for name in os.environ if name.startswith("MALLOC_")]
    if names != [VARIABLE] or "malloc" in os.environ.get("GLIBC_TUNABLES", "") or not _is_glibc():
        return None
    try:
        return _Keeper(_Glibc(int(os.environ[VARIABLE])))
    except (ValueError, AttributeError):
        return None


def _is_glibc() -> bool:
    """Whether this process allocates by glibc's own functions, not by others put before them."""
    if sys.platform != "linux" or sys.maxsize < 1 << 32:
        return False
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return False
        in_use, own = ctypes.CDLL(None).malloc, ctypes.CDLL("libc.so.6").malloc
    except (ValueError, AttributeError, OSError):
        return False
    return ctypes.cast(in_use, ctypes.c_void_p).value == ctypes.cast(own, ctypes.c_void_p).value
