"""What the settings of a ``Parallel`` call mean for its backend, its scheduler and its workers."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from jobspan.ambient import Settings, current
from jobspan.calls import CallContext, Initializer
from jobspan.cores import cpu_count
from jobspan.errors import BackendError
from jobspan.executors import Backend, LocatesWorkers
from jobspan.importing import modules_being_imported
from jobspan.logger import level_of_user
from jobspan.parallel.arguments import (
    DEFAULT_PRE_DISPATCH,
    read_batch_size,
    read_bytes,
    read_on_error,
    read_pre_dispatch,
    read_propagate,
    read_retries,
    read_seconds,
)
from jobspan.parallel.choice import Choice
from jobspan.plans import Plan
from jobspan.scheduling.policy import SchedulingPolicy

__all__ = [
    "context_of",
    "dice_of",
    "initializer_of",
    "jobs_of",
    "may_be_elsewhere",
    "plan_of",
    "policy_of",
    "target_seconds",
    "warn_of_timeout",
]

LOCAL_TARGET_SECONDS = 0.005
"""How long an automatic batch should run on this machine."""

REMOTE_TARGET_SECONDS = 0.05
"""The same on a cluster, whose round trip takes milliseconds."""

LOCAL_LARGEST_BATCH = 512
"""Calls in an automatic batch on this machine at most: the calls of more than that leave the
processor's cache before they are looked at again, which costs a third of what making them does."""

REMOTE_LARGEST_BATCH = 8192
"""The same on a cluster, where the round trip outweighs it."""

ONE_CALL_ONLY = ("report",)
"""Settings of a call that those nested in it do not take over."""


def jobs_of(backend: Backend, asked: int) -> int:
    """Return how many calls run at once; refuse a backend on which none would."""
    n_jobs = backend.effective_n_jobs(asked)
    if n_jobs < 1:
        name = type(getattr(backend, "wrapped", backend)).__name__
        raise BackendError(
            f"{name} has no active worker: it would run n_jobs={n_jobs} calls at once for "
            f"n_jobs={asked}. Start workers first, or pass another backend="
        )
    return n_jobs


def warn_of_timeout(timeout: float) -> None:
    """Say that calls which run in the caller one after the other cannot be waited for."""
    warnings.warn(
        f"one job does not support timeout: timeout={timeout!r} is not used, for the calls run in "
        "the caller's thread. Pass n_jobs=2 or more, or task_timeout= for a limit to each call",
        stacklevel=level_of_user(),
    )


def plan_of(choice: Choice, n_jobs: int, *, follow: bool, batch_size: int | str) -> Plan:
    """Return how a backend should open its executor."""
    values = choice.values
    return Plan(
        n_jobs=n_jobs,
        follow=follow,
        batch_size=_batch_size(choice, batch_size),
        task_timeout=read_seconds("task_timeout", values["task_timeout"]),
        max_nbytes=read_bytes("max_nbytes", values["max_nbytes"]),
        mmap_mode=values["mmap_mode"],
        temp_folder=values["temp_folder"],
        inner_max_num_threads=values["inner_max_num_threads"],
        options=choice.options,
    )


def _batch_size(choice: Choice, given: int | str) -> int | None:
    # A call that may be stopped for its time travels alone: it takes nobody with it.
    return 1 if choice.values["task_timeout"] is not None else read_batch_size(given)


def policy_of(
    choice: Choice,
    n_jobs: int,
    *,
    ordered: bool,
    bounded: bool,
    batch_size: int | str,
    pre_dispatch: str | int,
    timeout: float | None,
) -> SchedulingPolicy:
    """Return how the scheduler should treat the calls."""
    values = choice.values
    ahead = read_pre_dispatch(pre_dispatch, n_jobs)
    if choice.backend.capabilities.remote and pre_dispatch == DEFAULT_PRE_DISPATCH:
        # How many batches hide a cluster's round trip, and how many workers it has by then, its
        # executor knows.
        ahead = sys.maxsize
    return SchedulingPolicy(
        ordered=ordered,
        batch_size=_batch_size(choice, batch_size),
        target_seconds=target_seconds(choice.backend),
        largest_batch=(
            REMOTE_LARGEST_BATCH if choice.backend.capabilities.remote else LOCAL_LARGEST_BATCH
        ),
        pre_dispatch=ahead,
        timeout=timeout,
        on_error=read_on_error(values["on_error"]),
        retries=read_retries(values["retries"]),
        bounded=bounded,
        max_pending=values["max_pending"],
    )


