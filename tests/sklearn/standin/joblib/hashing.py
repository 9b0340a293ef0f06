"""joblib.hashing."""

from jobspan import hash  # noqa: F401
