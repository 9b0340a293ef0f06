"""What is counted while a soak runs, and what must not grow."""

from __future__ import annotations

import gc
import os
import statistics
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Sample", "Verdict", "busyness"]

GROWTH = {"megabytes": 40, "threads": 4, "processes": 4, "descriptors": 64, "segments": 64}
"""What a run may grow by from its second quarter to its last: an allocator's whims, no leak.

Segments are kept for the next buffer, 256 of them at most, and each has its descriptor.
"""

WARM_SECONDS = 600
WARMING_MEGABYTES = 20
"""What each worker may grow by besides in a shorter run: it imports, and fills its caches."""


@dataclass
class Sample:
    """What is counted at one moment, in the program and all that it started."""

    seconds: float
    megabytes: float
    threads: int
    descriptors: int
    processes: int
    segments: int

    @classmethod
    def taken(cls, seconds: float) -> Sample:
        """Count."""
        gc.collect()
        process = psutil.Process()
        children = process.children(recursive=True)
        return cls(
            round(seconds, 1),
            round(sum(map(_megabytes, [process, *children])), 1),
            threading.active_count(),
            process.num_fds(),
            len(children),
            sum(
                os.path.realpath(path).startswith("/memfd:jobspan")
                for path in Path("/proc/self/fd").iterdir()
            ),
        )


def _megabytes(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 1e6  # what is shared counts once
    except psutil.Error:
        return 0.0


@dataclass
class Verdict:
    """How a soak ended."""

    backend: str
    seconds: float
    rounds: int = 0
    results: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    busiest: float = 1.0
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def count(self, fault: str, number: int = 1) -> None:
        """Note that something was broken."""
        self.faults[fault] = self.faults.get(fault, 0) + number

    def figures(self) -> dict[str, Any]:
        """Return what is worth noting: of what is counted, the medians of two quarters."""
        first, last = map(asdict, self.quarters())
        return {
            "backend": self.backend,
            "seconds": round(self.seconds),
            "rounds": self.rounds,
            "results": self.results,
            "faults": self.faults,
            "busiest": round(self.busiest, 1),
            **{name: [first[name], last[name]] for name in GROWTH},
            "problems": self.problems,
        }

    def quarters(self) -> tuple[Sample, Sample]:
        """Return the medians of the second quarter and of the last: the first one is warming up."""
        quarter = max(1, len(self.samples) // 4)
        return _median(self.samples[quarter : 2 * quarter] or self.samples), _median(
            self.samples[-quarter:]
        )

    def judge(self) -> None:
        """Note what has grown."""
        first, last = self.quarters()
        for name, growth in GROWTH.items():
            before, after = getattr(first, name), getattr(last, name)
            warming = name == "megabytes" and self.seconds < WARM_SECONDS
            if after > before + growth + warming * WARMING_MEGABYTES * last.processes:
                self.problems.append(f"{name}: {before} -> {after}")


def _median(samples: list[Sample]) -> Sample:
    seconds, megabytes, *counts = (
        statistics.median([getattr(sample, name) for sample in samples])
        for name in Sample.__dataclass_fields__
    )
    return Sample(seconds, round(megabytes), *map(int, counts))


def busyness() -> float:
    """Return how many processes want each core, by the load of the last minute; 1 where few do.

    On a machine that does other work a call takes so many times longer: limits of time grow alike.
    """
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
