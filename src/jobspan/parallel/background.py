"""Generator modes: the scheduler runs in a thread of its own, and hands results to a generator."""

from __future__ import annotations

import contextvars
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from jobspan.logger import level_of_user
from jobspan.scheduling.loop import Scheduler

__all__ = ["BackgroundRun"]

STOP_SECONDS = 10.0
"""How long a closed generator waits for its scheduler's thread: a user's iterable may block it."""

START_SECONDS = 1.0
"""How long its start may take where that was interrupted."""


class BackgroundRun:
    """Runs a scheduler in a thread and yields its results in the consumer's.

    Parameters
    ----------
    scheduler : Scheduler
        What runs.
    finish : callable
        Called in the thread when the scheduler has ended in whatever way; closes the executor.
    consumed : callable
        Called in the consumer's thread when the generator has ended in whatever way.

    Notes
    -----
    Threads and processes: the user's iterable is read in the thread, with the caller's context
    variables. One consumer at a time.
    """

    def __init__(
        self, scheduler: Scheduler, finish: Callable[[], None], consumed: Callable[[], None]
    ) -> None:
        self._scheduler = scheduler
        self._finish = finish
        self._consumed = consumed
        self._chunks: deque[list[Any]] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._news = threading.Condition()
        self._begun = threading.Event()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._run,),
            name="jobspan-scheduler",
            daemon=True,
        )

    def _run(self) -> None:
        self._begun.set()
        error: BaseException | None = None
        try:
            for chunk in self._scheduler:
                with self._news:
                    self._chunks.append(chunk)
                    self._news.notify()
                del chunk
        except BaseException as raised:  # noqa: BLE001 - handed to the consumer
            error = raised
        try:
            self._finish()
        except BaseException as raised:  # noqa: BLE001 - handed to the consumer
            error = error or raised
        with self._news:
            self._error = error
            self._ended = True
            self._news.notify()

    def results(self) -> Iterator[Any]:
        """Yield None, then the results; closing the generator cancels the rest.

        The first value is for the caller who makes the generator: one that was never started
        would not notice that it is dropped.
        """
        taken = 0
        complete = False
        try:
            self._thread.start()
            yield None
            while True:
                with self._news:
                    while not self._chunks and not self._ended:
                        self._news.wait()
                    if not self._chunks or (self._error is not None):
                        break
                    chunk = self._chunks.popleft()
                chunk.reverse()
                while chunk:
                    taken += 1
                    yield chunk.pop()
                    self._scheduler.taken(taken)
                del chunk
            complete = True
            if self._error is not None:
                error, self._error = self._error, None
                raise error
        finally:
            try:
                self._stop(complete=complete, taken=taken)
            finally:
                self._consumed()

    def stop(self) -> None:
        """Cancel what runs, and wait for the thread to end."""
        self._scheduler.stop()
        self._join()

    def _join(self) -> None:
        if threading.current_thread() is self._thread:
            return
        # Ctrl-C may have come as it started: then it begins a moment later.
        if self._begun.wait(START_SECONDS):
            self._thread.join(timeout=STOP_SECONDS)
        else:
            self._finish()

    def _stop(self, *, complete: bool, taken: int) -> None:
        if complete:
            self._join()
        else:
            self.stop()
            _warn_unused(self._scheduler, taken)
        self._chunks.clear()


def _warn_unused(scheduler: Scheduler, taken: int) -> None:
    """Say what the work was that a closed generator threw away, in joblib's words."""
    completed, dispatched = scheduler.progress
    parts = []
    if completed > taken:
        parts.append(f"{completed - taken} tasks have been successfully executed  but not used.")
    if dispatched > completed:
        parts.append(
            f"{dispatched - completed} tasks which were still being processed by the workers "
            "have been cancelled."
        )
    if parts:
        warnings.warn(
            " Additionally, ".join(parts) + " You could benefit from adjusting the input task "
            "iterator to limit unnecessary computation time.",
            stacklevel=level_of_user(),
        )
