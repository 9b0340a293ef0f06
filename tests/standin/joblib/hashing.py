"""joblib.hashing."""

from jobspan import hash  # noqa: F401

from ._rest import rest_of

__getattr__ = rest_of("hashing")
