"""A folder of this machine as an object store: one file an object, no library in between.

Reading takes no lock: a file under its final name is whole and never written to again. Every
write goes to a temporary file beside it, which then takes the name: `os.link` where only the first
may win, `os.replace` where the last may. All that replaces or removes holds a lock on the name
(one of a few lock files, by the name's checksum), so that comparing a token and acting on it are
one step. `create` needs no lock, for nobody who holds one acts upon a name that is free.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from jobspan.errors import StoreError, StoreLocationError
from jobspan.store.conditions import warn_without_conditions
from jobspan.store.locking import FileLock
from jobspan.store.names import RESERVED_PREFIX, check_name, check_prefix
from jobspan.store.protocol import Data, ObjectInfo, Token

__all__ = ["LocalStore"]

_TEMPORARY = RESERVED_PREFIX + "tmp-"
_OWN_FOLDER = RESERVED_PREFIX + "store"
_LOCK_FILES = 64
_WRITE_FLAGS = (
    os.O_CREAT
    | os.O_EXCL
    | os.O_WRONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOINHERIT", 0)
)
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
_ON_WINDOWS = os.name == "nt"
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class LocalStore:
    """Objects as files below a folder.

    Parameters
    ----------
    root : str or path-like
        The folder. It is made when something is written.

    Raises
    ------
    StoreLocationError
        If `root` is a file.

    Notes
    -----
    Threads and processes: safe among all of them, also on a shared network folder whose server
    keeps `flock` and hard links; where it has no locks, `conditional` is False.

    Nothing is flushed to the disk before it takes its name: after a power failure an object may
    be damaged, which its reader has to notice. A writer that is killed leaves at most one
    temporary file, which `sweep` removes.

    Examples
    --------
    >>> import tempfile
    >>> store = LocalStore(tempfile.mkdtemp())
    >>> token = store.create("greetings/first", b"hello")
    >>> store.create("greetings/first", b"me too") is None
    True
    >>> store.get("greetings/first")[0]
    b'hello'
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.abspath(os.path.expanduser(root))
        if os.path.exists(self._root) and not os.path.isdir(self._root):
            raise StoreLocationError(
                f"{self._root!r} is a file, and a store needs a folder. "
                f"Pass a folder, such as {self._root + '.cache'!r}"
            )
        self._prefix = self._root + os.sep
        self._conditional: bool | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._root!r})"

    def __reduce__(self) -> tuple[type[LocalStore], tuple[str]]:
        return type(self), (self._root,)

    @property
    def url(self) -> str:
        """The folder as a ``file://`` URL."""
        return Path(self._root).as_uri()

    @property
    def conditional(self) -> bool:
        """Whether this folder's file system has locks that work."""
        if self._conditional is None:
            try:
                with FileLock(self._lock_path("")):
                    self._conditional = True
            except OSError as error:
                if error.errno not in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}:
                    raise
                self._conditional = False
                warn_without_conditions(self.url)
        return self._conditional

    def local_path(self, name: str) -> str:
        """Return the path of the file that holds an object."""
        check_name(name)
        return self._prefix + name if not _ON_WINDOWS else self._prefix + _windows_name(name)

    def get(self, name: str, start: int = 0, end: int | None = None) -> tuple[bytes, Token]:
        """Return the bytes from `start` to `end` of an object, and its token."""
        try:
            descriptor = os.open(self.local_path(name), _READ_FLAGS)
        except _ABSENT:
            raise KeyError(name) from None
        except PermissionError:
            if _ON_WINDOWS and os.path.isdir(self.local_path(name)):
                raise KeyError(name) from None
            raise
        try:
            facts = os.fstat(descriptor)
            size = facts.st_size
            end = size if end is None or end > size else end
            if start:
                os.lseek(descriptor, start, os.SEEK_SET)
            data = os.read(descriptor, max(end - start, 0))
            # One read returns at most 2 GiB, and less where a signal comes in between.
            if len(data) < end - start:
                data = _read_rest(descriptor, data, end - start)
        except IsADirectoryError:
            raise KeyError(name) from None
        finally:
            os.close(descriptor)
        return data, _token(facts)

    def put(self, name: str, data: Data) -> Token:
        """Write an object whatever stood there."""
        path = self.local_path(name)
        temporary, token = self._write(path, data)
        with _removed_on_error(temporary), self._lock(path):
            _replace(temporary, path)
        return token

    def create(self, name: str, data: Data) -> Token | None:
        """Write an object only where none is; None where somebody else was first."""
        path = self.local_path(name)
        temporary, token = self._write(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return None
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
                raise
            return self._create_without_links(temporary, path, token)
        finally:
            _remove(temporary)
        return token

    def _create_without_links(self, temporary: str, path: str, token: Token) -> Token | None:
        with self._lock(path):
            if os.path.exists(path):
                return None
            _replace(temporary, path)
        return token

    def swap(self, name: str, data: Data, token: Token) -> Token | None:
        """Write an object only over the state that `token` names; None where it has changed."""
        path = self.local_path(name)
        if _token_of(path) != token:
            return None
        temporary, new_token = self._write(path, data)
        with _removed_on_error(temporary), self._lock(path):
            if _token_of(path) == token:
                _replace(temporary, path)
                return new_token
        _remove(temporary)
        return None

    def delete(self, name: str, token: Token | None = None) -> bool:
        """Delete an object, with `token` only in that state; whether it was there and is gone."""
        path = self.local_path(name)
        found = _token_of(path)
        if found is None or (token is not None and found != token):
            return False
        with self._lock(path):
            if token is not None and _token_of(path) != token:
                return False
            return _remove(path)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with `prefix`, in no order."""
        check_prefix(prefix)
        folder, _, start = prefix.rpartition("/")
        return self._walk(folder + "/" if folder else "", start)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def age(self, name: str) -> float | None:
        """Return the seconds since an object was last written, by the file system's clock."""
        try:
            modified = os.stat(self.local_path(name)).st_mtime
        except _ABSENT:
            return None
        # Asked of the file system, for a network folder's clock is its server's.
        clock = os.path.join(self._root, _OWN_FOLDER, "clock")
        try:
            os.utime(clock)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(clock), exist_ok=True)
            with open(clock, "ab"):
                os.utime(clock)
        except OSError:
            return max(time.time() - modified, 0.0)  # a folder that may only be read
        return max(os.stat(clock).st_mtime - modified, 0.0)

    def touch(self, name: str) -> None:
        """Note that an object was used now, as its file's access time."""
        try:
            descriptor = os.open(self.local_path(name), _READ_FLAGS)
        except (*_ABSENT, PermissionError):
            return
        try:
            # By descriptor, lest a state that is written meanwhile get this one's time stamp.
            target = descriptor if os.utime in os.supports_fd else self.local_path(name)
            os.utime(target, ns=(time.time_ns(), os.fstat(descriptor).st_mtime_ns))
        except (*_ABSENT, PermissionError):
            return
        finally:
            os.close(descriptor)

    def sweep(self, older_than: float = 3600.0) -> int:
        """Remove temporary files of dead writers, and folders that are empty."""
        removed = 0
        for folder, _, files in os.walk(self._root, topdown=False):
            for file in files:
                path = os.path.join(folder, file)
                if file.startswith(_TEMPORARY) and _older(path, older_than):
                    removed += _remove(path)
            own = folder == self._root or folder.endswith(os.sep + _OWN_FOLDER)
            if not own and _older(folder, older_than):
                try:
                    os.rmdir(folder)
                except OSError:
                    continue  # not empty
        return removed

    def _walk(self, folder: str, start: str) -> Iterator[ObjectInfo]:
        pending = [(folder, start)]
        while pending:
            folder, start = pending.pop()
            path = self._prefix + (_windows_name(folder) if _ON_WINDOWS else folder)
            try:
                entries = os.scandir(path)
            except _ABSENT:
                continue
            with entries:
                for entry in entries:
                    part = unquote(entry.name) if _ON_WINDOWS else entry.name
                    if not part.startswith(start) or part.startswith(RESERVED_PREFIX):
                        continue
                    if entry.is_dir():
                        pending.append((folder + part + "/", ""))
                        continue
                    try:
                        facts = os.stat(entry.path) if _ON_WINDOWS else entry.stat()
                    except _ABSENT:
                        continue
                    yield ObjectInfo(
                        folder + part, facts.st_size, facts.st_mtime, _token(facts), facts.st_atime
                    )

    def _lock(self, path: str) -> FileLock | _NoLock:
        if not self.conditional:
            return _NoLock()
        return FileLock(self._lock_path(path))

    def _lock_path(self, path: str) -> str:
        number = zlib.crc32(os.fsencode(path)) % _LOCK_FILES
        return f"{self._prefix}{_OWN_FOLDER}{os.sep}{number:02d}.lock"

    def _write(self, path: str, data: Data) -> tuple[str, Token]:
        """Write a temporary file beside `path`; its own path, and the token it will have."""
        folder = os.path.dirname(path)
        temporary = os.path.join(folder, _TEMPORARY + secrets.token_hex(8))
        try:
            descriptor = _open_in_folder(temporary, folder)
        except (FileExistsError, NotADirectoryError):
            raise StoreError(
                f"cannot write {path!r}: a part of that path is a file, for one object's "
                f"name continues another's. Use names of which none starts with another and '/'"
            ) from None
        with _removed_on_error(temporary):
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                facts = os.fstat(descriptor)
                # The file system's clock ticks in milliseconds, and its file numbers are soon used
                # again: without chance in the time stamp, two states could share one token.
                stamp = facts.st_mtime_ns // 1_000_000 * 1_000_000 + secrets.randbelow(1_000_000)
                if _ON_WINDOWS:
                    stamp -= stamp % 100
            finally:
                os.close(descriptor)
            os.utime(temporary, ns=(stamp, stamp))
            return temporary, _token(os.stat(temporary))


