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
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from jobspan.errors import StoreLocationError
from jobspan.store.conditions import warn_without_conditions
from jobspan.store.local_files import (
    ON_WINDOWS,
    TEMPORARY,
    link_new,
    open_to_read,
    remove,
    removed_on_error,
    replace,
    token_of,
    token_of_facts,
    write_temporary,
)
from jobspan.store.locking import LOCKS_NAMES, FileLock, NameLock
from jobspan.store.names import RESERVED_PREFIX, check_name, check_prefix
from jobspan.store.protocol import Data, ObjectInfo, Token

__all__ = ["LocalStore"]

_OWN_FOLDER = RESERVED_PREFIX + "store"
_GIT_IGNORE = ".gitignore"
_LOCK_FILES = 64
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
        self._named = not hasattr(os, "O_TMPFILE")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._root!r})"

    def __reduce__(self) -> tuple[type[LocalStore], tuple[str]]:
        return type(self), (self._root,)

    @property
    def url(self) -> str:
        """The folder as a ``file://`` URL."""
        return Path(self._root).as_uri()

    @property
    def location(self) -> str:
        """The folder as a path, under joblib's name for it."""
        return self._root

    def keep_out_of_git(self) -> None:
        """Make the folder; one that is empty gets a file that tells git to ignore it."""
        try:
            os.makedirs(self._root, exist_ok=True)
            if not os.listdir(self._root):
                with open(os.path.join(self._root, _GIT_IGNORE), "x") as file:
                    file.write("# Made by jobspan: a cache is no part of what git keeps.\n*\n")
        except OSError:
            return  # whoever writes into it will be told

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
        return self._prefix + name if not ON_WINDOWS else self._prefix + _windows_name(name)

    def get(self, name: str, start: int = 0, end: int | None = None) -> tuple[bytes, Token]:
        """Return the bytes from `start` to `end` of an object, and its token."""
        try:
            descriptor = open_to_read(self.local_path(name))
        except _ABSENT:
            raise KeyError(name) from None
        except PermissionError:
            if ON_WINDOWS and os.path.isdir(self.local_path(name)):
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
        return data, token_of_facts(facts)

    def put(self, name: str, data: Data) -> Token:
        """Write an object whatever stood there."""
        path = self.local_path(name)
        temporary, token = write_temporary(path, data)
        with removed_on_error(temporary), self._lock(path):
            replace(temporary, path)
        return token

    def create(self, name: str, data: Data) -> Token | None:
        """Write an object only where none is; None where somebody else was first."""
        path = self.local_path(name)
        if not self._named:
            try:
                return link_new(path, data, self._root)
            except OSError:
                self._named = True  # no files without a name here, or no /proc
        temporary, token = write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return None
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
                raise
            return self._create_without_links(temporary, path, token)
        finally:
            remove(temporary)
        return token

    def _create_without_links(self, temporary: str, path: str, token: Token) -> Token | None:
        with self._lock(path):
            if os.path.exists(path):
                return None
            replace(temporary, path)
        return token

    def swap(self, name: str, data: Data, token: Token) -> Token | None:
        """Write an object only over the state that `token` names; None where it has changed."""
        path = self.local_path(name)
        if token_of(path) != token:
            return None
        temporary, new_token = write_temporary(path, data)
        with removed_on_error(temporary), self._lock(path):
            if token_of(path) == token:
                replace(temporary, path)
                return new_token
        remove(temporary)
        return None

    def delete(self, name: str, token: Token | None = None) -> bool:
        """Delete an object, with `token` only in that state; whether it was there and is gone."""
        path = self.local_path(name)
        found = token_of(path)
        if found is None or (token is not None and found != token):
            return False
        with self._lock(path):
            if token is not None and token_of(path) != token:
                return False
            return remove(path)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with `prefix`, in no order; links are none."""
        check_prefix(prefix)
        folder, _, start = prefix.rpartition("/")
        return self._walk(folder + "/" if folder else "", start)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    @property
    def locks_names(self) -> bool:
        """Whether `try_lock` works here: the system has locks of parts of a file, and so has it."""
        return LOCKS_NAMES and self.conditional

    def try_lock(self, name: str) -> NameLock | None:
        """Claim a name for this thread until released; None while another one has it."""
        check_name(name)
        return NameLock.acquire(f"{self._prefix}{_OWN_FOLDER}{os.sep}names.lock", name)

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
            descriptor = open_to_read(self.local_path(name))
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
                if file.startswith(TEMPORARY) and _older(path, older_than):
                    removed += remove(path)
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
            path = self._prefix + (_windows_name(folder) if ON_WINDOWS else folder)
            try:
                entries = os.scandir(path)
            except _ABSENT:
                continue
            with entries:
                for entry in entries:
                    part = unquote(entry.name) if ON_WINDOWS else entry.name
                    if not part.startswith(start) or part.startswith(RESERVED_PREFIX):
                        continue
                    if part == _GIT_IGNORE and not folder:
                        continue
                    if entry.is_symlink():
                        continue  # it leads elsewhere, or round in circles
                    if entry.is_dir():
                        pending.append((folder + part + "/", ""))
                        continue
                    try:
                        facts = os.stat(entry.path) if ON_WINDOWS else entry.stat()
                    except _ABSENT:
                        continue
                    yield ObjectInfo(
                        folder + part,
                        facts.st_size,
                        facts.st_mtime,
                        token_of_facts(facts),
                        facts.st_atime,
                    )

    def _lock(self, path: str) -> FileLock | _NoLock:
        if not self.conditional:
            return _NoLock()
        return FileLock(self._lock_path(path))

    def _lock_path(self, path: str) -> str:
        number = zlib.crc32(os.fsencode(path)) % _LOCK_FILES
        return f"{self._prefix}{_OWN_FOLDER}{os.sep}{number:02d}.lock"


class _NoLock:
    """What stands for a lock on a file system that has none."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        pass


def _read_rest(descriptor: int, first: bytes, wanted: int) -> bytes:
    parts = [first]
    missing = wanted - len(first)
    while missing > 0 and (part := os.read(descriptor, missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


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
