"""Results that are kept: ``Memory`` and what it makes of functions.

::

    memory ─┬ function ─┬ single_flight ── claims
            │           ├ recall ── tier ── reading ── format, naming, last_use ── codecs, store
            │           └ result, expiry, telling
            ├ opening       what users pass, read and checked
            └ inventory     what a cache holds: eviction, verification, explanations
"""

from jobspan.memory.async_function import AsyncMemorizedFunc
from jobspan.memory.expiry import expires_after
from jobspan.memory.function import MemorizedFunc
from jobspan.memory.memory import Memory
from jobspan.memory.pass_through import AsyncNotMemorizedFunc, NotMemorizedFunc
from jobspan.memory.reporting import CacheWarning
from jobspan.memory.result import MemorizedResult, NotMemorizedResult

__all__ = [
    "AsyncMemorizedFunc",
    "AsyncNotMemorizedFunc",
    "CacheWarning",
    "MemorizedFunc",
    "MemorizedResult",
    "Memory",
    "NotMemorizedFunc",
    "NotMemorizedResult",
    "expires_after",
]
