"""What calls print and log in a worker comes back with their results.

It goes where it goes in the worker, too, and is sent nowhere if that is the same place: workers on
the caller's machine often share its terminal.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

__all__ = ["Output", "captured", "destinations", "replay"]

LARGEST = 1 << 20
"""Characters of output that a batch may bring back."""

STREAMS = ("stdout", "stderr")

Output = list[tuple[str, Any]]
"""What was printed, as (stream, text), and logged, as ("log", attributes of the record)."""


class _Sink:
    """Takes the output of one batch."""

    def __init__(self, streams: frozenset[str]) -> None:
        self.streams = streams
        self.parts: Output = []
        self.room = LARGEST

    def take(self, stream: str, text: str) -> None:
        if stream not in self.streams or self.room < 0:
            return
        self.room -= len(text)
        if self.room < 0:
            text = "\n... more output stays in the worker\n"
        self.parts.append((stream, text))


_sink: ContextVar[_Sink | None] = ContextVar("jobspan_dask_output", default=None)
_lock = threading.Lock()
_levels: list[int] = []


class _Tee(io.TextIOBase):
    """A stream that also writes to the sink of the batch that runs in this context."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream = stream
        self._stream_name = name

    def write(self, text: str) -> int:
        sink = _sink.get()
        if sink is not None:
            sink.take(self._stream_name, text)
        return int(self._stream.write(text) or 0)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute
        return str(self._stream.encoding)

    @property
    def buffer(self) -> Any:
        return self._stream.buffer


class _Handler(logging.Handler):
    """Hands the records of a batch to its sink, the others to where they would have gone."""

    def emit(self, record: logging.LogRecord) -> None:
        sink = _sink.get()
        if sink is not None:
            if sink.room >= 0:
                text = record.getMessage()
                attributes = {
                    name: value
                    for name, value in vars(record).items()
                    if isinstance(value, str | int | float | type(None))
                }
                attributes["msg"] = text
                if record.exc_info and record.exc_info[0] is not None:
                    attributes["exc_text"] = logging.Formatter().formatException(record.exc_info)
                sink.room -= len(text)
                sink.parts.append(("log", attributes))
        elif len(logging.getLogger().handlers) == 1:
            last = logging.lastResort
            if last is not None and record.levelno >= last.level:
                last.handle(record)


_handler = _Handler()


def destinations() -> dict[str, Any]:
    """Return what names the places where this process's output goes, and the process."""
    host = socket.gethostname()
    found: dict[str, Any] = {"process": (host, os.getpid())}
    for name in STREAMS:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            place = os.fstat(getattr(sys, name).fileno())
            found[name] = (host, place.st_dev, place.st_ino)
    return found


_destinations_here = lru_cache(maxsize=1)(destinations)
"""The same, asked once in a worker."""


@contextlib.contextmanager
def captured(caller: dict[str, Any], level: int | None) -> Iterator[Output]:
    """Catch what is printed and logged in this context.

    Parameters
    ----------
    caller : dict
        The caller's `destinations`.
    level : int or None
        The level of the caller's root logger, which holds here meanwhile if it tells more.
    """
    here = _destinations_here()
    if caller["process"] == here["process"]:
        yield []
        return
    root = logging.getLogger()
    with _lock:
        for name in STREAMS:
            stream = getattr(sys, name)
            if stream is not None and not isinstance(stream, _Tee):
                setattr(sys, name, _Tee(stream, name))
        if _handler not in root.handlers:
            root.addHandler(_handler)
        _levels.append(root.level)
        if level is not None and level < root.level:
            root.setLevel(level)
    streams = frozenset(name for name in STREAMS if caller.get(name, 0) != here.get(name, 1))
    sink = _Sink(streams)
    token = _sink.set(sink)
    try:
        yield sink.parts
    finally:
        _sink.reset(token)
        with _lock:
            before = _levels.pop()
            if not _levels and root.level != before:  # it makes every logger look anew
                root.setLevel(before)


def replay(output: Sequence[tuple[str, Any]]) -> None:
    """Print and log here what was printed and logged in a worker."""
    for kind, what in output:
        if kind == "log":
            record = logging.makeLogRecord(what)
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        else:
            stream = getattr(sys, kind)
            if stream is not None:
                stream.write(what)
