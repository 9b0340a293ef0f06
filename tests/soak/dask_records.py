"""Has Dask drop what it keeps by itself, for any program, so that what is left can be counted.

Each client, scheduler and worker keeps as many connections to another one as there ever were
requests under way at once, and a worker that dies takes its own along: their number goes up and
down by dozens. A connection that a pool has lost stays. A scheduler keeps a record of every group
of tasks for as long as it lives (about 1.2 kB), and what the last 100,000 names of tasks begin with
(about 0.3 kB each). Groups that are not done stay, and so does what jobspan has lost.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

from tests.busyness import busyness

__all__ = ["drop_dask_records"]

ENDS_SECONDS = 0.3
"""What a machine that does nothing else takes to close the other ends."""


def drop_dask_records() -> None:
    """Drop them for all Dask clients of this process, and in their schedulers and workers."""
    package: Any = sys.modules.get("distributed")
    if package is None:
        return
    for client in list(package.Client._instances):
        if client.status == "running":
            with suppress(OSError, TimeoutError):  # a worker ends
                client.run(_empty_pools, on_error="ignore")
                client.run_on_scheduler(_empty_pools)
                client.run_on_scheduler(_forget_groups)
            client.loop.add_callback(_empty_pools)
    time.sleep(ENDS_SECONDS * min(busyness(), 10))


def _empty_pools() -> None:
    """Close the idle connections of this process; its clients and servers have one event loop."""
    from distributed.core import ConnectionPool

    for pool in list(ConnectionPool._instances):
        if pool.status.name == "running":
            pool.collect()


def _forget_groups(dask_scheduler: Any) -> None:
    from dask.utils import key_split

    key_split.cache_clear()
    for span in dask_scheduler.extensions["spans"].spans.values():
        span.groups -= {group for group in span.groups if group.done}
