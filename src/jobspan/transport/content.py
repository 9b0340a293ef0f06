"""Buffers put on a cluster once: known by their content, kept as long as the backend is open."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from blake3 import blake3

__all__ = ["ContentStore", "SharedOnce"]

KEPT_BYTES = 4 << 30
"""How many bytes stay on a cluster that no batch uses now."""


class ContentStore:
    """What was put on one cluster, by the digest of its content.

    Parameters
    ----------
    put : callable
        Puts an array of bytes on the cluster and returns its handle there.
    alive : callable
        Whether a handle's content is still there.

    Notes
    -----
    Threads and processes: safe to use from several threads; what two of them put at once is put
    once.
    """

    def __init__(self, put: Callable[[Any], Any], alive: Callable[[Any], bool]) -> None:
        self._put = put
        self._alive = alive
        self._handles: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.bytes_sent = 0

    def holds(self, handle: Any) -> bool:
        """Whether a handle's content is still there."""
        return self._alive(handle)

    def handle(self, buffer: memoryview) -> Any:
        """Return the handle of a buffer's content, putting it there if it is not."""
        digest = blake3(buffer, max_threads=blake3.AUTO).digest()
        with self._lock:
            known = self._handles.pop(digest, None)
            if known is not None and self._alive(known[0]):
                self._handles[digest] = known
                return known[0]
            if known is not None:
                self._bytes -= known[1]
            handle = self._put(_array(buffer))
            self.bytes_sent += buffer.nbytes
            self._handles[digest] = (handle, buffer.nbytes)
            self._bytes += buffer.nbytes
            while self._bytes > KEPT_BYTES and len(self._handles) > 1:
                _, (_, size) = self._handles.popitem(last=False)
                self._bytes -= size
            return handle

    def clear(self) -> None:
        """Let everything go."""
        with self._lock:
            self._handles.clear()
            self._bytes = 0


class SharedOnce:
    """The buffers that the batches of one executor share, each looked at once a ``Parallel`` call.

    A buffer is known by its address while it is held; `begin` forgets all, so that what changed
    since is found changed.

    Parameters
    ----------
    content : ContentStore
        Where buffers are put.
    """

    def __init__(self, content: ContentStore) -> None:
        self._content = content
        self._known: dict[tuple[int, int], tuple[memoryview, int]] = {}
        self._buffers: list[memoryview | None] = []
        self.handles: list[Any] = []

    def begin(self) -> None:
        """Forget which buffers are known."""
        self._known.clear()
        self._buffers = [None] * len(self.handles)

    def share(self, buffer: memoryview) -> int:
        """Return the index of a buffer's handle."""
        key = (_address(buffer), buffer.nbytes)
        known = self._known.get(key)
        if known is None:
            self.handles.append(self._content.handle(buffer))
            self._buffers.append(buffer)
            known = self._known[key] = (buffer, len(self.handles) - 1)
        return known[1]

    def handle(self, index: int) -> Any:
        """Return the handle of a buffer; one that was lost is put there again."""
        handle, buffer = self.handles[index], self._buffers[index]
        if buffer is not None and not self._content.holds(handle):
            handle = self.handles[index] = self._content.handle(buffer)
        return handle

    def close(self) -> None:
        """Let everything go."""
        self._known.clear()
        self._buffers.clear()
        self.handles.clear()


def _array(buffer: memoryview) -> Any:
    """Return what clusters send without a copy: an array where there is numpy, else the bytes."""
    try:
        import numpy as np
    except ImportError:
        return bytes(buffer)
    return np.frombuffer(buffer, dtype="u1")


def _address(buffer: memoryview) -> int:
    try:
        import numpy as np
    except ImportError:
        return id(buffer.obj)
    return int(np.frombuffer(buffer, dtype="u1").__array_interface__["data"][0])
