"""Buffers scattered once a cluster: known by their content, dropped with the backend."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from blake3 import blake3

__all__ = ["Scattered"]

KEPT_BYTES = 4 << 30
"""How many bytes stay scattered that no task uses now."""


class Scattered:
    """What was scattered over one client.

    Parameters
    ----------
    client : distributed.Client
        The connection.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._futures: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self.bytes_sent = 0

    def future(self, buffer: memoryview) -> Any:
        """Return the future of a buffer's content, scattering it if it is not there."""
        digest = blake3(buffer, max_threads=blake3.AUTO).digest()
        known = self._futures.get(digest)
        if known is not None and known[0].status == "finished":
            self._futures.move_to_end(digest)
            return known[0]
        data = _array(buffer)
        future = self._client.scatter(data, hash=False)
        self.bytes_sent += buffer.nbytes
        self._futures[digest] = (future, buffer.nbytes)
        self._bytes += buffer.nbytes
        while self._bytes > KEPT_BYTES and len(self._futures) > 1:
            _, (_, size) = self._futures.popitem(last=False)
            self._bytes -= size
        return future

    def clear(self) -> None:
        """Let everything go."""
        self._futures.clear()
        self._bytes = 0


def _array(buffer: memoryview) -> Any:
    """Return what Dask sends without a copy: an array where there is numpy, else the bytes."""
    try:
        import numpy as np
    except ImportError:
        return bytes(buffer)
    return np.frombuffer(buffer, dtype="u1")
