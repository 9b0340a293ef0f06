"""Compression of payloads, its name in the entry, its output bounded by what the header says."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Any

from jobspan.errors import CodecError, EntryDamagedError, MissingExtraError
from jobspan.room import available_memory

__all__ = ["check_room", "compress", "decompress", "read_compress"]

_HIGHEST = {"zlib": 9, "zstd": 22, "lz4": 16, "gzip": 9, "bz2": 9, "lzma": 9, "xz": 9}
"""The compressions that there are, with the highest level of each."""

_DEFAULT_LEVEL = 3
_GZIP = 31
"""``wbits`` of zlib for a frame of gzip's."""

_LZMA_MEMORY = 1 << 27
"""What LZMA's decoder may take beside its output: twice what its highest level wants."""


def read_compress(value: Any) -> tuple[str, int]:
    """Return name and level for what the user gave as ``compress=``.

    Parameters
    ----------
    value : bool, int, str or tuple
        False or 0: none; True: zlib; a level from 1 to 9 for zlib; a name; a name and a level, of
        which 0 is none.

    Raises
    ------
    ValueError
        If it is none of these.
    MissingExtraError
        If the package for it is not installed.
    """
    if value is False or value is None:
        return "", 0
    name: Any = "zlib"
    level: Any = _DEFAULT_LEVEL
    if isinstance(value, str):
        name = value
    elif isinstance(value, tuple) and len(value) == 2:
        name, level = value
    elif value is not True:
        level = value
    highest = _HIGHEST.get(name) if isinstance(name, str) else None
    if highest is None or type(level) is not int or not 0 <= level <= highest:
        raise ValueError(
            f"compress={value!r}: pass True, a level from 0 to 9, one of {tuple(_HIGHEST)}, or a "
            "pair such as ('zstd', 3)"
        )
    if name in ("zstd", "lz4"):
        _module(name)
    return (name, level) if level else ("", 0)


def compress(name: str, level: int, data: Any) -> bytes:
    """Return compressed data."""
    if name == "zlib":
        return zlib.compress(data, level)
    if name == "gzip":
        return zlib.compress(data, level, _GZIP)
    if name == "bz2":
        return bz2.compress(data, level)
    if name in ("lzma", "xz"):
        kind = lzma.FORMAT_ALONE if name == "lzma" else lzma.FORMAT_XZ
        return lzma.compress(data, kind, preset=level)
    module = _module(name)
    if name == "zstd":
        return bytes(module.ZstdCompressor(level=level).compress(data))
    return bytes(module.frame.compress(bytes(data), compression_level=level))


SMALL_BYTES = 1 << 26
"""So much is always taken; what becomes larger has to fit into half of the memory there is."""


def check_room(size: int) -> None:
    """Refuse what would become larger than this machine should take on the word of an entry.

    Raises
    ------
    EntryDamagedError
        If `size` bytes are more than half of the memory that is available.
    """
    if size > SMALL_BYTES and size > available_memory() // 2:
        raise EntryDamagedError(
            f"the value would take {size / 1e6:,.0f} MB, more than half of the memory available"
        )


def decompress(name: str, data: Any, size: int) -> bytes:
    """Return the data, which must be `size` bytes: no more is ever made.

    Raises
    ------
    EntryDamagedError
        If it is not of that size, too large for this machine, or no compressed data at all.
    """
    check_room(size)
    try:
        out = _decompressed(name, data, size + 1)
    except (CodecError, MissingExtraError, MemoryError):
        raise
    except Exception as error:
        raise EntryDamagedError(f"the payload is no {name} data: {error}") from error
    if len(out) != size:
        raise EntryDamagedError(f"the payload does not have the {size} bytes that its header says")
    return out


def _decompressed(name: str, data: Any, most: int) -> bytes:
    if name == "zlib":
        return zlib.decompressobj().decompress(data, most)
    if name == "gzip":
        return zlib.decompressobj(_GZIP).decompress(data, most)
    if name == "bz2":
        return bz2.BZ2Decompressor().decompress(data, most)
    if name in ("lzma", "xz"):
        return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY).decompress(data, most)
    if name == "zstd":
        reader = _module(name).ZstdDecompressor().stream_reader(bytes(data))
        return bytes(reader.read(most))
    if name == "lz4":
        return bytes(_module(name).frame.LZ4FrameDecompressor().decompress(bytes(data), most))
    raise CodecError(f"no compression is called {name!r}; this version knows {tuple(_HIGHEST)}")


def _module(name: str) -> Any:
    try:
        if name == "zstd":
            import zstandard

            return zstandard
        import lz4.frame

        return lz4
    except ImportError as error:
        raise MissingExtraError(f"compression {name!r}", "compress") from error
