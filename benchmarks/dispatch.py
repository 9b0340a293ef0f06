"""Dispatch: what a call costs that travels alone, and one that stays in this process."""

from __future__ import annotations

from benchmarks.contest import Case, Contestant
from benchmarks.peers import PROCESSES, THREADS, contestants

__all__ = ["CASES"]

_PROGRESS = """
import time
from contextlib import redirect_stderr
from io import StringIO
from jobspan import Parallel, delayed
def noop(x): return None
def once(progress):
    begin = time.perf_counter()
    with redirect_stderr(StringIO()):
        Parallel(n_jobs=2, progress=progress)(delayed(noop)(i) for i in range(200_000))
    return time.perf_counter() - begin
once(False)
silent, told = (min(each) for each in zip(*[(once(False), once(True)) for _ in range(7)]))
seconds = told / silent
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
    Case(
        "progress=True, 200,000 no-op calls: times the same without",
        {"jobspan": Contestant(_PROGRESS)},
        {"ideal": 1.02},
        unit="x",
        quick={"range(7)": "range(2)"},
    ),
]
