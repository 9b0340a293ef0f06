"""What became of a batch: values, failures, and times measured where it ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["Failure", "FailureKind", "Outcome"]


class FailureKind(StrEnum):
    """Why a call has no value."""

    ERROR = "error"
    """The function raised, or its arguments or result could not travel."""
    LOST = "lost"
    """Its worker died."""
    TIMEOUT = "timeout"
    """It ran longer than ``task_timeout``."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one call has no value.

    Parameters
    ----------
    exception : BaseException
        The exception: the function's own, or one of jobspan's errors.
    traceback : str
        The traceback as text, from the worker; empty where there is none.
    kind : FailureKind
        Why.
    """

    exception: BaseException
    traceback: str = ""
    kind: FailureKind = FailureKind.ERROR


_NONE: Mapping[int, Failure] = MappingProxyType({})


class Outcome(NamedTuple):
    """What became of one batch.

    A named tuple, for one is made for every batch: it costs a quarter of a frozen dataclass.

    Parameters
    ----------
    number : int
        The batch's number.
    values : sequence
        One value a call, in order; None at the offsets of `failures`.
    failures : mapping of int to Failure
        The calls that have no value, by their offset in the batch.
    worker : str
        Name of the worker that ran it; empty where none did.
    started : float
        When the worker began, in seconds since the epoch by the worker's clock.
    seconds : float
        How long the worker ran the calls.
    bytes_sent, bytes_received : int
        What crossed the boundary to the worker and back, shared data not counted again.
    """

    number: int
    values: Sequence[Any]
    failures: Mapping[int, Failure] = _NONE
    worker: str = ""
    started: float = 0.0
    seconds: float = 0.0
    bytes_sent: int = 0
    bytes_received: int = 0

    @classmethod
    def of_failure(cls, number: int, size: int, failure: Failure, worker: str = "") -> Outcome:
        """Return the outcome of a batch of `size` calls that all failed for one reason."""
        return cls(number, [None] * size, dict.fromkeys(range(size), failure), worker)
