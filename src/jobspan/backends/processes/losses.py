"""What becomes of the calls of a worker that has ended: a pure decision over what its cell says."""

from __future__ import annotations

import reprlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobspan.calls import Call

__all__ = ["Aftermath", "after_death", "call_text", "ending_text"]

DEATHS_ALLOWED = 3
"""A batch that no worker lived to begin is given up after so many of them."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What becomes of the calls of a flight whose worker has ended.

    Parameters
    ----------
    lost : int or None
        The call, by its place in the flight, that went down with the worker.
    again : list of range
        The calls, by their places, that run again, in groups that travel together.
    """

    lost: int | None
    again: list[range] = field(default_factory=list)


def after_death(size: int, *, claimed: bool, running: int | None, deaths: int) -> Aftermath:
    """Decide what becomes of the calls of a flight whose worker has ended.

    Parameters
    ----------
    size : int
        How many calls it has.
    claimed : bool
        Whether the worker had begun with it.
    running : int or None
        Which call ran.
    deaths : int
        How many workers have died before they began with it, this one not counted.

    Notes
    -----
    The call that ran is lost. The others run again: those that had not begun are unharmed, and the
    results of those that had ended are gone. Where no call ran, the worker died reading the batch
    or writing the result: the calls go one by one, and a single one is lost.

    Examples
    --------
    >>> after_death(4, claimed=True, running=1, deaths=0)
    Aftermath(lost=1, again=[range(0, 1), range(2, 4)])
    >>> after_death(2, claimed=True, running=None, deaths=0)
    Aftermath(lost=None, again=[range(0, 1), range(1, 2)])
    >>> after_death(2, claimed=False, running=None, deaths=0)
    Aftermath(lost=None, again=[range(0, 2)])
    """
    if not claimed and deaths < DEATHS_ALLOWED:
        return Aftermath(None, [range(size)])
    if running is not None and claimed:
        before, after = range(running), range(running + 1, size)
        return Aftermath(running, [group for group in (before, after) if group])
    if size == 1:
        return Aftermath(0)
    return Aftermath(None, [range(place, place + 1) for place in range(size)])


def ending_text(exit_code: int | None) -> str:
    """Say how a process ended.

    Examples
    --------
    >>> ending_text(3)
    'it exited with code 3'
    >>> ending_text(-11)
    'it was killed by signal 11 (SIGSEGV)'
    """
    if exit_code is None:
        return "how it ended is not known"
    if exit_code >= 0:
        return f"it exited with code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = "unknown"
    text = f"it was killed by signal {-exit_code} ({name})"
    if -exit_code == signal.SIGKILL:
        text += ", as the system does when memory runs out"
    return text


def call_text(call: Call, index: int) -> str:
    """Name a call for people: its index, its function, its arguments in short.

    Examples
    --------
    >>> call_text((pow, (2,), {"exp": 5}), index=7)
    'call 7, pow(2, exp=5)'
    """
    function, args, kwargs = call
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    shown = [_short(value) for value in args[:4]] + ["..."] * (len(args) > 4)
    shown += [f"{key}={_short(value)}" for key, value in list(kwargs.items())[:4]]
    return f"call {index}, {name}({', '.join(shown)})"


def _short(value: object) -> str:
    # Only what is sure to have a quick repr of its own: the user's classes may do anything.
    plain: Sequence[type] = (int, float, complex, bool, str, bytes, type(None))
    return reprlib.repr(value) if type(value) in plain else f"<{type(value).__qualname__}>"
