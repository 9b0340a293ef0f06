"""The processes backend: workers on this machine, started fresh and kept for the next call.

::

    executor ──┬─ pipes ───── worker      frames both ways; descriptors of shared memory by a socket
               ├─ cell ────── worker      shared words: which call runs, since when, what to skip
               ├─ stderr ◄─── worker      passed on, its last lines kept
               └─ obituary ◄─ template    how the worker ended; the template forks and reaps workers
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobspan.backends.processes.backend import LokyBackend, ProcessBackend

__all__ = ["LokyBackend", "ProcessBackend"]


def __getattr__(name: str) -> object:
    # Workers import modules of this package and have no use for the backend itself.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jobspan.backends.processes import backend

    return getattr(backend, name)
