"""``Parallel``: what users call."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from itertools import count
from os import PathLike
from types import TracebackType
from typing import Any, Self

from jobspan.ambient import Default, current
from jobspan.calls import CallContext, Initializer
from jobspan.compatibility import Logger
from jobspan.executors import Backend, Executor
from jobspan.parallel.arguments import (
    ReturnAs,
    read_batch_size,
    read_pre_dispatch,
    read_return_as,
    read_seconds,
)
from jobspan.parallel.background import BackgroundRun
from jobspan.parallel.choice import Choice, choose
from jobspan.parallel.config import DEFAULTS
from jobspan.parallel.decisions import context_of, dice_of, plan_of, policy_of
from jobspan.parallel.intake import CallChecker, MappedCalls, check_iterable
from jobspan.parallel.progress import make_listener
from jobspan.parallel.stats import ParallelStats
from jobspan.parallel.tracking import Tracker
from jobspan.parallel.verbosity import ProgressLines, write_line
from jobspan.scheduling.inline import plain_loop, watched_loop
from jobspan.scheduling.loop import Scheduler
from jobspan.scheduling.policy import SchedulingPolicy
from jobspan.scheduling.retrying import RetryPolicy

__all__ = ["Parallel"]


class Parallel(Logger):
    """Run calls at once: on this machine's cores, or on a cluster.

    Parameters
    ----------
    n_jobs : int, optional
        How many calls run at once; -1: all cores, or all that the cluster has; -2: all but one;
        None: what the context or ``JOBSPAN_N_JOBS`` says, else 1.
    backend : str, Backend or class, optional
        Where calls run: ``"processes"`` (also ``"loky"``, ``"multiprocessing"``), ``"threads"``
        (also ``"threading"``), ``"sequential"``, ``"dask"``, ``"ray"``, an address such as
        ``"dask://host:8786"``, a registered name, or an instance. Where it is not given, the
        context (`parallel_config`) or ``JOBSPAN_BACKEND`` says, else ``"processes"``.
    return_as : {"list", "generator", "generator_unordered"}
        A list of all results, a generator that yields them in order while calls go on, or one
        that yields them as they come.
    verbose : int, optional
        How many lines of progress are printed; to stdout from 50 up.
    timeout : float, optional
        Seconds to wait for the next result before `ParallelTimeoutError` (a `TimeoutError`).
    pre_dispatch : str or int
        How many batches may be dispatched ahead: ``"all"``, a number, arithmetic on ``n_jobs``.
        On a cluster the default means as many as it takes to keep every worker busy.
    batch_size : int or "auto"
        How many calls travel together; automatic sizes follow the times measured in workers.
    temp_folder, max_nbytes, mmap_mode, prefer, require
        As for `parallel_config`.
    inner_max_num_threads, progress, on_error, retries, task_timeout, initializer, initargs, \
