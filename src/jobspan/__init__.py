"""joblib's programming model, from one laptop to a cluster, with a cache a whole team shares."""

from jobspan._version import __version__
from jobspan.parallel import (
    Parallel,
    cpu_count,
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
