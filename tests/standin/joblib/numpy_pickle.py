"""What tests take from joblib.numpy_pickle: picklers to derive from, dump and load."""

from pickle import _Pickler as NumpyPickler  # noqa: F401
from pickle import _Unpickler as NumpyUnpickler  # noqa: F401

from jobspan import dump, load  # noqa: F401
from jobspan.persistence import files

from ._rest import folders, itself, rest_of

__getattr__ = rest_of("numpy_pickle")


def _load_joblib(source, how):
    """Read a file of joblib's with the joblib that is installed."""
    return itself("numpy_pickle").load(source, how.mmap_mode, how.native)


if folders():
    files._load_joblib = _load_joblib
