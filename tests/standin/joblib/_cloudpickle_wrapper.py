"""joblib._cloudpickle_wrapper."""

from jobspan import wrap_non_picklable_objects  # noqa: F401

from ._rest import rest_of

__getattr__ = rest_of("_cloudpickle_wrapper")