max_pending, propagate, report
        As for `parallel_config`.
    memory : Memory, optional
        A cache: every call is looked up and stored as if its function were decorated with
        ``memory.cache``, so that an interrupted run goes on where it stopped.
    **backend_kwargs
        Further options of the backend, such as ``client=`` for Dask.

    Attributes
    ----------
    stats : ParallelStats
        Figures of the last call.
    n_completed_tasks, n_dispatched_tasks, n_dispatched_batches : int
        Progress of the present call.

    Notes
    -----
    Threads and processes: one call at a time runs through one object; use one object a thread.
    In a ``with`` block the workers are kept from one call to the next.

    Examples
    --------
    >>> from math import sqrt
    >>> from jobspan import Parallel, delayed
    >>> Parallel(n_jobs=2)(delayed(sqrt)(i ** 2) for i in range(5))
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """

    def __init__(
        self,
        n_jobs: int | Default[Any] | None = DEFAULTS["n_jobs"],
        backend: Any = DEFAULTS["backend"],
        return_as: ReturnAs = "list",
        verbose: int | Default[Any] = DEFAULTS["verbose"],
        timeout: float | None = None,
        pre_dispatch: str | int = "2 * n_jobs",
        batch_size: int | str = "auto",
        temp_folder: str | Default[Any] | None = DEFAULTS["temp_folder"],
        max_nbytes: int | str | Default[Any] | None = DEFAULTS["max_nbytes"],
        mmap_mode: str | Default[Any] | None = DEFAULTS["mmap_mode"],
        prefer: str | Default[Any] | None = DEFAULTS["prefer"],
        require: str | Default[Any] | None = DEFAULTS["require"],
        *,
        inner_max_num_threads: int | Default[Any] | None = DEFAULTS["inner_max_num_threads"],
        progress: bool | Callable[[Any], object] | Default[Any] | None = DEFAULTS["progress"],
        on_error: str | Default[Any] = DEFAULTS["on_error"],
        retries: int | RetryPolicy | Default[Any] | None = DEFAULTS["retries"],
        task_timeout: float | Default[Any] | None = DEFAULTS["task_timeout"],
        initializer: Callable[..., object] | Default[Any] | None = DEFAULTS["initializer"],
        initargs: tuple[Any, ...] | Default[Any] = DEFAULTS["initargs"],
        max_pending: int | Default[Any] | None = DEFAULTS["max_pending"],
        report: str | PathLike[str] | Default[Any] | None = DEFAULTS["report"],
        propagate: Iterable[ContextVar[Any]] | Default[Any] = DEFAULTS["propagate"],
        memory: Any = None,
        **backend_kwargs: Any,
    ) -> None:
        super().__init__()
        self.return_as: ReturnAs = read_return_as(return_as)
        self.timeout = read_seconds("timeout", timeout)
        self.pre_dispatch = pre_dispatch
        read_pre_dispatch(pre_dispatch, n_jobs=1)
        self.batch_size = batch_size
        read_batch_size(batch_size)
        if memory is not None and not hasattr(memory, "cache"):
            raise TypeError(
                f"memory={memory!r}: pass a Memory, as in Parallel(memory=Memory('cache'))"
            )
        self.memory = memory
        arguments = {
            "n_jobs": DEFAULTS["n_jobs"] if n_jobs is None else n_jobs,
            "verbose": verbose,
            "temp_folder": temp_folder,
            "max_nbytes": max_nbytes,
            "mmap_mode": mmap_mode,
            "prefer": prefer,
            "require": require,
            "inner_max_num_threads": inner_max_num_threads,
            "progress": progress,
            "on_error": on_error,
            "retries": retries,
            "task_timeout": task_timeout,
            "initializer": initializer,
            "initargs": initargs,
            "max_pending": max_pending,
            "report": report,
            "propagate": propagate,
        }
        self._choice: Choice = choose(backend, arguments, backend_kwargs)
        values = self._choice.values
        self.n_jobs: int = self._choice.n_jobs
        self.verbose: int = int(values["verbose"])
        self.stats = ParallelStats()
        self.n_tasks: int | None = None
        self._initializer = (
            None
            if values["initializer"] is None
            else Initializer(values["initializer"], tuple(values["initargs"]))
        )
        self._executor: Executor | None = None
        self._scheduler: Scheduler | None = None
        self._background: BackgroundRun | None = None
        self._managed = False
        self._running = threading.Lock()
        self._numbers = count()
        self._tracker = Tracker(self.stats)
        self._lines: ProgressLines | None = None
        # What is wrong with the number of jobs is said before anything starts.
        self._choice.backend.effective_n_jobs(self.n_jobs) if not self._remote else None

    # --- what joblib's users look at -------------------------------------------------------

    @property
    def return_generator(self) -> bool:
        """Whether results come from a generator."""
        return self.return_as != "list"

    @property
    def return_ordered(self) -> bool:
        """Whether results come in the order of the calls."""
        return self.return_as != "generator_unordered"

    @property
    def n_completed_tasks(self) -> int:
        """How many calls have their result."""
        return self.stats.calls

    @property
    def n_dispatched_tasks(self) -> int:
        """How many calls were dispatched."""
        return self._tracker.dispatched_calls

    @property
    def n_dispatched_batches(self) -> int:
        """How many batches were dispatched."""
        return self._tracker.dispatched_batches

    @property
    def _backend(self) -> Backend:
        return self._choice.backend

    @property
    def _remote(self) -> bool:
        return self._choice.backend.capabilities.remote

    def _effective_n_jobs(self) -> int:
        return self._choice.backend.effective_n_jobs(self.n_jobs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_jobs={self.n_jobs})"

    def print_progress(self) -> None:
        """Print the line of progress that is due; called after every batch."""
        if self._lines is None:
            return
        tracker = self._tracker
        line = self._lines.line(
            batches=tracker.dispatched_batches,
            completed=self.stats.calls,
            total=tracker.total,
            elapsed=tracker.elapsed(),
        )
        if line is not None:
            self._print(line)

    def _print(self, message: str) -> None:
        if self.verbose:
            write_line(repr(self), self.verbose, message)

    # --- with blocks -----------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._managed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._managed = False
        background, self._background = self._background, None
        if background is not None:
            background.stop()  # its thread uses the executor
        self._close()

    def _close(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.close()
        if self._choice.owned:
            self._choice.backend.close()

    # --- calls -----------------------------------------------------------------------------

    def __call__(self, iterable: Iterable[Any]) -> Any:
        """Run calls and return their results.

        Parameters
        ----------
        iterable : iterable of delayed calls
            What ``delayed(function)(arguments)`` makes; read as far as calls are dispatched.

        Returns
        -------
        list or generator
            As `return_as` says.
        """
        return self._begin(iterable, as_generator=self.return_generator)

    def acall(self, iterable: Iterable[Any]) -> Any:
        """Run calls from a coroutine, without blocking its event loop.

        Parameters
        ----------
        iterable : iterable of delayed calls
            Read in another thread.

        Returns
        -------
        coroutine or async iterator
            ``await`` it for a list; with a generator mode, loop over it with ``async for``. When
            it is cancelled or closed early, what runs is cancelled.

        Examples
        --------
        >>> import asyncio
        >>> from jobspan import Parallel, delayed
        >>> async def main():
        ...     return await Parallel(n_jobs=2, backend="threads").acall(
        ...         delayed(abs)(x) for x in [-1, -2])
        >>> asyncio.run(main())
        [1, 2]
        """
        from jobspan.parallel.asynchronous import collect, iterate

        check_iterable(iterable)

        def start() -> Iterator[Any]:
            results: Iterator[Any] = self._begin(iterable, as_generator=True)
            return results

        return (iterate if self.return_generator else collect)(start, self._interrupt)

    def _interrupt(self) -> None:
        scheduler = self._scheduler
        if scheduler is not None:
            scheduler.stop()

    def _begin(self, iterable: Iterable[Any], *, as_generator: bool) -> Any:
        check_iterable(iterable)
        if not self._running.acquire(blocking=False):
            message = "This Parallel instance is already running !"
            if self.return_generator:
                message += (
                    " Before submitting new tasks, you must wait for the completion of all the "
                    "previous tasks, or clean all references to the output generator."
                )
            raise RuntimeError(message)
        try:
            results = self._start(iterable, bounded=as_generator)
        except BaseException:
            self._release()
            raise
        return results if as_generator else list(results)

    def map(self, function: Callable[..., Any], *iterables: Iterable[Any]) -> Any:
        """Call a function with arguments taken from iterables side by side, as ``map`` does.

        Parameters
        ----------
        function : callable
            What to call.
        *iterables : iterable
            One for each positional argument; the shortest one ends the calls.

        Returns
        -------
        list or generator
            As `return_as` says.

        Examples
        --------
        >>> from jobspan import Parallel
        >>> Parallel(n_jobs=2, backend="threads").map(pow, [2, 3], [5, 2])
        [32, 9]
        """
        return self(MappedCalls(function, iterables))

    def _start(self, iterable: Iterable[Any], *, bounded: bool) -> Iterator[Any]:
        backend = self._choice.backend
        try:
            self.n_tasks = len(iterable)  # type: ignore[arg-type]  # where it has a length
        except TypeError:
            self.n_tasks = None
        n_jobs = backend.effective_n_jobs(self.n_jobs)
        self.stats = ParallelStats(backend=backend.name, n_jobs=n_jobs)
        if n_jobs == 1 and not self._remote and self._choice.values["task_timeout"] is None:
            return self._run_inline(iterable)
        return self._run_executor(iterable, n_jobs, bounded=bounded)

    def _checker(self) -> CallChecker:
        return CallChecker(
            None if self.memory is None else self.memory.cache,
            cluster=self._choice.backend.name if self._remote else None,
        )

    def _policy(self, n_jobs: int, *, bounded: bool) -> SchedulingPolicy:
        return policy_of(
            self._choice,
            n_jobs,
            ordered=self.return_ordered,
            bounded=bounded,
            batch_size=self.batch_size,
            pre_dispatch=self.pre_dispatch,
            timeout=self.timeout,
        )

    def _track(self, n_jobs: int) -> Tracker:
        watched = self.verbose or type(self).print_progress is not Parallel.print_progress
        self._tracker = Tracker(
            self.stats,
            self.print_progress if watched else None,
            listener=make_listener(self._choice.values["progress"], repr(self)),
            total=self.n_tasks,
        )
        self._lines = None
        if self.verbose:
            ahead = read_pre_dispatch(self.pre_dispatch, n_jobs) or 0
            self._lines = ProgressLines(self.verbose, self.n_tasks, ahead)
        return self._tracker

    def _run_inline(self, iterable: Iterable[Any]) -> Iterator[Any]:
        tracker = self._track(1)
        policy = self._policy(1, bounded=False)
        plain = (
            self._lines is None
            and type(self).print_progress is Parallel.print_progress
            and self._initializer is None
            and not self._choice.values["progress"]
            and self._choice.values["report"] is None
            and policy.on_error == "raise"
            and policy.retries.never
        )
        calls = self._checker().each(iterable)
        if plain:
            results = plain_loop(calls, self._note_failure)
        else:
            context = CallContext(settings=current(), initializer=self._initializer)
            results = watched_loop(calls, context, policy, tracker, dice=dice_of(policy))
        generator = self._inline_results(results, tracker, counted=not plain)
        next(generator)
        return generator

    def _note_failure(self) -> None:
        self.stats.failures += 1

    def _inline_results(
        self, results: Iterator[Any], tracker: Tracker, *, counted: bool
    ) -> Iterator[Any]:
        calls = 0
        try:
            yield None
            if counted:
                yield from results
            else:
                for result in results:
                    calls += 1
                    yield result
            tracker.exhausted(tracker.dispatched_calls)
            self.print_progress()
        finally:
            if not counted:
                tracker.finish()
                calls += self.stats.failures
                tracker.dispatched_calls = tracker.dispatched_batches = calls
                self.stats.calls = self.stats.batches = calls
                self.stats.work_seconds = tracker.elapsed()
            self._finish()

    def _run_executor(
        self, iterable: Iterable[Any], n_jobs: int, *, bounded: bool
    ) -> Iterator[Any]:
        executor = self._open(n_jobs)
        self._print(
            f"Using backend {type(self._backend).__name__} with {n_jobs} concurrent workers."
        )
        policy = self._policy(n_jobs, bounded=bounded)
        scheduler = Scheduler(
            executor,
            context_of(self._choice, n_jobs, self._initializer),
            policy,
            iterable,
            self._track(n_jobs),
            numbers=self._numbers,
            check=self._checker(),
            total=self.n_tasks,
            dice=dice_of(policy),
        )
        self._scheduler = scheduler
        if not bounded:
            return self._collected(scheduler)
        self._background = BackgroundRun(scheduler, self._end, self._release)
        generator = self._background.results()
        next(generator)
        return generator

    def _collected(self, scheduler: Scheduler) -> Iterator[Any]:
        """Run the scheduler in the caller's thread to its end; return an iterator of the results.

        The user's iterable is read here, and errors have the caller's frames above them.
        """
        results: list[Any] = []
        try:
            for chunk in scheduler:
                results += chunk
        finally:
            self._finish()
        return iter(results)

    def _open(self, n_jobs: int) -> Executor:
        if self._executor is None:
            plan = plan_of(self._choice, n_jobs, follow=self.n_jobs < 0, batch_size=self.batch_size)
            self._executor = self._choice.backend.open(plan)
        return self._executor

    def _end(self) -> None:
        """End a call: its time is noted, and its workers go back unless a block keeps them."""
        self._tracker.finish()
        self._scheduler = None
        try:
            if not self._managed:
                self._close()
        finally:
            self._write_report()

    def _write_report(self) -> None:
        report = self._choice.values["report"]
        if report is None:
            return
        try:
            from pathlib import Path

            Path(report).write_text(self.stats.to_html(), encoding="utf-8")
        except OSError as error:
            # The results are there: no page is worth losing them.
            warnings.warn(
                f"the report could not be written to {report!r}: {error}. Parallel.stats.to_html() "
                "returns it.",
                stacklevel=2,
            )

    def _finish(self) -> None:
        """End a call whose results the caller has: another may begin."""
        try:
            self._end()
        finally:
            self._release()

    def _release(self) -> None:
        if self._running.locked():
            self._running.release()
