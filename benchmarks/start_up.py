"""Start-up: importing, and a script that makes four calls and ends."""

from __future__ import annotations

from benchmarks.contest import Case, Contestant
from benchmarks.peers import BARE, PROCESSES, THREADS, contestants

__all__ = ["CASES"]

_IMPORT = """
import statistics, subprocess, sys, time
def life(code):
    taken = []
    for _ in range(9):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)
seconds = max(0.0, life("{code}") - life("pass"))
"""

_FOUR = "function, calls = abs, range(4)"

CASES = [
    *(
        Case(
            f"{code.format('jobspan')}, above bare Python",
            {
                library: Contestant(_IMPORT.format(code=code.format(library)))
                for library in ("jobspan", "joblib")
            },
            {"seconds": 0.06},
            quick={"range(9)": "range(3)"},
        )
        for code in ("import {}", "from {} import Parallel, delayed")
    ),
    Case(
        "cold script: import, 4 no-op calls on 2 workers, exit",
        contestants(PROCESSES, _FOUR, shape=BARE, cold=True),
        {"joblib": 0.25},
    ),
    Case(
        "cold script: import, 4 no-op calls in 2 threads, exit",
        contestants(THREADS, _FOUR, shape=BARE, cold=True),
    ),
]
