"""Random work under random faults for so long: ``python -m tests.soak.load BACKEND SECONDS``.

Every result is compared with the plain loop's. Memory, threads, descriptors, processes and segments
are counted as it goes: what grows from the second quarter to the last is a leak, and fails the run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from jobspan import Memory, Parallel, TaskFailure, delayed, parallel_config
from jobspan.errors import JobspanWarning
from jobspan.store import open_store
from jobspan.testing.faults import FailingStore

__all__ = ["Verdict", "soak"]

HOUR = 3600.0
GROWTH_MEGABYTES = 40
"""What a run may grow by from its first quarter to its last: an allocator's whims, no leak."""

GROWTH = {"threads": 4, "processes": 4, "descriptors": 64, "segments": 64}
"""How many more there may be: segments are kept for the next buffer, 256 of them at most."""


# --- the work: each a function of its arguments alone ------------------------------------------


def small(x, seed):
    return x * 31 + seed


def text(x, seed):
    return {"x": x, "text": "abc" * (seed % 400), "list": list(range(seed % 50))}


def array(x, seed):
    return np.full(1 + seed % 60_000, x, dtype=float)


def reduced(values, x):
    return float(values.sum()) + x


def slow(x, seed):
    time.sleep((seed % 20) / 1000)
    return x


def raises(x, seed):
    if (x + seed) % 5 == 0:
        raise ValueError(f"{x} of {seed}")
    return x


def nested(x, seed):
    return sum(Parallel(n_jobs=2)(delayed(small)(y, seed) for y in range(x % 4)))


def dies_once(x, seed, folder):
    """Kill the worker the first time; only where workers are processes."""
    mark = Path(folder, f"{seed}-{x}")
    if (x + seed) % 17 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x + seed


@dataclass
class Sample:
    """What is counted at one moment."""

    seconds: float
    megabytes: float
    threads: int
    descriptors: int
    processes: int
    segments: int


@dataclass
class Verdict:
    """How a soak ended."""

    backend: str
    seconds: float
    rounds: int = 0
    calls: int = 0
    failures: int = 0
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return what is worth noting."""
        first, last = self.quarters()
        return {
            "backend": self.backend,
            "seconds": round(self.seconds),
            "rounds": self.rounds,
            "calls": self.calls,
            "faults": self.failures,
            "megabytes": [round(first.megabytes), round(last.megabytes)],
            "threads": [first.threads, last.threads],
            "descriptors": [first.descriptors, last.descriptors],
            "processes": [first.processes, last.processes],
            "segments": [first.segments, last.segments],
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
        if last.megabytes > first.megabytes + GROWTH_MEGABYTES:
            self.problems.append(f"memory: {first.megabytes:.0f} -> {last.megabytes:.0f} MB")
        for name, growth in GROWTH.items():
            before, after = getattr(first, name), getattr(last, name)
            if after > before + growth:
                self.problems.append(f"{name}: {before} -> {after}")


def _median(samples: list[Sample]) -> Sample:
    values = (
        statistics.median([getattr(sample, name) for sample in samples])
        for name in Sample.__dataclass_fields__
    )
    seconds, megabytes, *counts = values
    return Sample(seconds, megabytes, *map(int, counts))


class Flaky:
    """Lets one operation in twenty of a store fail."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.failed = 0

    def __call__(self, operation: str, name: str) -> OSError | None:
        if self._dice.random() < 0.05:
            self.failed += 1
            return OSError(5, f"{operation} fails today")
        return None


def soak(backend: str, seconds: float, seed: int, options: dict[str, Any] | None = None) -> Verdict:
    """Work for so many seconds.

    Parameters
    ----------
    backend : str
        Where.
    seconds : float
        How long.
    seed : int
        For everything that is random.
    options : dict, optional
        Of the backend.
    """
    chance = random.Random(seed)
    folder = tempfile.mkdtemp(prefix="jobspan-soak-")
    flaky = Flaky(seed)
    memory = Memory(f"{folder}/cache", verbose=0)
    shaky = Memory(FailingStore(open_store(f"{folder}/shaky"), flaky), verbose=0)
    verdict = Verdict(backend, 0.0)
    begin = time.monotonic()
    warnings.simplefilter("ignore", JobspanWarning)
    warnings.filterwarnings("ignore", message=".*tasks")  # results that nobody takes
    try:
        with parallel_config(backend=backend, **(options or {})):
            Parallel(n_jobs=2)(delayed(small)(x, 0) for x in range(8))
            while (passed := time.monotonic() - begin) < seconds:
                if not verdict.samples or passed - verdict.samples[-1].seconds > seconds / 80:
                    verdict.samples.append(_sample(passed))
                problem = _round(chance, backend, memory, shaky, folder, verdict)
                if problem:
                    verdict.problems.append(f"round {verdict.rounds}: {problem}")
                    break
                verdict.rounds += 1
                if verdict.rounds % 20 == 0:
                    memory.reduce_size(items_limit=50)
    finally:
        verdict.failures += flaky.failed
        verdict.seconds = time.monotonic() - begin
        shutil.rmtree(folder, ignore_errors=True)
    verdict.judge()
    return verdict


