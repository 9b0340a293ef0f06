"""Values in files: a pickle with its buffers behind it, aligned, so that arrays can be mapped.

::

    magic "jobspan-dump-1", u64 number of parts, u64 length of each, padding to 64,
    then the parts: the pickle, and each buffer at a multiple of 64
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
from pathlib import Path
from typing import Any, BinaryIO

from jobspan.errors import EntryDamagedError
from jobspan.persistence.compressors import COMPRESSORS, by_first_bytes, by_name_of_file

__all__ = ["dump", "load"]

MAGIC = b"jobspan-dump-1\n\0"
ALIGNMENT = 64
MOST_PARTS = 1 << 24
_COUNT = struct.Struct("<Q")

_ACCESS = {"r": mmap.ACCESS_READ, "c": mmap.ACCESS_COPY, "r+": mmap.ACCESS_WRITE}
_ACCESS["w+"] = mmap.ACCESS_WRITE


def dump(
    value: Any, filename: Any, compress: Any = 0, protocol: int | None = None
) -> list[str] | None:
    """Write a value to a file.

    Parameters
    ----------
    value : object
        Anything that can be pickled.
    filename : str, path or binary file
        Where to. An ending such as ``.gz`` asks for compression.
    compress : int, bool, str or tuple
        A level from 0 to 9, a compressor's name, or a pair of name and level.
    protocol : int, optional
        Kept for joblib's signature: buffers out of band need pickle's protocol 5.

    Returns
    -------
    list of str, or None
        The name of the file, in a list; None where a file object was given.

    Examples
    --------
    >>> import tempfile
    >>> from jobspan import dump, load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     names = dump([1, 2], folder + "/value.jobspan")
    ...     load(names[0])
    [1, 2]
    """
    if protocol is not None and not 0 <= protocol <= pickle.HIGHEST_PROTOCOL:
        raise ValueError(f"protocol={protocol!r}: pass None, pickle's protocol 5 is used")
    if hasattr(filename, "write"):
        _write(value, filename)
        return None
    path = os.fspath(filename)
    if not isinstance(path, str):
        raise ValueError(
            "Second argument should be a filename or a file-like object, "
            f"{filename!r} (type {type(filename)!r}) was given."
        )
    name, level = _read_compress(compress, path)
    folder = Path(path).parent
    temporary = folder / f".{Path(path).name}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        if name is None:
            with temporary.open("wb") as file:
                _write(value, file)
        else:
            with COMPRESSORS.load(name).open(str(temporary), "wb", level) as file:
                _write(value, file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return [path]


def load(
    filename: Any, mmap_mode: str | None = None, ensure_native_byte_order: str | bool = "auto"
) -> Any:
    """Read a value that `dump`, or ``joblib.dump``, has written.

    Parameters
    ----------
    filename : str, path or binary file
        Where from.
    mmap_mode : {None, "r", "c", "r+", "w+"}
        Map large arrays of an uncompressed file instead of reading them.
    ensure_native_byte_order : bool or "auto"
        Handed to joblib for its files; ours are read as they were written.

    Raises
    ------
    ImportError
        If the file is joblib's and joblib is not installed.
    EntryDamagedError
        If the file is truncated or altered.

    Notes
    -----
    Reading a pickle runs code: load only what you trust.
    """
    if mmap_mode is not None and mmap_mode not in _ACCESS:
        raise ValueError(f"mmap_mode={mmap_mode!r}: pass one of None, {sorted(_ACCESS)}")
    if hasattr(filename, "read"):
        return _load_file(filename, filename, ensure_native_byte_order)
    path = os.fspath(filename)
    # A map that is written through needs a file that may be written.
    with Path(path).open("r+b" if mmap_mode in ("r+", "w+") else "rb") as file:
        start = file.read(len(MAGIC))
        file.seek(0)
        if start == MAGIC:
            if mmap_mode is not None:
                memory = mmap.mmap(file.fileno(), 0, access=_ACCESS[mmap_mode])
                return _unpacked(memoryview(memory), copy=False)
            return _unpacked(memoryview(file.read()), copy=True)
        if start and MAGIC.startswith(start):
            raise EntryDamagedError(f"{path} is truncated: it has {len(start)} bytes")
        name = by_first_bytes(start)
    if name is None:
        return _load_joblib(path, mmap_mode, ensure_native_byte_order)
    with COMPRESSORS.load(name).open(path, "rb", 0) as file:
        start = file.read(len(MAGIC))
        if start == MAGIC:
            return _unpacked(memoryview(start + file.read()), copy=True)
    return _load_joblib(path, None, ensure_native_byte_order)


def _load_file(file: BinaryIO, filename: Any, order: str | bool) -> Any:
    data = file.read()
    if data.startswith(MAGIC):
        return _unpacked(memoryview(data), copy=True)
    file.seek(-len(data), os.SEEK_CUR)
    return _load_joblib(filename, None, order)


def _load_joblib(source: Any, mmap_mode: str | None, order: str | bool) -> Any:
    try:
        import joblib
    except ImportError as error:
        raise ImportError(
            f"{source} was not written by jobspan.dump; if joblib wrote it, install joblib to "
            "read it: pip install joblib"
        ) from error
    return joblib.load(source, mmap_mode=mmap_mode, ensure_native_byte_order=order)


def _write(value: Any, file: Any) -> None:
    buffers: list[pickle.PickleBuffer] = []
    payload = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts: list[Any] = [payload, *(buffer.raw() for buffer in buffers)]
    header = MAGIC + _COUNT.pack(len(parts)) + b"".join(_COUNT.pack(len(p)) for p in parts)
    file.write(header)
    position = len(header)
    for part in parts:
        padding = -position % ALIGNMENT
        file.write(b"\0" * padding)
        file.write(part)
        position += padding + len(part)


def _unpacked(view: memoryview, *, copy: bool) -> Any:
    try:
        (count,) = _COUNT.unpack_from(view, len(MAGIC))
        position = len(MAGIC) + _COUNT.size * (count + 1)
        if count < 1 or count > MOST_PARTS or position > len(view):
            raise EntryDamagedError("the file is truncated")
        sizes = struct.unpack_from(f"<{count}Q", view, len(MAGIC) + _COUNT.size)
    except struct.error as error:
        raise EntryDamagedError("the file is truncated") from error
    parts: list[Any] = []
    for size in sizes:
        position += -position % ALIGNMENT
        if position + size > len(view):
            raise EntryDamagedError("the file is truncated")
        part = view[position : position + size]
        parts.append(bytearray(part) if copy and parts else part)
        position += size
    return pickle.loads(parts[0], buffers=parts[1:])


def _read_compress(compress: Any, path: str) -> tuple[str | None, int]:
    """Return compressor and level for ``compress=`` and a file's name, as joblib does."""
    level: Any = 3
    if isinstance(compress, tuple):
        if len(compress) != 2:
            raise ValueError(
                "Compress argument tuple should contain exactly 2 elements: (compress method, "
                f"compress level), you passed {compress}"
            )
        name, level = compress
    elif isinstance(compress, str):
        name = compress
    else:
        asked = compress is not False and compress != 0
        level = 3 if compress is True or not asked else compress
        name = by_name_of_file(path) or ("zlib" if asked else None)
    if not isinstance(level, int) or not 0 <= level <= 9:
        raise ValueError(
            f'Non valid compress level given: "{level}". Possible values are {list(range(10))}.'
        )
    if name is not None and name not in COMPRESSORS:
        raise ValueError(
            f'Non valid compression method given: "{name}". Possible values are '
            f"{list(COMPRESSORS)}."
        )
    return (name, level) if level else (None, 0)
