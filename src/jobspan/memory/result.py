"""References to results: small, picklable, read when asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from jobspan.codecs.header import Header
from jobspan.errors import EntryNotFoundError
from jobspan.keys import CallKey
from jobspan.logger import Logger
from jobspan.memory.naming import entry_name, is_digest
from jobspan.memory.opening import open_cache
from jobspan.memory.recall import Cache
from jobspan.memory.telling import loading
from jobspan.store import ObjectStore

__all__ = ["MemorizedResult", "NotMemorizedResult", "under_joblibs_names"]


class MemorizedResult(Logger):
    """A result that is stored.

    Parameters
    ----------
    location : str, path or Cache
        Where it is stored.
    call_id : tuple of str
        Name of the function and digest of the call's key: `func_id` and `args_id`.
    backend, mmap_mode
        As for `Memory`, where `location` is not the cache of one.
    verbose : int
        From 2 up, reading it is printed.
    timestamp : float, optional
        When the memory was made, for what is printed.
    metadata : mapping, optional
        When it was made, how long it took and from what; read from the entry where it is not given.

    Attributes
    ----------
    duration : float or None
        How long the call took, in seconds.
    """

    def __init__(
        self,
        location: Any,
        call_id: tuple[str, str],
        backend: str = "local",
        mmap_mode: str | None = None,
        verbose: int = 0,
        timestamp: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        Logger.__init__(self)
        if not isinstance(location, Cache):
            location = open_cache(location, backend=backend, mmap_mode=mmap_mode)
        if location is None:
            raise ValueError("location=None: pass where the result is stored")
        match call_id:
            case (str(function), str(digest)) if is_digest(digest):
                self._key = CallKey(digest, function, ({}, ()))
            case _:
                raise ValueError(
                    f"call_id={call_id!r}: pass the function's name and the key's digest, 64 "
                    "hexadecimal digits, such as `func_id` and `args_id` of another result"
                )
        self._cache: Cache = location
        self.mmap_mode = mmap_mode
        self.verbose = verbose
        self.timestamp = timestamp
        self.metadata = dict(self._stored_metadata() if metadata is None else metadata)
        self.duration: float | None = self.metadata.get("duration")

    def _stored_metadata(self) -> dict[str, Any]:
        found = self._cache.look_at(self._key)
        if found is None or found.header is None:
            return {}
        return under_joblibs_names(found.header, found.header.components)

    @property
    def store_backend(self) -> ObjectStore:
        """The store that holds it."""
        return self._cache.store

    @property
    def func(self) -> str:
        """Name of the function."""
        return self._key.function

    func_id = func

    @property
    def args_id(self) -> str:
        """The key's digest."""
        return self._key.digest

    def get(self) -> Any:
        """Read the result and return it.

        Raises
        ------
        EntryNotFoundError
            If it is no longer stored, or damaged.
        """
        place = f"{self._cache.store.url}/{entry_name(self._key)}"
        if self.verbose > 1:
            age = None if self.timestamp is None else time.time() - self.timestamp
            arguments = self.metadata.get("input_args")
            sys.stdout.write(loading(self.func, self.verbose, place, age, arguments) + "\n")
        found = self._cache.look_up(self._key)
        if found is None or found.header is None:
            raise EntryNotFoundError(
                f"Error while trying to load a MemorizedResult's value. It seems that this entry "
                f"is gone or damaged: {place}. Call the function again to store it anew"
            )
        return found.value

    def clear(self) -> None:
        """Delete the result from the store."""
        self._cache.forget(self._key)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(location="{self._cache.store.url}", func="{self.func}", '
            f'args_id="{self.args_id}")'
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "timestamp": None}

    def _repr_html_(self) -> str:
        from jobspan.memory.pictures import result_table

        return result_table(self.func, self.args_id, self.metadata)


class NotMemorizedResult:
    """A result that is kept in memory, for there is no store.

    Parameters
    ----------
    value : object
        The result.
    """

    __slots__ = ("valid", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.valid = True

    def get(self) -> Any:
        """Return the result.

        Raises
        ------
        EntryNotFoundError
            If it was cleared.
        """
        if not self.valid:
            raise EntryNotFoundError("No value stored.")
        return self.value

    def clear(self) -> None:
        """Forget the result."""
        self.valid = False
        self.value = None

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self.value!r})" if self.valid else f"{name} with no value"


def under_joblibs_names(header: Header, components: Mapping[str, str]) -> dict[str, Any]:
    """Return under joblib's names what an entry tells of its call.

    Parameters
    ----------
    header : Header
        The entry's header.
    components : mapping of str to str
        The parts of the call's key.
    """
    arguments = {
        name.removeprefix("argument: "): text.partition(" ")[2]
        for name, text in components.items()
        if name.startswith("argument: ")
    }
    return {"duration": header.seconds, "time": header.created, "input_args": arguments}
