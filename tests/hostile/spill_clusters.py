"""A run that hands secrets to clusters: ``python spill_clusters.py FOLDER ENDPOINT PART``.

It writes all it can. Some of its canaries are made as it goes, TLS keys among them, and left in
``given/canaries.json``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from pathlib import Path

from spill import CANARIES, attempt, count, fails, s3_options, show

from jobspan import Memory, Parallel, delayed, parallel_config
from jobspan.backends.dask.backend import DaskBackend
from jobspan.backends.ray.backend import RayBackend
from jobspan.testing.proxy import Fault, Proxy

ENVIRONMENT = {name: f"canary-{name}-5d1e8b" for name in ("dask", "ray_job", "ray_worker")}


def told():
    return {name: os.environ.get(f"TOKEN_{name}") == value for name, value in ENVIRONMENT.items()}


def visible():
    """Return what anybody on this machine may see of its programs.

    Of their environments only what a cache was given: the others have arrived there on purpose.
    """
    seen = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            seen.append((process / "cmdline").read_bytes())
        with contextlib.suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            secrets = [secret.encode() for secret in CANARIES.values()]
            seen += [each for each in variables if any(secret in each for secret in secrets)]
    return b"\n".join(seen)


def use(backend, folder, name):
    """Run what is right and what fails; show all there is."""
    show(backend)
    with parallel_config(backend=backend, n_jobs=2, verbose=100), Parallel() as parallel:
        print(name, parallel(delayed(count)(x) for x in range(3)))
        print(name, "told", parallel([delayed(told)()]))
        (folder / f"{name}.html").write_text(parallel.stats.to_html())
        show(parallel)
        show(parallel.stats)
    attempt(lambda: Parallel(n_jobs=2, backend=backend)(delayed(fails)(x) for x in range(2)))
    attempt(lambda: Parallel(n_jobs=2, backend=backend, no_such_option=1))


def use_cache(backend, folder, name, endpoint):
    """Send a cache with all its secrets to the workers, where its store works, and then fails."""
    with Proxy(endpoint) as proxy:
        memory = Memory(
            f"s3://secrets/{name}",
            storage_options=s3_options(proxy.endpoint),
            sign_key=CANARIES["sign_key"].encode(),
            verbose=100,
        )
        for faults in ([], [Fault("unavailable", times=10**9)]):
            proxy.inject(*faults)
            for function in (count, fails):
                calls = (delayed(memory.cache(function))(x + len(faults)) for x in range(3))
                parallel = Parallel(n_jobs=2, backend=backend, verbose=100)
                attempt(lambda p=parallel, c=calls: (name, "cached", p(c)))
            (folder / f"{name}-processes-{len(faults)}").write_bytes(visible())


def dask(folder, endpoint):
    import distributed

    security = distributed.Security.temporary()
    others = distributed.Security.temporary()
    nobody = {"security": security, "connect_timeout": 1.0}
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            security=security,
            dashboard_address=None,
            env={"TOKEN_dask": ENVIRONMENT["dask"]},
        ) as cluster,
        distributed.Client(cluster, security=security) as client,
    ):
        address = cluster.scheduler_address
        use(DaskBackend(address, security=security), folder, "dask")
        use(DaskBackend(client=client), folder, "dask-client")
        reporting = DaskBackend(
            address, security=security, performance_report=folder / "dask-report.html"
        )
        use_cache(reporting, folder, "dask", endpoint)
        reporting.close()
        wrong = DaskBackend(address, security=others, connect_timeout=2.0)
        attempt(lambda: Parallel(backend=wrong)([delayed(count)(1)]))
    attempt(lambda: Parallel(backend=DaskBackend(address, **nobody))([delayed(count)(1)]))
    attempt(lambda: Parallel(backend=DaskBackend(client=client))([delayed(count)(1)]))
    # Each certificate is public, its key is not.
    return {
        f"key {number}": line
        for number, pem in enumerate((security.tls_client_key, others.tls_client_key))
        for line in pem.splitlines()[3:5]
    }


def ray(folder, endpoint):
    options = {
        "num_cpus": 2,
        "object_store_memory": 100 << 20,
        "include_dashboard": False,
        "runtime_env": {"env_vars": {"TOKEN_ray_job": ENVIRONMENT["ray_job"]}},
    }
    worker = {"env_vars": {"TOKEN_ray_worker": ENVIRONMENT["ray_worker"]}}
    backend = RayBackend(ray_options=options, runtime_env=worker)
    use(backend, folder, "ray")
    use_cache(backend, folder, "ray", endpoint)
    backend.close()
    refused = {**options, "runtime_env": {**options["runtime_env"], "working_dir": "/no/such"}}
    attempt(
        lambda: Parallel(backend=RayBackend(ray_options=refused))([delayed(count)(1) for _ in "ab"])
    )
    attempt(lambda: RayBackend(ray_options=options, runtime_environment=worker))
    return {}


if __name__ == "__main__":
    work_folder = Path(sys.argv[1])
    warnings.simplefilter("always")
    logging.basicConfig(filename=work_folder / "log.txt", level=logging.INFO)
    logging.getLogger("jobspan").setLevel(logging.DEBUG)
    canaries = {**ENVIRONMENT}
    for part in sys.argv[3:]:
        canaries |= {"dask": dask, "ray": ray}[part](work_folder, sys.argv[2])
    (work_folder / "given").mkdir()
    (work_folder / "given" / "canaries.json").write_text(json.dumps(canaries))
