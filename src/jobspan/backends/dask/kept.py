"""Results that stay on the cluster: the caller holds handles, and takes what it wants.

::

    batch ─► task ─► its answer, on a worker ─► told ─► failures, output: what the caller gets
                         │
    KeptResult ◄─────────┴─► a dependency of the batches of calls that are given one
     .result()
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jobspan.backends.dask.answers import pack, unpack, writable
from jobspan.errors import BackendUnreachableError, TransportError
from jobspan.transport.batches import decode_ran
from jobspan.transport.protocol import Encoded, Fetch

__all__ = ["KeptResult", "arrived", "collected", "told"]

_collected: ContextVar[dict[str, Any] | None] = ContextVar("jobspan_dask_collected", default=None)
_arrived: ContextVar[Mapping[str, Any]] = ContextVar("jobspan_dask_arrived")


class KeptResult:
    r"""The result of a call, which stayed on the cluster.

    A call that is given one as an argument, at any depth, gets the value, from worker to worker.
    With the last of its handles the value is dropped from the cluster.

    Parameters
    ----------
    future : distributed.Future
        The task of the call's batch.
    offset : int
        Which of the batch's results it is.
    size : int
        How many calls the batch had.

    Examples
    --------
    >>> from jobspan import Parallel, delayed, parallel_config
    >>> with parallel_config("dask", n_workers=1):
    ...     zeros = Parallel(keep_results=True)(delayed(bytes)(n) for n in [1, 2])
    ...     Parallel()(delayed(len)(each) for each in zeros), zeros[0].result()
    ([1, 2], b'\x00')
    """

    __slots__ = ("_future", "_offset", "_size")

    def __init__(self, future: Any, offset: int, size: int) -> None:
        self._future = future
        self._offset = offset
        self._size = size

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._future.key}: {self._future.status}>"

    def __reduce__(self) -> tuple[Any, ...]:
        futures = _collected.get()
        if futures is None:
            raise TransportError(
                "a result that stayed on a Dask cluster goes only to calls on that cluster; "
                "pass on what .result() returns"
            )
        futures[self._future.key] = self._future
        return _handed_on, (self._future.key, self._offset, self._size)

    def result(self, timeout: float | None = None) -> Any:
        """Fetch the value.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which a `TimeoutError` is raised; None: no limit.

        Raises
        ------
        BackendUnreachableError
            If the connection to the cluster was closed.
        """
        if self._future.status == "cancelled":
            raise BackendUnreachableError(
                f"the result {self._future.key!r} was on a Dask cluster to which the connection is "
                "closed; call .result() inside of the parallel_config block"
            )
        return _value(self._future.result(timeout), self._offset, self._size, writable)


def _handed_on(key: str, offset: int, size: int) -> Any:
    """Return a value in a worker, where what is large is the worker's own, read-only."""
    return _value(_arrived.get()[key], offset, size, _read_only)


def _value(answer: Any, offset: int, size: int, fetch: Fetch) -> Any:
    ran = decode_ran(unpack(answer).ran, size, fetch)
    if offset in ran.failures:
        raise ran.failures[offset].exception
    return ran.values[offset]


def _read_only(buffer: Any) -> memoryview:
    return memoryview(buffer).toreadonly()


@contextmanager
def collected() -> Iterator[dict[str, Any]]:
    """Yield a dict that takes the tasks, by key, of the handles that are pickled meanwhile."""
    futures: dict[str, Any] = {}
    token = _collected.set(futures)
    try:
        yield futures
    finally:
        _collected.reset(token)


@contextmanager
def arrived(answers: Mapping[str, Any] | None) -> Iterator[None]:
    """Let handles that are unpickled meanwhile become the values in these answers, by key."""
    token = _arrived.set(answers or {})
    try:
        yield
    finally:
        _arrived.reset(token)


def told(value: Any, size: int) -> Any:
    """Return a batch's answer without the values; runs where the answer is."""
    answer = unpack(value)
    nothing = Encoded(pickle.dumps([None] * size))
    return pack(answer._replace(ran=answer.ran._replace(values=nothing)))
