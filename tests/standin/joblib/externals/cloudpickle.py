"""joblib.externals.cloudpickle."""

from cloudpickle import *  # noqa: F403
