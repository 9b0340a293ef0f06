"""What runs in a Dask worker: one batch, perhaps within a time limit."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from jobspan.backends.dask.answers import Answer, pack
from jobspan.backends.dask.freed_memory import keeping, note_thread
from jobspan.backends.dask.kept import arrived
from jobspan.backends.dask.output import Output, captured
from jobspan.backends.dask.pool import run_for_another, stop
from jobspan.calls import Call, CallContext
from jobspan.cores import cpu_count
from jobspan.errors import TaskTimeoutError
from jobspan.outcomes import Failure, FailureKind
from jobspan.transport.protocol import Encoded, EncodedBatch
from jobspan.transport.remote import run_encoded
from jobspan.worker.context import run_in
from jobspan.worker.run import Ran, failure_of, run_calls

__all__ = ["Head", "run_batch"]

LOOK_SECONDS = 0.05
"""How often a batch looks whether it was cancelled."""


class Head(NamedTuple):
    """What batches of the same functions have in common.

    Parameters
    ----------
    functions : sequence of (digest, payload or place, places)
        The functions; a payload that was scattered is named by its place among the buffers, and
        so are the buffers of each function.
    token : str
        Names the context.
    context : bytes
        The context.
    mode : str or None
        How shared buffers arrive.
    task_timeout : float or None
        Seconds after which a call is given up.
    log_level : int or None
        The level of the caller's root logger.
    caller : dict
        Where the caller's output goes.
    keep_freed_memory : bool
        Whether memory that calls free is kept for the next ones.
    """

    functions: Sequence[tuple[str, bytes | int, Sequence[int]]]
    token: str
    context: bytes
    mode: str | None
    task_timeout: float | None
    log_level: int | None
    caller: dict[str, Any]
    keep_freed_memory: bool


def run_batch(
    head: bytes,
    body: Any,
    head_buffers: Sequence[Any] | None,
    buffers: Sequence[Any] | None,
    kept: Mapping[str, Any] | None = None,
) -> bytes | list[Any]:
    """Run a batch; return the `Answer`, packed.

    Parameters
    ----------
    head : bytes
        A `Head`, pickled.
    body : bytes or buffer
        The payload of the calls.
    head_buffers, buffers : sequence of buffers or None
        What was scattered for the functions, and for the calls.
    kept : mapping or None
        Answers that stayed on the cluster, by the keys of their tasks.
    """
    common: Head = pickle.loads(head)
    shared = [*(head_buffers or ()), *(buffers or ())]
    first = len(head_buffers or ())
    functions = {
        digest: Encoded(memoryview(shared[what]) if isinstance(what, int) else what, places)
        for digest, what, places in common.functions
    }
    encoded = EncodedBatch(
        Encoded(body, range(first, len(shared))),
        functions,
        common.token,
        Encoded(common.context),
    )
    name, identity, cancelled = _worker()
    limit = common.task_timeout
    output: Output = []

    def run(context: CallContext, calls: Iterable[Call], size: int) -> Ran:
        nonlocal output
        calls = _until(cancelled, calls)
        with captured(common.caller, common.log_level) as output:
            if limit is not None:
                return _run_within(limit, context, calls, size, identity)
            return _run_in(context, calls, size, identity)

    with arrived(kept), keeping(identity, wanted=common.keep_freed_memory):
        ran = run_encoded(encoded, shared, common.mode, identity, run)
    return pack(Answer(name, ran, output))


def _worker() -> tuple[str, object, Any]:
    """Return the worker's name, what stands for it, and what tells whether its task is dropped."""
    import distributed
    from distributed import worker as running

    try:
        worker = distributed.get_worker()
    except ValueError:
        return threading.current_thread().name, None, None
    key = getattr(getattr(running, "thread_state", None), "key", None)
    state: Any = getattr(worker, "state", None)

    def cancelled() -> bool:
        task = state.tasks.get(key)
        return task is None or task.state in ("cancelled", "released")

    known = key is not None and hasattr(state, "tasks")
    return str(worker.name or worker.address), worker, cancelled if known else None


def _until(cancelled: Any, calls: Iterable[Call]) -> Iterable[Call]:
    """Yield calls until the batch is cancelled."""
    if cancelled is None:
        return calls

    def some() -> Iterator[Call]:
        look = time.monotonic() + LOOK_SECONDS
        for call in calls:
            now = time.monotonic()
            if now > look:
                if cancelled():
                    return
                look = now + LOOK_SECONDS
            yield call

    return some()


def _run_in(context: CallContext, calls: Iterable[Call], size: int, identity: object) -> Ran:
    """Run calls in their context; an initializer that raises fails them all."""
    if context.thread_limit is None:
        context = replace(context, thread_limit=_native_threads(context.token, identity))
    try:
        return run_in(context, run_calls, calls, worker=identity)
    except Exception as error:  # noqa: BLE001 - it travels to the user
        return Ran([None] * size, dict.fromkeys(range(size), failure_of(error)), time.time(), 0.0)


def _native_threads(token: str, worker: Any) -> int | None:
    """Return how many threads OpenMP may start from a call; None where somebody has said it.

    A nanny says one, in the environment of its workers. Without one, in the caller's own process
    say, each of them would take all cores.
    """
    if worker is None or "OMP_NUM_THREADS" in os.environ:
        return None
    beside = getattr(type(worker), "_instances", None) or (worker,)
    threads: int = sum(each.state.nthreads for each in beside if each.status.name == "running")
    return max(1, _cores(token) // max(1, threads))


@lru_cache(maxsize=64)
def _cores(_token: str) -> int:
    """Return how many cores there are, looked up once for each context that comes here."""
    return cpu_count()


class _GivenUpError(BaseException):
    """Ends a call that ran too long, if it ever runs Python code again."""


def _run_within(
    seconds: float, context: CallContext, calls: Iterable[Call], size: int, identity: object
) -> Ran:
    """Run calls in a thread of their own, and give them up when the time is over.

    The worker's own thread is then free for the next batch. A call that runs Python code ends; one
    that waits inside of a library goes on, its result dropped.
    """
    result: list[Ran] = []

    def run() -> None:
        with contextlib.suppress(_GivenUpError):
            note_thread()
            result.append(_run_in(context, calls, size, identity))

    thread = run_for_another(run, seconds)
    if result:
        return result[0]
    if thread is not None:
        stop(thread, _GivenUpError)
    error = TaskTimeoutError(
        f"the call ran longer than task_timeout={seconds!r}; it was given up, its result is dropped"
    )
    failure = Failure(error, kind=FailureKind.TIMEOUT)
    return Ran([None] * size, dict.fromkeys(range(size), failure), 0.0, seconds)
