"""Has Dask close what it keeps open for the next requests, so that what is left can be counted.

Each client, scheduler and worker keeps as many connections to another one as there ever were
requests under way at once, and a worker that dies takes its own along: their number goes up and
down by dozens, in any program that uses distributed. A connection that a pool has lost stays.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

from tests.busyness import busyness

__all__ = ["close_idle_connections"]

ENDS_SECONDS = 0.3
"""What a machine that does nothing else takes to close the other ends."""


def close_idle_connections() -> None:
    """Empty the pools of all Dask clients of this process, and of their schedulers and workers."""
    package: Any = sys.modules.get("distributed")
    if package is None:
        return
    for client in list(package.Client._instances):
        if client.status == "running":
            with suppress(OSError, TimeoutError):  # a worker ends
                client.run(_empty_pools, on_error="ignore")
                client.run_on_scheduler(_empty_pools)
            client.loop.add_callback(_empty_pools)
    time.sleep(ENDS_SECONDS * min(busyness(), 10))


def _empty_pools() -> None:
    """Close the idle connections of this process; its clients and servers have one event loop."""
    from distributed.core import ConnectionPool

    for pool in list(ConnectionPool._instances):
        if pool.status.name == "running":
            pool.collect()
