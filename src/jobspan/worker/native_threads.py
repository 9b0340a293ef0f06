"""How many threads BLAS and OpenMP start: the libraries' settings, of a process and of a thread."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["THREAD_VARIABLES", "limit_process", "limit_thread"]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What BLAS and OpenMP libraries read when they are loaded."""


def limit_process(limit: int) -> None:
    """Limit the threads of BLAS and OpenMP libraries that are loaded already.

    Those loaded later read the environment, which whoever starts the process sets.
    """
    if "threadpoolctl" not in sys.modules and "numpy" not in sys.modules:
        return
    try:
        import threadpoolctl
    except ImportError:
        return
    threadpoolctl.threadpool_limits(limit)


def limit_thread(limit: int) -> Callable[[], None] | None:
    """Limit what OpenMP starts from this thread; return what undoes it, None where nothing was.

    OpenMP keeps the number for each thread that calls it, so that threads which share a process can
    each have their part of the cores. BLAS libraries have one pool a process and take turns in it.
    """
    if "threadpoolctl" not in sys.modules:
        return None  # it comes with what uses OpenMP, scikit-learn first
    before = []
    for library in _openmp(len(sys.modules)):
        had = library.get_num_threads()
        if had is not None and had > limit:
            library.set_num_threads(limit)
            before.append((library, had))
    if not before:
        return None

    def undo() -> None:
        for library, had in before:
            library.set_num_threads(had)

    return undo


@lru_cache(maxsize=1)
def _openmp(_modules: int) -> list[Any]:
    """Return the OpenMP libraries that are loaded, looked up anew where modules have come."""
    return [
        library
        for library in sys.modules["threadpoolctl"].ThreadpoolController().lib_controllers
        if library.user_api == "openmp"
    ]
