"""Stores written for joblib: the base class they derive from, and the adapter that drives them."""

from __future__ import annotations

import os
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from jobspan.registry import Registry
from jobspan.store import Data, ObjectInfo, Token

__all__ = ["JoblibStyleStore", "StoreBackendBase", "open_registered", "register_store_backend"]


class StoreBackendBase(metaclass=ABCMeta):
    """What a store written for joblib derives from, with joblib's names.

    A new store is better written as :class:`jobspan.store.ObjectStore`; this class lets those that
    exist hold jobspan's entries.
    """

    location: ClassVar[Any] = None

    @abstractmethod
    def _open_item(self, f: str, mode: str) -> Any:
        """Open an item for reading or writing bytes."""

    @abstractmethod
    def _item_exists(self, location: str) -> bool:
        """Whether there is an item."""

    @abstractmethod
    def _move_item(self, src: str, dst: str) -> None:
        """Give an item another name, over what stands there."""

    @abstractmethod
    def create_location(self, location: str) -> None:
        """Make a folder for items."""

    @abstractmethod
    def clear_location(self, location: str) -> None:
        """Delete a folder and what is in it, or an item."""

    @abstractmethod
    def get_items(self) -> list[Any]:
        """Return what there is, each with ``path``, ``size`` and ``last_access``."""

    @abstractmethod
    def configure(
        self, location: str, verbose: int = 0, backend_options: dict[str, Any] | None = None
    ) -> None:
        """Get ready for a location."""


STORE_BACKENDS: Registry[Any] = Registry("store backend")


def register_store_backend(backend_name: str, backend: Any) -> None:
    """Register a store written for joblib under the name that ``Memory(backend=)`` is given.

    Parameters
    ----------
    backend_name : str
        The name.
    backend : class
        A subclass of `StoreBackendBase`, jobspan's or joblib's.
    """
    if not isinstance(backend_name, str):
        raise ValueError(f"Store backend name should be a string, '{backend_name}' given.")
    if not isinstance(backend, type) or not hasattr(backend, "_open_item"):
        raise ValueError(f"Store backend should inherit StoreBackendBase, '{backend}' given.")
    STORE_BACKENDS.register(backend_name, backend)


def open_registered(
    name: str, location: str | os.PathLike[str], options: Mapping[str, Any]
) -> JoblibStyleStore:
    """Return the store that a registered backend keeps at a location.

    Raises
    ------
    TypeError
        If no backend of that name is registered, as joblib raises it.
    """
    if name not in STORE_BACKENDS:
        raise TypeError(
            f"Unknown location {location} or backend {name}; register it with "
            f"register_store_backend, or leave backend= out: locations are any URL of fsspec"
        )
    backend = STORE_BACKENDS.load(name)()
    backend.configure(os.fspath(location), verbose=0, backend_options=dict(options))
    return JoblibStyleStore(backend, os.fspath(location))


class JoblibStyleStore:
    """Drives a store that was written for joblib; it has no conditional writes.

    Parameters
    ----------
    backend : object
        An object with the methods of `StoreBackendBase`.
    location : str
        Where its items are.
    """

    conditional = False

    def __init__(self, backend: Any, location: str) -> None:
        self._backend = backend
        self._location = str(getattr(backend, "location", None) or location)

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._location

    @property
    def location(self) -> str:
        """The same, under joblib's name for it."""
        return self._location

    def _folder(self, name: str) -> str:
        return os.path.join(self._location, *name.split("/"))  # noqa: PTH118 - its own paths

    def _path(self, name: str) -> str:
        # joblib's own backends list, measure and delete folders that hold a file of this name.
        return os.path.join(self._folder(name), "output.pkl")  # noqa: PTH118 - its own paths

    def get(self, name: str, start: int = 0, end: int | None = None) -> tuple[bytes, Token]:
        """Return the bytes of an item."""
        path = self._path(name)
        if not self._backend._item_exists(path):
            raise KeyError(name)
        with self._backend._open_item(path, "rb") as file:
            data: bytes = file.read()
        return data[start:end], _token(data)

    def put(self, name: str, data: Data) -> Token:
        """Write an item under another name, then move it."""
        path = self._path(name)
        self._backend.create_location(os.path.dirname(path))  # noqa: PTH120 - its own paths
        temporary = f"{path}.{os.urandom(8).hex()}-{os.getpid()}"
        with self._backend._open_item(temporary, "wb") as file:
            file.write(data)
        self._backend._move_item(temporary, path)
        return _token(data)

    def create(self, name: str, data: Data) -> Token | None:
        """Write an item where none is; another writer may do so at the same moment."""
        return None if self._backend._item_exists(self._path(name)) else self.put(name, data)

    def swap(self, name: str, data: Data, token: Token) -> Token | None:
        """Write an item over the one that was read; another writer may do so too."""
        try:
            if self.get(name)[1] != token:
                return None
        except KeyError:
            return None
        return self.put(name, data)

    def delete(self, name: str, token: Token | None = None) -> bool:
        """Delete an item."""
        path = self._path(name)
        if not self._backend._item_exists(path):
            return False
        if token is not None and self.get(name)[1] != token:
            return False
        self._backend.clear_location(self._folder(name))
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield what the backend says there is."""
        for item in self._backend.get_items() or ():
            name = os.path.relpath(item.path, self._location).replace(os.sep, "/")
            if name.startswith(prefix):
                yield ObjectInfo(name, item.size, item.last_access.timestamp())

    def close(self) -> None:
        """Do nothing: the backend has no such method."""


def _token(data: Data) -> Token:
    from blake3 import blake3

    return blake3(data).hexdigest()
