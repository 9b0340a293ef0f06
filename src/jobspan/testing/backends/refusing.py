"""What cannot be meant is refused, with what to type in its place."""

from __future__ import annotations

import pytest

from jobspan import Parallel, delayed
from jobspan.testing.backends.suite import BackendTests
from jobspan.testing.backends.work import calls_of_nothing, square

__all__ = ["Refusing"]


class Refusing(BackendTests):
    """What cannot be meant is refused, with what to type in its place."""

    def test_not_a_call(self) -> None:
        """What is no delayed call is refused by name."""
        with pytest.raises(TypeError, match="delayed"):
            Parallel()([square])
        with pytest.raises(TypeError, match="generator"):
            Parallel()([delayed(calls_of_nothing)()])

    def test_wrong_arguments(self) -> None:
        """Wrong arguments are refused before anything runs, with the forms that are taken."""
        for arguments in (
            {"n_jobs": 0},
            {"n_jobs": "many"},
            {"batch_size": 0},
            {"batch_size": "big"},
            {"pre_dispatch": "import os"},
            {"return_as": "tuple"},
            {"on_error": "ignore"},
            {"retries": -1},
            {"task_timeout": -1},
            {"max_nbytes": "1X"},
            {"mmap_mode": "x"},
            {"max_pending": 0},
        ):
            with pytest.raises(ValueError, match=r".+"):
                Parallel(**arguments)
