"""Values in files: a pickle with its buffers behind it, aligned, so that arrays can be mapped.

::

    magic "jobspan-dump-1", u64 number of parts, u64 length of each, padding to 64,
    then the parts: the pickle, and each buffer at a multiple of 64
"""

from __future__ import annotations

import io
import os
import pickle
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from jobspan.errors import EntryDamagedError
from jobspan.logger import level_of_user
from jobspan.persistence.compressors import COMPRESSORS, by_first_bytes, by_name_of_file
from jobspan.persistence.reading import (
    ALIGNMENT,
    COUNT,
    MAGIC,
    MMAP_MODES,
    map_value,
    read_value,
)

__all__ = ["dump", "load"]


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
        name, level = _read_compress(compress, "")
        if name is None:
            _write(value, filename)
        else:
            with COMPRESSORS.load(name).open(filename, "wb", level) as file:
                _write(value, file)
        return None
    path = os.fspath(filename) if isinstance(filename, str | os.PathLike) else None
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
    except OSError as error:
        if error.filename != str(temporary):
            raise
        raise type(error)(error.errno, error.strerror, path) from None
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
        Where from. Of a file object no more is read than the value's own bytes.
    mmap_mode : {None, "r", "c", "r+", "w+"}
        Map the arrays of an uncompressed file instead of reading them, as ``numpy.memmap``.
    ensure_native_byte_order : bool or "auto"
        Whether arrays of the other byte order are turned into this machine's; "auto": unless they
        are mapped.

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
    if mmap_mode is not None and mmap_mode not in MMAP_MODES:
        raise ValueError(f"mmap_mode={mmap_mode!r}: pass one of None, {sorted(MMAP_MODES)}")
    native = bool(ensure_native_byte_order) and not (
        ensure_native_byte_order == "auto" and mmap_mode is not None
    )
    if native and mmap_mode is not None:
        raise ValueError(
            f"ensure_native_byte_order={ensure_native_byte_order!r}: arrays that are mapped keep "
            f"their byte order; leave it out, or mmap_mode={mmap_mode!r}"
        )
    how = _How(mmap_mode, native)
    if hasattr(filename, "read"):
        name = getattr(filename, "name", None)
        return _load(filename, name if isinstance(name, str) else None, filename, how)
    path = os.fspath(filename)
    # A map that is written through needs a file that may be written.
    with Path(path).open("r+b" if mmap_mode in ("r+", "w+") else "rb") as file:
        return _load(file, path, path, how)


class _How(NamedTuple):
    """How arrays are wanted."""

    mmap_mode: str | None
    native: bool

    def unmapped(self, why: str) -> _How:
        """Return the same for what cannot be mapped, and say so."""
        if self.mmap_mode is None:
            return self
        warnings.warn(why, stacklevel=level_of_user())
        return self._replace(mmap_mode=None)


def _load(file: Any, name: str | None, source: Any, how: _How) -> Any:
    """Return the value that comes next from an open file.

    Parameters
    ----------
    file : binary file
        The file.
    name : str or None
        Where it is, if it has a place.
    source : object
        What the user passed: a name, or the file.
    how : _How
        How arrays are wanted.
    """
    start = file.read(len(MAGIC))
    if not start and isinstance(file, io.BytesIO):
        file.seek(0)  # as joblib: what was dumped into it is loaded from it, with nothing between
        start = file.read(len(MAGIC))
    if start == MAGIC:
        if how.mmap_mode is not None and _is_raw(file) and file.tell() == len(MAGIC):
            if how.mmap_mode in ("r+", "w+") and not file.writable() and name is not None:
                with Path(name).open("r+b") as writable:
                    return map_value(writable, name, how.mmap_mode)
            return map_value(file, name, how.mmap_mode)
        how = how.unmapped(
            f"{source!r} is not a raw file at its beginning, so it is not compatible with "
            f'mmap_mode "{how.mmap_mode}", which is not used: its arrays are read'
        )
        return read_value(file, native=how.native)
    if start and MAGIC.startswith(start):
        raise EntryDamagedError(f"{source} is truncated: it has {len(start)} bytes")
    if file is source:
        file = _with_start(start, file)
    compressor = by_first_bytes(start)
    if compressor is None:
        return _load_joblib(file if source is not name else name, how)
    with COMPRESSORS.load(compressor).open(name if source is name else file, "rb", 0) as unpacked:
        start = unpacked.read(len(MAGIC))
        if start == MAGIC:
            how = how.unmapped(
                f'mmap_mode "{how.mmap_mode}" is not compatible with compressed file {source}, '
                "and is not used: its arrays are read"
            )
            return read_value(unpacked, native=how.native)
        if source is not name:
            return _load_joblib(_with_start(start, unpacked), how)
    return _load_joblib(name, how)


def _is_raw(file: Any) -> bool:
    """Whether a file is one of the operating system's, which can be mapped."""
    return isinstance(getattr(file, "raw", file), io.FileIO)


def _with_start(start: bytes, file: Any) -> Any:
    """Return a file as it was before its first bytes were read."""
    try:
        file.seek(-len(start), os.SEEK_CUR)
    except (AttributeError, OSError):
        return io.BufferedReader(_Joined(start, file))
    return file


class _Joined(io.RawIOBase):
    """Bytes, and then a file that cannot go back to them."""

    def __init__(self, start: bytes, file: Any) -> None:
        self._start, self._file = start, file

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer as far as there is something at once."""
        size = len(buffer)
        if self._start:
            data, self._start = self._start[:size], self._start[size:]
        else:
            data = self._file.read1(size) if hasattr(self._file, "read1") else self._file.read(size)
        buffer[: len(data)] = data
        return len(data)


def _load_joblib(source: Any, how: _How) -> Any:
    try:
        import joblib
    except ImportError as error:
        raise ImportError(
            f"{source} was not written by jobspan.dump; if joblib wrote it, install joblib to "
            "read it: pip install joblib"
        ) from error
    try:
        return joblib.load(source, mmap_mode=how.mmap_mode, ensure_native_byte_order=how.native)
    except (pickle.UnpicklingError, EOFError, IndexError) as error:
        error.add_note(
            f"{source} was not written by jobspan.dump; if joblib wrote it, it is damaged"
        )
        raise


def _write(value: Any, file: Any) -> None:
    buffers: list[pickle.PickleBuffer] = []
    payload = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts: list[Any] = [payload, *(buffer.raw() for buffer in buffers)]
    header = MAGIC + COUNT.pack(len(parts)) + b"".join(COUNT.pack(len(p)) for p in parts)
    file.write(header)
    position = len(header)
    for part in parts:
        padding = -position % ALIGNMENT
        file.write(b"\0" * padding)
        file.write(part)
        position += padding + len(part)


def _read_compress(compress: Any, path: str) -> tuple[str | None, int]:
    """Return compressor and level for ``compress=`` and a file's name, as joblib does."""
    level: Any = 3
    compress = True if compress is None else compress  # as joblib takes it
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
