"""The scheduler alone, on an executor that answers at once."""

from __future__ import annotations

from benchmarks.contest import Case, Contestant

__all__ = ["CASES", "SIMULATION"]

SIMULATION = """
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
    def __init__(self, workers):
        self.workers, self.slots = workers, 2 * workers
        self.batches = deque()
    def submit(self, batch): self.batches.append(batch)
    def completed(self, timeout=None):
        batches = [self.batches.popleft() for _ in range(min(100, len(self.batches)))]
        return [Outcome(b.number, [None], {}, "w", 0.0, 0.1) for b in batches]
    def wake(self): pass
    def cancel(self): pass

def seconds_a_batch(workers, batches):
    calls = ((abs, (i,), {}) for i in range(batches))
    tracker = Tracker(ParallelStats(), timeline=False)
    scheduler = Scheduler(Simulated(workers), CallContext(settings=Settings()),
                          SchedulingPolicy(batch_size=1), calls, tracker,
                          numbers=count(), total=batches)
    begin = time.perf_counter()
    for _ in scheduler: pass
    return (time.perf_counter() - begin) / batches
seconds_a_batch(10, 10_000)
"""

CASES = [
    Case(
        "scheduler alone, 1,000 workers: seconds a batch",
        {
            "jobspan": Contestant(
                f"{SIMULATION}\nseconds = min(seconds_a_batch(1000, 100_000) for _ in range(3))"
            )
        },
        {"seconds": 5e-6},
        quick={"range(3)": "range(1)"},
    ),
]
