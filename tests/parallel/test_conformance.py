"""The conformance suite on the backends that need no engine."""

from __future__ import annotations

from typing import ClassVar

from jobspan.backends.threads import ThreadBackend
from jobspan.testing.backends import BackendConformance


class TestSequential(BackendConformance):
    backend = "sequential"
    can_share_memory = True
    sequential = True


class TestThreads(BackendConformance):
    backend = "threads"
    can_share_memory = True


class TestThreadsByClass(BackendConformance):
    backend = ThreadBackend
    can_share_memory = True
    n_jobs: ClassVar[int] = 3


class TestProcesses(BackendConformance):
    backend = "processes"
    can_kill = True
    can_lose_workers = True
