"""Dispatch: what a call costs that travels alone, and one that stays in this process."""

from __future__ import annotations

from benchmarks.contest import Case, Contestant
from benchmarks.peers import PROCESSES, THREADS, contestants

__all__ = ["CASES"]

_PROGRESS = """
import statistics, time
from contextlib import redirect_stderr
from io import StringIO
from jobspan import Parallel, delayed
def noop(x): return None
def once(progress):
    begin = time.perf_counter()
    with redirect_stderr(StringIO()):
        Parallel(n_jobs=N_JOBS, progress=progress)(delayed(noop)(i) for i in range(200_000))
    return time.perf_counter() - begin
once(False)
# Neighbours are compared, for the machine's speed drifts; now this one goes first, now that one.
ratios = []
for _ in range(13):
    silent, told = once(False), once(True)
    told_first, silent_later = once(True), once(False)
    ratios += [told / silent, told_first / silent_later]
seconds = statistics.median(ratios)
"""

CASES = [
    Case(
        "3,000 no-op calls, batch_size=1, warm",
        contestants(PROCESSES, "function, calls = noop, range(3000)", single=True, times=15),
        {"joblib": 0.12, "futures": 0.3},
    ),
    Case(
        "threads: 20,000 no-op calls",
        contestants(THREADS, "function, calls = noop, range(20_000)", times=3),
        {"joblib": 0.15, "futures": 1.0},
    ),
    Case(
        "threads: 3,000 no-op calls, batch_size=1",
        contestants(THREADS, "function, calls = noop, range(3000)", single=True),
        quick={"range(3000)": "range(1000)"},
    ),
    Case(
        "sequential: 20,000 no-op calls",
        contestants(
            PROCESSES,
            "function, calls = noop, range(20_000)",
            workers=1,
            names=("jobspan", "joblib", "loop"),
        ),
        {"joblib": 0.8},
    ),
    *(
        Case(
            f"progress=True, {where}, 200,000 no-op calls: times the same without",
            {"jobspan": Contestant(_PROGRESS.replace("N_JOBS", n_jobs))},
            {"ideal": 1.02},
            unit="x",
            quick={"range(13)": "range(3)"},
        )
        for where, n_jobs in (("2 workers", "2"), ("n_jobs=1", "1"))
    ),
]
