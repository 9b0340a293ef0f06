"""What runs in a Dask worker: one batch, decoded, run and encoded."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from jobspan.calls import Call, CallContext
from jobspan.errors import TaskTimeoutError, TransportError
from jobspan.outcomes import Failure, FailureKind
from jobspan.transport.batches import BatchDecoder, EncodedRan, encode_ran
from jobspan.transport.protocol import Encoded, EncodedBatch
from jobspan.worker.context import entered
from jobspan.worker.run import Ran, run_calls

__all__ = ["run_batch"]

_decoder = BatchDecoder()


def run_batch(
    encoded: EncodedBatch, mode: str | None, task_timeout: float | None, *shared: Any
) -> tuple[str, EncodedRan]:
    """Run a batch; return the worker's name and what came of it.

    Parameters
    ----------
    encoded : EncodedBatch
        The batch; its references are indexes into `shared`.
    mode : str or None
        ``"c"``: every call gets private copies of shared buffers.
    task_timeout : float or None
        Seconds after which a call is given up.
    *shared : buffer
        What was scattered.
    """

    def fetch(index: int) -> Any:
        view = memoryview(shared[index])
        return bytearray(view) if mode in ("c", "r+", "w+") else view.toreadonly()

    name, identity = _worker()
    try:
        payload = encoded.batch
        _decoder.learn(encoded, fetch)
        context, calls = _decoder.decode(Encoded(payload.payload, payload.references), fetch)
    except TransportError as error:
        return name, encode_ran(Ran([], {-1: Failure(error)}, 0.0, 0.0))
    if task_timeout is None:
        with entered(context, identity):
            ran = run_calls(calls)
    else:
        ran = _run_within(task_timeout, context, calls, identity)
    return name, encode_ran(ran)


def _worker() -> tuple[str, object]:
    """Return the name of the Dask worker that runs this, and what stands for it."""
    import distributed

    try:
        worker = distributed.get_worker()
    except ValueError:
        return threading.current_thread().name, None
    return str(worker.name or worker.address), worker


def _run_within(
    seconds: float, context: CallContext, calls: Sequence[Call], identity: object
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
    return Ran([None] * len(calls), dict.fromkeys(range(len(calls)), failure), 0.0, seconds)
