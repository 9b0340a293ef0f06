"""Where results are kept: named bytes on a disk or in a bucket, with conditional writes."""

from jobspan.store.opening import open_store, register_store
from jobspan.store.protocol import (
    BulkReads,
    Content,
    Data,
    LocalPaths,
    ObjectInfo,
    ObjectStore,
    StoreClock,
    Sweeps,
    Token,
    Touches,
)

__all__ = [
    "BulkReads",
    "Content",
    "Data",
    "LocalPaths",
    "ObjectInfo",
    "ObjectStore",
    "StoreClock",
    "Sweeps",
    "Token",
    "Touches",
    "open_store",
    "register_store",
]
