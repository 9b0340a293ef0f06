"""Enter the context of a batch: what holds around every call, in whatever worker it runs."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobspan.ambient import activated
from jobspan.bridging import begin
from jobspan.calls import CallContext, Initializer

__all__ = ["entered", "prepare_process"]


@contextmanager
def entered(context: CallContext, worker: object = None) -> Iterator[None]:
    """Let `context` hold inside a ``with`` block, in this thread.

    Parameters
    ----------
    context : CallContext
        Its ambient settings and context variables hold, for other libraries that have a bridge
        as well, and its initializer has run.
    worker : object
        What a worker is here: initializers run once for each. None: this thread.

    Notes
    -----
    Threads and processes: touches nothing outside this thread's context. What concerns the whole
    process is `prepare_process`, for backends whose worker is a process of its own.
    """
    with activated(context.settings):
        tokens = [(variable, variable.set(value)) for variable, value in context.variables]
        crossing = begin(context.settings)
        try:
            if context.initializer is not None:
                _initialize(context.initializer, worker)
            yield
        finally:
            if crossing is not None:
                crossing.end()
            for variable, token in reversed(tokens):
                variable.reset(token)


class _Done(threading.local):
    """The initializers that ran in this thread, by their tokens."""

    def __init__(self) -> None:
        self.tokens: set[str] = set()


_done_here = _Done()
_done_in: dict[int, set[str]] = {}
_initializing = threading.Lock()


def _initialize(initializer: Initializer, worker: object) -> None:
    if worker is None:
        if initializer.token not in _done_here.tokens:
            initializer.function(*initializer.args)
            _done_here.tokens.add(initializer.token)
        return
    with _initializing:
        done = _done_in.setdefault(id(worker), set())
        if initializer.token not in done:
            initializer.function(*initializer.args)
            done.add(initializer.token)


class _Process:
    """What `prepare_process` has done to this process."""

    def __init__(self) -> None:
        self.token = ""
        self.filters: Any = None


_process = _Process()


def prepare_process(context: CallContext) -> None:
    """Let what concerns the whole process hold from here on: paths, filters, levels, limits.

    Only for a process that runs one batch at a time. Entering the same context again costs next to
    nothing; what a call changed is put back.
    """
    if context.import_path is not None and tuple(sys.path) != context.import_path:
        sys.path[:] = context.import_path
    if context.directory is not None:
        try:
            changed = os.getcwd() != context.directory  # noqa: PTH109 - compared as text
        except OSError:
            changed = True
        if changed:
            os.chdir(context.directory)
    filters = context.warning_filters
    if filters is not None and _process.filters is not filters:
        warnings.filters[:] = list(filters)  # type: ignore[index]  # a list, whatever typeshed says
        warnings._filters_mutated()  # type: ignore[attr-defined]  # as warnings itself does
        _process.filters = filters
    if context.log_level is not None and logging.getLogger().level != context.log_level:
        logging.getLogger().setLevel(context.log_level)
    if _process.token != context.token:
        _process.token = context.token
        if context.thread_limit is not None:
            limit_threads(context.thread_limit)


def limit_threads(limit: int) -> None:
    """Limit the threads of BLAS and OpenMP libraries that are loaded already.

    Those loaded later read the environment, which whoever starts the process sets.
    """
    if "threadpoolctl" not in sys.modules and "numpy" not in sys.modules:
        return
    try:
        import threadpoolctl
    except ImportError:
        return
    threadpoolctl.threadpool_limits(limit)
