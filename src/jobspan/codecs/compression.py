"""Compression of payloads, its name in the entry, its output bounded by what the header says."""

from __future__ import annotations

import zlib
from typing import Any

from jobspan.errors import CodecError, EntryDamagedError, MissingExtraError

__all__ = ["compress", "decompress", "read_compress"]

NAMES = ("zlib", "zstd", "lz4")


def read_compress(value: Any) -> tuple[str, int]:
    """Return name and level for what the user gave as ``compress=``.

    Parameters
    ----------
    value : bool, int, str or tuple
        False or 0: none; True: zlib; a level from 1 to 9 for zlib; a name; a name and a level.
    """
    if value is False or value is None or value == 0:
        return "", 0
    if value is True:
        return "zlib", 3
    if isinstance(value, int) and 1 <= value <= 9:
        return "zlib", value
    if isinstance(value, str) and value in NAMES:
        return value, 3
    if isinstance(value, tuple) and len(value) == 2 and value[0] in NAMES:
        return str(value[0]), int(value[1])
    raise ValueError(
        f"compress={value!r}: pass True, a level from 0 to 9, one of {NAMES}, or a pair such as "
        "('zstd', 3)"
    )


def compress(name: str, level: int, data: Any) -> bytes:
    """Return compressed data."""
    if name == "zlib":
        return zlib.compress(data, level)
    module = _module(name)
    if name == "zstd":
        return bytes(module.ZstdCompressor(level=level).compress(data))
    return bytes(module.frame.compress(bytes(data), compression_level=level))


def decompress(name: str, data: Any, size: int) -> bytes:
    """Return the data, which must be `size` bytes: no more is ever made.

    Raises
    ------
    EntryDamagedError
        If it is not of that size, or no compressed data at all.
    """
    try:
        if name == "zlib":
            out = zlib.decompressobj().decompress(data, size + 1)
        elif name == "zstd":
            reader = _module(name).ZstdDecompressor().stream_reader(bytes(data))
            out = reader.read(size + 1)
        elif name == "lz4":
            out = _module(name).frame.LZ4FrameDecompressor().decompress(bytes(data), size + 1)
        else:
            raise CodecError(f"no compression is called {name!r}; this version knows {NAMES}")
    except CodecError:
        raise
    except Exception as error:
        raise EntryDamagedError(f"the payload is no {name} data: {error}") from error
    if len(out) != size:
        raise EntryDamagedError(f"the payload does not have the {size} bytes that its header says")
    return out


def _module(name: str) -> Any:
    try:
        if name == "zstd":
            import zstandard

            return zstandard
        import lz4.frame

        return lz4
    except ImportError as error:
        raise MissingExtraError(f"compression {name!r}", "compress") from error
