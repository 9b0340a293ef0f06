"""The front end and the scheduler: start-up, threads, sequential calls, memory, the loop alone."""

from __future__ import annotations

import textwrap

from benchmarks.contest import Case, Contestant

__all__ = ["CASES"]

_TIMED = """
import statistics, time
def noop(x): return None
def timed(function, times=5):
    function()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)
"""

_IMPORT = """
import statistics, subprocess, sys, time
def life(code):
    taken = []
    for _ in range(9):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)
seconds = life("{code}") - life("pass")
"""


def _of(library: str, body: str) -> Contestant:
    head = f"from {library} import Parallel, delayed"
    return Contestant(f"{head}\n{_TIMED}\n{textwrap.dedent(body)}")


def _both(body: str) -> dict[str, Contestant]:
    return {library: _of(library, body) for library in ("jobspan", "joblib")}


_GENERATOR_MEMORY = """
import resource
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
parallel = Parallel(n_jobs=2, return_as="generator")
for _ in parallel(delayed(abs)(i) for i in range(1000)): pass
before = peak()
for _ in parallel(delayed(abs)(i) for i in range(1_000_000)): pass
seconds = (peak() - before) / 50
"""

_SCHEDULER = """
import time
from collections import deque
from itertools import count
from jobspan.ambient import Settings
from jobspan.calls import CallContext
from jobspan.outcomes import Outcome
from jobspan.parallel.stats import ParallelStats
from jobspan.parallel.tracking import Tracker
from jobspan.scheduling.loop import Scheduler
from jobspan.scheduling.policy import SchedulingPolicy

class Simulated:
    workers, slots = 1000, 2000
    def __init__(self): self.batches = deque()
    def submit(self, batch): self.batches.append(batch)
    def completed(self, timeout=None):
        batches = [self.batches.popleft() for _ in range(min(100, len(self.batches)))]
        return [Outcome(b.number, [None], {}, "w", 0.0, 0.1) for b in batches]
    def wake(self): pass
    def cancel(self): pass

def go(n):
    calls = ((abs, (i,), {}) for i in range(n))
    tracker = Tracker(ParallelStats(), timeline=False)
    scheduler = Scheduler(Simulated(), CallContext(settings=Settings()),
                          SchedulingPolicy(batch_size=1), calls, tracker, numbers=count(), total=n)
    begin = time.perf_counter()
    for _ in scheduler: pass
    return (time.perf_counter() - begin) / n
go(10_000)
seconds = min(go(100_000) for _ in range(3)) * 1e6 / 5
"""

CASES = [
    Case(
        "import jobspan, above bare Python",
        {
            "jobspan": Contestant(_IMPORT.format(code="import jobspan")),
            "joblib": Contestant(_IMPORT.format(code="import joblib")),
        },
        {"seconds": 0.06},
    ),
    Case(
        "from jobspan import Parallel, delayed, above bare Python",
        {
            "jobspan": Contestant(_IMPORT.format(code="from jobspan import Parallel, delayed")),
            "joblib": Contestant(_IMPORT.format(code="from joblib import Parallel, delayed")),
        },
        {"seconds": 0.06},
    ),
    Case(
        "threads: 20,000 no-op calls",
        {
            **_both(
                """
                parallel = Parallel(n_jobs=2, backend="threading")
                seconds = timed(lambda: parallel(delayed(noop)(i) for i in range(20_000)), 3)
                """
            ),
            "futures": Contestant(
                f"from concurrent.futures import ThreadPoolExecutor\n{_TIMED}\n"
                "with ThreadPoolExecutor(2) as pool:\n"
                "    seconds = timed(lambda: list(pool.map(noop, range(20_000))), 3)"
            ),
        },
        {"joblib": 0.15, "futures": 1.0},
    ),
    Case(
        "sequential: 20,000 no-op calls",
        _both("seconds = timed(lambda: Parallel()(delayed(noop)(i) for i in range(20_000)))"),
        {"joblib": 0.8},
    ),
    Case(
        "10^6 calls through a generator: growth of the parent in 50 MB",
        {"jobspan": _of("jobspan", _GENERATOR_MEMORY)},
        {"ideal": 1.0},
    ),
    Case(
        "scheduler alone, 1,000 workers: a batch in 5 microseconds",
        {"jobspan": Contestant(_SCHEDULER)},
        {"ideal": 1.0},
    ),
]
