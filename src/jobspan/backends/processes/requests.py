"""What the executor's side and the template say to each other."""

from __future__ import annotations

import struct
from enum import IntEnum

__all__ = ["OBITUARY", "REQUEST", "Request"]

REQUEST = struct.Struct("<QQ")
"""What is asked, and the number of the worker that is meant."""

OBITUARY = struct.Struct("<i")
"""How a worker ended, as ``os.waitstatus_to_exitcode`` has it."""


class Request(IntEnum):
    """What is asked of the template."""

    SPAWN = 1
    """Descriptors: where batches come from, where results go, the socket for descriptors, stdout,
    stderr, the cell, the obituary."""
    KILL = 2
