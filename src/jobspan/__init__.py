"""joblib's programming model, from one laptop to a cluster, with a cache a whole team shares."""

from jobspan._version import __version__

__all__ = ["__version__"]
