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
    "BatchMessage",
    "ResultMessage",
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

_NO_CONTEXT = Encoded(b"")

_Plain = tuple[bytes, list[Any]]


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


class BatchMessage(NamedTuple):
    """A batch as a worker receives it.

    `segments` are those whose descriptors came along, `news` says that there is something to learn.
    """

    encoded: EncodedBatch
    segments: list[int]
    news: bool


class ResultMessage(NamedTuple):
    """A result as the executor receives it.

    `segments` are those whose descriptors came along, `dropped` those that are gone, `forgot` says
    that the worker knows no function and no context any more.
    """

    encoded: EncodedRan
    segments: list[int]
    dropped: list[int]
    forgot: bool


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
    if not (functions or segments or context or batch.references):
        return [_BATCH.pack(0), batch.payload]
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


def unpack_batch(payload: Buffer) -> BatchMessage:
    """Return what `pack_batch` packed."""
    view = memoryview(payload)
    (length,) = _BATCH.unpack_from(view)
    start = _BATCH.size
    body = view[start + length :]
    if not length:
        return BatchMessage(EncodedBatch(Encoded(body), {}, "", _NO_CONTEXT), [], False)
    references, functions, token, context, segments = pickle.loads(view[start : start + length])
    encoded = EncodedBatch(
        Encoded(body, references),
        {digest: Encoded(*plain) for digest, plain in functions.items()},
        token,
        Encoded(*context),
    )
    return BatchMessage(encoded, segments, True)


def pack_result(
    encoded: EncodedRan, segments: Sequence[int], dropped: Sequence[int], *, forgot: bool
) -> list[Buffer]:
    """Return the payload for a result; the parameters are those of `ResultMessage`."""
    meta = b""
    references = encoded.values.references
    if references or segments or dropped or forgot:
        meta = pickle.dumps((list(references), list(segments), list(dropped), forgot), protocol=5)
    head = _RESULT.pack(encoded.started, encoded.seconds, len(encoded.failures), len(meta))
    return [head, encoded.failures, meta, encoded.values.payload]


def unpack_result(payload: Buffer) -> ResultMessage:
    """Return what `pack_result` packed."""
    started, seconds, failures_length, meta_length = _RESULT.unpack_from(payload)
    view = memoryview(payload)
    if not (failures_length or meta_length):
        plain = EncodedRan(Encoded(view[_RESULT.size :]), b"", started, seconds)
        return ResultMessage(plain, [], [], False)
    meta_start = _RESULT.size + failures_length
    body_start = meta_start + meta_length
    references: list[Any] = []
    segments: list[int] = []
    dropped: list[int] = []
    forgot = False
    if meta_length:
        references, segments, dropped, forgot = pickle.loads(view[meta_start:body_start])
    failures = bytes(view[_RESULT.size : meta_start])
    encoded = EncodedRan(Encoded(view[body_start:], references), failures, started, seconds)
    return ResultMessage(encoded, segments, dropped, forgot)
