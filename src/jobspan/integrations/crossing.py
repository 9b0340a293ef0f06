"""joblib's settings kept in step with ours, in every thread in which ours hold."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from jobspan.ambient import Settings, current
from jobspan.parallel.front import Parallel

__all__ = ["bridge"]

SHARED = (
    "n_jobs",
    "verbose",
    "temp_folder",
    "max_nbytes",
    "mmap_mode",
    "prefer",
    "require",
)
"""The settings of ours that joblib has too."""

DEFAULT = "jobspan-where-it-holds"
"""The name of joblib's default backend while it must look for our settings itself."""


class JoblibBridge:
    """Lets our settings hold for joblib."""

    def cross(self, settings: Settings) -> Callable[[], None]:
        """Let `settings` hold for joblib in this thread."""
        return _Crossed(settings).undo if _is_joblib() else _nothing

    def serve_other_threads(self) -> Callable[[], None]:
        """Be joblib's default: in each thread what our settings say there, else what it was."""
        if not _is_joblib():
            return _nothing
        from joblib import parallel, register_parallel_backend

        from jobspan.integrations.joblib import JobspanBackend

        before = parallel.DEFAULT_BACKEND

        def make(**arguments: Any) -> Any:
            settings = current()
            if settings.backend is None or not settings.bridge:
                return parallel.BACKENDS[before](**arguments)
            return JobspanBackend.under(settings)

        def undo() -> None:
            if parallel.DEFAULT_BACKEND == DEFAULT:
                register_parallel_backend(before, parallel.BACKENDS[before], make_default=True)
            del parallel.BACKENDS[DEFAULT]

        register_parallel_backend(DEFAULT, make, make_default=True)
        return undo


class _Crossed:
    """Settings that hold for joblib in one thread."""

    def __init__(self, settings: Settings) -> None:
        from joblib import parallel_config

        from jobspan.integrations.joblib import JobspanBackend

        self._stack = _here.crossed
        self._backend = JobspanBackend.under(settings)
        values = {name: settings.values[name] for name in SHARED if name in settings.values}
        self._config = parallel_config(self._backend, **values)
        self._stack.append(self)

    def undo(self) -> None:
        """Let what held before hold again; what was begun later and still lasts stays."""
        self._backend.ended = True
        place = self._stack.index(self)
        later = self._stack[place + 1 :]
        if self._stack is _here.crossed:
            if later:
                later[0]._config.old_parallel_config = self._config.old_parallel_config
            else:
                self._config.unregister()
        # In another thread its joblib finds that the backend has ended.
        del self._stack[place]


class _Here(threading.local):
    """What holds for joblib in this thread, the innermost last."""

    def __init__(self) -> None:
        self.crossed: list[_Crossed] = []


_here = _Here()


def _is_joblib() -> bool:
    """Whether the module of that name is joblib, and not jobspan standing in for it."""
    return getattr(sys.modules.get("joblib"), "Parallel", Parallel) is not Parallel


def _nothing() -> None:
    pass


bridge = JoblibBridge()
