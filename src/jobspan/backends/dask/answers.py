"""What a task gives back, in the form that costs Dask least.

Dask serializes each part of a tuple on its own, with a header and a frame of its own: dearer than
running a short batch. Most answers are one string of bytes, which it passes on as it is. Those with
much in them are a list, whose large parts it sends without a copy.
"""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

from jobspan.backends.dask.output import Output
from jobspan.transport.batches import EncodedRan
from jobspan.transport.protocol import Encoded

__all__ = ["Answer", "pack", "unpack", "writable"]

LARGE_PAYLOAD = 1 << 16
"""A payload of so many bytes is not worth a copy."""


class Answer(NamedTuple):
    """What came of a batch.

    Parameters
    ----------
    worker : str
        Where it ran.
    ran : EncodedRan
        Values and failures.
    output : Output
        What was printed and logged.
    """

    worker: str
    ran: EncodedRan
    output: Output


def pack(answer: Answer) -> bytes | list[Any]:
    """Return what the task returns."""
    worker, ran, output = answer
    payload, references = ran.values
    rest = (worker, ran.failures, ran.started, ran.seconds, output)
    if references or len(payload) >= LARGE_PAYLOAD:
        return [pickle.dumps(rest, protocol=5), payload, *references]
    return pickle.dumps((*rest, bytes(payload)), protocol=5)


def unpack(value: Any) -> Answer:
    """Return what came of a batch from what its task returned."""
    if isinstance(value, bytes):
        worker, failures, started, seconds, output, payload = pickle.loads(value)
        references: list[Any] = []
    else:
        rest, payload, *references = value
        worker, failures, started, seconds, output = pickle.loads(rest)
    return Answer(
        worker, EncodedRan(Encoded(payload, references), failures, started, seconds), output
    )


def writable(buffer: Any) -> Any:
    """Return the buffer of a result as one that can be written."""
    view = memoryview(buffer)
    return bytearray(view) if view.readonly else view
