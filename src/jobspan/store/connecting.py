"""Which library speaks to which bucket, decided anew in each process that connects."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal

from jobspan.errors import MissingExtraError
from jobspan.registry import Registry
from jobspan.store.locations import Location
from jobspan.store.obstore_options import is_certain
from jobspan.store.requests import Requests, RequestsFactory

__all__ = ["BUCKETS", "Engine", "connect"]

Engine = Literal["auto", "fsspec", "obstore"]

BUCKETS: Registry[RequestsFactory] = Registry("bucket")
_EXTRAS: dict[str, tuple[str, str]] = {}
for _schemes, _target, _package, _extra in (
    (("s3", "s3a"), "jobspan.store.s3:S3Requests", "s3fs", "s3"),
    (("gs", "gcs"), "jobspan.store.gcs:GCSRequests", "gcsfs", "gcs"),
    (("az", "abfs", "abfss", "adl"), "jobspan.store.azure:AzureRequests", "adlfs", "azure"),
):
    for _scheme in _schemes:
        BUCKETS.register(_scheme, _target)
        _EXTRAS[_scheme] = (_package, _extra)


def connect(location: Location, options: Mapping[str, Any], engine: Engine = "auto") -> Requests:
    """Connect to a bucket through the library that is installed here and fits.

    Raises
    ------
    MissingExtraError
        If there is none.
    """
    package, extra = _EXTRAS[location.scheme]
    has_fsspec = engine != "obstore" and _installed(package)
    has_obstore = engine != "fsspec" and _installed("obstore")
    if has_obstore and (not has_fsspec or is_certain(location, options)):
        from jobspan.store.obstore_engine import ForkedError, ObstoreRequests

        try:
            return ObstoreRequests(location, options)
        except ForkedError:
            # obstore's threads did not come along into this process.
            if not _installed(package):
                raise
            has_fsspec = True
    if has_fsspec:
        return BUCKETS.load(location.scheme)(location, options)
    raise MissingExtraError(
        f"a store at {location.url!r}", "fast" if engine == "obstore" else extra
    )


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
