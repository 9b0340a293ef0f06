"""What libraries and their tests take from joblib.parallel."""

import multiprocessing as mp  # noqa: F401 - "joblib.parallel.mp" says whether there are processes
from collections.abc import MutableMapping

from jobspan.backends import choosing
from jobspan.parallel import *  # noqa: F403

from ._parallel_backends import (  # noqa: F401
    LokyBackend,
    MultiprocessingBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
)
from ._rest import rest_of

DEFAULT_BACKEND = "loky"
NAMES = {"loky", "multiprocessing", "threading", "sequential"}

# Tests ask whether a backend is of just that class.
choosing.BACKENDS["loky"] = choosing.BACKENDS["processes"] = LokyBackend
choosing.BACKENDS["multiprocessing"] = MultiprocessingBackend


class _Backends(MutableMapping):
    """Those of jobspan's backends that joblib has, and those that tests register."""

    def __getitem__(self, name):
        return choosing.BACKENDS[name]

    def __setitem__(self, name, factory):
        NAMES.add(name)
        choosing.BACKENDS[name] = factory

    def __delitem__(self, name):
        NAMES.discard(name)
        del choosing.BACKENDS[name]

    def __iter__(self):
        return iter(sorted(name for name in NAMES if name in choosing.BACKENDS))

    def __len__(self):
        return len(list(iter(self)))

    def copy(self):
        return dict(self)


BACKENDS = _Backends()


__getattr__ = rest_of("parallel")
