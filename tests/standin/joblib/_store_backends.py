"""joblib._store_backends: what stores derive from."""

from jobspan import CacheWarning, StoreBackendBase  # noqa: F401

from ._rest import rest_of

__getattr__ = rest_of("_store_backends")
