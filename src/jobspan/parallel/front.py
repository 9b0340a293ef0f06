"""``Parallel``: what users call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from os import PathLike
from types import TracebackType
from typing import Any, Self

from jobspan.ambient import Default
from jobspan.calls import check_iterable
from jobspan.executors import Backend
from jobspan.logger import Logger
from jobspan.parallel.arguments import (
    ReturnAs,
    check_memory,
    read_batch_size,
    read_pre_dispatch,
    read_return_as,
    read_seconds,
)
from jobspan.parallel.batch_callback import batch_callback
from jobspan.parallel.choice import Choice, choose
from jobspan.parallel.config import DEFAULTS
from jobspan.parallel.decisions import (
    context_of,
    initializer_of,
    jobs_of,
    may_be_elsewhere,
    plan_of,
    policy_of,
    warn_of_timeout,
)
from jobspan.parallel.intake import CallChecker, MappedCalls
from jobspan.parallel.progress import make_listener
from jobspan.parallel.run import Run
from jobspan.parallel.stats import ParallelStats
from jobspan.parallel.tracking import Tracker
from jobspan.parallel.verbosity import ProgressLines
from jobspan.parallel.workers import HeldWorkers
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
        ``"dask://host:8786"`` or ``"ray://host:10001"``, a registered name, or an instance. Where
        it is not given, `parallel_config` or ``JOBSPAN_BACKEND`` says, else ``"processes"``.
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
        self.memory = memory
        check_memory(memory)
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
        self._choice: Choice = choose(backend, arguments, backend_kwargs, Parallel)
        values = self._choice.values
        self.n_jobs: int = self._choice.n_jobs
        self.verbose: int = int(values["verbose"])
        self.n_tasks: int | None = None
        self._initializer = initializer_of(values)
        self._workers = HeldWorkers(self._choice)
        self._tracker = Tracker(ParallelStats())
        self._lines: ProgressLines | None = None
        self._busy = threading.Lock()
        self._run: Run | None = None
        # What is wrong with the number of jobs is said before anything starts.
        if not self._remote:
            self._backend.effective_n_jobs(self.n_jobs)

    @property
    def stats(self) -> ParallelStats:
        """Figures of the last call."""
        return self._tracker.stats

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
        if self._lines is not None:
            self._lines.write_due(self._tracker)

    # --- with blocks -----------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._workers.kept = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._workers.kept = False
        if self._run is not None:
            self._run.stop()  # what goes on uses the workers
        self._workers.close()

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

        def interrupt() -> None:
            if self._run is not None:
                self._run.interrupt()

        return (iterate if self.return_generator else collect)(start, interrupt)

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

    def _begin(self, iterable: Iterable[Any], *, as_generator: bool) -> Any:
        check_iterable(iterable)
        if not self._busy.acquire(blocking=False):
            message = "This Parallel instance is already running !"
            if self.return_generator:
                message += (
                    " Before submitting new tasks, you must wait for the completion of all the "
                    "previous tasks, or clean all references to the output generator."
                )
            raise RuntimeError(message)
        try:
            run = self._run = self._decided(iterable, bounded=as_generator)
        except BaseException:
            self._busy.release()
            raise
        try:
            results = self._start(run, iterable)
        except BaseException:
            run.end()
            raise
        return results if as_generator else list(results)

    def _decided(self, iterable: Iterable[Any], *, bounded: bool) -> Run:
        """Decide how the calls are run and watched."""
        try:
            self.n_tasks = len(iterable)  # type: ignore[arg-type]  # where it has a length
        except TypeError:
            self.n_tasks = None
        values, backend = self._choice.values, self._backend
        n_jobs = jobs_of(backend, self.n_jobs)
        self._lines = None
        if self.verbose:
            ahead = 1 if n_jobs == 1 else read_pre_dispatch(self.pre_dispatch, n_jobs) or 0
            self._lines = ProgressLines(repr(self), self.verbose, self.n_tasks, ahead)
        overridden = type(self).print_progress is not Parallel.print_progress
        self._tracker = Tracker(
            ParallelStats(backend=backend.name, n_jobs=n_jobs),
            self.print_progress if self.verbose or overridden else None,
            on_batch=batch_callback(self),
            listener=make_listener(values["progress"], repr(self)),
            total=self.n_tasks,
        )
        policy = policy_of(
            self._choice,
            n_jobs,
            ordered=self.return_ordered,
            bounded=bounded,
            batch_size=self.batch_size,
            pre_dispatch=self.pre_dispatch,
            timeout=self.timeout,
        )
        return Run(
            policy,
            self._tracker,
            report=values["report"],
            finished=self._workers.give_back,
            ended=self._busy.release,
        )

    def _start(self, run: Run, iterable: Iterable[Any]) -> Iterator[Any]:
        """Run the calls in this thread where that is as good, else on workers."""
        n_jobs = self.stats.n_jobs
        check = CallChecker(None if self.memory is None else self.memory.cache)
        if n_jobs == 1 and not self._remote and self._choice.values["task_timeout"] is None:
            if self.timeout is not None:
                warn_of_timeout(self.timeout)
            return run.in_caller(check.each(iterable), self._initializer)
        follow = self.n_jobs < 0
        plan = plan_of(self._choice, n_jobs, follow=follow, batch_size=self.batch_size)
        context = context_of(self._choice, n_jobs, self._initializer)
        executor = self._workers.open(plan)
        if may_be_elsewhere(self._backend):
            check.cluster = self._backend.name
        if self._lines is not None:
            name = type(self._backend).__name__
            self._lines.write(f"Using backend {name} with {n_jobs} concurrent workers.")
        return run.on_executor(iterable, check, context, executor, self._workers.numbers)
