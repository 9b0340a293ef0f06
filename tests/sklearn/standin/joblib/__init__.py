"""A package named joblib that is jobspan: what libraries see when jobspan stands in for joblib."""

import jobspan
from jobspan import *  # noqa: F403

from . import logger, numpy_pickle, parallel  # noqa: F401 - libraries reach them as attributes

__version__ = "1.6.0"
__all__ = [name for name in jobspan.__all__ if name != "__version__"]
