"""Failures on their way: exceptions of any kind as plain values, and back."""

from __future__ import annotations

import pickle
from typing import Any, TypeAlias

from jobspan.errors import TransportError
from jobspan.outcomes import Failure, FailureKind
from jobspan.transport.pickling import encode

__all__ = ["PackedFailure", "pack_failure", "unpack_failure"]

PackedFailure: TypeAlias = tuple[bytes | None, str, str, str, str]
"""The exception's pickle, if it has one, its type's name and text, the traceback, the kind."""


def pack_failure(failure: Failure) -> PackedFailure:
    """Return a failure as plain values, its exception pickled if that can be undone."""
    error = failure.exception
    pickled, whole = _pickled(error, error)
    if not whole and _reduces_as_builtin(error):
        unmade, whole = _pickled(error, _Unmade(error))
        if whole or pickled is None:
            pickled = unmade
    notes = getattr(error, "__notes__", [])
    name = type(error).__qualname__
    text = f"{name}: {error}" + "".join(f"\n{note}" for note in notes)
    return pickled, name, text, failure.traceback, failure.kind.value


def unpack_failure(packed: PackedFailure) -> Failure:
    """Return the failure; one that stands for it where its exception cannot be made here."""
    pickled, name, text, traceback, kind = packed
    reason = "does not survive pickling"
    if pickled is not None:
        try:
            return Failure(pickle.loads(pickled), traceback, FailureKind(kind))
        except Exception as error:  # noqa: BLE001 - any exception may fail in any way
            reason = f"cannot be rebuilt here ({error})"
    stand_in = TransportError(f"the call raised {name}, which {reason}: {text}")
    return Failure(stand_in, traceback, FailureKind(kind))


def _pickled(error: BaseException, what: Any) -> tuple[bytes | None, bool]:
    """Return the pickle of `what` if an exception comes of it, and whether it is the same one.

    One that tells the address of an object never says the same again.
    """
    try:
        pickled = bytes(encode(what).payload)
        again = pickle.loads(pickled)
        if isinstance(again, BaseException):
            return pickled, type(again) is type(error) and str(again) == str(error)
    except Exception:  # noqa: BLE001 - any exception may fail in any way
        pass
    return None, False


def _reduces_as_builtin(error: BaseException) -> bool:
    """Whether no class of the user's says how it is pickled."""
    reducing = next(base for base in type(error).__mro__ if "__reduce__" in vars(base))
    return reducing.__module__ == "builtins"


class _Unmade:
    """Stands in a pickle for an exception that its constructor cannot make of its arguments."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _without_constructor, (type(self._error), self._error.args, vars(self._error))


def _without_constructor(
    kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    builtin: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    error = kind.__new__(kind, *args)
    builtin.__init__(error, *args)
    vars(error).update(attributes)
    return error
