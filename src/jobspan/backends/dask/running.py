"""What runs in a Dask worker: one batch, perhaps within a time limit."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from jobspan.calls import Call, CallContext
from jobspan.errors import TaskTimeoutError
from jobspan.outcomes import Failure, FailureKind
from jobspan.transport.batches import EncodedRan
from jobspan.transport.protocol import EncodedBatch
from jobspan.transport.remote import run_encoded
from jobspan.worker.context import entered
from jobspan.worker.run import Ran, run_calls

__all__ = ["run_batch"]


def run_batch(
    encoded: EncodedBatch, mode: str | None, task_timeout: float | None, *shared: Any
) -> tuple[str, EncodedRan]:
    """Run a batch; return the worker's name and what came of it.

    Parameters
    ----------
    encoded : EncodedBatch
        The batch; its references are indexes into `shared`.
    mode : str or None
        How shared buffers arrive.
    task_timeout : float or None
        Seconds after which a call is given up.
    *shared : buffer
        What was scattered.
    """
    name, identity = _worker()
    run = None
    if task_timeout is not None:
        limit = task_timeout

        def run(context: CallContext, calls: Iterable[Call], size: int) -> Ran:
            return _run_within(limit, context, calls, size, identity)

    return name, run_encoded(encoded, shared, mode, identity, run)


def _worker() -> tuple[str, object]:
    """Return the name of the Dask worker that runs this, and what stands for it."""
    import distributed

    try:
        worker = distributed.get_worker()
    except ValueError:
        return threading.current_thread().name, None
    return str(worker.name or worker.address), worker


def _run_within(
    seconds: float, context: CallContext, calls: Iterable[Call], size: int, identity: object
) -> Ran:
    """Run calls in a thread of their own, and give them up when the time is over.

    A thread cannot be stopped: the call goes on, its result is dropped, and the worker's own
    thread is free for the next batch.
    """
    result: list[Ran] = []

    def run() -> None:
        with entered(context, identity):
            result.append(run_calls(calls))

    thread = threading.Thread(target=run, name="jobspan-timed-call", daemon=True)
    thread.start()
    thread.join(seconds)
    if result:
        return result[0]
    error = TaskTimeoutError(
        f"the call ran longer than task_timeout={seconds!r}; the thread of a Dask worker cannot be "
        "stopped, so it goes on and its result is dropped"
    )
    failure = Failure(error, kind=FailureKind.TIMEOUT)
    return Ran([None] * size, dict.fromkeys(range(size), failure), 0.0, seconds)