class _NoLock:
    """What stands for a lock on a file system that has none."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        pass


class _removed_on_error:  # noqa: N801 - used like a function
    """Remove a temporary file where the block ends in an error."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type: type[BaseException] | None, *rest: object) -> None:
        if exc_type is not None:
            _remove(self._path)


def _token(facts: os.stat_result) -> Token:
    return f"{facts.st_mtime_ns:x}-{facts.st_ino:x}-{facts.st_size:x}"


def _token_of(path: str) -> Token | None:
    try:
        return _token(os.stat(path))
    except _ABSENT:
        return None


def _read_rest(descriptor: int, first: bytes, wanted: int) -> bytes:
    parts = [first]
    missing = wanted - len(first)
    while missing > 0 and (part := os.read(descriptor, missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _open_in_folder(path: str, folder: str) -> int:
    for _ in range(8):
        try:
            return os.open(path, _WRITE_FLAGS, 0o666)
        except FileNotFoundError:
            # Again and again, for a sweep may remove the folder while it is still empty.
            os.makedirs(folder, exist_ok=True)
    return os.open(path, _WRITE_FLAGS, 0o666)


def _replace(source: str, target: str) -> None:
    """Give `source` the name `target`, also on Windows while a reader has the old file open."""
    for pause in (0.001, 0.01, 0.1, 0.5, 1.0) if _ON_WINDOWS else ():
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


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _older(path: str, seconds: float) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime > seconds
    except FileNotFoundError:
        return False


def _windows_name(name: str) -> str:
    """Escape what Windows does not allow in a file name."""
    segments = []
    for segment in name.split("/"):
        escaped = "".join(quote(c) if c in '%<>:"|?*' else c for c in segment)
        if escaped.endswith((".", " ")):
            escaped = f"{escaped[:-1]}%{ord(escaped[-1]):02X}"
        segments.append(escaped)
    return os.sep.join(segments)
