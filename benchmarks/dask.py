"""The Dask backend beside joblib's Dask adapter and plain ``distributed``.

Every contestant starts the same cluster on this machine, two workers of one thread where the case
says nothing else, in an interpreter of its own; starting it is not timed.
"""

from __future__ import annotations

import textwrap

from benchmarks.contest import Case, Contestant
from benchmarks.peers import TIMED

__all__ = ["CASES"]

_CLUSTER = """
import warnings
import numpy as np
from distributed import Client, LocalCluster
warnings.simplefilter("ignore")
cluster = LocalCluster(
    n_workers={workers}, threads_per_worker=1, dashboard_address=None, silence_logs=50
)
client = Client(cluster)
client.wait_for_workers({workers})
"""

_LIBRARY = {
    "jobspan": "from jobspan import Parallel, delayed, parallel_config",
    "joblib": "from joblib import Parallel, delayed, parallel_config",
    "distributed": "",
}

_END = """
client.close()
cluster.close()
"""


def _of(library: str, body: str, workers: int = 2) -> Contestant:
    head = _CLUSTER.format(workers=workers)
    return Contestant(f"{_LIBRARY[library]}\n{TIMED}\n{head}\n{textwrap.dedent(body)}\n{_END}")


def _both(body: str, workers: int = 2) -> dict[str, Contestant]:
    return {library: _of(library, body, workers) for library in ("jobspan", "joblib")}


_ARRAY = """
array = np.random.default_rng(0).random(10_000_000)
holder = {"deep": [array]}
def total(value): return float(value["deep"][0].sum())
def eight(): return Parallel()(delayed(total)(holder) for _ in range(8))
"""

_NESTED_FIRST = (
    _ARRAY
    + """
def first():
    with parallel_config("dask", client=client):
        eight()
seconds = timed(first, times=3)
"""
)

_NESTED_AGAIN = (
    _ARRAY
    + """
with parallel_config("dask", client=client):
    seconds = timed(eight, times=3)
"""
)

_COUNTED = """
def count():
    # Count every byte that this process writes to the network from here on.
    from distributed.comm.tcp import TCP
    if not hasattr(TCP, "counted"):
        write = TCP.write
        async def counting(self, *args, **kwargs):
            written = await write(self, *args, **kwargs)
            TCP.counted += written
            return written
        TCP.write = counting
    TCP.counted = 0
def counted():
    from distributed.comm.tcp import TCP
    return TCP.counted
count()
client.run(count)
"""

_MOVED = (
    _ARRAY
    + _COUNTED
    + """
with parallel_config("dask", client=client):
    eight()
seconds = (counted() + sum(client.run(counted).values())) / (2 * array.nbytes)
"""
)

_SCATTERS = (
    _ARRAY
    + """
seconds = 0
scatter = Client._scatter
def counting(self, data, *args, **kwargs):
    global seconds
    seconds += 1
    return scatter(self, data, *args, **kwargs)
Client._scatter = counting
with parallel_config("dask", client=client):
    for _ in range(3):
        eight()
"""
)

_RESULTS = """
def make(value): return np.full(10_000_000, value, dtype=float)
with parallel_config("dask", client=client):
    seconds = timed(lambda: Parallel()(delayed(make)(i) for i in range(4)), times=3)
"""

CASES = [
    Case(
        "dask: 1,000 no-op calls, batch_size=1",
        _both(
            """
            with parallel_config("dask", client=client):
                parallel = Parallel(batch_size=1)
                seconds = timed(lambda: parallel(delayed(noop)(i) for i in range(1000)), times=3)
            """
        )
        | {
            "distributed": _of(
                "distributed",
                """
                seconds = timed(
                    lambda: client.gather(client.map(noop, range(1000), pure=False)), times=3
                )
                """,
            )
        },
        {"joblib": 0.4, "distributed": 1.1},
        quick={"range(1000)": "range(400)"},
    ),
    Case(
        "dask: 20,000 no-op calls, automatic batches",
        _both(
            """
            with parallel_config("dask", client=client):
                seconds = timed(
                    lambda: Parallel()(delayed(noop)(i) for i in range(20_000)), times=3
                )
            """
        ),
        {"joblib": 0.3},
    ),
    Case(
        "dask: 80 MB array nested in a dict, 8 calls, first time",
        _both(_NESTED_FIRST),
        {"joblib": 0.6},
    ),
    Case(
        "dask: 80 MB array nested in a dict, 8 calls, again in the context",
        _both(_NESTED_AGAIN),
        {"joblib": 0.2},
    ),
    Case(
        "dask: the same, bytes moved: times the array once a worker",
        _both(_MOVED),
        {"ideal": 1.01},
        unit="x",
    ),
    Case(
        "dask: the same array in 3 Parallel calls of a context: scatters",
        {"jobspan": _of("jobspan", _SCATTERS)},
        {"ideal": 1.0},
        unit="x",
    ),
    Case("dask: 4 results of 80 MB", _both(_RESULTS), {"joblib": 0.35}),
    Case(
        "dask: 8 workers, 1,000 calls of 10 ms: times the ideal",
        _both(
            """
            with parallel_config("dask", client=client):
                seconds = timed(
                    lambda: Parallel()(delayed(time.sleep)(0.01) for _ in range(1000)), times=3
                )
            seconds /= 1000 * 0.01 / 8
            """,
            workers=8,
        ),
        {"ideal": 1 / 0.85},
    ),
]
