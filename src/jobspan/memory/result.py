"""References to results: small, picklable, read when asked for."""

from __future__ import annotations

from typing import Any

from jobspan.errors import EntryNotFoundError
from jobspan.keys import CallKey
from jobspan.memory.recall import Cache, entry_name

__all__ = ["MemorizedResult", "NotMemorizedResult"]


class MemorizedResult:
    """A result that is stored.

    Parameters
    ----------
    cache : Cache
        Where it is stored.
    key : CallKey
        Under which key.
    metadata : mapping
        When it was made and how long it took.
    """

    def __init__(self, cache: Cache, key: CallKey, metadata: dict[str, Any] | None = None) -> None:
        self._cache = cache
        self._key = CallKey(key.digest, key.function, ({}, ()))
        self.metadata = metadata or {}

    @property
    def func(self) -> str:
        """Name of the function."""
        return self._key.function

    func_id = func

    @property
    def args_id(self) -> str:
        """The key's digest."""
        return self._key.digest

    @property
    def duration(self) -> float | None:
        """How long the call took, in seconds."""
        return self.metadata.get("duration")

    def get(self) -> Any:
        """Read the result and return it.

        Raises
        ------
        EntryNotFoundError
            If it is no longer stored, or damaged.
        """
        found = self._cache.look_up(self._key)
        if found is None or found.header is None:
            raise EntryNotFoundError(
                f"Error while trying to load a MemorizedResult's value. It seems that this entry "
                f"is gone or damaged: {self._cache.store.url}/{entry_name(self._key)}. "
                "Call the function again to store it anew"
            )
        return found.value

    def clear(self) -> None:
        """Delete the result from the store."""
        self._cache.delete([entry_name(self._key)])

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(location="{self._cache.store.url}", func="{self.func}", '
            f'args_id="{self.args_id}")'
        )

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
