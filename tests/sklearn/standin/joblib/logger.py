"""What scikit-learn takes from joblib.logger."""

from jobspan import Logger, PrintTime  # noqa: F401
from jobspan.parallel.verbosity import format_seconds as short_format_time  # noqa: F401
