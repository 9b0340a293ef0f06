"""The header: what an entry says of itself before its parts.

::

    prefix          magic, version, bytes of the head, bytes of the signature, number of parts,
                    BLAKE3 of the head
    head            key, BLAKE3 of the payload and of the buffers, times, codec, compression; then
                    the length of each part as stored, and before compression; then JSON: function
                    and components
    signature       of the number of parts and the head; empty where nobody signed

What a hit needs of it stands in fixed places; the JSON is for people, and read only when somebody
asks.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from blake3 import blake3

from jobspan.codecs.values import Part
from jobspan.errors import CodecError, EntryDamagedError

__all__ = ["MAGIC", "Header", "read_header", "start_size"]

MAGIC = b"jobspan\0"
VERSION = 2

LARGEST_HEADER = 1 << 24
"""A header that claims to be larger is damaged."""

LARGEST_TEXT = 1 << 20
"""Bytes of a header that are for people; what would be longer is left out."""

LATEST = 6.2e10
"""Seconds since the epoch in the year 3934; a time beyond it, or before the year 5, is damage."""

_LARGEST_SIGNATURE = 4096
"""Bytes; no signature is nearly as long."""

_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What no text in a header has: orders to a terminal, and to turn the text around."""

_PREFIX = struct.Struct("<8sIIII32s")
_FACTS = struct.Struct("<32s32s32sdd32s16s")
_FIXED = struct.Struct("<8sIIII32s32s32s32sdd48s")
"""Both in one, with both names in one."""

_START = _PREFIX.size

_write_json = json.JSONEncoder(separators=(",", ":")).encode


class Header:
    """What an entry says of itself.

    Parameters
    ----------
    key : str
        The key's digest, 64 hexadecimal digits.
    function : str
        Module and qualified name of the function.
    created : float
        When it was stored, in seconds since the epoch.
    seconds : float
        How long the call took.
    codec : str
        Name of the codec that wrote the payload, at most 32 bytes.
    compression : str
        Name of the compression of the parts, at most 16 bytes; empty: none.
    sizes : sequence of int
        Bytes of each part before compression; empty where there is none.
    components : mapping of str to str
        The parts of the key, for "why did this miss?".

    Attributes
    ----------
    parts : sequence of int
        Bytes of the payload and of each buffer, as stored.
    payload_digest, buffers_digest : bytes
        BLAKE3 of the first part and of the others.
    signature : str
        Who wrote it, over all else in the head; empty where nobody signed.
    """

    __slots__ = (
        "_about",
        "buffers_digest",
        "codec",
        "compression",
        "created",
        "head",
        "key",
        "parts",
        "payload_digest",
        "seconds",
        "signature",
        "sizes",
    )

    def __init__(
        self,
        key: str,
        function: str,
        created: float,
        seconds: float,
        codec: str = "pickle",
        compression: str = "",
        sizes: Sequence[int] = (),
        components: Mapping[str, str] | None = None,
    ) -> None:
        self.key = key
        self.created = created
        self.seconds = seconds
        self.codec = codec
        self.compression = compression
        self.sizes = sizes
        self.parts: Sequence[int] = ()
        self.payload_digest = b""
        self.buffers_digest = b""
        self.signature = ""
        self.head: Part = b""
        self._about: dict[str, Any] | None = {"function": function, "components": components or {}}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.key[:12]!r}…, function={self.function!r})"

    @property
    def function(self) -> str:
        """Module and qualified name of the function."""
        return str(self._told()["function"])

    @property
    def components(self) -> dict[str, str]:
        """The parts of the key, by name."""
        return dict(self._told()["components"])

    def _told(self) -> dict[str, Any]:
        if self._about is None:
            try:
                text = self.head[_FACTS.size + 16 * len(self.parts) :]
                if len(text) > LARGEST_TEXT:
                    raise ValueError(f"its text has {len(text):,} bytes")
                about = json.loads(bytes(text))
                names = [about["function"], *about["components"]]
                texts = [*about["components"].values()]
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise EntryDamagedError(f"the entry's header cannot be read: {error}") from error
            if (
                any(type(text) is not str for text in (*names, *texts))
                or not all(map(str.isprintable, names))
                or any(map(_UNPRINTABLE.search, texts))
            ):
                raise EntryDamagedError("the entry's header holds what is no plain text")
            self._about = about
        return self._about

    def signed_text(self) -> bytes:
        """Return what a signature is over: the number of parts, and the head, with their digest."""
        return len(self.parts).to_bytes(4, "little") + self.head

    def packed(
        self,
        lengths: Sequence[int],
        digests: tuple[bytes, bytes],
        sign: Callable[[bytes], str] | None = None,
    ) -> bytes:
        """Return all of an entry that comes before its parts.

        Parameters
        ----------
        lengths : sequence of int
            Bytes of each part.
        digests : pair of bytes
            BLAKE3 of the first part and of the others.
        sign : callable or None
            Returns the signature of a text.
        """
        about = _write_json(self._told()).encode()
        self.parts = lengths
        self.payload_digest, self.buffers_digest = digests
        head = self.head = self._packed_head(about)
        self.signature = "" if sign is None else sign(self.signed_text())
        signature = self.signature.encode()
        prefix = _PREFIX.pack(
            MAGIC, VERSION, len(head), len(signature), len(self.parts), blake3(head).digest()
        )
        return b"".join((prefix, head, signature))

    def _packed_head(self, about: bytes) -> bytes:
        codec, compression = self.codec.encode(), self.compression.encode()
        if len(codec) > 32 or len(compression) > 16:
            raise CodecError(
                f"codec {self.codec!r} or compression {self.compression!r} has too long a name; "
                "32 and 16 bytes are the limit"
            )
        facts = _FACTS.pack(
            bytes.fromhex(self.key),
            self.payload_digest,
            self.buffers_digest,
            self.created,
            self.seconds,
            codec,
            compression,
        )
        sizes = [*self.parts, *(self.sizes or self.parts)]
        if len(about) > LARGEST_TEXT:
            about = _write_json({"function": self.function, "components": {}}).encode()
        head = facts + struct.pack(f"<{len(sizes)}Q", *sizes) + about
        if len(head) > LARGEST_HEADER:
            raise CodecError(f"{len(self.parts):,} parts are more than an entry can have")
        return head


