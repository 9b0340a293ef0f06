"""What every part of the suite is told of a backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from jobspan import parallel_config

__all__ = ["BackendTests"]


class BackendTests:
    """Tests of one backend; see :class:`jobspan.testing.backends.BackendConformance`."""

    backend: ClassVar[Any]
    options: ClassVar[dict[str, Any]] = {}
    n_jobs: ClassVar[int] = 2
    can_share_memory: ClassVar[bool] = False
    can_kill: ClassVar[bool] = False
    can_lose_workers: ClassVar[bool] = False
    can_be_elsewhere: ClassVar[bool] = False
    sequential: ClassVar[bool] = False

    @pytest.fixture(autouse=True)
    def _within_context(self) -> Iterator[None]:
        with parallel_config(backend=self.backend, n_jobs=self.n_jobs, **self.options):
            yield
