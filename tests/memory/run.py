"""Run as a program: a run of ``Parallel(memory=)`` that may be ended at any moment.

``SECONDS=0.1 python run.py BACKEND URL LOG CALLS``
"""

from __future__ import annotations

import os
import sys
import time
import warnings

from jobspan import Memory, Parallel, delayed


def square(x, log):
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{x}\n".encode())
    os.close(descriptor)
    time.sleep(float(os.environ["SECONDS"]))
    return x * x


if __name__ == "__main__":
    backend, url, log, calls = sys.argv[1:]
    options = {}
    if backend == "ray":
        import ray

        ray.init(
            "local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 << 20,
            log_to_driver=False,
        )
    if backend == "dask":
        from distributed import Client, LocalCluster

        options["client"] = Client(
            LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None)
        )
    memory = Memory(url, verbose=0)
    wanted = (delayed(square)(x, log) for x in range(int(calls)))
    parallel = Parallel(n_jobs=2, backend=backend, memory=memory, **options)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert parallel(wanted) == [x * x for x in range(int(calls))]
    print(f"{parallel.stats.recalled} recalled", flush=True)
    print(*(each.message for each in told if "not shared" in str(each.message)), sep="\n", end="")
