"""What runs in a Ray worker: an actor that takes messages, or a task for one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from jobspan.backends.ray.messages import Reply, Sent, pack_reply, read_message
from jobspan.calls import Call, CallContext
from jobspan.transport.remote import run_encoded
from jobspan.worker.context import prepare_process, run_in
from jobspan.worker.run import Ran, run_calls

__all__ = ["JobspanWorker", "own_versions", "run_task", "versions_task"]


def own_versions() -> dict[str, str]:
    """Return what must be the same here and where batches come from."""
    import cloudpickle

    from jobspan._version import __version__

    return {
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "jobspan": __version__,
        "cloudpickle": cloudpickle.__version__,
    }


class JobspanWorker:
    """Runs messages, one after the other, in a process of its own.

    Parameters
    ----------
    cores : int
        How many cores calls nested in its calls may take: what the worker holds of the cluster.
    """

    def __init__(self, cores: int = 1) -> None:
        self._name = f"ray-{_host()}-{os.getpid()}"
        os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(cores))

    def __repr__(self) -> str:
        return "jobspan"  # what Ray writes before each line that a call prints

    def versions(self) -> dict[str, str]:
        """Return the versions here; whoever asks learns that the worker lives."""
        return own_versions()

    def run(self, sent: Sent, mode: str | None, *shared: Any) -> Reply:
        """Run the batches of a message; return the worker's name and what came of each."""

        def run(context: CallContext, calls: Iterable[Call], _size: int) -> Ran:
            prepare_process(context)
            return run_in(context, run_calls, calls, worker=self)

        ran = [run_encoded(encoded, shared, mode, self, run) for encoded in read_message(sent)]
        return pack_reply(self._name, ran)


def run_task(sent: Sent, mode: str | None, *shared: Any) -> Reply:
    """Run a message as a task, for calls nested in Ray tasks, whose CPU is free while they wait."""
    worker = sys.modules[__name__]
    ran = [run_encoded(encoded, shared, mode, worker) for encoded in read_message(sent)]
    return pack_reply(f"ray-task-{_host()}-{os.getpid()}", ran)


def versions_task() -> dict[str, str]:
    """Return the versions where tasks run."""
    return own_versions()


def _host() -> str:
    with suppress(AttributeError):  # not on every system
        return os.uname().nodename
    return ""
