"""joblib.externals.loky."""

from jobspan import cpu_count  # noqa: F401
