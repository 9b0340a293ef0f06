"""joblib's small public names that have no part in jobspan itself: loggers, timers, a wrapper."""

from __future__ import annotations

import inspect
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Logger", "PrintTime", "wrap_non_picklable_objects"]

ROTATED_LOGS = 9
"""How many older log files `PrintTime` keeps."""


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
        logging.getLogger(self._name).warning("[%s]: %s", self, msg)

    def info(self, msg: object) -> None:
        """Log what is worth knowing."""
        logging.getLogger(self._name).info("[%s]: %s", self, msg)

    def debug(self, msg: object) -> None:
        """Log a detail."""
        logging.getLogger(self._name).debug("[%s]: %s", self, msg)

    def format(self, obj: object, indent: int = 0) -> str:
        """Return `obj` as text, arrays abridged."""
        import pprint

        numpy = sys.modules.get("numpy")
        if numpy is None:
            return pprint.pformat(obj, indent=indent, depth=self.depth)
        with numpy.printoptions(precision=6, threshold=64, edgeitems=1):
            return pprint.pformat(obj, indent=indent, depth=self.depth)


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
        line = f"{msg}: {seconds:.1f}s, {seconds / 60:.1f}min"
        sys.stderr.write(line + "\n")
        if self.logfile is not None:
            with Path(self.logfile).open("a") as file:
                file.write(line + "\n")
        self.last_time = now


class _Wrapper:
    """Holds an object and pickles it by value."""

    def __init__(self, wrapped: Any, keep_wrapper: bool) -> None:
        self._obj = wrapped
        self._keep_wrapper = keep_wrapper

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        import cloudpickle

        return _unwrapped, (cloudpickle.dumps(self._obj), self._keep_wrapper)

    def __getattr__(self, name: str) -> Any:
        if name in ("_obj", "_keep_wrapper"):
            raise AttributeError(name)
        return getattr(self._obj, name)


class _CallableWrapper(_Wrapper):
    """The same for what can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj(*args, **kwargs)


def _wrapped(obj: Any, keep_wrapper: bool) -> _Wrapper:
    return (_CallableWrapper if callable(obj) else _Wrapper)(obj, keep_wrapper)


def _unwrapped(pickled: bytes, keep_wrapper: bool) -> Any:
    import cloudpickle

    obj = cloudpickle.loads(pickled)
    return _wrapped(obj, keep_wrapper) if keep_wrapper else obj


def wrap_non_picklable_objects(obj: Any, keep_wrapper: bool = True) -> Any:
    """Wrap an object, or a class whose instances are to be wrapped, so that pickle can take it.

    jobspan's workers need no such wrapper; other users of pickle may.

    Parameters
    ----------
    obj : object or class
        What is pickled by value.
    keep_wrapper : bool
        Whether what is unpickled is wrapped again.

    Examples
    --------
    >>> import pickle
    >>> pickle.loads(pickle.dumps(wrap_non_picklable_objects(lambda x: x + 1)))(1)
    2
    """
    if not inspect.isclass(obj):
        return _wrapped(obj, keep_wrapper)

    base = _CallableWrapper if "__call__" in dir(obj) else _Wrapper

    class WrappedClass(base):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(obj(*args, **kwargs), keep_wrapper)

    WrappedClass.__name__ = obj.__name__
    return WrappedClass
