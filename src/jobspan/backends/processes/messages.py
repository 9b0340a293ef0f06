"""What the payloads of frames hold: a small part that tells of the rest, then the pickle itself."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from jobspan.backends.processes.frames import Buffer
from jobspan.transport.batches import EncodedRan
from jobspan.transport.protocol import Encoded, EncodedBatch

__all__ = [
    "NOTHING_TOLD",
    "Terms",
    "pack_batch",
    "pack_result",
    "unpack_batch",
    "unpack_result",
]

_BATCH = struct.Struct("<I")
"""Bytes of the part that tells of the rest; 0 where nothing is to be told."""

_RESULT = struct.Struct("<ddQQ")
"""When the worker began, how long it took, bytes of failures, bytes of the part that tells."""

NOTHING_TOLD = _BATCH.pack(0)
"""What stands before the calls of a batch whose worker knows everything else."""

_Plain = tuple[bytes, list[Any]]

_Told = tuple[list[Any], list[int], list[int], bool]


class Terms(NamedTuple):
    """How an executor wants its worker to work; sent when they differ from the last ones.

    Parameters
    ----------
    mode : {"r", "c", "w"}
        How shared arguments arrive.
    threshold : int or None
        Bytes from which a buffer of a result is shared.
    temp_folder : str or None
        Where shared data goes when memory is short.
    segments : int
        How many shared buffers of results may be open at once.
    threads : int
        Threads for BLAS and OpenMP libraries that are loaded from here on.
    threads_asked_for : bool
        Whether the user said so: then the environment does not.
    timed : bool
        Whether the start of every call is noted.
    """

    mode: str
    threshold: int | None
    temp_folder: str | None
    segments: int
    threads: int
    threads_asked_for: bool
    timed: bool


def _plain(encoded: Encoded) -> _Plain:
    return bytes(encoded.payload), list(encoded.references)


def pack_batch(
    encoded: EncodedBatch, functions: Sequence[str], segments: Sequence[int], *, context: bool
) -> list[Buffer]:
    """Return the payload for a batch.

    Parameters
    ----------
    encoded : EncodedBatch
        The batch.
    functions : sequence of str
        The digests of the functions that the worker lacks.
    segments : sequence of int
        The segments that it lacks, in the order of the descriptors that go along.
    context : bool
        Whether it lacks the context.
    """
    batch = encoded.batch
    needed = {digest: _plain(encoded.functions[digest]) for digest in functions}
    told = (
        list(batch.references),
        needed,
        encoded.token if context else "",
        _plain(encoded.context) if context else (b"", []),
        list(segments),
    )
    meta = pickle.dumps(told, protocol=5)
    return [_BATCH.pack(len(meta)), meta, batch.payload]


def unpack_batch(payload: Buffer) -> tuple[Encoded, EncodedBatch | None, list[int]]:
    """Return the calls, what is to be learnt, and the segments whose descriptors came along."""
    view = memoryview(payload)
    (length,) = _BATCH.unpack_from(view)
    start = _BATCH.size
    if not length:
        return Encoded(view[start:]), None, []
    body = start + length
    references, functions, token, context, segments = pickle.loads(view[start:body])
    batch = Encoded(view[body:], references)
    encoded = EncodedBatch(
        batch,
        {digest: Encoded(*plain) for digest, plain in functions.items()},
        token,
        Encoded(*context),
    )
    return batch, encoded, segments


def pack_result(
    encoded: EncodedRan, segments: Sequence[int], dropped: Sequence[int], *, forgot: bool
) -> list[Buffer]:
    """Return the payload for a result.

    Parameters
    ----------
    encoded : EncodedRan
        What running the batch gave.
    segments : sequence of int
        The segments whose descriptors go along.
    dropped : sequence of int
        The segments that are gone.
    forgot : bool
        Whether the worker knows no function and no context any more.
    """
    values, failures, started, seconds = encoded
    meta = b""
    if values.references or segments or dropped or forgot:
        told = (list(values.references), list(segments), list(dropped), forgot)
        meta = pickle.dumps(told, protocol=5)
    head = _RESULT.pack(started, seconds, len(failures), len(meta))
    return [head, failures, meta, values.payload]


def unpack_result(payload: Buffer) -> tuple[float, float, Encoded, Buffer, _Told | None]:
    """Return when the worker began, how long it took, values, failures and what else it told.

    What it told are the values' references, and the other parameters of `pack_result`.
    """
    started, seconds, failures_length, meta_length = _RESULT.unpack_from(payload)
    view = memoryview(payload)[_RESULT.size :]
    if not (failures_length or meta_length):
        return started, seconds, Encoded(view), b"", None
    body = failures_length + meta_length
    told: _Told | None = pickle.loads(view[failures_length:body]) if meta_length else None
    values = Encoded(view[body:], told[0] if told else ())
    return started, seconds, values, bytes(view[:failures_length]), told
