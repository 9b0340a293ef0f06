"""A grid search of scikit-learn: 40 fits on 50,000 x 50, joblib's backends beside jobspan's.

Both serve the same call of scikit-learn, on the same cluster of two workers, warm: the search runs
once on a hundredth of the data before it is timed. In a virtual machine, memory that it never used
before is slow to get, which falls to whoever needs it first; on Dask, where that is a tenth of the
time, the search is also timed after one on other data of the same size.
"""

from __future__ import annotations

import textwrap

from benchmarks.contest import Case, Contestant
from benchmarks.servers import START_RAY, shared_ray

__all__ = ["CASES", "SHARED"]

SHARED = shared_ray

_SEARCH = """
import time
import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV

def search(X, y):
    grid = {"alpha": [10.0 ** power for power in range(-4, 4)]}
    return GridSearchCV(RidgeClassifier(), grid, cv=5, n_jobs=2).fit(X, y)

def timed(block, rows_before):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50_000, 50))
    y = (X[:, 0] + rng.normal(size=50_000) > 0).astype(int)
    with block:
        search(X[:rows_before][::-1].copy(), y[:rows_before][::-1].copy())
        begin = time.perf_counter()
        search(X, y)
        return time.perf_counter() - begin

if __name__ == "__main__":
"""

_DASK = """
    import warnings
    warnings.filterwarnings("ignore", "Port 8787")
    import distributed
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    client = distributed.Client(cluster)
"""

_RAY = textwrap.indent(f"{START_RAY}start(2)\n", "    ")

_END_OF_DASK = """
    client.close()
    cluster.close()
"""

_END_OF_RAY = """
    ray.shutdown()
"""


FEW_ROWS, ALL_ROWS = 500, 50_000


def _contestant(start: str, block: str, end: str, rows_before: int) -> Contestant:
    body = textwrap.indent(f"{block}\nseconds = timed(block, {rows_before})", "    ")
    return Contestant(f"{_SEARCH}{start}{body}\n{end}")


def _jobspan(name: str, start: str = "", end: str = "", rows_before: int = FEW_ROWS) -> Contestant:
    block = f"import jobspan\nblock = jobspan.parallel_config({name!r}, n_jobs=2)"
    return _contestant(start, block, end, rows_before)


def _joblib(
    name: str, start: str = "", end: str = "", before: str = "", rows_before: int = FEW_ROWS
) -> Contestant:
    block = f"import joblib\n{before}block = joblib.parallel_config({name!r}, n_jobs=2)"
    return _contestant(start, block, end, rows_before)


CASES = [
    Case(
        "scikit-learn: grid search, 40 fits on 50,000 x 50, processes",
        {"jobspan": _jobspan("processes"), "joblib": _joblib("loky")},
        at_most={"joblib": 1.0},
    ),
    Case(
        "scikit-learn: grid search, 40 fits on 50,000 x 50, Dask",
        {
            "jobspan": _jobspan("dask", _DASK, _END_OF_DASK),
            "joblib": _joblib("dask", _DASK, _END_OF_DASK),
        },
        at_most={"joblib": 0.7},
    ),
    Case(
        "scikit-learn: a second grid search, 40 fits on 50,000 x 50, Dask",
        {
            "jobspan": _jobspan("dask", _DASK, _END_OF_DASK, ALL_ROWS),
            "joblib": _joblib("dask", _DASK, _END_OF_DASK, rows_before=ALL_ROWS),
        },
        at_most={"joblib": 0.7},
    ),
    Case(
        "scikit-learn: grid search, 40 fits on 50,000 x 50, Ray",
        {
            "jobspan": _jobspan("ray", _RAY, _END_OF_RAY),
            "joblib": _joblib(
                "ray",
                _RAY,
                _END_OF_RAY,
                "from ray.util.joblib import register_ray\nregister_ray()\n",
            ),
        },
        at_most={"joblib": 1.0},
    ),
]
