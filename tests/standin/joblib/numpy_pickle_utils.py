"""joblib.numpy_pickle_utils."""

from ._rest import rest_of

__getattr__ = rest_of("numpy_pickle_utils")