def target_seconds(backend: Backend) -> float:
    """Return how long an automatic batch should run on a backend."""
    return REMOTE_TARGET_SECONDS if backend.capabilities.remote else LOCAL_TARGET_SECONDS


def may_be_elsewhere(backend: Backend) -> bool:
    """Whether calls of an open backend may run on machines that do not see this one's files."""
    if not backend.capabilities.remote:
        return False
    return not (isinstance(backend, LocatesWorkers) and backend.on_this_machine)


def initializer_of(values: Mapping[str, Any]) -> Initializer | None:
    """Return what runs once in every worker, where that was given."""
    function = values.get("initializer")
    return None if function is None else Initializer(function, tuple(values.get("initargs", ())))


def context_of(choice: Choice, n_jobs: int, initializer: Initializer | None) -> CallContext:
    """Return what holds around the calls, as it is in the caller now."""
    capabilities = choice.backend.capabilities
    values = choice.values
    here = current()
    importing = modules_being_imported()
    _refuse_to_import_again(importing, here.waiting)
    handed_on = {name: value for name, value in here.values.items() if name not in ONE_CALL_ONLY}
    settings = choice.backend.nested(
        Settings(backend=here.backend, level=choice.level, values=handed_on)
    )
    settings = replace(
        settings,
        bridge=here.bridge,
        cores=_cores_a_call(choice, n_jobs, settings),
        waiting=here.waiting.union(importing),
    )
    here_and_now = copy_context()
    variables = tuple(
        (variable, variable.get())
        for variable in read_propagate(values["propagate"])
        if variable in here_and_now
    )
    limit = values["inner_max_num_threads"]
    if capabilities.shared_memory:
        if limit is None and n_jobs > 1:
            limit = settings.cores
        return CallContext(
            settings=settings, variables=variables, thread_limit=limit, initializer=initializer
        )
    if limit is None and not capabilities.remote:
        limit = max(cpu_count() // n_jobs, 1)
    filters = None if capabilities.own_warning_filters else tuple(warnings.filters)
    return CallContext(
        settings=settings,
        variables=variables,
        warning_filters=filters,
        log_level=_log_level(),
        import_path=None if capabilities.remote else tuple(sys.path),
        directory=None if capabilities.remote else _directory(),
        thread_limit=limit,
        initializer=initializer,
    )


def _refuse_to_import_again(importing: Iterable[str], waiting: frozenset[str]) -> None:
    """Refuse calls of an import here that came from the same import elsewhere, which waits."""
    for name in importing:
        if name in waiting:
            raise BackendError(
                f"{name} runs Parallel calls while it is imported, and those import {name} in "
                "their workers, which would run them again, without an end. Run them in a "
                f"function that is called after the import, or have them import nothing of {name}"
            )


def _cores_a_call(choice: Choice, n_jobs: int, nested: Settings) -> int | None:
    """Return how many cores a call may take for what it calls in turn."""
    if nested.cores is not None or choice.backend.capabilities.in_caller:
        return nested.cores
    if choice.backend.capabilities.remote:
        return 1  # a cluster counts a core a call, and fills the others with other calls
    return max(1, (current().cores or cpu_count()) // n_jobs)


def dice_of(policy: SchedulingPolicy) -> Callable[[], float] | None:
    """Return what draws the jitter of retries, where there are any."""
    if policy.retries.never:
        return None
    import random

    return random.random


def _log_level() -> int | None:
    """Return the root logger's level, or None where nobody has logging loaded."""
    logging = sys.modules.get("logging")
    return None if logging is None else logging.getLogger().level


def _directory() -> str | None:
    """Return the current directory, or None where it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109 - text is what travels
    except OSError:
        return None
