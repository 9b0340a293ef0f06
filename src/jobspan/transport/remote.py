"""What workers of clusters do with a batch: decode it, run it, encode what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jobspan.calls import Call, CallContext
from jobspan.errors import TransportError
from jobspan.outcomes import Failure
from jobspan.transport.batches import UNDECODED, BatchDecoder, EncodedRan, encode_ran
from jobspan.transport.protocol import EncodedBatch
from jobspan.worker.context import run_in
from jobspan.worker.run import Ran, failure_of, run_calls

__all__ = ["run_encoded"]

LARGE_RESULT = 1 << 20
"""Buffers of results from so many bytes on travel as arrays, without a copy where that can be."""

_decoder = BatchDecoder()

Run = Callable[[CallContext, Iterable[Call], int], Ran]


def run_encoded(
    encoded: EncodedBatch,
    shared: Sequence[Any],
    mode: str | None,
    worker: object,
    run: Run | None = None,
) -> EncodedRan:
    """Run an encoded batch.

    Parameters
    ----------
    encoded : EncodedBatch
        The batch; its references are indexes into `shared`.
    shared : sequence of buffers
        What was put on the cluster.
    mode : str or None
        ``"r"``: shared buffers arrive read-only; else every call gets private copies.
    worker : object
        What stands for the worker, for initializers.
    run : callable or None
        Runs the calls in their context; None: here and now.
    """

    def fetch(index: int) -> Any:
        view = memoryview(shared[index])
        return view.toreadonly() if mode == "r" else bytearray(view)

    try:
        _decoder.learn(encoded, fetch)
        context, calls, size = _decoder.decode(encoded.batch, fetch)
    except Exception as error:  # noqa: BLE001 - it becomes the outcome of the batch
        known = isinstance(error, TransportError)
        problem = error if known else TransportError(f"a worker cannot decode the batch: {error!r}")
        return encode_ran(Ran([], {UNDECODED: Failure(problem)}, 0.0, 0.0))
    try:
        if run is not None:
            ran = run(context, calls, size)
        else:
            ran = run_in(context, run_calls, calls, worker=worker)
    except Exception as error:  # noqa: BLE001 - an initializer's: it is the calls' failure
        failures = dict.fromkeys(range(size), failure_of(error))
        ran = Ran([None] * size, failures, 0.0, 0.0)
    return encode_ran(ran, _as_array, LARGE_RESULT)


def _as_array(buffer: memoryview) -> Any:
    try:
        import numpy as np
    except ImportError:
        return None
    return np.frombuffer(buffer, dtype="u1")
