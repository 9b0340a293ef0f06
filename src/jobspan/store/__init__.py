"""Where results are kept: named bytes on a disk or in a bucket, with conditional writes."""

from jobspan.store.conditions import StoreWithoutConditionsWarning
from jobspan.store.opening import open_store, register_store
from jobspan.store.protocol import (
    BulkDeletes,
    BulkReads,
    Content,
    Data,
    LocalPaths,
    Lock,
    NameLocks,
    ObjectInfo,
    ObjectStore,
    StoreClock,
    Sweeps,
    Token,
    Touches,
    WatchedReads,
)

__all__ = [
    "BulkDeletes",
    "BulkReads",
    "Content",
    "Data",
    "LocalPaths",
    "Lock",
    "NameLocks",
    "ObjectInfo",
    "ObjectStore",
    "StoreClock",
    "StoreWithoutConditionsWarning",
    "Sweeps",
    "Token",
    "Touches",
    "WatchedReads",
    "open_store",
    "register_store",
]
