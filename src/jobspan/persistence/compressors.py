"""Compressors of files, by name, by the ending of a file's name, and by its first bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobspan.errors import MissingExtraError
from jobspan.registry import Registry

__all__ = ["COMPRESSORS", "Compressor", "by_first_bytes", "by_name_of_file", "register_compressor"]


@dataclass(frozen=True, slots=True)
class Compressor:
    """How files of one kind are opened.

    Parameters
    ----------
    open : callable
        ``open(path, mode, level)`` returns a binary file that compresses or decompresses.
    extension : str
        How names of such files end, the dot included.
    prefix : bytes
        How such files begin.
    """

    open: Callable[[str, str, int], Any]
    extension: str
    prefix: bytes


def _gzip(path: str, mode: str, level: int) -> Any:
    import gzip

    return gzip.open(path, mode, level)


def _zlib(path: str, mode: str, level: int) -> Any:
    # A zlib stream in a gzip frame: the same algorithm, and a file that other tools read.
    return _gzip(path, mode, level)


def _bz2(path: str, mode: str, level: int) -> Any:
    import bz2

    return bz2.open(path, mode, compresslevel=max(1, level))


def _xz(path: str, mode: str, level: int) -> Any:
    import lzma

    return lzma.open(path, mode, preset=level) if "w" in mode else lzma.open(path, mode)


def _lzma(path: str, mode: str, level: int) -> Any:
    import lzma

    if "w" in mode:
        return lzma.open(path, mode, format=lzma.FORMAT_ALONE, preset=level)
    return lzma.open(path, mode)


def _lz4(path: str, mode: str, level: int) -> Any:
    try:
        import lz4.frame
    except ImportError as error:
        raise MissingExtraError("compression 'lz4'", "compress") from error
    if "w" in mode:
        return lz4.frame.open(path, mode, compression_level=level)
    return lz4.frame.open(path, mode)


COMPRESSORS: Registry[Compressor] = Registry("compressor")
COMPRESSORS.register("zlib", Compressor(_zlib, ".z", b"\x1f\x8b\x08"))
COMPRESSORS.register("gzip", Compressor(_gzip, ".gz", b"\x1f\x8b"))
COMPRESSORS.register("bz2", Compressor(_bz2, ".bz2", b"BZ"))
COMPRESSORS.register("xz", Compressor(_xz, ".xz", b"\xfd7zXZ"))
COMPRESSORS.register("lzma", Compressor(_lzma, ".lzma", b"\x5d\x00"))
COMPRESSORS.register("lz4", Compressor(_lz4, ".lz4", b"\x04\x22\x4d\x18"))


def register_compressor(compressor_name: str, compressor: Any, force: bool = False) -> None:
    """Register a compressor for `dump` and `load`.

    Parameters
    ----------
    compressor_name : str
        What is passed as ``compress=``.
    compressor : Compressor
        How such files are opened.
    force : bool
        Whether one of that name is replaced.
    """
    if not isinstance(compressor_name, str):
        raise ValueError(f"Compressor name should be a string, '{compressor_name}' given.")
    if not callable(getattr(compressor, "open", None)):
        raise ValueError(
            f"compressor {compressor!r}: pass a jobspan.persistence.compressors.Compressor"
        )
    COMPRESSORS.register(compressor_name, compressor, replace=force)


def by_name_of_file(path: str) -> str | None:
    """Return the compressor that a file's name asks for."""
    for name in COMPRESSORS:
        if path.endswith(COMPRESSORS.load(name).extension):
            return name
    return None


def by_first_bytes(start: bytes) -> str | None:
    """Return the compressor that a file was written with."""
    for name in COMPRESSORS:
        prefix = COMPRESSORS.load(name).prefix
        if prefix and start.startswith(prefix):
            return name
    return None
