"""The base class of backends written for joblib, with joblib's names."""

from __future__ import annotations

import os
import threading
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from jobspan.cores import cpu_count
from jobspan.worker.native_threads import THREAD_VARIABLES

__all__ = ["ParallelBackendBase"]


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
