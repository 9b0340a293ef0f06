"""joblib served: code that calls joblib itself, scikit-learn first, runs on jobspan's backends.

Inside ``with jobspan.parallel_config("dask://scheduler:8786")`` joblib's calls run there as well,
without an import of this module. Importing it makes ``joblib.parallel_config("jobspan")`` known.

joblib hands a backend one batch after the other. Its ``Parallel`` object is given a backend of its
own, which keeps an executor busy: in the thread that waits for a list, in a thread of its own for a
generator.
"""

from __future__ import annotations

import multiprocessing
import weakref
from dataclasses import replace
from functools import cache
from typing import Any

import joblib.parallel
from joblib.parallel import FallbackToBackend, ParallelBackendBase, SequentialBackend

from jobspan.ambient import Settings, activated, current
from jobspan.backends.choosing import default_backend_name, make_backend, shared_backend
from jobspan.calls import CallContext
from jobspan.executors import Backend
from jobspan.integrations.driving import Drive, Job, ThreadedDrive, TimeIsOver
from jobspan.integrations.repeating import Repetitions
from jobspan.parallel.choice import Choice, default_n_jobs, resolve
from jobspan.parallel.decisions import context_of, initializer_of, plan_of, target_seconds

__all__ = ["JobspanBackend"]

NAME = "jobspan"
"""What joblib's users type."""

CLUSTER_TARGET_SECONDS = 0.1
"""How long an automatic batch should run on a cluster. joblib hands one over when one has come
back: each is a message of its own to the cluster's scheduler."""

DATA_SETTINGS = ("max_nbytes", "mmap_mode", "temp_folder")
"""What joblib hands to a backend that concerns how data travels."""


