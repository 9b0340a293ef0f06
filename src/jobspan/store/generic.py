"""Any other file system of fsspec's as an object store, without conditions.

fsspec has no conditional writes: its ``mode="create"`` looks and then writes. A store on such a
file system therefore says that it is not conditional, and whoever asks is warned once.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from jobspan.errors import MissingExtraError, StoreError, StoreLocationError
from jobspan.store.conditions import warn_without_conditions
from jobspan.store.locations import Location, scrub
from jobspan.store.names import RESERVED_PREFIX, can_name, check_name, check_prefix
from jobspan.store.protocol import Data, ObjectInfo, Token

__all__ = ["GenericStore"]

# Object stores show an object when it is whole; these show a file while it is written.
_GROWING = {
    "sftp",
    "ssh",
    "smb",
    "ftp",
    "hdfs",
    "arrow_hdfs",
    "webhdfs",
    "dbfs",
    "dir",
    "simplecache",
}


class GenericStore:
    """Objects on a file system of fsspec's that has no store of its own here.

    Parameters
    ----------
    location : Location
        Where the folder is.
    options : mapping
        What the file system takes; kept out of `repr` and of messages.
    original : str
        The whole URL as the user wrote it.

    Notes
    -----
    Threads and processes: safe as far as the file system is. A token is a digest of the bytes, so a
    part of an object is read with an empty token, which names no state.
    """

    def __init__(self, location: Location, options: Mapping[str, Any], original: str) -> None:
        self._location = location
        self._options = dict(options)
        self._original = original
        self._opened: tuple[int, Any, str] | None = None
        self._warned = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def __reduce__(self) -> tuple[type[GenericStore], tuple[Location, dict[str, Any], str]]:
        return type(self), (self._location, self._options, self._original)

    @property
    def url(self) -> str:
        """The location without secrets."""
        return self._location.url

    @property
    def conditional(self) -> bool:
        """False, with a warning the first time."""
        first, self._warned = not self._warned, True
        if first:
            warn_without_conditions(self.url)
        return False

    def check(self) -> None:
        """Make sure that the file system is known and answers."""
        fs, root = self._open()
        try:
            is_file = fs.isfile(root)
        except Exception as error:
            raise self._translated(error) from None
        if is_file:
            raise StoreLocationError(
                f"{self.url} is a file, and a store needs a folder. Pass the folder's URL"
            )

    def get(self, name: str, start: int = 0, end: int | None = None) -> tuple[bytes, Token]:
        """Return the bytes from `start` to `end` of an object, and its token."""
        fs, path = self._at(name)
        whole = start == 0 and end is None
        try:
            data: bytes = fs.cat_file(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise KeyError(name) from None
        except Exception as error:
            raise self._translated(error) from None
        return (data, _digest(data)) if whole else (data[start:end], _digest(data))

    def put(self, name: str, data: Data) -> Token:
        """Write an object whatever stood there."""
        fs, path = self._at(name)
        content = bytes(data)
        try:
            if not set(_protocols(fs)) & _GROWING:
                fs.pipe_file(path, content)
            else:
                _write_and_rename(fs, path, content)
        except Exception as error:
            raise self._translated(error) from None
        return _digest(content)

    def create(self, name: str, data: Data) -> Token | None:
        """Write an object if there is none; two writers at once may both be told that they won."""
        return None if self._token_of(name) is not None else self.put(name, data)

    def swap(self, name: str, data: Data, token: Token) -> Token | None:
        """Write an object if it is in the state that `token` names at the time of looking."""
        return self.put(name, data) if self._token_of(name) == token else None

    def delete(self, name: str, token: Token | None = None) -> bool:
        """Delete an object; whether it was there and is gone."""
        fs, path = self._at(name)
        found = self._token_of(name)
        if found is None or token not in {None, found}:
            return False
        try:
            fs.rm_file(path)
        except FileNotFoundError:
            return False
        except Exception as error:
            raise self._translated(error) from None
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with `prefix`, in no order."""
        check_prefix(prefix)
        fs, root = self._open()
        folder = prefix.rpartition("/")[0]
        try:
            fs.invalidate_cache()
            found = fs.find(f"{root}/{folder}" if folder else root, detail=True)
        except FileNotFoundError:
            return iter(())
        except Exception as error:
            raise self._translated(error) from None
        skip = len(root) + 1
        return (
            ObjectInfo(path[skip:], int(info.get("size") or 0), _modified(info))
            for path, info in found.items()
            if path[skip:].startswith(prefix) and can_name(path[skip:])
        )

    def close(self) -> None:
        """Leave the connections to fsspec."""
        self._opened = None

    def _open(self) -> tuple[Any, str]:
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            from fsspec.core import url_to_fs

            try:
                fs, root = url_to_fs(self._original, **self._options)
            except ImportError as error:
                raise MissingExtraError(f"a store at {self.url!r}", "", str(error)) from None
            except Exception as error:
                if isinstance(error, ValueError) and "not known" in str(error).lower():
                    raise StoreLocationError(
                        f"{self.url!r}: fsspec knows no URLs that start with "
                        f"{self._location.scheme!r}. Pass a folder, or a URL such as "
                        f"'s3://bucket/prefix', 'gs://...' or 'az://...'"
                    ) from None
                raise self._translated(error) from None
            opened = self._opened = (os.getpid(), fs, root.rstrip("/"))
        return opened[1], opened[2]

    def _at(self, name: str) -> tuple[Any, str]:
        check_name(name)
        fs, root = self._open()
        return fs, f"{root}/{name}"

    def _token_of(self, name: str) -> Token | None:
        try:
            return self.get(name)[1]
        except KeyError:
            return None

    def _translated(self, error: Exception) -> StoreError:
        text = scrub(str(error) or type(error).__name__, {**self._options, "key": self._original})
        if isinstance(error, TypeError | ValueError):
            return StoreLocationError(
                f"{self.url}: fsspec refuses the location or the storage options: {text}"
            )
        return StoreError(f"{self.url}: the store refused a request: {text}")


def _write_and_rename(fs: Any, path: str, content: bytes) -> None:
    folder, _, _ = path.rpartition("/")
    temporary = f"{folder}/{RESERVED_PREFIX}tmp-{secrets.token_hex(8)}"
    fs.makedirs(folder, exist_ok=True)
    fs.pipe_file(temporary, content)
    try:
        try:
            fs.mv(temporary, path)
        except OSError:
            # Some servers rename onto nothing only.
            fs.rm_file(path)
            fs.mv(temporary, path)
    except BaseException:
        fs.rm_file(temporary)
        raise


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _digest(data: bytes) -> Token:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _modified(info: Mapping[str, Any]) -> float:
    for name in ("mtime", "LastModified", "last_modified", "modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return time.time()
