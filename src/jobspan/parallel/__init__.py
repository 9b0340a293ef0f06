"""The front end: ``Parallel`` and the settings that hold for it."""

from jobspan.backends.choosing import register_parallel_backend
from jobspan.calls import delayed
from jobspan.cores import cpu_count
from jobspan.parallel.choice import effective_n_jobs
from jobspan.parallel.config import parallel_backend, parallel_config
from jobspan.parallel.front import Parallel

__all__ = [
    "Parallel",
    "cpu_count",
    "delayed",
    "effective_n_jobs",
    "parallel_backend",
    "parallel_config",
    "register_parallel_backend",
]
