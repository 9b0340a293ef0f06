"""joblib's name for where `hash` is."""

from jobspan.keys import hash

__all__ = ["hash"]
