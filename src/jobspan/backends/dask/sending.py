"""From batches to what Dask sends: bytes, and the futures of what was scattered."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

from jobspan.backends.dask.kept import collected
from jobspan.backends.dask.output import destinations
from jobspan.backends.dask.running import Head
from jobspan.calls import Batch
from jobspan.plans import Plan
from jobspan.transport.batches import BatchEncoder
from jobspan.transport.content import ContentStore, SharedOnce
from jobspan.transport.pickling import modules_by_value
from jobspan.transport.protocol import EncodedBatch

__all__ = ["Parcel", "Sender"]

LARGE_FUNCTION = 1 << 14
"""Functions whose pickle has so many bytes are scattered: the scheduler sees every task's bytes."""

LARGE_BODY = 1 << 15
"""Calls whose pickle has so many bytes go to a worker without passing through the scheduler, which
keeps the last thousand messages to each worker that have less than a megabyte."""


class Parcel(NamedTuple):
    """A batch ready to be sent.

    Parameters
    ----------
    head : bytes
        What the batch shares with others.
    body : bytes or None
        The calls' own bytes; None where they go by `loose`.
    head_places, places : sequence of int
        The scattered buffers of the functions, and of the calls.
    loose : memoryview or None
        The calls' own bytes where they are many.
    kept : dict or None
        The tasks, by key, whose results stayed on the cluster and are handed to these calls.
    """

    head: bytes
    body: bytes | None
    head_places: Sequence[int]
    places: Sequence[int]
    loose: memoryview | None
    kept: dict[str, Any] | None

    @property
    def size(self) -> int:
        """Bytes that are sent for the batch."""
        return len(self.head) + len(self.loose or self.body or b"")


class Sender:
    """Encodes the batches of one executor.

    Parameters
    ----------
    plan : Plan
        The settings.
    content : ContentStore
        The buffers that are on the cluster already.
    keep_freed_memory : bool
        Whether workers keep memory that calls free for the next ones.
    """

    def __init__(
        self, plan: Plan, content: ContentStore, *, keep_freed_memory: bool = True
    ) -> None:
        self._plan = plan
        self._keep_freed_memory = keep_freed_memory
        self._shared = SharedOnce(content)
        self._encoder = BatchEncoder(self._shared.share, plan.max_nbytes, by_value=modules_by_value)
        self._token = ""
        self._heads: dict[tuple[str, ...], tuple[bytes, list[int]]] = {}
        self._kept: dict[str, dict[str, Any]] = {}
        self._caller = destinations()
        self._uses: dict[str, int] = {}
        self._again: list[str] = []

    def begin(self, token: str) -> None:
        """Forget what an earlier ``Parallel`` call shared: it may have changed since."""
        if token != self._token:
            self._token = token
            self._heads.clear()
            self._kept.clear()
            self._shared.begin()

    def encode(self, batch: Batch) -> Parcel:
        """Encode a batch.

        Raises
        ------
        TransportError
            If something in it cannot be pickled.
        """
        with collected() as kept:
            encoded = self._encoder.encode(batch)
        for digest, function in encoded.functions.items():
            if digest not in self._kept:
                # It was encoded just now, and is not again: what it closes over is noted by name.
                code = bytes(function.payload) if kept else b""
                self._kept[digest] = {
                    key: future for key, future in kept.items() if key.encode() in code
                }
            kept.update(self._kept[digest])
        names = tuple(encoded.functions)
        known = self._heads.get(names)
        if known is None:
            known = self._heads[names] = self._head(encoded, batch.context.log_level)
        head, head_places = known
        payload = encoded.batch.payload
        loose = memoryview(payload) if len(payload) >= LARGE_BODY else None
        body = bytes(payload) if loose is None else None
        return Parcel(head, body, head_places, list(encoded.batch.references), loose, kept or None)

    def handles(self, places: Sequence[int]) -> list[Any] | None:
        """Return the futures of scattered buffers, lost ones scattered anew."""
        handles = [self._shared.handle(place) for place in places]
        for handle in handles:
            uses = self._uses[handle.key] = self._uses.get(handle.key, 0) + 1
            if uses == 2:
                self._again.append(handle.key)
        return handles or None

    def used_again(self) -> list[str]:
        """Return the keys of what was asked for a second time since this was last asked."""
        again, self._again = self._again, []
        return again

    def close(self) -> None:
        """Let everything go."""
        self._heads.clear()
        self._kept.clear()
        self._shared.close()

    def _head(self, encoded: EncodedBatch, log_level: int | None) -> tuple[bytes, list[int]]:
        places: list[int] = []

        def local(place: int) -> int:
            if place not in places:
                places.append(place)
            return places.index(place)

        functions: list[tuple[str, bytes | int, Sequence[int]]] = []
        for digest, function in encoded.functions.items():
            payload: bytes | int = bytes(function.payload)
            if len(function.payload) >= LARGE_FUNCTION:
                payload = local(self._shared.share(memoryview(function.payload)))
            functions.append((digest, payload, [local(place) for place in function.references]))
        plan = self._plan
        head = Head(
            functions,
            encoded.token,
            bytes(encoded.context.payload),
            plan.mmap_mode,
            plan.task_timeout,
            log_level,
            self._caller,
            self._keep_freed_memory,
        )
        return pickle.dumps(head), places
