"""Arrays into calls and out of them, through the local processes."""

from __future__ import annotations

from benchmarks.contest import Case, Contestant
from benchmarks.peers import PROCESSES, TIMED, Way, contestants

__all__ = ["CASES", "MAKE", "PASS", "WAYS"]

# Each run is a `Parallel` call of its own: what stays with the workers in a `with` block is another
# matter, and joblib would not look whether the array changed.
_EACH_ALONE = {
    library: Way(
        f"from contextlib import nullcontext\nfrom {library} import Parallel, delayed",
        "nullcontext()",
        "Parallel(n_jobs=WORKERS)(delayed(function)(i) for i in calls)",
        "Parallel(n_jobs=WORKERS)(delayed(function)(i) for i in calls)",
    )
    for library in ("jobspan", "joblib")
}
WAYS = PROCESSES | _EACH_ALONE

MAKE = """
import numpy as np
def function(value): return np.full(10_000_000, value, dtype=float)
calls = range(4)
"""

PASS = """
import numpy as np
class Holder: pass
array = np.random.default_rng(0).random(10_000_000)
holder = Holder()
holder.array = array
def function(value): return float({inside}.sum())
calls = [{given}] * 8
"""

# What mpire's manual says to do with large data: workers inherit it when they are forked.
_SHARED = """
import numpy as np
from mpire import WorkerPool
array = np.random.default_rng(0).random(10_000_000)
def function(shared, number): return float(shared.sum())
with WorkerPool(2, start_method="fork", keep_alive=True, shared_objects=array) as pool:
    def run(): return pool.map(function, range(8), chunk_size=1)
    seconds = timed(run, times=5)
"""

_GENERATORS = {
    "jobspan": (
        "from jobspan import Parallel, delayed\n"
        'parallel = Parallel(n_jobs=2, return_as="generator")\n'
        "def results(): return parallel(delayed(function)(i) for i in calls)"
    ),
    "joblib": (
        "from joblib import Parallel, delayed\n"
        'parallel = Parallel(n_jobs=2, return_as="generator")\n'
        "def results(): return parallel(delayed(function)(i) for i in calls)"
    ),
    "futures": (
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        'pool = ProcessPoolExecutor(2, get_context("fork"))\n'
        "def results(): return pool.map(function, calls)"
    ),
    "mp.Pool": (
        "from multiprocessing import get_context\n"
        'pool = get_context("fork").Pool(2)\n'
        "def results(): return pool.imap(function, calls)"
    ),
}

_CONSUME = """
def consume():
    for result in results():
        del result
seconds = timed(consume)
"""

_QUICK = {"10_000_000": "4_000_000"}

CASES = [
    Case(
        "4 results of 80 MB, list",
        contestants(WAYS, MAKE, single=True),
        {"joblib": 0.3},
        quick=_QUICK,
    ),
    Case(
        "4 results of 80 MB, generator, each dropped after use",
        {
            name: Contestant(f"{TIMED}\n{MAKE}\n{how}\n{_CONSUME}")
            for name, how in _GENERATORS.items()
        },
        {"joblib": 0.1},
    ),
    *(
        Case(
            f"one 80 MB array as argument of 8 calls, {how}",
            {
                **contestants(
                    WAYS,
                    PASS.format(given=given, inside=inside),
                    single=True,
                    names=("jobspan", "joblib", "futures", "mp.Pool"),
                ),
                **({"mpire": Contestant(TIMED + _SHARED)} if how == "plain" else {}),
            },
            {"joblib": 0.8},
            quick=_QUICK,
        )
        for how, given, inside in (
            ("plain", "array", "value"),
            ("in a dict", "{'array': array}", "value['array']"),
            ("in an object", "holder", "value.array"),
        )
    ),
]
