"""joblib's name for where `dump` and `load` are."""

from jobspan.persistence import dump, load

__all__ = ["dump", "load"]
