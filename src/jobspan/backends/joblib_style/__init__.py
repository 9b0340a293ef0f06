"""Backends written for joblib: the base class they derive from, and the adapter that drives them.

joblib's backends call back: they are given a function and a callback for every batch. The adapter
turns the callbacks into a queue from which the scheduler pulls.
"""

from __future__ import annotations

from jobspan.backends.joblib_style.backend import JoblibStyleBackend
from jobspan.backends.joblib_style.base import ParallelBackendBase

__all__ = ["JoblibStyleBackend", "ParallelBackendBase"]
