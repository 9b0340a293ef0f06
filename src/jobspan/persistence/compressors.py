"""Compressors of files, by name, by the ending of a file's name, and by its first bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
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
    compressor : Compressor, or a CompressorWrapper of joblib's
        How such files are opened.
    force : bool
        Whether one of that name is replaced.
    """
    if not isinstance(compressor_name, str):
        raise ValueError(f"Compressor name should be a string, '{compressor_name}' given.")
    if not isinstance(compressor, Compressor):
        compressor = _of_joblib(compressor)
    COMPRESSORS.register(compressor_name, compressor, replace=force)


def _of_joblib(wrapper: Any) -> Compressor:
    """Return a compressor that opens files as one that was written for joblib does."""
    if not all(hasattr(wrapper, name) for name in ("compressor_file", "decompressor_file")):
        raise ValueError(
            f"Compressor should implement the CompressorWrapper interface, '{wrapper}' given. "
            "Pass one, or a jobspan.persistence.compressors.Compressor"
        )
    factory = getattr(wrapper, "fileobj_factory", None)
    if factory is not None and not all(
        hasattr(factory, name) for name in ("read", "write", "seek", "tell")
    ):
        raise ValueError(
            "Compressor 'fileobj_factory' attribute should implement the file object interface, "
            f"'{factory}' given."
        )

    @contextmanager
    def opened(path: Any, mode: str, level: int) -> Iterator[Any]:
        with ExitStack() as stack:
            if "w" in mode:
                packed = wrapper.compressor_file(path, compresslevel=level)  # as joblib: by name
            else:
                file = path if hasattr(path, "read") else stack.enter_context(Path(path).open("rb"))
                packed = wrapper.decompressor_file(file)
            yield stack.enter_context(closing(packed))

    return Compressor(opened, wrapper.extension, wrapper.prefix)


def by_name_of_file(path: str) -> str | None:
    """Return the compressor that a file's name asks for."""
    for name in COMPRESSORS:
        extension = COMPRESSORS.load(name).extension
        if extension and path.endswith(extension):
            return name
    return None


def by_first_bytes(start: bytes) -> str | None:
    """Return the compressor that a file was written with."""
    for name in COMPRESSORS:
        prefix = COMPRESSORS.load(name).prefix
        if prefix and start.startswith(prefix):
            return name
    return None
