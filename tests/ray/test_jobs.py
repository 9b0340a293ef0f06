"""A job that is submitted to a cluster, as ``ray job submit`` does it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")
for needed in ("aiohttp_cors", "opencensus", "virtualenv"):
    pytest.importorskip(needed, reason="Ray takes jobs where ray[default] is installed")
from ray.cluster_utils import Cluster  # noqa: E402
from ray.job_submission import JobStatus, JobSubmissionClient  # noqa: E402

pytestmark = pytest.mark.timeout(90)

SCRIPT = """
from jobspan import Parallel, delayed, parallel_config
from of_the_user import square
import os
with parallel_config("ray", n_jobs=-1):
    squares = Parallel()(delayed(square)(x) for x in range(300))
    workers = set(Parallel(batch_size=1)([delayed(os.getpid)()] * 8))
print("right", sum(squares), os.getpid() not in workers)
"""


@pytest.fixture
def head() -> Iterator[Any]:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "object_store_memory": 128 << 20,
            "include_dashboard": True,
            "dashboard_port": 0,
            "dashboard_agent_listen_port": 0,
        },
    )
    yield cluster
    cluster.shutdown()


def test_submitted_job(head: Any, tmp_path: Path) -> None:
    """It uses the cluster that it was submitted to; the modules beside the script travel."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "of_the_user.py").write_text("def square(x):\n    return x * x\n")
    client = JobSubmissionClient(f"http://{head.webui_url}")
    job = client.submit_job(
        entrypoint=f"{sys.executable} script.py", runtime_env={"working_dir": str(tmp_path)}
    )
    end = time.monotonic() + 60
    while not client.get_job_status(job).is_terminal() and time.monotonic() < end:
        time.sleep(0.2)
    logs = client.get_job_logs(job)
    assert client.get_job_status(job) == JobStatus.SUCCEEDED, logs
    assert f"right {sum(x * x for x in range(300))} True" in logs
