"""Leave the pool of a Dask worker's threads while a call waits for calls of its own; come back."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

__all__ = ["inside_task", "leave_pool", "run_for_another"]

ANSWER_SECONDS = 5.0
"""How long the thread of the pool may take to do what the thread of a timed call asks for."""


class _Here(threading.local):
    """Where a thread that runs a call for a thread of the pool sends its requests."""

    def __init__(self) -> None:
        self.requests: SimpleQueue[Callable[[], None] | None] | None = None


_here = _Here()


def inside_task() -> bool:
    """Whether this thread runs a task of a Dask worker."""
    package = sys.modules.get("distributed")
    if package is None:
        return False
    try:
        package.get_worker()
    except ValueError:
        return False
    return True


def leave_pool() -> Callable[[], None] | None:
    """Give this thread's place in the pool to another task.

    Returns
    -------
    callable or None
        Takes the place back, from the same thread; None where there was none to give up: outside
        of Dask, or where somebody, `worker_client` say, has given it up already.
    """
    if "distributed" not in sys.modules:
        return None
    requests = _here.requests
    if requests is None:
        return _leave()
    back: list[Callable[[], None] | None] = []

    def come_back() -> None:
        if back and back[0] is not None:
            _ask(requests, back[0])

    _ask(requests, lambda: back.append(_leave()))
    return come_back


def run_for_another(function: Callable[[], object], seconds: float) -> threading.Thread | None:
    """Run a function in a thread of its own, and do what it asks of this thread meanwhile.

    Returns
    -------
    Thread or None
        None when it has ended; its thread where it has not after so many `seconds`.
    """
    import contextvars
    import time

    requests: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def run() -> None:
        _here.requests = requests
        try:
            function()
        finally:
            requests.put(None)

    context = contextvars.copy_context()
    thread = threading.Thread(
        target=context.run, args=(run,), name="jobspan-timed-call", daemon=True
    )
    thread.start()
    deadline = time.monotonic() + seconds
    while True:
        try:
            request = requests.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            return thread
        if request is None:
            thread.join()
            return None
        request()


def _ask(requests: SimpleQueue[Callable[[], None] | None], request: Callable[[], None]) -> None:
    done = threading.Event()

    def answer() -> None:
        try:
            request()
        finally:
            done.set()

    requests.put(answer)
    done.wait(ANSWER_SECONDS)  # nobody answers a call that was given up


def _leave() -> Callable[[], None] | None:
    import distributed
    from distributed.threadpoolexecutor import thread_state

    if not inside_task() or not getattr(thread_state, "proceed", False):
        return None
    try:
        distributed.secede()  # type: ignore[no-untyped-call]
    except (KeyError, AttributeError):  # not in the pool
        return None
    thread = threading.current_thread()

    def come_back() -> None:
        # In a generator mode another thread ends the call: its place stays with the pool.
        if threading.current_thread() is thread:
            distributed.rejoin()  # type: ignore[no-untyped-call]

    return come_back


def stop(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raise an error in a thread the next time it runs Python code."""
    import ctypes

    with contextlib.suppress(AttributeError, ValueError):  # not CPython
        raise_in: Any = ctypes.pythonapi.PyThreadState_SetAsyncExc
        if thread.is_alive() and thread.ident is not None:
            raise_in(ctypes.c_ulong(thread.ident), ctypes.py_object(error))
