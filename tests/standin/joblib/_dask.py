"""joblib._dask."""

from jobspan.backends.dask import DaskBackend as DaskDistributedBackend  # noqa: F401

from ._rest import rest_of

__getattr__ = rest_of("_dask")
