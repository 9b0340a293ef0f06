"""The front end: ``Parallel`` and the settings that hold for it."""

from jobspan.backends.choosing import BACKENDS, register_parallel_backend
from jobspan.calls import delayed
from jobspan.cores import cpu_count
from jobspan.parallel.batch_callback import BatchCompletionCallBack
from jobspan.parallel.choice import effective_n_jobs, get_active_backend
from jobspan.parallel.config import parallel_backend, parallel_config
from jobspan.parallel.front import Parallel

__all__ = [
    "BACKENDS",
    "BatchCompletionCallBack",
    "Parallel",
    "cpu_count",
    "delayed",
    "effective_n_jobs",
    "get_active_backend",
    "parallel_backend",
    "parallel_config",
    "register_parallel_backend",
]

_HOMES = {
    "LokyBackend": "jobspan.backends.processes:ProcessBackend",
    "MultiprocessingBackend": "jobspan.backends.processes:ProcessBackend",
    "ParallelBackendBase": "jobspan.backends.joblib_style.base:ParallelBackendBase",
    "SequentialBackend": "jobspan.backends.sequential:SequentialBackend",
    "ThreadingBackend": "jobspan.backends.threads:ThreadBackend",
}
"""Where the backends are that scripts take from ``joblib.parallel``."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'jobspan.parallel' has no attribute {name!r}")
    import importlib

    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
