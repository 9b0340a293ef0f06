"""Memory: what the parent and the whole tree of processes hold at most.

The resident sets of a tree count a page once for each process that maps it: shared memory that two
workers read counts three times. That is so for all who take part.
"""

from __future__ import annotations

from benchmarks.arrays import MAKE, PASS, WAYS
from benchmarks.contest import Case, Contestant
from benchmarks.peers import COLD, PROCESSES, contestants

__all__ = ["CASES"]

_GENERATOR = """
import resource
from jobspan import Parallel, delayed
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
parallel = Parallel(n_jobs=2, return_as="generator")
for _ in parallel(delayed(abs)(i) for i in range(1000)): pass
before = peak()
for _ in parallel(delayed(abs)(i) for i in range(1_000_000)): pass
megabytes = peak() - before
"""

_FEW = "function, calls = abs, range(100)"
_WAIT = "time.sleep(0.2)"
_NO_MPIRE = ("jobspan", "joblib", "futures", "mp.Pool")

CASES = [
    Case(
        "10^6 calls through a generator: growth of the parent",
        {"jobspan": Contestant(_GENERATOR)},
        {"megabytes": 50},
        quick={"1_000_000": "200_000"},
    ),
    Case(
        "the whole tree: a pool of 2 workers that did 100 no-op calls",
        contestants(PROCESSES, _FEW, before=_WAIT),
        measure="tree_megabytes",
        rounds=1,
    ),
    Case(
        "the whole tree: 4 results of 80 MB, list",
        contestants(WAYS, MAKE, single=True, shape=COLD),
        measure="tree_megabytes",
        rounds=2,
    ),
    Case(
        "the whole tree: one 80 MB array as argument of 8 calls",
        contestants(
            WAYS,
            PASS.format(given="array", inside="value"),
            single=True,
            shape=COLD,
            names=_NO_MPIRE,
        ),
        measure="tree_megabytes",
        rounds=2,
    ),
]
