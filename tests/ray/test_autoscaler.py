"""A cluster that grows with what is asked of it, by Ray's own autoscaler and its fake nodes."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

import jobspan
from jobspan import Parallel, delayed, parallel_config

ray = pytest.importorskip("ray")
from ray.autoscaler._private.fake_multi_node.node_provider import (  # noqa: E402
    FAKE_HEAD_NODE_ID,
    FakeMultiNodeProvider,
)
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.timeout(150)


def free_port() -> int:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A head with one CPU, and an autoscaler that may add two nodes of two CPUs."""
    before = set(psutil.Process().children(recursive=True))
    port = free_port()
    store = 80 << 20
    head, node = {"CPU": 1, "object_store_memory": store}, {"CPU": 2, "object_store_memory": store}
    config = {
        "cluster_name": "jobspan-test",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "external",  # for "fake_multinode" Ray wants a file that its wheel lacks
            "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "gcs_address": f"{ray.util.get_node_ip_address()}:{port}",
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": head, "node_config": {}, "max_workers": 0},
            "two-cpus": {
                "resources": node,
                "node_config": {},
                "min_workers": 0,
                "max_workers": 2,
            },
        },
        "head_node_type": "ray.head.default",
        "cluster_synced_files": [],
        "file_mounts": {},
        "auth": {},
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
    }
    path = tmp_path / "autoscaler.json"
    path.write_text(json.dumps(config))
    with monkeypatch.context() as patch:
        patch.setenv("RAY_enable_autoscaler_v2", "1")
        patch.setenv("RAY_FAKE_CLUSTER", "1")
        patch.setenv("AUTOSCALER_UPDATE_INTERVAL_S", "1")
        patch.setenv("RAY_OVERRIDE_NODE_ID_FOR_TESTING", FAKE_HEAD_NODE_ID)
        patch.setenv("RAY_CLOUD_INSTANCE_ID", FAKE_HEAD_NODE_ID)
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "object_store_memory": store,
                "include_dashboard": False,
                "gcs_server_port": port,
                "autoscaling_config": str(path),
            },
        )
    ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
    yield
    family = set(psutil.Process().children(recursive=True)) - before
    ray.shutdown()
    cluster.shutdown()
    for process in family:  # nodes that were added are the autoscaler's, and may outlive it
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, 20)


def node_after(seconds: float) -> str:
    time.sleep(seconds)
    return str(ray.get_runtime_context().get_node_id())


def alive_nodes() -> int:
    return sum(node["Alive"] for node in ray.nodes())


def test_cluster_grows_with_the_work(growing: None) -> None:
    """Workers for which there is no room make the autoscaler add a node; ``n_jobs=-1`` takes it in.

    When they are given back the node goes, and ``n_jobs=-1`` is what it was.
    """
    with parallel_config("ray", n_jobs=-1), Parallel(batch_size=1) as follower:
        assert jobspan.effective_n_jobs(-1) == 1
        head = set(follower([delayed(node_after)(0.01)] * 4))
        with parallel_config("ray", n_jobs=2):
            grown = set(Parallel(batch_size=1)([delayed(node_after)(0.01)] * 4))
        assert not head & grown
        assert jobspan.effective_n_jobs(-1) == 3
        # By then a node may have gone for want of work, and another come.
        assert set(follower([delayed(node_after)(0.5)] * 30)) > head
    end = time.monotonic() + 60
    while alive_nodes() > 1 and time.monotonic() < end:
        time.sleep(0.5)
    with parallel_config("ray"):
        assert jobspan.effective_n_jobs(-1) == 1
