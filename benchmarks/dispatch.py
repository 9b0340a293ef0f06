"""Dispatch: what a call costs that travels alone, and one that stays in this process."""

from __future__ import annotations

from benchmarks.contest import Case
from benchmarks.peers import PROCESSES, THREADS, contestants

__all__ = ["CASES"]

CASES = [
    Case(
        "3,000 no-op calls, batch_size=1, warm",
        contestants(PROCESSES, "function, calls = noop, range(3000)", single=True),
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
]
