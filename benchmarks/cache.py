"""``Memory`` on a local disk beside joblib, diskcache and cachier.

The cached functions stand in a module of their own, written for each contestant: none of the
libraries has to guess the source of what was passed on a command line.
"""

from __future__ import annotations

import textwrap

from benchmarks.contest import Case, Contestant
from benchmarks.peers import TIMED

__all__ = ["CASES", "SETUP"]

SETUP = f'''
{TIMED}
import atexit, shutil, sys, tempfile
folder = tempfile.mkdtemp(prefix="jobspan-bench-")
atexit.register(shutil.rmtree, folder, ignore_errors=True)
with open(folder + "/bench_functions.py", "w") as file:
    file.write("""
import numpy as np

def double(x):
    return 2 * x

def array(seed, size=10_000_000):
    return np.random.default_rng(seed).random(size)

def total(values):
    return float(values.sum())
""")
sys.path.insert(0, folder)
import bench_functions
place = folder + "/cache"
'''

_LIBRARIES = {
    "jobspan": "from jobspan import Memory\ncached = Memory(place, verbose=0).cache",
    "joblib": "from joblib import Memory\ncached = Memory(place, verbose=0).cache",
    "diskcache": "from diskcache import Cache\ncached = Cache(place).memoize()",
    "cachier": "from cachier import cachier\ncached = cachier(cache_dir=place)",
}


def _contestant(library: str, body: str) -> Contestant:
    return Contestant(f"{SETUP}\n{_LIBRARIES[library]}\n{textwrap.dedent(body)}")


def _all(body: str, *libraries: str) -> dict[str, Contestant]:
    return {library: _contestant(library, body) for library in libraries or _LIBRARIES}


_HITS = """
function = cached(bench_functions.double)
for number in range(100):
    function(number)
def hits():
    for number in range(100):
        function(number)
hits()
seconds = timed(hits, times=15) / 100
"""

_MISSES = """
import itertools
function = cached(bench_functions.double)
function(-1)
numbers = itertools.count()
seconds = timed(lambda: function(next(numbers)), times=7, loops=100)
"""

_ARRAY = """
function = cached(bench_functions.array)
function(0)
seconds = timed(lambda: function(0), times=7)
"""

_MAPPED = """
from jobspan import Memory
import numpy as np
cached = Memory(place, verbose=0, mmap_mode="r").cache
function = cached(bench_functions.array)
function(0)
assert not function(0).flags.writeable
seconds = timed(lambda: function(0), times=15)
"""

_ARGUMENT = """
function = cached(bench_functions.total)
value = bench_functions.array(0)
function(value)
seconds = timed(lambda: function(value), times=7)
"""

_MANY = """
import random
from jobspan import Memory
def filled(count, name):
    function = Memory(f"{place}-{name}", verbose=0, single_flight=False).cache(
        bench_functions.double
    )
    for number in range(count):
        function(number)
    return function
few, many = filled(100, "few"), filled(200_000, "many")
random.seed(0)
numbers = {few: [*range(100)], many: random.sample(range(200_000), 100)}
taken = {few: [], many: []}
for _ in range(31):
    for function in (few, many):
        begin = time.perf_counter()
        for number in numbers[function]:
            function(number)
        taken[function].append((time.perf_counter() - begin))
seconds = statistics.median(taken[many]) / statistics.median(taken[few])
"""

CASES = [
    Case(
        "local hit, small value",
        _all(_HITS),
        {"joblib": 0.2, "diskcache": 1.2},
    ),
    Case("local miss, small value", _all(_MISSES), {"joblib": 0.5}),
    Case("local hit, 80 MB array, read", _all(_ARRAY), {"joblib": 0.9}),
    Case(
        "local hit, 80 MB array, mapped, beside reading it",
        {
            "jobspan": _contestant("jobspan", _MAPPED),
            "joblib": _contestant("joblib", _ARRAY),
        },
        {"joblib": 0.05},
    ),
    Case(
        "hit with an 80 MB array argument", _all(_ARGUMENT, "jobspan", "joblib"), {"joblib": 0.15}
    ),
    Case(
        "local hit among 200,000 entries, as a multiple of one among 100",
        {"jobspan": Contestant(f"{SETUP}\n{_MANY}")},
        {"ideal": 1.5},
        unit="x",
        quick={"200_000": "10_000"},
        limit=300,
        rounds=1,
    ),
]