class JobspanBackend(ParallelBackendBase):  # type: ignore[misc]  # joblib ships no types
    """A backend of joblib that runs calls on one of jobspan's.

    Parameters
    ----------
    nesting_level : int, optional
        How many parallel calls enclose those that run here.
    inner_max_num_threads : int, optional
        Threads that BLAS and OpenMP may use in a worker.
    on : str or Backend, optional
        The backend: a name, an address, an instance. Where it is not given, the one that jobspan's
        own settings name, else jobspan's default.
    **options
        Options of the backend, such as ``client=`` for Dask.

    Examples
    --------
    >>> import joblib
    >>> import jobspan.integrations.joblib
    >>> with joblib.parallel_config("jobspan", on="threads", n_jobs=2):
    ...     joblib.Parallel()(joblib.delayed(abs)(x) for x in [-1, -2])
    [1, 2]
    """

    supports_inner_max_num_threads = True
    supports_retrieve_callback = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        on: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level, inner_max_num_threads)
        settings = current()
        backend = settings.backend if on is None else on
        if backend is None:
            backend = default_backend_name()
        if options:
            backend = make_backend(backend, options)
            weakref.finalize(self, backend.close)
        elif not isinstance(backend, str):
            backend = make_backend(backend)
        self._serve(replace(settings, backend=backend))

    @classmethod
    def under(cls, settings: Settings) -> JobspanBackend:
        """Return the backend for settings that hold in jobspan and name one."""
        made = cls.__new__(cls)
        ParallelBackendBase.__init__(made, settings.level)
        made._serve(settings)
        return made

    def _serve(self, settings: Settings) -> None:
        backend = settings.backend
        self.settings = settings
        self.backend: Backend = shared_backend(backend) if isinstance(backend, str) else backend
        self.ended = False
        given = settings.values.get("n_jobs")
        if given is None:
            # Where a call runs already, the workers are taken: its calls are parallel if asked to.
            given = default_n_jobs(self.backend) if settings.level == 0 else 1
        self.default_n_jobs = given

    @property
    def supports_sharedmem(self) -> bool:
        """Whether calls share the caller's memory; nested ones can always run in it, in turn."""
        return self.backend.capabilities.shared_memory or self.settings.level > 0

    @property
    def uses_threads(self) -> bool:
        """Whether calls run in threads of this process."""
        return self.backend.capabilities.shared_memory

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many calls would run at once for what the user asked."""
        if self.ended:
            return int(_joblibs_own(self.nesting_level).effective_n_jobs(n_jobs))
        asked = self.default_n_jobs if n_jobs is None else n_jobs
        workers = self.backend.effective_n_jobs(asked)
        if asked < 0 and self.backend.capabilities.remote and self.settings.level == 0:
            # joblib runs in the caller what has one worker, and a cluster may only begin to grow.
            return max(workers, 2)
        cores = self.settings.cores
        if cores is not None and self.backend.capabilities.shared_memory:
            # The outer calls were given the other cores.
            workers = min(workers, cores)
        return workers

    def get_nested_backend(self) -> tuple[ParallelBackendBase, int | None]:
        """Return what joblib hands on; the workers know better, from jobspan's own settings."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def configure(
        self, n_jobs: int | None = 1, parallel: Any = None, require: str | None = None, **given: Any
    ) -> int:
        """Hand the ``Parallel`` object over to a backend of its own."""
        if self.ended:
            raise FallbackToBackend(_joblibs_own(self.nesting_level))
        if self.effective_n_jobs(n_jobs) == 1 or (
            require == "sharedmem" and not self.backend.capabilities.shared_memory
        ):
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        kind = _told_as(self.backend.name)
        raise FallbackToBackend(kind(self, threaded=parallel.return_generator))

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Do nothing: the backend that `configure` hands over to is asked instead."""
        raise RuntimeError("configure() comes first")


class _OneParallel(JobspanBackend):
    """The backend of one ``Parallel`` object of joblib."""

    supports_timeout = True
    supports_return_generator = True

    def __init__(self, origin: JobspanBackend, *, threaded: bool) -> None:
        ParallelBackendBase.__init__(self, origin.nesting_level, origin.inner_max_num_threads)
        self._origin = origin
        self._serve(origin.settings)
        # joblib then asks for results in callbacks; else it waits for one after the other.
        self.supports_retrieve_callback = threaded
        self._drive: Drive | None = None
        self._context: CallContext | None = None
        self._initializer = initializer_of(self.settings.values)

    def configure(
        self, n_jobs: int | None = 1, parallel: Any = None, require: str | None = None, **given: Any
    ) -> int:
        """Open an executor; return how many calls run at once."""
        self.parallel = parallel
        workers = self.effective_n_jobs(n_jobs)
        if self._origin.ended:
            raise FallbackToBackend(_joblibs_own(self.nesting_level))
        arguments: dict[str, Any] = {name: given[name] for name in DATA_SETTINGS if name in given}
        if self.inner_max_num_threads is not None:
            arguments["inner_max_num_threads"] = self.inner_max_num_threads
        self._choice = Choice(
            backend=self.backend,
            owned=False,
            n_jobs=workers,
            values=resolve(arguments, self.settings),
            level=self.settings.level,
        )
        self._workers = workers
        plan = plan_of(
            self._choice,
            workers,
            follow=n_jobs is not None and n_jobs < 0,
            batch_size="auto",
        )
        executor = self.backend.open(plan)
        shared = self.backend.capabilities.shared_memory
        self._repetitions = None if shared else Repetitions(plan.max_nbytes)
        kind = ThreadedDrive if self.supports_retrieve_callback else Drive
        remote = self.backend.capabilities.remote
        target = CLUSTER_TARGET_SECONDS if remote else target_seconds(self.backend)
        self._drive = kind(executor, target)
        return workers

    def start_call(self) -> None:
        """Note what holds here now for the workers."""
        if self._repetitions is not None:
            self._repetitions.begin()
        with activated(self.settings):
            self._context = context_of(self._choice, self._workers, self._initializer)

    def compute_batch_size(self) -> int:
        """Return how many calls should travel together now."""
        return 1 if self._drive is None else self._drive.batch_size()

    def submit(self, func: Any, callback: Any = None) -> Job:
        """Take a batch of joblib's."""
        assert self._drive is not None
        assert self._context is not None
        calls = func.items
        if self._repetitions is not None:
            calls = [self._repetitions.replaced(call) for call in calls]
        job = Job(calls, callback)
        self._drive.submit(job, self._context)
        return job

    def retrieve_result_callback(self, out: Job) -> list[Any]:
        """Return the values of a batch that has ended."""
        return out.result()

    def retrieve_result(self, out: Job | None, timeout: float | None = None) -> list[Any]:
        """Wait for a batch."""
        if out is None:
            return []  # no batch: the user's iterable has failed, which joblib has noted
        assert self._drive is not None
        try:
            return self._drive.wait(out, timeout)
        except TimeIsOver:
            raise multiprocessing.TimeoutError(
                f"a result was waited for longer than timeout={timeout!r} seconds; pass a longer "
                "timeout= to joblib.Parallel"
            ) from None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop what runs."""
        if self._drive is not None:
            self._drive.cancel()

    def terminate(self) -> None:
        """Give the workers back."""
        drive, self._drive = self._drive, None
        if drive is not None:
            drive.close()


@cache
def _told_as(name: str) -> type[_OneParallel]:
    """Return the class whose name joblib prints with ``verbose=``: it says where calls run."""
    return type(f"JobspanBackend({name})", (_OneParallel,), {})


def _joblibs_own(nesting_level: int | None) -> ParallelBackendBase:
    """Return the backend that joblib takes where nobody says."""
    name = joblib.parallel.DEFAULT_BACKEND
    return joblib.parallel.BACKENDS["loky" if name == NAME else name](nesting_level=nesting_level)


joblib.register_parallel_backend(NAME, JobspanBackend)
