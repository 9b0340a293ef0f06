"""Many workers: how much of them is used when calls wait for something else."""

from __future__ import annotations

from benchmarks.contest import Case
from benchmarks.peers import COLD, PROCESSES, THREADS, contestants

__all__ = ["CASES"]

_SLEEPS = "function, calls = time.sleep, [0.01] * 3200"
_IDEAL = "seconds /= sum(calls) / WORKERS"
_POOLS = [name for name in PROCESSES if name != "loop"]
_QUICK = {"* 3200": "* 1280"}

CASES = [
    Case(
        "64 workers, 10 ms sleeps, 50 a worker, warm: times the ideal",
        contestants(
            PROCESSES,
            _SLEEPS,
            workers=64,
            single=True,
            names=_POOLS,
            before="rest, calls = calls, [0.2] * 128; run(); calls = rest",
            times=3,
            after=_IDEAL,
        ),
        {"ideal": 1 / 0.85},
        quick=_QUICK,
        rounds=2,
        unit="x",
    ),
    Case(
        "64 workers, 10 ms sleeps, 50 each, the first time: times the ideal",
        contestants(
            PROCESSES, _SLEEPS, workers=64, single=True, names=_POOLS, shape=COLD, after=_IDEAL
        ),
        quick=_QUICK,
        rounds=2,
        unit="x",
    ),
    Case(
        "64 threads, 10 ms sleeps, 50 each: times the ideal",
        contestants(THREADS, _SLEEPS, workers=64, single=True, names=_POOLS, times=3, after=_IDEAL),
        quick=_QUICK,
        rounds=2,
        unit="x",
    ),
]
