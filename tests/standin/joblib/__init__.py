"""A package named joblib that is jobspan: what libraries see when jobspan stands in for joblib.

With ``STAND_IN_REST=1`` what jobspan has no counterpart of, such as the helpers of joblib's own
tests, comes from the joblib that is installed.
"""

import jobspan
from jobspan import *  # noqa: F403

from . import _rest

__path__ = [*__path__, *_rest.folders()]  # noqa: F405 - every package has it

# Libraries reach them as attributes.
from . import hashing, logger, memory, numpy_pickle, parallel  # noqa: F401

__version__ = "1.6.0"
__all__ = [name for name in jobspan.__all__ if name != "__version__"]
