"""The Dask backend: calls run on the workers of a Dask cluster.

::

    executor ── tasks ──── scheduler ──── run_batch on a worker
        │                                    ▲
        └── scattered buffers ───────────────┘   once a cluster, dependencies of the tasks
"""

from jobspan.backends.dask.backend import DaskBackend
from jobspan.backends.dask.kept import KeptResult

__all__ = ["DaskBackend", "KeptResult"]
