"""Enter the context of a batch: what holds around every call, in whatever worker it runs."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeAlias, TypeVar

from jobspan.ambient import replace_current
from jobspan.bridging import begin
from jobspan.calls import CallContext, Initializer
from jobspan.worker.native_threads import limit_process, limit_thread

__all__ = ["Entrance", "find_imports", "prepare_process", "run_in"]

R = TypeVar("R")

Variables: TypeAlias = tuple[tuple[ContextVar[Any], Any], ...]


def run_in(
    context: CallContext, function: Callable[..., R], *args: Any, worker: object = None
) -> R:
    """Call `function` while `context` holds, in this thread.

    Parameters
    ----------
    context : CallContext
        Its ambient settings and context variables hold, for other libraries that have a bridge
        as well, and its initializer has run.
    function : callable
        What runs; context variables that it sets are not seen here.
    *args : object
        Its arguments.
    worker : object
        What a worker is here: initializers run once for each. None: this thread.

    Notes
    -----
    Threads and processes: touches nothing outside this thread's context. What concerns the whole
    process is `prepare_process`, for backends whose worker is a process of its own.
    """
    return copy_context().run(_run_in, context, function, args, worker)


def _run_in(
    context: CallContext, function: Callable[..., R], args: tuple[Any, ...], worker: object
) -> R:
    _set(context)
    undo = _begin(context)
    try:
        if context.initializer is not None:
            _initialize(context.initializer, worker)
        return function(*args)
    finally:
        if undo is not None:
            undo()


def _begin(context: CallContext) -> Callable[[], None] | None:
    """Let hold in this thread what no context variable is: other libraries' settings, OpenMP's.

    Returns
    -------
    callable or None
        What puts back what was before; None where nothing was changed.
    """
    crossing = begin(context.settings)
    unlimit = None if context.thread_limit is None else limit_thread(context.thread_limit)
    if crossing is None or unlimit is None:
        return unlimit if crossing is None else crossing.end

    def undo() -> None:
        unlimit()
        crossing.end()

    return undo


def _set(context: CallContext) -> None:
    replace_current(context.settings)
    for variable, value in context.variables:
        variable.set(value)


class Entrance:
    """Where one worker enters contexts: what it has entered before, it enters again at no cost.

    What the initializer set stays. So does what else is set: `run_calls` keeps what calls set from
    that.

    Notes
    -----
    Threads and processes: belongs to the thread that uses it.
    """

    def __init__(self) -> None:
        self._token = ""
        self._prepared = Context()
        self._initialized: dict[str, Variables] = {}
        self._undo: Callable[[], None] | None = None

    def run(self, context: CallContext, function: Callable[..., R], *args: Any) -> R:
        """Call `function` while `context` holds."""
        if context.token != self._token:
            self.close()
            self._undo = _begin(context)
            prepared = copy_context()
            prepared.run(self._prepare, context)
            self._prepared = prepared
            self._token = context.token
        return self._prepared.run(function, *args)

    def close(self) -> None:
        """Leave what was entered last."""
        self._token = ""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def _prepare(self, context: CallContext) -> None:
        _set(context)
        if context.initializer is not None:
            _run_once(context.initializer, self._initialized)


class _Done(threading.local):
    """The initializers that ran in this thread, by their tokens, with the variables they set."""

    def __init__(self) -> None:
        self.tokens: dict[str, Variables] = {}


_done_here = _Done()
_done_in: dict[int, dict[str, Variables]] = {}
_initializing = threading.Lock()


def _initialize(initializer: Initializer, worker: object) -> None:
    if worker is None:
        _run_once(initializer, _done_here.tokens)
        return
    with _initializing:
        _run_once(initializer, _done_in.setdefault(id(worker), {}))


def _run_once(initializer: Initializer, done: dict[str, Variables]) -> None:
    """Run an initializer, or set the context variables that it has set before."""
    if initializer.token in done:
        for variable, value in done[initializer.token]:
            variable.set(value)
        return
    before = copy_context()
    initializer.function(*initializer.args)
    done[initializer.token] = tuple(
        (variable, value)
        for variable, value in copy_context().items()
        if variable not in before or before[variable] is not value
    )


class _Process:
    """What `prepare_process` has done to this process."""

    def __init__(self) -> None:
        self.token = ""
        self.import_path: list[str] = []
        self.filters: list[Any] = []
        self.own_filters: list[Any] | None = None


_process = _Process()


def prepare_process(context: CallContext) -> None:
    """Let what concerns the whole process hold from here on: paths, filters, levels, limits.

    Only for a process that runs one batch at a time. Entering the same context again costs next to
    nothing; what a call changed is put back.
    """
    done = _process
    if done.token != context.token:
        done.token = context.token
        done.import_path = list(context.import_path or ())
        if done.own_filters is None:
            done.own_filters = list(warnings.filters)
        filters = context.warning_filters
        done.filters = done.own_filters.copy() if filters is None else list(filters)
        if context.thread_limit is not None:
            limit_process(context.thread_limit)
    if context.import_path is not None and sys.path != done.import_path:
        sys.path[:] = done.import_path
    if context.directory is not None and _directory() != context.directory:
        os.chdir(context.directory)
    if warnings.filters != done.filters:
        warnings.filters[:] = done.filters  # type: ignore[index]  # a list, whatever typeshed says
        warnings._filters_mutated()  # type: ignore[attr-defined]  # as warnings itself does
    if context.log_level is not None:
        import logging

        if logging.root.level != context.log_level:
            logging.root.setLevel(context.log_level)


def find_imports(path: Sequence[str] | None) -> None:
    """Let what comes from a caller be imported from where the caller imports it."""
    if path is not None:
        sys.path[:] = path


def _directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - compared as text
    except OSError:
        return None
