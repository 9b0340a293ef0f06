"""The backends on which other libraries' calls are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import jobspan

_options: dict[str, Any] = {}


@pytest.fixture(scope="module", params=["threads", "processes", "dask", "ray"])
def where(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name a backend, its cluster up."""
    if request.param == "dask":
        pytest.importorskip("distributed")
        from jobspan.backends.dask.connecting import close, start_cluster

        client = start_cluster(2, {"dashboard_address": None})
        _options["client"] = client
        yield "dask"
        _options.clear()
        close(client, own_cluster=True)
    elif request.param == "ray":
        ray = pytest.importorskip("ray")
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=256 << 20,
            logging_level="error",
            log_to_driver=False,
        )
        yield "ray"
        ray.shutdown()
    else:
        yield request.param


@pytest.fixture
def block(where: str) -> Callable[..., Any]:
    """Make a ``with`` block in which calls run there."""
    return lambda **settings: jobspan.parallel_config(where, **_options, **settings)


@pytest.fixture
def options() -> dict[str, Any]:
    """Return what the backend must be told of its cluster."""
    return dict(_options)
