"""joblib's programming model, from one laptop to a cluster, with a cache a whole team shares.

Every public name is loaded when it is first asked for: ``import jobspan`` alone costs next to
nothing, and loads no engine, no numpy and no fsspec.
"""

from typing import TYPE_CHECKING

from jobspan._version import __version__

if TYPE_CHECKING:
    from jobspan.backends.joblib_style.base import ParallelBackendBase
    from jobspan.calls import delayed
    from jobspan.codecs.values import register_codec
    from jobspan.compatibility import wrap_non_picklable_objects
    from jobspan.cores import cpu_count
    from jobspan.keys import hash, register_key_encoder
    from jobspan.logger import Logger, PrintTime
    from jobspan.memory import CacheWarning, MemorizedFunc, MemorizedResult, Memory, expires_after
    from jobspan.memory.joblib_store import StoreBackendBase, register_store_backend
    from jobspan.parallel import (
        Parallel,
        effective_n_jobs,
        parallel_backend,
        parallel_config,
        register_parallel_backend,
    )
    from jobspan.persistence import dump, load, register_compressor
    from jobspan.scheduling.failures import TaskFailure
    from jobspan.scheduling.retrying import RetryPolicy

__all__ = [
    "CacheWarning",
    "Logger",
    "MemorizedFunc",
    "MemorizedResult",
    "Memory",
    "Parallel",
    "ParallelBackendBase",
    "PrintTime",
    "RetryPolicy",
    "StoreBackendBase",
    "TaskFailure",
    "__version__",
    "cpu_count",
    "delayed",
    "dump",
    "effective_n_jobs",
    "expires_after",
    "hash",
    "load",
    "parallel_backend",
    "parallel_config",
    "register_codec",
    "register_compressor",
    "register_key_encoder",
    "register_parallel_backend",
    "register_store_backend",
    "wrap_non_picklable_objects",
]

_HOMES = {
    "CacheWarning": "jobspan.memory",
    "Logger": "jobspan.logger",
    "MemorizedFunc": "jobspan.memory",
    "MemorizedResult": "jobspan.memory",
    "Memory": "jobspan.memory",
    "Parallel": "jobspan.parallel",
    "ParallelBackendBase": "jobspan.backends.joblib_style.base",
    "PrintTime": "jobspan.logger",
    "RetryPolicy": "jobspan.scheduling.retrying",
    "StoreBackendBase": "jobspan.memory.joblib_store",
    "register_store_backend": "jobspan.memory.joblib_store",
    "TaskFailure": "jobspan.scheduling.failures",
    "cpu_count": "jobspan.cores",
    "delayed": "jobspan.calls",
    "dump": "jobspan.persistence",
    "effective_n_jobs": "jobspan.parallel",
    "expires_after": "jobspan.memory",
    "hash": "jobspan.keys",
    "load": "jobspan.persistence",
    "parallel_backend": "jobspan.parallel",
    "parallel_config": "jobspan.parallel",
    "register_codec": "jobspan.codecs.values",
    "register_compressor": "jobspan.persistence",
    "register_key_encoder": "jobspan.keys",
    "register_parallel_backend": "jobspan.parallel",
    "wrap_non_picklable_objects": "jobspan.compatibility",
}


JOBLIB_MODULES = ("hashing", "logger", "memory", "numpy_pickle", "parallel")
"""Modules that joblib's users reach as attributes, as in ``joblib.parallel.Parallel``."""


def __getattr__(name: str) -> object:
    if name not in _HOMES and name not in JOBLIB_MODULES:
        raise AttributeError(f"module 'jobspan' has no attribute {name!r}")
    import importlib

    if name in JOBLIB_MODULES:
        return importlib.import_module(f"jobspan.{name}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
