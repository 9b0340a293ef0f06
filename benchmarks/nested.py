"""Nested: parallel calls that make parallel calls, and threads that numpy starts in all of them."""

from __future__ import annotations

import textwrap

from benchmarks.contest import Case, Contestant
from benchmarks.peers import TIMED

__all__ = ["CASES"]

_PARALLEL = """
from {library} import Parallel, delayed
def outer(number):
    return Parallel(n_jobs=2)(delayed(inner)(i) for i in range({inner}))
with Parallel(n_jobs=2) as parallel:
    seconds = timed(lambda: parallel(delayed(outer)(i) for i in range(8)), times=3)
"""

# Pools of the standard library do not know of each other: the inner level is threads by hand, and
# numpy's own threads are switched off by hand.
_FUTURES = """
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from threadpoolctl import threadpool_limits
def outer(number):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(inner, range({inner})))
with ProcessPoolExecutor(2, get_context("fork"), threadpool_limits, (1,)) as pool:
    seconds = timed(lambda: list(pool.map(outer, range(8))), times=3)
"""

_LOOP = """
seconds = timed(lambda: [[inner(i) for i in range({inner})] for _ in range(8)], times=3)
"""

_PRODUCT = """
import numpy as np
matrix = np.random.default_rng(0).random((300, 300))
def inner(number):
    return float((matrix @ matrix).sum())
"""


def _all(inner: str, count: int) -> dict[str, Contestant]:
    ways = {
        "jobspan": _PARALLEL.replace("{library}", "jobspan"),
        "joblib": _PARALLEL.replace("{library}", "joblib"),
        "futures": _FUTURES,
        "loop": _LOOP,
    }
    return {
        name: Contestant(
            "\n".join([TIMED, textwrap.dedent(inner), body.replace("{inner}", str(count))])
        )
        for name, body in ways.items()
    }


CASES = [
    Case(
        "8 calls that each make 500 no-op calls",
        _all("def inner(number): return None", 500),
        quick={"range(500)": "range(100)"},
    ),
    Case(
        "8 calls that each wait in 20 calls of 5 ms",
        _all("def inner(number): time.sleep(0.005)", 20),
    ),
    Case("8 calls that each make 20 matrix products", _all(_PRODUCT, 20)),
]
