"""What is counted while a soak runs, and what must not grow."""

from __future__ import annotations

import gc
import os
import statistics
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

__all__ = ["Sample", "Verdict"]

GROWTH = {
    "megabytes": 40,
    "worker_megabytes": 40,
    "threads": 2,
    "processes": 2,
    "descriptors": 6,
    "worker_descriptors": 6,
    "segments": 64,
    "worker_segments": 64,
}
"""What there may be more of in the last quarter than in the second.

Memory: an allocator's whims, no leak. Segments: those of 60 results are kept for the next ones.
"""

ENGINES = ("gcs_server", "raylet/raylet", "ray/autoscaler", "ray/dashboard", "log_monitor", "Agent")
"""What stands in the command lines of Ray's own processes, which keep note of past tasks."""


class Sizes(NamedTuple):
    """What one process takes."""

    megabytes: float
    """That it shares with nobody."""
    descriptors: int
    """Segments not counted."""
    segments: int

    @classmethod
    def of(cls, process: psutil.Process) -> Sizes:
        """Measure."""
        memory = process.memory_info()
        files = [os.path.realpath(path) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
        segments = sum(path.startswith("/memfd:jobspan") for path in files)
        return cls((memory.rss - memory.shared) / 1e6, len(files) - segments, segments)


@dataclass
class Sample:
    """What is counted at one moment: of the program, and the most that a worker has."""

    seconds: float
    megabytes: float
    descriptors: int
    segments: int
    worker_megabytes: float
    worker_descriptors: int
    worker_segments: int
    threads: int
    processes: int

    @classmethod
    def taken(cls, seconds: float) -> Sample:
        """Count."""
        gc.collect()
        process = psutil.Process()
        children = process.children(recursive=True)
        workers = [Sizes(0.0, 0, 0), *_sizes_of_workers(children)]
        most = Sizes(*map(max, zip(*workers, strict=True)))
        own = Sizes.of(process)
        return cls(round(seconds, 1), *own, *most, threading.active_count(), len(children))


def _sizes_of_workers(children: list[psutil.Process]) -> Iterator[Sizes]:
    for child in children:
        with suppress(psutil.Error, OSError):  # it ends
            if not any(name in " ".join(child.cmdline()) for name in ENGINES):
                yield Sizes.of(child)


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
            **{name: [round(each[name]) for each in (first, last)] for name in GROWTH},
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
            if after > before + growth:
                self.problems.append(f"{name}: {before:.0f} -> {after:.0f}")


def _median(samples: list[Sample]) -> Sample:
    names = Sample.__dataclass_fields__
    return Sample(*(statistics.median([getattr(each, name) for each in samples]) for name in names))
