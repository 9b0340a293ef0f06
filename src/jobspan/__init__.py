"""joblib's programming model, from one laptop to a cluster, with a cache a whole team shares.

Every public name is loaded when it is first asked for: ``import jobspan`` alone costs next to
nothing, and loads no engine, no numpy and no fsspec.
"""

from typing import TYPE_CHECKING

from jobspan._version import __version__

if TYPE_CHECKING:
    from jobspan.cores import cpu_count
    from jobspan.parallel import (
        Parallel,
        delayed,
        effective_n_jobs,
        parallel_backend,
        parallel_config,
        register_parallel_backend,
    )
    from jobspan.scheduling.failures import TaskFailure
    from jobspan.scheduling.retrying import RetryPolicy

__all__ = [
    "Parallel",
    "RetryPolicy",
    "TaskFailure",
    "__version__",
    "cpu_count",
    "delayed",
    "effective_n_jobs",
    "parallel_backend",
    "parallel_config",
    "register_parallel_backend",
]

_HOMES = {
    "Parallel": "jobspan.parallel",
    "RetryPolicy": "jobspan.scheduling.retrying",
    "TaskFailure": "jobspan.scheduling.failures",
    "cpu_count": "jobspan.cores",
    "delayed": "jobspan.calls",
    "effective_n_jobs": "jobspan.parallel",
    "parallel_backend": "jobspan.parallel",
    "parallel_config": "jobspan.parallel",
    "register_parallel_backend": "jobspan.parallel",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'jobspan' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
