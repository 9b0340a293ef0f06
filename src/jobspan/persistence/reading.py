"""From the bytes of a file to a value: parts taken in order, arrays made from them or mapped.

What a file holds is described in :mod:`jobspan.persistence.files`.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from jobspan.errors import EntryDamagedError

__all__ = ["ALIGNMENT", "COUNT", "MAGIC", "MMAP_MODES", "map_value", "read_value"]

MAGIC = b"jobspan-dump-1\n\0"
ALIGNMENT = 64
COUNT = struct.Struct("<Q")
MMAP_MODES = ("r", "c", "r+", "w+")

_MOST_PARTS = 1 << 24
_CHUNK = 1 << 26
"""Bytes that are read at a time: a part is as long as it says only once it has arrived."""

_ACCESS = {"r": mmap.ACCESS_READ, "c": mmap.ACCESS_COPY}

ArrayMaker = Callable[..., Any]
"""Makes an array of what numpy's own function, given first, would make one of."""


class _Source(Protocol):
    """Bytes that are taken in order."""

    def take(self, size: int) -> Any:
        """Return so many bytes, all of them."""


class _Stream:
    """What a binary file gives, and not a byte more than is asked for."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def take(self, size: int) -> bytearray:
        """Return so many bytes, all of them."""
        data = bytearray()
        while len(data) < size:
            chunk = self._file.read(min(size - len(data), _CHUNK))
            if not chunk:
                raise EntryDamagedError("the file is truncated")
            data += chunk
        return data


class _Mapped:
    """The bytes of a mapped file."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._position = len(MAGIC)

    def take(self, size: int) -> memoryview:
        """Return so many bytes, all of them."""
        end = self._position + size
        if end > len(self._view):
            raise EntryDamagedError("the file is truncated")
        part = self._view[self._position : end]
        self._position = end
        return part


class _Unpickler(pickle.Unpickler):
    """Makes arrays in another way than numpy."""

    def __init__(self, parts: list[Any], make_array: ArrayMaker) -> None:
        super().__init__(io.BytesIO(parts[0]), buffers=parts[1:])
        self._make_array = make_array

    def find_class(self, module: str, name: str, /) -> Any:
        found = super().find_class(module, name)
        if name == "_frombuffer" and module.partition(".")[0] == "numpy":
            return partial(self._make_array, found)
        return found


def read_value(file: Any, *, native: bool) -> Any:
    """Return the value whose bytes come next from a binary file, its magic behind it.

    Parameters
    ----------
    file : binary file
        Any that has ``read``; nothing is read that belongs to what follows.
    native : bool
        Whether arrays of the other byte order are turned into those of this machine's.
    """
    parts = _parts(_Stream(file))
    return (
        _Unpickler(parts, _native).load() if native else pickle.loads(parts[0], buffers=parts[1:])
    )


def map_value(file: Any, name: str | None, mode: str) -> Any:
    """Return the value of a file whose arrays are mapped, as ``numpy.memmap``.

    Parameters
    ----------
    file : file
        Of the operating system's, a single value its content.
    name : str or None
        Where the file is.
    mode : {"r", "c", "r+", "w+"}
        As for ``numpy.memmap``.
    """
    memory = mmap.mmap(file.fileno(), 0, access=_ACCESS.get(mode, mmap.ACCESS_WRITE))
    parts = _parts(_Mapped(memoryview(memory)))
    place = None if name is None else os.path.abspath(name)  # noqa: PTH100 - as numpy has it
    return _Unpickler(parts, partial(_mapped, memory, place, mode)).load()


def _parts(source: _Source) -> list[Any]:
    (count,) = COUNT.unpack(source.take(COUNT.size))
    if not 1 <= count <= _MOST_PARTS:
        raise EntryDamagedError(f"the file is damaged: it says that it has {count} parts")
    sizes = struct.unpack(f"<{count}Q", source.take(COUNT.size * count))
    position = len(MAGIC) + COUNT.size * (count + 1)
    parts = []
    for size in sizes:
        padding = -position % ALIGNMENT
        source.take(padding)
        parts.append(source.take(size))
        position += padding + size
    return parts


def _native(make: ArrayMaker, *arguments: Any) -> Any:
    array = make(*arguments)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _mapped(
    memory: mmap.mmap,
    place: str | None,
    mode: str,
    make: ArrayMaker,
    buffer: Any,
    dtype: Any,
    shape: Any,
    order: Any,
    *more: Any,
) -> Any:
    """Return an array that knows which part of which file it maps, as workers can map it, too."""
    import numpy as np

    plain = make(buffer, dtype, shape, order, *more)
    if not plain.size or any(each is not None for each in more):
        return plain
    offset = _address(plain) - _address(np.frombuffer(memory, np.uint8))
    array: Any = np.ndarray.__new__(np.memmap, shape, dtype, memory, offset, order=order)
    array._mmap, array.offset, array.filename = memory, offset, place
    array.mode = "r+" if mode == "w+" else mode
    return array


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
