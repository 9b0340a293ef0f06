"""Every error that jobspan raises of its own.

Each one also derives from the builtin that users of joblib catch today::

    JobspanError
    ├── BackendError                    (RuntimeError) a backend cannot be had or has failed
    │   ├── UnknownBackendError         (ValueError) no backend of that name or URL scheme
    │   ├── MissingExtraError           (ImportError) an optional dependency is not installed
    │   ├── BackendUnreachableError     (ConnectionError) the cluster does not answer
    │   ├── VersionMismatchError        client and workers cannot understand each other
    │   └── WorkerLostError             a worker died while it ran a call
    ├── TaskTimeoutError                (TimeoutError) one call ran longer than task_timeout
    ├── ParallelTimeoutError            (TimeoutError) a result was waited for longer than timeout
    ├── TaskCancelledError              a call was dropped before it ended
    ├── TransportError                  (PicklingError) a value cannot travel to or from a worker
    ├── UnkeyableError                  (PicklingError) a value has no key
    ├── StoreError                      (OSError) the object store refused or failed
    │   ├── StoreLocationError          (ValueError) a location that cannot be a store
    │   └── StoreUnavailableError       (ConnectionError) the store does not answer
    ├── EntryError                      a stored entry cannot be used
    │   ├── EntryNotFoundError          (KeyError) no such entry
    │   ├── EntryDamagedError           (ValueError) truncated, altered or foreign bytes
    │   └── EntryUntrustedError         its signature is missing or wrong
    └── CodecError                      (ValueError) no codec fits, or a codec failed

The user's own exceptions are never wrapped: they arrive as what they are, with the
remote traceback as their cause (:class:`RemoteTraceback`).
"""

from __future__ import annotations

import sys
from functools import cache
from pickle import PicklingError
from typing import Any, Self

__all__ = [
    "BackendError",
    "BackendUnreachableError",
    "CodecError",
    "EntryDamagedError",
    "EntryError",
    "EntryNotFoundError",
    "EntryUntrustedError",
    "JobspanError",
    "JobspanWarning",
    "MissingExtraError",
    "ParallelTimeoutError",
    "RemoteTraceback",
    "StoreError",
    "StoreLocationError",
    "StoreUnavailableError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "TransportError",
    "UnkeyableError",
    "UnknownBackendError",
    "VersionMismatchError",
    "WorkerLostError",
]


class JobspanError(Exception):
    """Base of every error of jobspan's own."""


class JobspanWarning(UserWarning):
    """Base of every warning of jobspan's own."""


class BackendError(JobspanError, RuntimeError):
    """A backend cannot be had, or has failed as a whole."""


class UnknownBackendError(BackendError, ValueError):
    """No backend is registered under that name or URL scheme."""


class MissingExtraError(BackendError, ImportError):
    """An optional dependency is not installed; the message says what to install.

    Parameters
    ----------
    feature : str
        What the user asked for, as a phrase that starts the sentence.
    extra : str
        Name of the extra of the ``jobspan`` distribution that brings it; empty where none does.
    hint : str
        What is said of it where no extra brings it.
    """

    def __init__(self, feature: str, extra: str, hint: str = "") -> None:
        if extra:
            how = f"that is not installed. Install it with: pip install 'jobspan[{extra}]'"
        else:
            how = f"that no extra of jobspan brings: {hint}. Install it with pip"
        super().__init__(f"{feature} needs a package {how}")
        self.feature = feature
        self.extra = extra
        self.hint = hint

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return type(self), (self.feature, self.extra, self.hint)


class BackendUnreachableError(BackendError, ConnectionError):
    """The cluster at that address does not answer."""


class VersionMismatchError(BackendError):
    """Client and workers run versions that cannot understand each other."""


class WorkerLostError(BackendError):
    """A worker died while it ran a call."""


class TaskTimeoutError(JobspanError, TimeoutError):
    """One call ran longer than ``task_timeout``."""


class ParallelTimeoutError(JobspanError, TimeoutError):
    """A result was waited for longer than ``timeout``.

    Where multiprocessing is loaded it is a ``multiprocessing.TimeoutError``, too: joblib's scripts
    catch that one, which is no builtin ``TimeoutError``.
    """

    def __new__(cls, *args: object) -> Self:
        """Make an error that those catch who wait for multiprocessing's."""
        kind: type[Any] = cls
        context = sys.modules.get("multiprocessing.context")
        if cls is ParallelTimeoutError and context is not None:
            kind = _also(context.TimeoutError)
        made: Self = super().__new__(kind, *args)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return ParallelTimeoutError, self.args, self.__dict__ or None


@cache
def _also(theirs: type[Exception]) -> type[ParallelTimeoutError]:
    """Return the class of timeouts that derives from another library's as well."""
    names = {"__module__": __name__, "__qualname__": "ParallelTimeoutError"}
    return type("ParallelTimeoutError", (ParallelTimeoutError, theirs), names)


class TaskCancelledError(JobspanError):
    """A call was dropped before it ended."""


class TransportError(JobspanError, PicklingError):
    """A value cannot travel to a worker or back."""


class UnkeyableError(JobspanError, PicklingError):
    """A value has no key, for it cannot be encoded by what it is."""


class StoreError(JobspanError, OSError):
    """The object store refused a request or failed at it."""


class StoreLocationError(StoreError, ValueError):
    """A location that cannot be used as a store."""


class StoreUnavailableError(StoreError, ConnectionError):
    """The store does not answer."""


class EntryError(JobspanError):
    """A stored entry cannot be used."""


class EntryNotFoundError(EntryError, KeyError):
    """No entry is stored under that key."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class EntryDamagedError(EntryError, ValueError):
    """The bytes of an entry are truncated, altered, or not an entry at all."""


class EntryUntrustedError(EntryError):
    """The signature of an entry is missing or wrong."""


class CodecError(JobspanError, ValueError):
    """No codec fits a value, or the codec failed at it."""


class RemoteTraceback(Exception):  # noqa: N818 - it is a cause that shows text, never raised itself
    """Carries the text of a worker's traceback as the cause of the user's exception.

    Parameters
    ----------
    text : str
        The traceback as the worker formatted it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'
