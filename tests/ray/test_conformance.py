"""The conformance suite on a Ray of this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobspan.testing.backends import BackendConformance

ray = pytest.importorskip("ray")


class TestRay(BackendConformance):
    backend = "ray"
    can_kill = True
    can_lose_workers = True
    can_be_elsewhere = True

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _cluster(cls) -> Iterator[None]:
        ray.init(
            "local",
            num_cpus=4,
            include_dashboard=False,
            object_store_memory=256 << 20,
            logging_level="error",
            log_to_driver=False,
        )
        yield
        ray.shutdown()
