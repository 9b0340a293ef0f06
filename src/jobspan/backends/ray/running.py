"""What runs in a Ray worker: an actor that takes batches, or a task for one."""

from __future__ import annotations

import os
import sys
from typing import Any

from jobspan.transport.batches import EncodedRan
from jobspan.transport.protocol import EncodedBatch
from jobspan.transport.remote import run_encoded

__all__ = ["WorkerActor", "run_task"]


class WorkerActor:
    """Runs batches, one after the other, in a process of its own."""

    def __init__(self) -> None:
        self._name = f"ray-{os.uname().nodename if hasattr(os, 'uname') else ''}-{os.getpid()}"

    def versions(self) -> dict[str, str]:
        """Return what must be the same here and where batches come from."""
        import cloudpickle

        from jobspan._version import __version__

        return {
            "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "jobspan": __version__,
            "cloudpickle": cloudpickle.__version__,
        }

    def run(self, encoded: EncodedBatch, mode: str | None, *shared: Any) -> tuple[str, EncodedRan]:
        """Run a batch; return the worker's name and what came of it."""
        return self._name, run_encoded(encoded, shared, mode, self)


def run_task(encoded: EncodedBatch, mode: str | None, *shared: Any) -> tuple[str, EncodedRan]:
    """Run a batch as a task, for calls nested in Ray tasks, whose CPU is free while they wait."""
    return f"ray-task-{os.getpid()}", run_encoded(encoded, shared, mode, sys.modules[__name__])
