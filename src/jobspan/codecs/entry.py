"""The entry: one stored result in one object, header and payload, buffers aligned for mapping.

::

    magic               "jobspan" and a zero, 8 bytes
    version             u32, little-endian
    header length       u32
    header digest       32 bytes, BLAKE3 of the header
    header              JSON, UTF-8
    padding             to a multiple of 64
    parts               payload, then each buffer, every one at a multiple of 64

The header says what is stored, how long each part is and what its digest is, so that nothing is
decoded before it is known to be whole.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jobspan.errors import EntryDamagedError

__all__ = ["ALIGNMENT", "Header", "Lease", "pack", "unpack"]

MAGIC = b"jobspan\0"
LEASE_MAGIC = b"joblease"
VERSION = 1
ALIGNMENT = 64
LARGEST_HEADER = 1 << 24
"""A header that claims to be larger is damaged."""

_PREFIX = struct.Struct("<8sII32s")

Part = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What an entry says of itself.

    Parameters
    ----------
    key : str
        The key's digest.
    function : str
        Module and qualified name of the function.
    created : float
        When it was stored, in seconds since the epoch.
    seconds : float
        How long the call took.
    codec : str
        Name of the codec that wrote the payload.
    compression : str
        Name of the compression of the payload; empty: none.
    parts : list of int
        Bytes of the payload and of each buffer, as stored.
    digest : str
        BLAKE3 over all parts, 64 hexadecimal digits.
    sizes : list of int
        Bytes of each part before compression; empty where there is none.
    components : dict of str to str
        The parts of the key, for "why did this miss?".
    signature : str
        Who wrote it, over all else in the header; empty where nobody signed.
    """

    key: str
    function: str
    created: float
    seconds: float
    codec: str = "pickle"
    compression: str = ""
    parts: list[int] = field(default_factory=list)
    digest: str = ""
    sizes: list[int] = field(default_factory=list)
    components: Mapping[str, str] = field(default_factory=dict)
    signature: str = ""

    def signed_text(self) -> bytes:
        """Return what a signature is over: everything but itself, the digest of the parts in it."""
        fields = asdict(self)
        del fields["signature"]
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def pack(
    header: Header, parts: Sequence[Part], sign: Callable[[bytes], str] | None = None
) -> bytearray:
    """Return the bytes of an entry.

    Parameters
    ----------
    header : Header
        Its `parts` and `digest` are filled in from `parts`.
    parts : sequence of bytes-like
        The payload and its buffers.
    sign : callable or None
        Returns the signature of the header's text.
    """
    header = replace(header, parts=[len(part) for part in parts], digest=_digest(parts))
    if sign is not None:
        header = replace(header, signature=sign(header.signed_text()))
    text = json.dumps(asdict(header), separators=(",", ":")).encode()
    from blake3 import blake3

    prefix = _PREFIX.pack(MAGIC, VERSION, len(text), blake3(text).digest())
    start = _aligned(len(prefix) + len(text))
    size = start
    for part in parts:
        size = _aligned(size) + len(part)
    data = bytearray(size)
    data[: len(prefix)] = prefix
    data[len(prefix) : len(prefix) + len(text)] = text
    position = start
    for part in parts:
        position = _aligned(position)
        data[position : position + len(part)] = part
        position += len(part)
    return data


def unpack(
    data: Part, key: str | None = None, *, check: bool = True
) -> tuple[Header, list[memoryview]]:
    """Return the header and the parts of an entry, views of `data`.

    Parameters
    ----------
    data : bytes-like
        The whole object.
    key : str or None
        The key under which it was found, which it must name.
    check : bool
        Whether the parts' digest is compared; a mapped entry is not read for it.

    Raises
    ------
    EntryDamagedError
        If the bytes are truncated, altered, foreign, or of another key.
    """
    view = memoryview(data)
    header, start = read_header(view)
    if key is not None and header.key != key:
        raise EntryDamagedError(f"the entry is for key {header.key[:12]}…, not {key[:12]}…")
    parts = []
    position = start
    for size in header.parts:
        position = _aligned(position)
        if size < 0 or position + size > len(view):
            raise EntryDamagedError(f"the entry is truncated: {len(view)} bytes")
        parts.append(view[position : position + size])
        position += size
    if position != len(view):
        raise EntryDamagedError(f"the entry has {len(view) - position} bytes too many")
    if check and _digest(parts) != header.digest:
        raise EntryDamagedError("the entry's content does not match its digest")
    return header, parts


def read_header(view: memoryview) -> tuple[Header, int]:
    """Return the header at the start of an entry, and where its parts begin."""
    from blake3 import blake3

    if len(view) < _PREFIX.size:
        raise EntryDamagedError(f"{len(view)} bytes are no entry")
    magic, version, length, digest = _PREFIX.unpack_from(view)
    if magic != MAGIC:
        raise EntryDamagedError("the object is no entry of jobspan")
    if version != VERSION:
        raise EntryDamagedError(f"the entry is of version {version}, this is version {VERSION}")
    end = _PREFIX.size + length
    if length > LARGEST_HEADER or end > len(view):
        raise EntryDamagedError("the entry's header is truncated")
    text = view[_PREFIX.size : end]
    if blake3(text).digest() != digest:
        raise EntryDamagedError("the entry's header does not match its digest")
    try:
        fields: dict[str, Any] = json.loads(bytes(text))
        return Header(**fields), _aligned(end)
    except (ValueError, TypeError) as error:
        raise EntryDamagedError(f"the entry's header cannot be read: {error}") from error


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT


def _digest(parts: Sequence[Part]) -> str:
    from blake3 import blake3

    hasher = blake3()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.hexdigest()


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim on computing one key.

    Parameters
    ----------
    holder : str
        Names who claims; no two claims have the same.
    seconds : float
        For how long it holds after it was last written, by the store's clock.
    """

    holder: str
    seconds: float

    @staticmethod
    def is_packed(data: Part) -> bool:
        """Whether the bytes are a claim, not an entry."""
        return bytes(data[: len(LEASE_MAGIC)]) == LEASE_MAGIC

    def pack(self) -> bytes:
        """Return the bytes that stand under the key while it is computed."""
        return LEASE_MAGIC + json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, data: Part) -> Lease:
        """Return the claim that was read; one that cannot be read has expired."""
        try:
            fields = json.loads(bytes(data)[len(LEASE_MAGIC) :])
            return cls(str(fields["holder"]), float(fields["seconds"]))
        except (ValueError, KeyError, TypeError):
            return cls("", 0.0)
