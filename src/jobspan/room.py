"""How much memory this process may still take: by the kernel, the cgroup and its own limits."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

__all__ = ["available_memory"]


def available_memory() -> int:
    """Return the bytes that can be had without swapping.

    Returns
    -------
    int
        The least of what the machine has to spare, what the cgroup leaves, and what the process's
        limit of addresses (``ulimit -v``) leaves; `sys.maxsize` where nothing is known.

    Examples
    --------
    >>> available_memory() > 0
    True
    """
    available = sys.maxsize
    with suppress(OSError, ValueError, IndexError):
        for line in _read("/proc/meminfo").splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    with suppress(OSError, ValueError):
        limit = int(_read("/sys/fs/cgroup/memory.max"))
        available = min(available, limit - int(_read("/sys/fs/cgroup/memory.current")))
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
        if addresses != resource.RLIM_INFINITY:
            taken = int(_read("/proc/self/statm").split()[0]) * os.sysconf("SC_PAGE_SIZE")
            available = min(available, max(0, addresses - taken))
    return available


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - no pathlib here
        return file.read()
