"""Progress of a ``Parallel`` call: typed events, and a bar that listens to them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from jobspan.errors import MissingExtraError

__all__ = ["ProgressEvent", "ProgressListener", "make_listener"]

EVENT_SECONDS = 0.1
"""Events come no more often: telling costs less than 2 % of 10 µs calls in batches of 5 ms."""

LINE_SECONDS = 5.0
"""Lines come no more often where stderr is no terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressEvent:
    """How far a ``Parallel`` call is.

    Parameters
    ----------
    kind : {"started", "advanced", "finished"}
        ``finished`` comes once, also after an error.
    done : int
        Calls that have their result, failed and stored ones included.
    total : int or None
        How many calls there are, where it is known.
    failures, retries, recalled : int
        Calls that failed for good, attempts beyond the first, results found stored.
    elapsed : float
        Seconds since the start.
    rate : float
        Calls a second so far.
    remaining : float or None
        Seconds left at that rate, where the total is known.
    """

    kind: Literal["started", "advanced", "finished"]
    done: int
    total: int | None
    failures: int
    retries: int
    recalled: int
    elapsed: float
    rate: float
    remaining: float | None


class ProgressListener(Protocol):
    """Takes events, in the scheduler's thread."""

    def __call__(self, event: ProgressEvent, /) -> object:
        """Take note of how far the call is."""
        ...


class Pace:
    """Lets an event through only so often.

    Parameters
    ----------
    seconds : float
        The least time between two events.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = 0.0

    def due(self) -> bool:
        """Whether the time has come."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class Pulse:
    """Tells when an event is due to a loop that runs quicker than it could look at a clock.

    Parameters
    ----------
    seconds : float
        The time between two events.

    Attributes
    ----------
    due : bool
        Whether the time has come; whoever tells the event sets it back.
    """

    __slots__ = ("_ended", "_seconds", "due")

    def __init__(self, seconds: float) -> None:
        self.due = False
        self._seconds = seconds
        self._ended: threading.Event | None = None

    def start(self) -> None:
        """Begin to count, in a thread of its own."""
        self._ended = threading.Event()
        beat = threading.Thread(
            target=self._beat, args=(self._ended,), name="jobspan-pulse", daemon=True
        )
        beat.start()

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds):
            self.due = True

    def stop(self) -> None:
        """Let the thread end soon, if there is one."""
        if self._ended is not None:
            self._ended.set()


def make_listener(progress: object, description: str) -> ProgressListener | None:
    """Return the listener for what the user gave as ``progress=``.

    Parameters
    ----------
    progress : bool, callable or None
        True: a bar on a terminal or in a notebook, lines elsewhere. A callable is the listener.
    description : str
        What stands in front of the bar.

    Raises
    ------
    MissingExtraError
        If a bar is asked for and rich is not installed.
    """
    if progress is None or progress is False:
        return None
    if callable(progress):
        return progress
    if progress is not True:
        raise ValueError(f"progress={progress!r}: pass True, False or a callable for events")
    if _in_notebook():
        return NotebookBar(description)
    if sys.stderr.isatty():
        return RichBar(description)
    return PlainLines(description)


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


class PlainLines:
    """Writes a line now and then, for logs and pipes.

    Parameters
    ----------
    description : str
        What stands in front.
    """

    def __init__(self, description: str) -> None:
        self._description = description
        self._pace = Pace(LINE_SECONDS)

    def __call__(self, event: ProgressEvent) -> None:
        if event.kind == "started":
            self._pace.due()
            return
        if event.kind == "finished" or self._pace.due():
            sys.stderr.write(f"{self._description}: {describe(event)}\n")
            sys.stderr.flush()


def describe(event: ProgressEvent) -> str:
    """Return an event as text.

    Examples
    --------
    >>> describe(ProgressEvent(kind="advanced", done=5, total=10, failures=1, retries=0,
    ...     recalled=0, elapsed=2.0, rate=2.5, remaining=2.0))
    '5/10 (50 %), 2.5/s, 2.0 s elapsed, 2.0 s left, 1 failed'
    """
    of_total = f"/{event.total} ({100 * event.done // event.total} %)" if event.total else ""
    parts = [f"{event.done}{of_total}", f"{event.rate:.3g}/s", f"{event.elapsed:.1f} s elapsed"]
    if event.remaining is not None and event.kind != "finished":
        parts.append(f"{event.remaining:.1f} s left")
    parts += trouble(event)
    if event.recalled:
        parts.append(f"{event.recalled} recalled")
    return ", ".join(parts)


def trouble(event: ProgressEvent) -> list[str]:
    """Return what went wrong so far, in words."""
    counted = ((event.failures, "failed"), (event.retries, "retried"))
    return [f"{number} {word}" for number, word in counted if number]


class NotebookBar:
    """Draws a bar under a notebook's cell; plain HTML, which needs no widgets installed.

    Parameters
    ----------
    description : str
        What stands in front.
    """

    def __init__(self, description: str) -> None:
        self._description = description
        self._handle: Any = None

    def __call__(self, event: ProgressEvent) -> None:
        from html import escape

        from IPython.display import HTML, display

        if event.total:
            share = f'value="{event.done}" max="{event.total}"'
        else:
            share = 'value="1"' if event.kind == "finished" else ""
        text = f"{escape(self._description)}: {describe(event)}"
        bar = HTML(f'<progress {share} style="vertical-align: middle"></progress> {text}')  # type: ignore[no-untyped-call]
        if self._handle is None:
            self._handle = display(bar, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bar)


class RichBar:
    """Draws a bar with rich, on a terminal.

    Parameters
    ----------
    description : str
        What stands in front.
    """

    def __init__(self, description: str) -> None:
        try:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
        except ImportError as error:
            raise MissingExtraError("progress=True", "progress") from error
        self._description = description
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[red]{task.fields[trouble]}"),
            console=Console(stderr=True),
        )
        self._task: Any = None

    def __call__(self, event: ProgressEvent) -> None:
        if event.kind == "started":
            self._progress.start()
            self._task = self._progress.add_task(
                self._description, total=event.total, rate="", trouble=""
            )
        total = event.done if event.kind == "finished" and not event.total else event.total
        self._progress.update(
            self._task,
            completed=event.done,
            total=total,
            rate=f"{event.rate:.3g}/s",
            trouble=", ".join(trouble(event)),
        )
        if event.kind == "finished":
            self._progress.stop()
