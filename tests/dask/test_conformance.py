"""The conformance suite on a Dask cluster of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from jobspan.testing.backends import BackendConformance

distributed = pytest.importorskip("distributed")


class TestDask(BackendConformance):
    backend = "dask"
    can_lose_workers = True
    can_be_elsewhere = True
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _cluster(cls) -> Iterator[None]:
        from jobspan.backends.dask.connecting import close, start_cluster

        client = start_cluster(2, {})
        # On a busy machine it takes long until a worker that died is there again.
        cls.options = {"client": client, "connect_timeout": 60}
        yield
        close(client, own_cluster=True)
