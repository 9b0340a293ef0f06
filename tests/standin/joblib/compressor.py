"""joblib.compressor."""

from jobspan import register_compressor  # noqa: F401

from ._rest import rest_of

__getattr__ = rest_of("compressor")