def _round(
    chance: random.Random,
    backend: str,
    memory: Memory,
    shaky: Memory,
    folder: str,
    verdict: Verdict,
) -> str:
    """Run one call of `Parallel` at random; say what is wrong with its results."""
    count = chance.choice([0, 1, 2, 5, 20, 60])
    seed = chance.randrange(1000)
    works = [small, text, array, slow, raises, nested]
    kills = backend != "threads" and chance.random() < 0.1
    work = dies_once if kills else chance.choice(works)
    settings: dict[str, Any] = {
        "n_jobs": 2,
        "batch_size": chance.choice(["auto", 1, 7]),
        "on_error": "return",
        "return_as": chance.choice(["list", "list", "generator"]),
        "max_nbytes": chance.choice([1000, "1M", None]),
    }
    rest: tuple[Any, ...] = (seed,)
    if kills:
        settings["retries"] = 3
        rest = (seed, folder)
        verdict.failures += 1
    elif chance.random() < 0.1:
        settings["task_timeout"] = 20
    expected = [(x + seed) if kills else _plain(work, x, seed) for x in range(count)]
    function = work
    if not kills and work is not nested and chance.random() < 0.5:
        function = chance.choice([memory, shaky]).cache(work)
    shared = np.arange(20_000.0)
    parallel = Parallel(**settings)
    if chance.random() < 0.2:
        expected = [float(shared.sum()) + x for x in range(count)]
        results = list(parallel(delayed(reduced)(shared, x) for x in range(count)))
    else:
        results = parallel(delayed(function)(x, *rest) for x in range(count))
        if settings["return_as"] == "generator" and chance.random() < 0.2:
            taken = [value for value, _ in zip(results, range(3), strict=False)]
            results.close()
            results, expected = taken, expected[: len(taken)]
        results = list(results)
    verdict.calls += len(results)
    if len(results) != len(expected):
        return f"{len(results)} results of {len(expected)} for {work.__name__} {settings}"
    for x, (found, wanted) in enumerate(zip(results, expected, strict=True)):
        if not _same(found, wanted):
            return f"{work.__name__}({x}, {seed}): {found!r:.300}, not {wanted!r:.100} {settings}"
    if any(isinstance(result, TaskFailure) for result in results):
        verdict.failures += 1
    return ""


def _plain(work: Any, x: int, seed: int) -> Any:
    try:
        return work(x, seed)
    except ValueError as error:
        return error


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, ValueError):
        return isinstance(found, TaskFailure) and str(found.exception) == str(wanted)
    if isinstance(wanted, np.ndarray):
        return isinstance(found, np.ndarray) and np.array_equal(found, wanted)
    return type(found) is type(wanted) and bool(found == wanted)


def _sample(passed: float) -> Sample:
    gc.collect()
    process = psutil.Process()
    children = process.children(recursive=True)
    megabytes = process.memory_info().rss / 1e6
    for child in children:
        try:
            megabytes += child.memory_info().rss / 1e6
        except psutil.Error:
            continue
    segments = sum(
        os.path.realpath(path).startswith("/memfd:jobspan")
        for path in Path("/proc/self/fd").iterdir()
    )
    return Sample(
        passed,
        megabytes,
        threading.active_count(),
        process.num_fds(),
        len(children),
        segments,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.load")
    parser.add_argument("backend", choices=["threads", "processes", "dask", "ray"])
    parser.add_argument("seconds", type=float, nargs="?", default=HOUR)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    options: dict[str, Any] = {}
    if given.backend == "ray":
        options = {"ray_options": {"num_cpus": 2, "object_store_memory": 200 << 20}}
    elif given.backend == "dask":
        options = {"n_workers": 2}
    verdict = soak(given.backend, given.seconds, seed, options)
    print(json.dumps({"seed": seed, **verdict.figures()}))
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
