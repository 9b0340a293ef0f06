"""Results that are kept: ``Memory`` and what it makes of functions.

::

    memory ── function ─┬─ single_flight ─┬─ recall ── codecs, store
                        └─ keys           └─ eviction, expiry, result
"""

from jobspan.memory.expiry import expires_after
from jobspan.memory.function import AsyncMemorizedFunc, MemorizedFunc, NotMemorizedFunc
from jobspan.memory.memory import Memory
from jobspan.memory.recall import CacheWarning
from jobspan.memory.result import MemorizedResult, NotMemorizedResult

__all__ = [
    "AsyncMemorizedFunc",
    "CacheWarning",
    "MemorizedFunc",
    "MemorizedResult",
    "Memory",
    "NotMemorizedFunc",
    "NotMemorizedResult",
    "expires_after",
]
