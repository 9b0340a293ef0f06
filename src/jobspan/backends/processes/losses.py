"""What becomes of the calls of a worker that has ended, by what its cell says; how that is told."""

from __future__ import annotations

import reprlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from jobspan.backends.processes.handle import Flight, Worker
from jobspan.calls import Batch, Call
from jobspan.errors import TaskTimeoutError, WorkerLostError
from jobspan.outcomes import Failure, FailureKind

__all__ = ["Aftermath", "aftermath_of", "failure_of_death"]

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
    deaths : int
        How many workers have died before they began with those.
    """

    lost: int | None
    again: list[range]
    deaths: int


def aftermath_of(worker: Worker, flight: Flight) -> Aftermath:
    """Decide what becomes of the calls of a flight whose worker has ended."""
    size = len(flight.batch.calls)
    running = worker.running_call()
    if worker.expired not in (None, (flight.serial, running)):
        # We killed the worker for a call that ended a moment before: nobody is to blame.
        return Aftermath(None, [range(size)], flight.deaths)
    claimed = worker.claimed(flight)
    return after_death(size, claimed=claimed, running=running, deaths=flight.deaths)


def after_death(size: int, *, claimed: bool, running: int | None, deaths: int) -> Aftermath:
    """Decide it from facts alone, for a worker that died of itself or of the call that ran.

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
    Aftermath(lost=1, again=[range(0, 1), range(2, 4)], deaths=0)
    >>> after_death(2, claimed=True, running=None, deaths=0)
    Aftermath(lost=None, again=[range(0, 1), range(1, 2)], deaths=0)
    >>> after_death(2, claimed=False, running=None, deaths=0)
    Aftermath(lost=None, again=[range(0, 2)], deaths=1)
    """
    if not claimed and deaths < DEATHS_ALLOWED:
        return Aftermath(None, [range(size)], deaths + 1)
    deaths += not claimed
    if running is not None and claimed:
        before, after = range(running), range(running + 1, size)
        return Aftermath(running, [group for group in (before, after) if group], deaths)
    if size == 1:
        return Aftermath(0, [], deaths)
    return Aftermath(None, [range(place, place + 1) for place in range(size)], deaths)


def failure_of_death(worker: Worker, batch: Batch, place: int, limit: float | None) -> Failure:
    """Return the failure of the call that went down with its worker, or that it was stopped for.

    Parameters
    ----------
    worker : Worker
        What has ended.
    batch : Batch
        What it ran.
    place : int
        The call's place in the batch.
    limit : float or None
        Seconds that a call may run.
    """
    call = call_text(batch.calls[place], batch.first + place)
    if worker.expired is not None:
        return Failure(
            TaskTimeoutError(
                f"{call} ran longer than task_timeout={limit!r}; its worker {worker.name} was "
                "stopped. Pass a longer task_timeout=."
            ),
            kind=FailureKind.TIMEOUT,
        )
    tail = worker.stderr.text()
    return Failure(
        WorkerLostError(
            f"the worker {worker.name} died while it ran {call}: {ending_text(worker.exit_code)}."
            + (f" Its last lines of stderr:\n{tail}" if tail else " Its stderr says nothing.")
        ),
        kind=FailureKind.LOST,
    )


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
