"""Backends written for joblib: the base class they derive from, and the adapter that drives them.

joblib's backends call back: they are given a function and a callback for every batch. The adapter
turns the callbacks into a queue from which the scheduler pulls.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any, ClassVar

from jobspan.ambient import Settings
from jobspan.calls import Batch
from jobspan.cores import cpu_count
from jobspan.errors import BackendError, TaskTimeoutError
from jobspan.outcomes import Failure, FailureKind, Outcome
from jobspan.plans import Capabilities, Plan
from jobspan.worker.context import THREAD_VARIABLES, run_in
from jobspan.worker.run import Ran, failure_of, run_calls

__all__ = ["JoblibStyleBackend", "JoblibStyleExecutor", "ParallelBackendBase"]


class ParallelBackendBase(metaclass=ABCMeta):
    """What a backend written for joblib derives from, with joblib's names and hooks.

    A new backend is better written as :class:`jobspan.executors.Backend`; this class lets those
    that exist run unchanged.

    Parameters
    ----------
    nesting_level : int or None
        How many parallel calls enclose those that run here.
    inner_max_num_threads : int or None
        Threads that BLAS and OpenMP may use in a worker.
    **backend_kwargs
        Kept as ``self.backend_kwargs``.
    """

    default_n_jobs: ClassVar[int] = 1
    supports_inner_max_num_threads: ClassVar[bool] = False
    supports_retrieve_callback: ClassVar[bool] = False
    supports_sharedmem: ClassVar[bool] = False
    uses_threads: ClassVar[bool] = False
    nesting_level: int | None = None

    MAX_NUM_THREADS_VARS: ClassVar[list[str]] = list(THREAD_VARIABLES)
    TBB_ENABLE_IPC_VAR: ClassVar[str] = "ENABLE_IPC"

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **backend_kwargs: Any,
    ) -> None:
        self.nesting_level = nesting_level
        self.inner_max_num_threads = inner_max_num_threads
        self.backend_kwargs = backend_kwargs
        self.parallel: Any = None

    @property
    def supports_return_generator(self) -> bool:
        """Whether generator modes work."""
        return self.supports_retrieve_callback

    @property
    def supports_timeout(self) -> bool:
        """Whether a result can be waited for with a limit."""
        return self.supports_retrieve_callback

    @abstractmethod
    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return how many calls would run at once for what the user asked."""

    def apply_async(self, func: Callable[[], Any], callback: Any = None) -> Any:
        """Do what `submit` does, under the name that older backends implement."""
        raise NotImplementedError("Implement `submit` instead.")

    def submit(self, func: Callable[[], Any], callback: Any = None) -> Any:
        """Start `func` somewhere; call `callback` with what is returned, once it has ended."""
        warnings.warn(
            "`apply_async` is deprecated, implement and use `submit` instead.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.apply_async(func, callback)

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return the result, given what the callback was called with."""

    def retrieve_result(self, out: Any, timeout: float | None = None) -> Any:
        """Return the result, given what `submit` returned."""
        if self.supports_timeout:
            return out.get(timeout=timeout)
        return out.get()

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        **backend_kwargs: Any,
    ) -> int:
        """Get ready for a ``Parallel`` object; return how many calls run at once."""
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def start_call(self) -> None:
        """Note that a ``Parallel`` call begins."""

    def stop_call(self) -> None:
        """Note that a ``Parallel`` call has ended."""

    def terminate(self) -> None:
        """Let the workers go."""

    def compute_batch_size(self) -> int:
        """Return how many calls should travel together."""
        return 1

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Note how long a batch took, in seconds."""

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop what runs; with `ensure_ready` new batches may follow."""

    def get_nested_backend(self) -> Any:
        """Return the backend and the number of jobs for parallel calls nested in those here."""
        level = (self.nesting_level or 0) + 1
        return ("threads" if level <= 1 else "sequential"), None

    def _prepare_worker_env(self, n_jobs: int) -> dict[str, str]:
        """Return the environment variables that limit threads in a worker."""
        limit = self.inner_max_num_threads
        default = max(cpu_count() // n_jobs, 1)
        environment = {
            name: str(os.environ.get(name, default) if limit is None else limit)
            for name in self.MAX_NUM_THREADS_VARS
        }
        if self.TBB_ENABLE_IPC_VAR not in os.environ:
            environment[self.TBB_ENABLE_IPC_VAR] = "1"
        return environment

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Hold around the time in which results are waited for."""
        yield

    @staticmethod
    def in_main_thread() -> bool:
        """Whether this is the process's main thread."""
        return threading.current_thread() is threading.main_thread()


class _BatchFunction:
    """What a backend written for joblib runs: one batch, its failures caught one by one."""

    def __init__(self, batch: Batch) -> None:
        self._calls = batch.calls
        self._context = batch.context
        self.items = list(batch.calls)

    def __call__(self) -> Ran:
        return run_in(self._context, run_calls, self._calls)

    def __len__(self) -> int:
        return len(self._calls)


class JoblibStyleBackend:
    """Drives a backend that was written for joblib.

    Parameters
    ----------
    wrapped : object
        An object with the methods of `ParallelBackendBase`.
    is_pattern : bool
        Whether every executor drives a copy: such an object serves one caller at a time, and calls
        that run at once may each open one.
    """

    def __init__(self, wrapped: Any, *, is_pattern: bool = False) -> None:
        self.wrapped = wrapped
        self._is_pattern = is_pattern
        self.name = type(wrapped).__name__
        self.capabilities = Capabilities(
            shared_memory=bool(getattr(wrapped, "supports_sharedmem", False)),
            remote=getattr(wrapped, "default_n_jobs", 1) == -1,
        )

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return what the backend says."""
        return int(self.wrapped.effective_n_jobs(n_jobs))

    def nested(self, settings: Settings) -> Settings:
        """Return settings with the backend that this one names for inner calls."""
        level = settings.level + 1
        if getattr(self.wrapped, "nesting_level", None) is None:
            with suppress(AttributeError):
                self.wrapped.nesting_level = settings.level
        nested = self.wrapped.get_nested_backend()
        backend, n_jobs = nested if isinstance(nested, tuple) else (nested, None)
        values = {} if n_jobs is None else {"n_jobs": n_jobs}
        if hasattr(backend, "effective_n_jobs") and not hasattr(backend, "capabilities"):
            backend = JoblibStyleBackend(backend, is_pattern=True)
        return Settings(backend=backend, level=level, values=values)

    def open(self, plan: Plan) -> JoblibStyleExecutor:
        """Configure the backend and return an executor for it."""
        return JoblibStyleExecutor(copy(self.wrapped) if self._is_pattern else self.wrapped, plan)

    def close(self) -> None:
        """Do nothing: every executor lets its workers go."""


class JoblibStyleExecutor:
    """Pulls from a backend that calls back.

    Parameters
    ----------
    wrapped : object
        An object with the methods of `ParallelBackendBase`.
    plan : Plan
        The settings.
    """

    def __init__(self, wrapped: Any, plan: Plan) -> None:
        self._wrapped = wrapped
        self._events: SimpleQueue[tuple[int, int, Any] | None] = SimpleQueue()
        self._in_flight: dict[int, tuple[Batch, Any]] = {}
        self._task_timeout = plan.task_timeout
        self._since: dict[int, float] = {}
        self._epoch = 0
        self._closed = False
        # What such backends read of the ``Parallel`` object that they expect.
        parallel = SimpleNamespace(
            n_jobs=plan.n_jobs, verbose=0, timeout=None, _id=os.urandom(16).hex(), _print=print
        )
        n_jobs = wrapped.configure(
            n_jobs=plan.n_jobs,
            parallel=parallel,
            max_nbytes=plan.max_nbytes,
            mmap_mode=plan.mmap_mode,
            temp_folder=plan.temp_folder,
            prefer=None,
            require=None,
            verbose=0,
        )
        if not n_jobs:
            raise BackendError(f"{type(wrapped).__name__} has no active worker.")
        self.workers = int(n_jobs)
        # With a limit for each call none is queued behind another: its time runs from here on.
        self.slots = self.workers if self._task_timeout is not None else 2 * self.workers
        start_call = getattr(wrapped, "start_call", None)
        if start_call is not None:
            start_call()

    def batch_size(self) -> int | None:
        """Return the batch size that the backend wants, or None where it leaves it to us."""
        kind = type(self._wrapped)
        compute = getattr(kind, "compute_batch_size", None)
        if compute is None or compute is ParallelBackendBase.compute_batch_size:
            return None
        return max(1, int(self._wrapped.compute_batch_size()))

    def submit(self, batch: Batch) -> None:
        """Hand a batch to the backend."""
        epoch = self._epoch

        def completed(out: Any = None) -> None:
            self._events.put((epoch, batch.number, out))

        function = _BatchFunction(batch)
        self._in_flight[batch.number] = (batch, None)
        if self._task_timeout is not None:
            self._since[batch.number] = time.monotonic()
        submit = getattr(self._wrapped, "submit", None) or self._wrapped.apply_async
        if type(self._wrapped).__dict__.get("submit") is None and (
            type(self._wrapped).__dict__.get("apply_async") is not None
        ):
            submit = self._wrapped.apply_async
        try:
            job = submit(function, callback=completed)
        except Exception as error:  # noqa: BLE001 - a call that cannot be sent is its outcome
            self._in_flight[batch.number] = (batch, _Refused(error))
            completed()
            return
        if batch.number in self._in_flight:
            self._in_flight[batch.number] = (batch, job)

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        """Return the outcomes there are, waiting for one if there is none."""
        outcomes: list[Outcome] = []
        if not self._in_flight:
            return outcomes
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._wrapped.retrieval_context():
            while not outcomes:
                try:
                    event = self._events.get(timeout=self._wait_seconds(deadline))
                except Empty:
                    self._expire(outcomes)
                    if deadline is not None and time.monotonic() >= deadline:
                        break
                    continue
                if event is None:
                    break
                self._take(event, outcomes)
            with suppress(Empty):
                while True:
                    event = self._events.get_nowait()
                    if event is not None:
                        self._take(event, outcomes)
        return outcomes

    def _wait_seconds(self, deadline: float | None) -> float | None:
        """Return how long to wait at most: to the deadline, or until a call's time is over."""
        limits = [] if deadline is None else [deadline]
        if self._task_timeout is not None and self._since:
            limits.append(min(self._since.values()) + self._task_timeout)
        return max(0.0, min(limits) - time.monotonic()) if limits else None

    def _expire(self, outcomes: list[Outcome]) -> None:
        """Give up on calls that have taken too long: such a backend cannot stop one."""
        limit = self._task_timeout
        if limit is None:
            return
        now = time.monotonic()
        for number in [number for number, since in self._since.items() if now - since >= limit]:
            del self._since[number]
            batch, _ = self._in_flight.pop(number)
            error = TaskTimeoutError(
                f"no result {limit:.3g} s after the call was handed to "
                f"{type(self._wrapped).__name__}, but task_timeout={limit!r}; such a backend "
                "cannot stop a call, so it may go on and its result is dropped. Use "
                "backend='processes' to stop such calls."
            )
            failure = Failure(error, kind=FailureKind.TIMEOUT)
            outcomes.append(Outcome.of_failure(number, len(batch.calls), failure))

    def _take(self, event: tuple[int, int, Any], outcomes: list[Outcome]) -> None:
        epoch, number, out = event
        if epoch != self._epoch or number not in self._in_flight:
            return
        self._since.pop(number, None)
        batch, job = self._in_flight.pop(number)
        try:
            ran = self._result(job, out)
        except BaseException as error:  # noqa: BLE001 - it becomes the outcome of the batch
            failure = failure_of(error)
            outcomes.append(Outcome.of_failure(number, len(batch.calls), failure))
            return
        note = getattr(self._wrapped, "batch_completed", None)
        if note is not None:
            note(len(batch.calls), ran.seconds)
        worker = type(self._wrapped).__name__
        outcomes.append(Outcome(number, ran.values, ran.failures, worker, ran.started, ran.seconds))

    def _result(self, job: Any, out: Any) -> Ran:
        if isinstance(job, _Refused):
            raise job.error
        if getattr(self._wrapped, "supports_retrieve_callback", False):
            result = self._wrapped.retrieve_result_callback(out)
        else:
            result = self._wrapped.retrieve_result(job if job is not None else out)
        if not isinstance(result, Ran):
            values = list(result)
            failures: dict[int, Failure] = {}
            return Ran(values, failures, time.time(), 0.0)
        return result

    def wake(self) -> None:
        """Make a waiting `completed` return; from any thread."""
        self._events.put(None)

    def cancel(self) -> None:
        """Tell the backend to stop what runs; what still comes back is dropped."""
        self._epoch += 1
        self._since.clear()
        if self._in_flight:
            self._in_flight.clear()
            abort = getattr(self._wrapped, "abort_everything", None)
            if abort is not None:
                abort(ensure_ready=True)

    def close(self) -> None:
        """Let the backend's workers go."""
        if self._closed:
            return
        self._closed = True
        self.cancel()
        stop_call = getattr(self._wrapped, "stop_call", None)
        if stop_call is not None:
            stop_call()
        self._wrapped.terminate()


class _Refused:
    """Stands for the job of a batch that the backend would not take."""

    def __init__(self, error: Exception) -> None:
        self.error = error
