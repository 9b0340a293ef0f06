"""joblib.logger."""

from jobspan.logger import Logger, PrintTime, format_time, pformat, short_format_time  # noqa: F401

from ._rest import rest_of

__getattr__ = rest_of("logger")
