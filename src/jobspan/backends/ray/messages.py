"""How batches travel in one Ray call, and what came of them back: as bytes wherever they can.

Ray hands bytes over as they are; whatever else it pickles anew with a pickler in Python.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import TypeAlias

from jobspan.transport.batches import EncodedRan
from jobspan.transport.protocol import Encoded, EncodedBatch

__all__ = ["Reply", "Sent", "pack_message", "pack_reply", "read_message", "read_reply"]

Sent: TypeAlias = bytes
"""A pickle of encoded batches, references replaced by places among the call's further arguments."""

Reply: TypeAlias = bytes | tuple[str, list[EncodedRan]]
"""A worker's name and what came of each batch; a pickle of it where no buffer is large."""

_NOTHING = Encoded(b"")


def pack_message(
    batches: Sequence[EncodedBatch], known: set[str]
) -> tuple[Sent, list[int], set[str]]:
    """Pack batches for a worker.

    Parameters
    ----------
    batches : sequence of EncodedBatch
        What it should run, in order.
    known : set of str
        The functions and contexts that it has.

    Returns
    -------
    tuple
        The message, the references that it needs in the order of their places, and the functions
        and contexts that the worker has once it has read it.
    """
    learnt = set(known)
    trimmed = []
    for batch in batches:
        functions = {d: f for d, f in batch.functions.items() if d not in learnt}
        context = _NOTHING if batch.token in learnt else batch.context
        learnt.update(functions)
        learnt.add(batch.token)
        trimmed.append(EncodedBatch(batch.batch, functions, batch.token, context))
    found = {reference for batch in trimmed for reference in batch.all_references()}
    references = sorted(found)
    places = {reference: place for place, reference in enumerate(references)}
    plain = [batch.picklable(places) for batch in trimmed]
    return pickle.dumps(plain, protocol=5), references, learnt


def read_message(sent: Sent) -> list[EncodedBatch]:
    """Return the encoded batches of a message."""
    batches: list[EncodedBatch] = pickle.loads(sent)
    return batches


def pack_reply(worker: str, ran: list[EncodedRan]) -> Reply:
    """Pack what came of a message's batches."""
    if any(each.values.references for each in ran):
        plain = [
            each._replace(values=Encoded(bytes(each.values.payload), each.values.references))
            for each in ran
        ]
        return worker, plain  # large buffers are arrays, which Ray stores without a copy
    plain = [each._replace(values=Encoded(bytes(each.values.payload))) for each in ran]
    return pickle.dumps((worker, plain), protocol=5)


def read_reply(reply: Reply) -> tuple[str, list[EncodedRan]]:
    """Return the worker's name and what came of each batch."""
    if isinstance(reply, bytes):
        worker, ran = pickle.loads(reply)
        return worker, ran
    return reply
