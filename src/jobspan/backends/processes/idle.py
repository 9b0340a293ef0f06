"""The idle workers of this process: who needs one takes one, and gives it back afterwards."""

from __future__ import annotations

import atexit
import os
import threading
import weakref

from jobspan.backends.processes.handle import Worker

__all__ = ["close_idle_workers", "give_back", "take_worker"]

_lock = threading.Lock()
_idle: list[Worker] = []
_all: weakref.WeakSet[Worker] = weakref.WeakSet()


def take_worker(idle_seconds: float) -> Worker:
    """Return an idle worker, the one used last, or start one.

    Parameters
    ----------
    idle_seconds : float
        How long it should stay idle before it leaves.
    """
    while True:
        with _lock:
            matching = (i for i in reversed(range(len(_idle))) if _fits(_idle[i], idle_seconds))
            position = next(matching, None)
            worker = None if position is None else _idle.pop(position)
        if worker is None:
            worker = Worker(idle_seconds)
            with _lock:
                _all.add(worker)
            return worker
        if not worker.read_obituary():
            worker.follow_stdout()
            return worker
        worker.close()


def _fits(worker: Worker, idle_seconds: float) -> bool:
    return worker.idle_seconds == idle_seconds


def give_back(worker: Worker) -> None:
    """Put an idle worker at everybody's disposal."""
    worker.stderr.pump()
    with _lock:
        _idle.append(worker)


def close_idle_workers() -> None:
    """Let every idle worker leave."""
    with _lock:
        workers = _idle[:]
        _idle.clear()
    for worker in workers:
        worker.close()


def _forget_workers() -> None:
    """Forget the parent's workers, in a forked child: two processes cannot share a pipe."""
    global _lock
    _lock = threading.Lock()
    for worker in list(_all):
        worker.close()
    _idle.clear()


# Before the template is stopped: registered later, it runs earlier.
atexit.register(close_idle_workers)
os.register_at_fork(after_in_child=_forget_workers)
