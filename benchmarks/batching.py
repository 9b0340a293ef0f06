"""Batching: many short calls, and calls whose lengths nobody knows."""

from __future__ import annotations

from benchmarks.contest import Case
from benchmarks.peers import COLD, PROCESSES, contestants

__all__ = ["CASES"]

_MEMORY = """
import resource
megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""

_PAUSES = """
import random
dice = random.Random(0)
calls = [dice.uniform(0, 0.005) for _ in range(2000)]
function = time.sleep
"""

_SLOW_TAIL = """
calls = [0.0005] * 1500 + [0.1] * 20
function = time.sleep
"""

_IDEAL = "seconds /= sum(calls) / WORKERS"

CASES = [
    Case(
        "20,000 no-op calls, automatic batches, warm",
        contestants(PROCESSES, "function, calls = noop, range(20_000)", times=25),
        {"joblib": 0.25},
    ),
    Case(
        "1,000,000 x sqrt, cold pool included",
        contestants(
            PROCESSES,
            "from math import sqrt\nfunction, calls = sqrt, range(1_000_000)",
            shape=COLD,
            after=_MEMORY,
        ),
        {"joblib": 0.2},
        memory_of="joblib",
    ),
    Case(
        "mixed: 2,000 calls of 0 to 5 ms, random: times work / workers",
        contestants(
            PROCESSES,
            _PAUSES,
            times=2,
            after=_IDEAL,
            names=[name for name in PROCESSES if name != "loop"],
        ),
        {"ideal": 1.1},
        unit="x",
        quick={"range(2000)": "range(500)"},
    ),
    Case(
        "1,500 calls of 0.5 ms, then 20 of 100 ms: times work / workers",
        contestants(
            PROCESSES,
            _SLOW_TAIL,
            times=2,
            after=_IDEAL,
            names=[name for name in PROCESSES if name != "loop"],
        ),
        unit="x",
        quick={"1500": "400", "* 20": "* 6"},
    ),
]
