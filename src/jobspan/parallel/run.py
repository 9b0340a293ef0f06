"""One call of a ``Parallel`` object, from its start to its end.

::

    iterable ─┬─ a loop in the caller's thread ───────────────┐
              └─ a scheduler ─┬─ in the caller's thread ──────┼─ results ─ end
                              └─ in a thread of its own ──────┘
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from typing import Any

from jobspan.ambient import current
from jobspan.calls import Call, CallContext, Initializer
from jobspan.executors import Executor
from jobspan.logger import level_of_user
from jobspan.parallel.background import BackgroundRun
from jobspan.parallel.decisions import dice_of
from jobspan.parallel.tracking import Tracker
from jobspan.scheduling.inline import plain_loop, watched_loop
from jobspan.scheduling.loop import Scheduler
from jobspan.scheduling.policy import SchedulingPolicy
from jobspan.scheduling.supply import Check

__all__ = ["Run"]


class Run:
    """Runs calls `in_caller` or `on_executor`, once.

    Parameters
    ----------
    policy : SchedulingPolicy
        How the calls are scheduled.
    tracker : Tracker
        Keeps count.
    report : str, PathLike or None
        The file that a page about the run is written to at its end.
    finished : callable
        Called when nothing runs any more.
    ended : callable
        Called after that, when the caller has had all results or wants no more of them.

    Notes
    -----
    Threads and processes: `interrupt` may be called from any thread.
    """

    def __init__(
        self,
        policy: SchedulingPolicy,
        tracker: Tracker,
        *,
        report: str | PathLike[str] | None,
        finished: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._policy = policy
        self._tracker = tracker
        self._report = report
        self._finished = finished
        self._ended: Callable[[], None] | None = ended
        self._scheduler: Scheduler | None = None
        self._background: BackgroundRun | None = None

    # --- results ---------------------------------------------------------------------------

    def in_caller(self, calls: Iterable[Call], initializer: Initializer | None) -> Iterator[Any]:
        """Return an iterator that runs each call when its result is asked for."""
        policy, tracker = self._policy, self._tracker
        plain = policy.on_error == "raise" and policy.retries.never and not tracker.prints
        if plain and initializer is None and self._report is None:
            tracker.run_plainly()
            results = plain_loop(calls, tracker.pulse, tracker.so_far)
        else:
            tracker.begin()
            context = CallContext(settings=current(), initializer=initializer)
            results = watched_loop(calls, context, policy, tracker, dice=dice_of(policy))
        generator = self._until_closed(results)
        next(generator)
        return generator

    def _until_closed(self, results: Iterator[Any]) -> Iterator[Any]:
        """Yield None, then the results.

        The first value is for the caller who makes the generator: one that was never started
        would not notice that it is dropped.
        """
        try:
            yield None
            yield from results
            self._tracker.print_progress()
        finally:
            self.end()

    def on_executor(
        self,
        iterable: Iterable[Any],
        check: Check,
        context: CallContext,
        executor: Executor,
        numbers: Iterator[int],
    ) -> Iterator[Any]:
        """Return an iterator of what a scheduler hands on: at its end, or from its own thread.

        Parameters
        ----------
        iterable : iterable
            What the user passed.
        check : Check
            Looks at what the iterable gives.
        context : CallContext
            What holds around the calls.
        executor : Executor
            Where batches run.
        numbers : iterator of int
            Where the executor's batches get their numbers.
        """
        self._tracker.begin()
        scheduler = self._scheduler = Scheduler(
            executor,
            context,
            self._policy,
            iterable,
            self._tracker,
            numbers=numbers,
            check=check,
            total=self._tracker.expected,
            dice=dice_of(self._policy),
        )
        if not self._policy.bounded:
            return iter(self._collected(scheduler))
        self._background = BackgroundRun(scheduler, self._finish, self.end)
        generator = self._background.results()
        next(generator)
        return generator

    def _collected(self, scheduler: Scheduler) -> list[Any]:
        """Run the scheduler here: the user's iterable is read, and errors are raised, here."""
        results: list[Any] = []
        try:
            for chunk in scheduler:
                results += chunk
        finally:
            self.end()
        return results

    # --- the end ---------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Make a generator that waits for a result end soon."""
        scheduler = self._scheduler
        if scheduler is not None:
            scheduler.stop()

    def stop(self) -> None:
        """End what goes on in a thread of its own, and wait for that."""
        if self._background is not None:
            self._background.stop()

    def end(self) -> None:
        """Do what is to be done at the end; a second call does nothing."""
        ended, self._ended = self._ended, None
        if ended is None:
            return
        try:
            if self._background is None:  # else its thread does so
                self._finish()
        finally:
            ended()

    def _finish(self) -> None:
        self._scheduler = None
        try:
            if self._tracker.finish() and self._report is not None:
                self._write_report(self._report)
        finally:
            self._finished()

    def _write_report(self, path: str | PathLike[str]) -> None:
        try:
            from pathlib import Path

            Path(path).write_text(self._tracker.stats.to_html(), encoding="utf-8")
        except OSError as error:
            # The results are there: no page is worth losing them.
            warnings.warn(
                f"the report could not be written to {path!r}: {error}. Parallel.stats.to_html() "
                "returns it.",
                stacklevel=level_of_user(),
            )
