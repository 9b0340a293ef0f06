"""What logs and tells times, under joblib's names: the base of `Parallel` and `Memory`."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from pathlib import Path

__all__ = ["Logger", "PrintTime", "format_time", "level_of_user", "pformat", "short_format_time"]

_PACKAGE = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - as code objects have it

ROTATED_LOGS = 9
"""How many older log files `PrintTime` keeps."""


def format_time(t: float) -> str:
    """Return a time in seconds and in minutes.

    Examples
    --------
    >>> format_time(90)
    '90.0s, 1.5min'
    """
    return f"{t:.1f}s, {t / 60:.1f}min"


def short_format_time(t: float) -> str:
    """Return a time in seconds, or in minutes where it is longer than one.

    Examples
    --------
    >>> short_format_time(1.25), short_format_time(90)
    ('   1.2s', ' 1.5min')
    """
    return f"{t / 60:4.1f}min" if t > 60 else f" {t:5.1f}s"


def pformat(obj: object, indent: int = 0, depth: int = 3) -> str:
    """Return an object as text, arrays abridged.

    Examples
    --------
    >>> pformat({"a": [1, [2]]}, depth=1)
    "{'a': [...]}"
    """
    import pprint

    numpy = sys.modules.get("numpy")
    if numpy is None:
        return pprint.pformat(obj, indent=indent, depth=depth)
    with numpy.printoptions(precision=6, threshold=64, edgeitems=1):
        return pprint.pformat(obj, indent=indent, depth=depth)


def level_of_user() -> int:
    """Return how far up the first frame is that is not jobspan's, as `warnings.warn` counts."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    return level


class Logger:
    """A base class whose subclasses log messages with their own name in front.

    Parameters
    ----------
    depth : int
        How deep `format` prints nested objects.
    name : str, optional
        Name of the logger; ``"jobspan"`` where it is not given.

    Examples
    --------
    >>> Logger(depth=1).format({"a": [1, [2]]})
    "{'a': [...]}"
    """

    def __init__(self, depth: int = 3, name: str | None = None) -> None:
        self.depth = depth
        self._name = name or "jobspan"

    def warn(self, msg: object) -> None:
        """Log a warning."""
        self._logger().warning("[%s]: %s", self, msg)

    def info(self, msg: object) -> None:
        """Log what is worth knowing."""
        self._logger().info("[%s]: %s", self, msg)

    def debug(self, msg: object) -> None:
        """Log a detail."""
        self._logger().debug("[%s]: %s", self, msg)

    def _logger(self) -> logging.Logger:
        import logging

        return logging.getLogger(self._name)

    def format(self, obj: object, indent: int = 0) -> str:
        """Return `obj` as text, arrays abridged."""
        return pformat(obj, indent, self.depth)


class PrintTime:
    """Prints messages with the time since the last one, to stderr and to a file.

    Parameters
    ----------
    logfile : str, optional
        Where messages are kept as well; older files are kept beside it, numbered.
    logdir : str, optional
        A folder in which the file is called ``jobspan.log``.
    """

    def __init__(self, logfile: str | None = None, logdir: str | None = None) -> None:
        if logfile is not None and logdir is not None:
            raise ValueError("Cannot specify both logfile and logdir")
        from pathlib import Path

        self.start_time = self.last_time = time.time()
        path = Path(logdir, "jobspan.log") if logdir is not None else logfile
        self.logfile = None if path is None else str(path)
        if self.logfile is not None:
            self._rotate(Path(self.logfile))

    def _rotate(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in range(ROTATED_LOGS - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        if path.exists():
            import shutil

            # A copy, for somebody may be watching the file itself.
            shutil.copy(path, path.with_name(f"{path.name}.1"))
        path.write_text(f"\nLogging jobspan\n\n---{time.ctime(self.last_time)}---\n")

    def __call__(self, msg: str = "", total: bool = False) -> None:
        """Print `msg` with the seconds since the last message, or since the start."""
        now = time.time()
        seconds = now - (self.start_time if total else self.last_time)
        line = f"{msg}: {format_time(seconds)}"
        sys.stderr.write(line + "\n")
        if self.logfile is not None:
            with open(self.logfile, "a") as file:  # noqa: PTH123 - no reason to load pathlib
                file.write(line + "\n")
        self.last_time = now
