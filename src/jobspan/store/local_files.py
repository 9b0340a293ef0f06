"""How a local object is written: a file that is whole before it takes its name."""

from __future__ import annotations

import mmap
import os
import secrets
import time
from collections.abc import Callable
from typing import Any

from jobspan.descriptors import opened
from jobspan.errors import StoreError
from jobspan.store.fresh_memory import fresh_memory
from jobspan.store.names import RESERVED_PREFIX
from jobspan.store.protocol import Data, Token

__all__ = [
    "MAPPED_BYTES",
    "ON_WINDOWS",
    "TEMPORARY",
    "link_new",
    "open_to_read",
    "read_or_map",
    "remove",
    "removed_on_error",
    "replace",
    "token_of",
    "token_of_facts",
    "write_temporary",
]

MAPPED_BYTES = 1 << 16
"""Files of at least so many bytes are mapped instead of read."""

TEMPORARY = RESERVED_PREFIX + "tmp-"
"""What the names of temporary files begin with."""

ON_WINDOWS = os.name == "nt"

_WRITE_FLAGS = (
    os.O_CREAT
    | os.O_EXCL
    | os.O_WRONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOINHERIT", 0)
)
_READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOINHERIT", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # what is no file, such as a pipe, must not be waited for
)
_NO_ACCESS_TIME = getattr(os, "O_NOATIME", 0)
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def open_to_read(path: str) -> int:
    """Open a file to read it, which leaves its access time alone where the system allows that.

    The access time tells of uses, which are noted on purpose: looking at an entry is none. Only a
    file's owner may ask for that; for others the system notes what it likes.
    """
    if _NO_ACCESS_TIME:
        try:
            return opened(path, _READ_FLAGS | _NO_ACCESS_TIME)
        except PermissionError:
            pass
    return opened(path, _READ_FLAGS)


Before = Callable[[bytes, int], None]


def read_or_map(path: str, *, writable: bool, copied: Before | None = None) -> Any:
    """Return the bytes of a file, its pages where it has many, None where there is none.

    Parameters
    ----------
    path : str
        The file.
    writable : bool
        Whether pages can be written to, by us alone.
    copied : callable or None
        Where it is given, a large file is read, too: pages change with it, even those that are
        private, until they are written to. It is called with how the file begins and its size
        before memory is taken for it, of which a sparse file has any amount, and may raise.
    """
    try:
        descriptor = open_to_read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = os.read(descriptor, MAPPED_BYTES)
        if len(data) < MAPPED_BYTES:
            return data
        if copied is not None:
            size = os.fstat(descriptor).st_size
            copied(data, size)
            return _all_of(descriptor, data, size)
        access = mmap.ACCESS_COPY if writable else mmap.ACCESS_READ
        return mmap.mmap(descriptor, 0, access=access)
    except IsADirectoryError:
        return None
    finally:
        os.close(descriptor)


def _all_of(descriptor: int, begun: bytes, size: int) -> memoryview:
    """Return the whole content of a file, in memory that nobody else has."""
    content = fresh_memory(max(size, len(begun)))
    filled = len(begun)
    content[:filled] = begun
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        while filled < len(content):
            count = file.readinto(content[filled:])
            if not count:
                return content[:filled]
            filled += count
    return content


