"""joblib.memory."""

from jobspan import register_store_backend  # noqa: F401
from jobspan.memory import *  # noqa: F403

from ._rest import rest_of

__getattr__ = rest_of("memory")
