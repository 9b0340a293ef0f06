"""What tests take from joblib.numpy_pickle: picklers to derive from, dump and load."""

from pickle import _Pickler as NumpyPickler  # noqa: F401
from pickle import _Unpickler as NumpyUnpickler  # noqa: F401

from jobspan import dump, load  # noqa: F401

from ._rest import rest_of

__getattr__ = rest_of("numpy_pickle")
