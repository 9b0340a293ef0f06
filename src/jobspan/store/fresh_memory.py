"""Memory for what is too large to be copied once more."""

from __future__ import annotations

import mmap
from contextlib import suppress

__all__ = ["fresh_memory"]

# Private memory: of shared memory, which mmap gives by default, the system makes small pages only.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


def fresh_memory(size: int) -> memoryview:
    """Return memory of which nothing has been touched, and which nobody else has.

    It is in huge pages where the system has them: of the 256 MiB of a large entry, getting the
    small ones takes longer than filling them.

    Parameters
    ----------
    size : int
        Bytes, at least one.
    """
    memory = mmap.mmap(-1, size, **_PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system that was built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)
