"""What libraries and their tests take from joblib.parallel."""

import multiprocessing as mp  # noqa: F401 - "joblib.parallel.mp" says whether there are processes

from jobspan import (  # noqa: F401
    Parallel,
    cpu_count,
    delayed,
    effective_n_jobs,
    parallel_backend,
    parallel_config,
    register_parallel_backend,
)
from jobspan.backends.choosing import BACKENDS  # noqa: F401

from ._parallel_backends import (
    LokyBackend,
    ParallelBackendBase,  # noqa: F401
    SequentialBackend,  # noqa: F401
    ThreadingBackend,  # noqa: F401
)


def get_active_backend(prefer=None, require=None, verbose=0):
    """Return the backend that holds here, and the number of jobs that is set for it."""
    here = parallel_config(prefer=prefer, require=require)
    here.unregister()
    backend = here.settings.backend
    return LokyBackend() if backend is None else backend, here.settings.values.get("n_jobs")
