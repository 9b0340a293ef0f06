"""What contestants start for themselves, and share in a quick run: a Ray, an S3 server.

To start one takes most of a contestant's round, and is not timed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from jobspan.testing.servers import SeaweedFS

__all__ = ["START_RAY", "START_S3", "shared_ray", "shared_s3"]

SHARED_CPUS = 2
_RAY, _S3 = "JOBSPAN_BENCHMARKS_RAY", "JOBSPAN_BENCHMARKS_S3"

START_RAY = f"""
import os
import ray
def start(cpus):
    settings = dict(logging_level="error", log_to_driver=False)
    if cpus == {SHARED_CPUS} and (address := os.environ.get("{_RAY}")):
        ray.init(address=address, **settings)
    else:
        ray.init(address="local", num_cpus=cpus, include_dashboard=False,
                 object_store_memory=1 << 30, **settings)
"""

START_S3 = f"""
import os
from jobspan.testing.servers import SeaweedFS
server = SeaweedFS()
if port := os.environ.get("{_S3}"):
    server.port = int(port)
else:
    server.start()
    atexit.register(server.stop)
url = server.bucket_url("bench") + f"/cache-{{os.getpid()}}"
options = server.storage_options
"""


@contextmanager
def shared_ray() -> Iterator[None]:
    """Start a Ray of this machine for every contestant to join; stop it at the end."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": SHARED_CPUS,
            "include_dashboard": False,
            "object_store_memory": 1 << 30,
        },
    )
    os.environ[_RAY] = cluster.address
    try:
        yield
    finally:
        del os.environ[_RAY]
        cluster.shutdown()


@contextmanager
def shared_s3() -> Iterator[None]:
    """Start an S3 server for every contestant to use; stop it at the end."""
    with SeaweedFS() as server:
        os.environ[_S3] = str(server.port)
        try:
            yield
        finally:
            del os.environ[_S3]
