"""What frames carry: batches one way, results the other."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import cloudpickle

from jobspan.backends.processes.frames import Buffer, Frame
from jobspan.calls import Call, CallContext
from jobspan.errors import TransportError
from jobspan.outcomes import Failure
from jobspan.worker.context import entered
from jobspan.worker.run import Ran

__all__ = ["ReceivedBatch", "decode_batch", "decode_result", "encode_batch", "encode_result"]


@dataclass(frozen=True, slots=True)
class ReceivedBatch:
    """A batch as it arrives in a worker."""

    calls: Sequence[Call]
    context: CallContext
    timed: bool

    def entered(self) -> AbstractContextManager[None]:
        """Return a context manager in which the batch's context holds."""
        return entered(self.context)


def encode_batch(
    calls: Sequence[Call], context: CallContext, *, timed: bool
) -> tuple[list[Buffer], list[int]]:
    """Return payload and descriptors for a batch."""
    return [cloudpickle.dumps((calls, context, timed), protocol=5)], []


def decode_batch(frame: Frame) -> ReceivedBatch:
    """Return the batch that `frame` carries."""
    return ReceivedBatch(*pickle.loads(frame.payload))


def encode_result(ran: Ran) -> tuple[list[Buffer], list[int]]:
    """Return payload and descriptors for what running a batch gave."""
    try:
        return [pickle.dumps(tuple(ran), protocol=5)], []
    except Exception:  # noqa: BLE001 - any object may fail in any way: one by one then
        values: list[Any] = []
        failures = dict(ran.failures)
        for offset, value in enumerate(ran.values):
            try:
                cloudpickle.dumps(value)
                values.append(value)
            except Exception as error:  # noqa: BLE001 - as above
                values.append(None)
                failures[offset] = Failure(TransportError(f"the result cannot be sent: {error}"))
        return [cloudpickle.dumps((values, failures, ran.started, ran.seconds), protocol=5)], []


def decode_result(frame: Frame) -> Ran:
    """Return what running a batch gave."""
    return Ran(*pickle.loads(frame.payload))