def start_size(data: Part) -> int:
    """Return how long an entry's head is with all before it and the signature, by its own word."""
    if len(data) < _START:
        return _START
    length: int
    signed: int
    length, signed = struct.unpack_from("<II", data, 12)
    return _START + min(max(length, _FACTS.size), LARGEST_HEADER) + min(signed, _LARGEST_SIGNATURE)


def read_header(data: Part, key: str | None = None) -> tuple[Header, int]:
    """Return the header at the start of an entry, and where it ends.

    Parameters
    ----------
    data : bytes-like
        The entry, or its start.
    key : str or None
        The key under which it was found, which it must name.
    """
    size = len(data)
    if size < _FIXED.size:
        raise EntryDamagedError(f"{size} bytes are no entry")
    header = Header.__new__(Header)
    (
        magic,
        version,
        length,
        signed,
        count,
        digest,
        named,
        header.payload_digest,
        header.buffers_digest,
        header.created,
        header.seconds,
        names,
    ) = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise EntryDamagedError("the object is no entry of jobspan")
    if version != VERSION:
        raise EntryDamagedError(f"the entry is of version {version}, this is version {VERSION}")
    end = _START + length
    if length > LARGEST_HEADER or end + signed > size or _FACTS.size + 16 * count > length:
        raise EntryDamagedError("the entry's header is truncated")
    head = header.head = data[_START:end]
    if blake3(head).digest() != digest:
        raise EntryDamagedError("the entry's header does not match its digest")
    if not (abs(header.created) < LATEST and 0 <= header.seconds < LATEST):
        raise EntryDamagedError("the entry's header has times that cannot be")
    header.key = named.hex()
    if key is not None and header.key != key:
        raise EntryDamagedError(f"the entry is for key {header.key[:12]}…, not {key[:12]}…")
    header.codec, header.compression = _names(names)
    lengths = _lengths(count).unpack_from(head, _FACTS.size)
    header.parts, header.sizes = lengths[:count], lengths[count:]
    header.signature = str(data[end : end + signed], "ascii", "replace") if signed else ""
    header._about = None
    return header, end + signed


@lru_cache(maxsize=64)
def _lengths(count: int) -> struct.Struct:
    return struct.Struct(f"<{2 * count}Q")


@lru_cache(maxsize=64)
def _names(padded: bytes) -> tuple[str, str]:
    """Return the names of the codec and of the compression."""
    codec, compression = (
        part.rstrip(b"\0").decode("utf-8", "replace") for part in (padded[:32], padded[32:])
    )
    if not (codec + compression).isprintable():
        raise EntryDamagedError(f"the entry's header names {codec!r} and {compression!r}")
    return codec, compression
