"""joblib's backends by the names that libraries' tests derive from."""

from jobspan import ParallelBackendBase  # noqa: F401
from jobspan.backends import processes
from jobspan.backends.sequential import SequentialBackend  # noqa: F401
from jobspan.backends.threads import ThreadBackend as ThreadingBackend  # noqa: F401

from ._rest import rest_of


class LokyBackend(processes.LokyBackend):
    """The same with joblib's hook, which tests override to count calls."""

    def __init__(self, nesting_level=None, **options):
        self.nesting_level = nesting_level
        super().__init__(**options)

    def start_call(self):
        pass

    def open(self, plan):
        self.start_call()
        return super().open(plan)


class MultiprocessingBackend(processes.ProcessBackend):
    """The processes backend under its other name."""


__getattr__ = rest_of("_parallel_backends")
