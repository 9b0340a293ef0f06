"""How many threads BLAS and OpenMP start: the libraries' settings, of a process and of a thread."""

from __future__ import annotations

import sys
from collections.abc import Callable
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
    threadpoolctl = sys.modules.get("threadpoolctl")
    if threadpoolctl is None:
        return None  # it comes with what uses OpenMP, scikit-learn first
    before = []
    for library in _openmp(threadpoolctl):
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


_found: tuple[int, list[Any]] = (0, [])


def _openmp(threadpoolctl: Any) -> list[Any]:
    """Return the OpenMP libraries that are loaded; another look takes milliseconds."""
    global _found
    modules = len(sys.modules)
    known, libraries = _found
    if known != modules:
        libraries = [
            library
            for library in threadpoolctl.ThreadpoolController().lib_controllers
            if library.user_api == "openmp"
        ]
        _found = (modules, libraries)
    return libraries
