"""Places where results are stored, on this disk and in buckets of real servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from jobspan import Memory


@dataclass
class Place:
    """Where a memory of a test is, and how it gets there."""

    url: str
    options: dict[str, Any] = field(default_factory=dict)

    def memory(self, **arguments: Any) -> Memory:
        arguments = {"verbose": 0, "storage_options": self.options or None, **arguments}
        return Memory(self.url, **arguments)

    def through(self, proxy: Any) -> Place:
        return Place(self.url, {**self.options, "endpoint_url": proxy.endpoint})


@pytest.fixture
def place(request, tmp_path, fresh_prefix):
    """Give the place that a test is parametrized with: "local", "moto" or "seaweedfs"."""
    if request.param == "local":
        return Place(str(tmp_path / "cache"))
    server = request.getfixturevalue(f"{request.param}_server")
    return Place(f"{server.bucket_url('memory')}/{fresh_prefix()}", dict(server.storage_options))


@pytest.fixture
def moto_place(moto_server, fresh_prefix):
    return Place(
        f"{moto_server.bucket_url('memory')}/{fresh_prefix()}", dict(moto_server.storage_options)
    )
