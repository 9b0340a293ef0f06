"""A backend written for joblib as one of ours."""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from typing import Any

from jobspan.ambient import Settings
from jobspan.backends.joblib_style.executor import JoblibStyleExecutor
from jobspan.plans import Capabilities, Plan

__all__ = ["JoblibStyleBackend"]


class JoblibStyleBackend:
    """Drives a backend that was written for joblib.

    Parameters
    ----------
    wrapped : object
        An object with the methods of `ParallelBackendBase`.
    is_pattern : bool
        Whether every executor drives a copy: such an object serves one caller at a time, and calls
        that run at once may each open one.
    """

    def __init__(self, wrapped: Any, *, is_pattern: bool = False) -> None:
        self.wrapped = wrapped
        self._is_pattern = is_pattern
        self.name = type(wrapped).__name__
        self.capabilities = Capabilities(
            shared_memory=bool(getattr(wrapped, "supports_sharedmem", False)),
            remote=getattr(wrapped, "default_n_jobs", 1) == -1,
        )

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return what the backend says."""
        return int(self.wrapped.effective_n_jobs(n_jobs))

    def nested(self, settings: Settings) -> Settings:
        """Return settings with the backend that this one names for inner calls."""
        level = settings.level + 1
        if getattr(self.wrapped, "nesting_level", None) is None:
            with suppress(AttributeError):
                self.wrapped.nesting_level = settings.level
        nested = self.wrapped.get_nested_backend()
        backend, n_jobs = nested if isinstance(nested, tuple) else (nested, None)
        values = {} if n_jobs is None else {"n_jobs": n_jobs}
        if hasattr(backend, "effective_n_jobs") and not hasattr(backend, "capabilities"):
            backend = JoblibStyleBackend(backend, is_pattern=True)
        return Settings(backend=backend, level=level, values=values)

    def open(self, plan: Plan) -> JoblibStyleExecutor:
        """Configure the backend and return an executor for it."""
        return JoblibStyleExecutor(copy(self.wrapped) if self._is_pattern else self.wrapped, plan)

    def close(self) -> None:
        """Do nothing: every executor lets its workers go."""
