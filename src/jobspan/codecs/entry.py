"""The entry: one stored result in one object, header and payload, buffers aligned for mapping.

::

    header          what it says of itself
    padding         to a multiple of 64
    parts           payload, then each buffer, every one at a multiple of 64

The header says what is stored, how long each part is and what its digest is, so that nothing is
decoded before it is known to be whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from blake3 import blake3

from jobspan.codecs.header import MAGIC, Header, read_header, start_size
from jobspan.codecs.values import Part
from jobspan.errors import EntryDamagedError

__all__ = ["check_start", "layout", "pack", "unpack"]

ALIGNMENT = 64

MAPPED_CODECS = frozenset(("npy", "pickle"))
"""Codecs to which all parts but the first are contents of arrays. Others read more from them."""

THREADED_BYTES = 1 << 21
"""Larger parts are hashed by several threads, which changes nothing in the digest."""

COPIED_BYTES = 1 << 16
"""Of smaller entries that were read, parts are copied, which costs less than views of them."""


def pack(
    header: Header, parts: Sequence[Part], sign: Callable[[bytes], str] | None = None
) -> bytearray:
    """Return the bytes of an entry.

    Parameters
    ----------
    header : Header
        What it says of itself.
    parts : sequence of bytes-like
        The payload and its buffers.
    sign : callable or None
        Returns the signature of a text.
    """
    lengths = [len(part) for part in parts]
    start = header.packed(lengths, (_digest(parts[:1]), _digest(parts[1:])), sign)
    spans, size = layout(len(start), lengths)
    data = bytearray(size)
    data[: len(start)] = start
    for part, (begin, end) in zip(parts, spans, strict=True):
        data[begin:end] = part
    return data


def unpack(
    data: Part,
    key: str | None = None,
    *,
    check: bool = True,
    digests: tuple[bytes, bytes] | None = None,
    settled: bool = True,
) -> tuple[Header, list[Part]]:
    """Return the header and the parts of an entry, views of `data` where it is large.

    Parameters
    ----------
    data : bytes-like
        The whole object.
    key : str or None
        The key under which it was found, which it must name.
    check : bool
        Whether the buffers' digest is compared, too; a mapped entry is not read for it.
    digests : pair of bytes or None
        Digests of the payload and of the buffers where they were taken of these very bytes.
    settled : bool
        Whether `data` stays as it is; else all is copied but arrays that it maps, so that what is
        decoded is what was compared.

    Raises
    ------
    EntryDamagedError
        If the bytes are truncated, altered, foreign, or of another key.
    """
    header, position = read_header(data if settled else _copied_start(data), key)
    size = len(data)
    view = data if size < COPIED_BYTES and type(data) is bytes else memoryview(data)
    parts: list[Part] = []
    for length in header.parts:  # as in `layout`, without the call: a hit takes microseconds
        position += -position % ALIGNMENT
        parts.append(view[position : position + length])
        position += length
    if position != size:
        what = "truncated" if position > size else "too long"
        raise EntryDamagedError(f"the entry is {what}: {size} bytes, not {position}")
    if not settled:
        maps = header.codec in MAPPED_CODECS and not header.compression
        parts[:] = [
            bytes(part) if not (maps and place) else part for place, part in enumerate(parts)
        ]
    payload, buffers = digests or (_digest(parts[:1]), None)
    if payload != header.payload_digest or (
        check and len(parts) > 1 and (buffers or _digest(parts[1:])) != header.buffers_digest
    ):
        raise EntryDamagedError("the entry's content does not match its digest")
    return header, parts


def check_start(begun: Part, size: int) -> Header | None:
    """Return the header of an entry of which only the start is there, None where it is longer.

    Parameters
    ----------
    begun : bytes-like
        How the entry begins.
    size : int
        Bytes of all of it, which must be as many as its header says.

    Raises
    ------
    EntryDamagedError
        If the header is damaged, or says other lengths.
    """
    start = _copied_start(begun)
    if start[: len(MAGIC)] == MAGIC and len(start) == len(begun):
        return None
    header, position = read_header(start)
    _, end = layout(position, header.parts)
    if end != size:
        raise EntryDamagedError(f"the entry has {size} bytes, not {end}")
    return header


def _copied_start(data: Part) -> bytes:
    """Return that part of an entry, copied once, so that it stays."""
    return bytes(data[: start_size(data)])


def layout(position: int, lengths: Iterable[int]) -> tuple[list[tuple[int, int]], int]:
    """Return where each part of an entry begins and ends, and where the entry does.

    Parameters
    ----------
    position : int
        Where its header ends.
    lengths : iterable of int
        Bytes of each part.

    Examples
    --------
    >>> layout(200, [10, 70])
    ([(256, 266), (320, 390)], 390)
    """
    spans = []
    for length in lengths:
        position += -position % ALIGNMENT
        spans.append((position, position + length))
        position += length
    return spans, position


def _digest(parts: Sequence[Part]) -> bytes:
    """Return BLAKE3 of the parts one after the other; their lengths stand in the head."""
    if not parts:
        return _NOTHING
    if len(parts) == 1 and len(parts[0]) < THREADED_BYTES:
        return blake3(parts[0]).digest()
    hasher = blake3(max_threads=blake3.AUTO)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


_NOTHING = bytes(32)