def write_temporary(path: str, data: Data) -> tuple[str, Token]:
    """Write a temporary file beside `path`; its own path, and the token it will have."""
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, TEMPORARY + secrets.token_hex(8))
    with removed_on_error(temporary):
        try:
            descriptor = _open_in_folder(temporary, folder, _WRITE_FLAGS)
        except (FileExistsError, NotADirectoryError):
            raise _path_taken(path) from None
        try:
            _fill(descriptor, data)
            if os.utime in os.supports_fd:
                return temporary, _stamped(descriptor)
            stamp = _stamp(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        os.utime(temporary, ns=(stamp, stamp))
        return temporary, token_of_facts(os.stat(temporary))


def link_new(path: str, data: Data, birthplace: str) -> Token | None:
    """Write a file that has no name until it is whole, and then `path`; None where that is taken.

    Half the work of a temporary file, and nothing is left behind whatever happens. Linux only.

    Parameters
    ----------
    path : str
        Where it belongs.
    data : bytes-like
        What is in it.
    birthplace : str
        A folder of the same file system, one for all: ext4 keeps a folder's files together, and to
        make one in each of many folders in turn takes it up to ten times as long.

    Raises
    ------
    OSError
        Where the file system has no files without a name.
    """
    flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
    descriptor = _open_in_folder(birthplace, birthplace, flags)
    try:
        _fill(descriptor, data)
        token = _stamped(descriptor)
        return token if _link(descriptor, path) else None
    finally:
        os.close(descriptor)


def _link(descriptor: int, path: str) -> bool:
    """Give a file without a name a path; whether that was free."""
    source = f"/proc/self/fd/{descriptor}"
    folder = os.path.dirname(path)
    for attempt in range(9):
        try:
            # A folder's descriptor is given only so that the link is followed, as open(2) has it.
            os.link(source, path, src_dir_fd=descriptor)
        except FileNotFoundError:
            if attempt == 8:
                raise
        except FileExistsError:
            return False
        except NotADirectoryError:
            raise _path_taken(path) from None
        else:
            return True
        try:
            # Again and again, for a sweep may remove the folder while it is still empty.
            _make_folder(folder)
        except (FileExistsError, NotADirectoryError):
            raise _path_taken(path) from None
    raise AssertionError("unreachable")


def _fill(descriptor: int, data: Data) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _stamp(facts: os.stat_result) -> int:
    """Return a time stamp for a state of a file.

    The file system's clock ticks in milliseconds, and its file numbers are soon used again: without
    chance in the time stamp, two states could share one token.
    """
    stamp = facts.st_mtime_ns // 1_000_000 * 1_000_000 + secrets.randbelow(1_000_000)
    return stamp - stamp % 100 if ON_WINDOWS else stamp


def _stamped(descriptor: int) -> Token:
    stamp = _stamp(os.fstat(descriptor))
    os.utime(descriptor, ns=(stamp, stamp))
    return token_of_facts(os.fstat(descriptor))


def _path_taken(path: str) -> StoreError:
    return StoreError(
        f"cannot write {path!r}: a part of that path is a file, for one object's name continues "
        "another's. Use names of which none starts with another and '/'"
    )


class removed_on_error:  # noqa: N801 - used like a function
    """Remove a temporary file where the block ends in an error."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type: type[BaseException] | None, *rest: object) -> None:
        if exc_type is not None:
            remove(self._path)


def token_of_facts(facts: os.stat_result) -> Token:
    """Return the token of a file's state."""
    return f"{facts.st_mtime_ns:x}-{facts.st_ino:x}-{facts.st_size:x}"


def token_of(path: str) -> Token | None:
    """Return the token of the file at a path; None where there is none."""
    try:
        return token_of_facts(os.stat(path))
    except _ABSENT:
        return None


def _open_in_folder(path: str, folder: str, flags: int) -> int:
    for _ in range(8):
        try:
            return opened(path, flags)
        except FileNotFoundError:
            # Again and again, for a sweep may remove the folder while it is still empty.
            _make_folder(folder)
    return opened(path, flags)


def _make_folder(folder: str) -> None:
    try:
        os.mkdir(folder)  # its parent is mostly there: that is half the work of makedirs
    except FileExistsError:
        return
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)


def replace(source: str, target: str) -> None:
    """Give `source` the name `target`, also on Windows while a reader has the old file open."""
    for pause in (0.001, 0.01, 0.1, 0.5, 1.0) if ON_WINDOWS else ():
        try:
            os.replace(source, target)
        except PermissionError:
            time.sleep(pause)
        else:
            return
    try:
        os.replace(source, target)
    except IsADirectoryError:
        raise StoreError(
            f"cannot write {target!r}: it is a folder, for another object's name continues "
            f"this one. Use names of which none starts with another and '/'"
        ) from None


def remove(path: str) -> bool:
    """Remove a file; whether it was there."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
