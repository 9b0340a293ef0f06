"""Random work under random faults for so long: ``python -m tests.soak.load BACKEND SECONDS``.

Every result is compared with the plain loop's. Memory, threads, descriptors, processes and segments
are counted as it goes, and printed; the last line is the verdict.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tests.busyness import busyness
from tests.faults.leftovers import GONE_SECONDS, MARK, left
from tests.soak.counting import Sample, Verdict
from tests.soak.dask_records import drop_dask_records
from tests.soak.work import WORKS, dies_once, plain, reduced, same, stops_once

from jobspan import Memory, Parallel, TaskFailure, delayed, parallel_config
from jobspan.errors import JobspanWarning
from jobspan.store import open_store
from jobspan.testing.faults import FailingStore

__all__ = ["BACKENDS", "OWN_PROCESSES", "soak"]

ROOT = Path(__file__).parents[2]

HOUR = 3600.0

ROUND_SECONDS = 120
"""A round that takes longer hangs, on a machine that does nothing else."""

FEWEST_ROUNDS = 8
"""So many are run, however slow the machine is."""

BACKENDS: dict[str, dict[str, Any]] = {
    "sequential": {},
    "threads": {},
    "processes": {},
    # Sometimes all workers are killed at once, and others take long to start on a busy machine.
    "dask": {"n_workers": 2, "connect_timeout": 120.0},
    "ray": {"ray_options": {"num_cpus": 2, "object_store_memory": 200 << 20}},
}

ENVIRONMENT = {
    "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "100",
    "DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "100",
    "DASK_DISTRIBUTED__SCHEDULER__EVENTS_CLEANUP_DELAY": "60s",
}
"""Dask keeps its last 1000 messages, its last 10,000 lines of log, and for an hour what became of
each worker that is gone: until all of them are there, they look like a leak."""

OWN_PROCESSES = ("processes", "dask", "ray")
"""Where a call may kill its worker."""

ENDS_CALLS = ("processes", "ray")
"""Where `task_timeout` ends a worker that stopped."""


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


def soak(backend: str, seconds: float, seed: int) -> Verdict:
    """Work for so many seconds.

    Parameters
    ----------
    backend : str
        Where.
    seconds : float
        How long.
    seed : int
        For everything that is random.
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
        with parallel_config(backend=backend, **BACKENDS[backend]):
            Parallel(n_jobs=2)(delayed(abs)(x) for x in range(8))
            begin = time.monotonic()  # a cluster has started
            while (passed := time.monotonic() - begin) < seconds or verdict.rounds < FEWEST_ROUNDS:
                if not verdict.samples or passed - verdict.samples[-1].seconds > seconds / 80:
                    drop_dask_records()
                    verdict.samples.append(Sample.taken(passed))
                    print(json.dumps(asdict(verdict.samples[-1])), flush=True)
                verdict.busiest = max(verdict.busiest, busyness())
                faulthandler.dump_traceback_later(ROUND_SECONDS * busyness(), exit=True)
                plan = _Round(chance, backend, folder)
                if chance.random() < 0.05:
                    verdict.count("Ctrl-C")
                    problem = _interrupted(chance.uniform(0.0, 0.3), plan, memory, shaky, verdict)
                else:
                    problem = plan.run(memory, shaky, verdict)
                if problem:
                    verdict.problems.append(f"round {verdict.rounds}: {problem}")
                    break
                verdict.rounds += 1
                if verdict.rounds % 20 == 0:
                    memory.reduce_size(items_limit=50)
    finally:
        faulthandler.cancel_dump_traceback_later()
        if flaky.failed:
            verdict.count("store", flaky.failed)
        verdict.seconds = time.monotonic() - begin
        shutil.rmtree(folder, ignore_errors=True)
    verdict.judge()
    return verdict


class _Round:
    """One call of `Parallel`, everything about it random."""

    def __init__(self, chance: random.Random, backend: str, folder: str) -> None:
        self.count = chance.choice([0, 1, 2, 5, 20, 60])
        self.seed = chance.randrange(1000)
        self.work = chance.choice(WORKS)
        self.fault = ""
        self.settings: dict[str, Any] = {
            "n_jobs": 2,
            "batch_size": chance.choice(["auto", 1, 7]),
            "on_error": "return",
            "return_as": chance.choice(["list", "list", "generator"]),
            "max_nbytes": chance.choice([1000, "1M", None]),
        }
        self.rest: tuple[Any, ...] = (self.seed,)
        dice = chance.random()
        if dice < 0.1 and backend in OWN_PROCESSES:
            self._break("SIGKILL", dies_once, folder)
        elif dice < 0.12 and backend in ENDS_CALLS:
            self._break("SIGSTOP", stops_once, folder)
            self.count = min(self.count, 20)
            self.settings["task_timeout"] = 3 + busyness() / 2
        elif dice > 0.9:
            self.settings["task_timeout"] = 20 * busyness()
        self.store = chance.choice(["", "", "memory", "shaky"])
        self.shares = chance.random() < 0.2
        self.abandons = chance.random() < 0.2

    def _break(self, fault: str, work: Any, folder: str) -> None:
        self.fault = fault
        self.work = work
        self.rest = (self.seed, folder)
        self.settings["retries"] = 3

    def __str__(self) -> str:
        return f"{self.work.__name__} {self.count} {self.seed} {self.settings} {self.store}"

    def run(self, memory: Memory, shaky: Memory, verdict: Verdict) -> str:
        """Call `Parallel`; say what is wrong with its results, "" where nothing is."""
        function: Any = self.work
        if self.store and not self.fault and self.work.__name__ != "nested":
            function = (memory if self.store == "memory" else shaky).cache(self.work)
        parallel = Parallel(**self.settings)
        if self.shares:
            shared = np.arange(20_000.0)
            expected = [float(shared.sum()) + x for x in range(self.count)]
            results = list(parallel(delayed(reduced)(shared, x) for x in range(self.count)))
        else:
            if self.fault:
                verdict.count(self.fault, sum((x + self.seed) % 17 == 0 for x in range(self.count)))
            expected = [plain(self.work, x, self.seed) for x in range(self.count)]
            results = parallel(delayed(function)(x, *self.rest) for x in range(self.count))
            if self.settings["return_as"] == "generator" and self.abandons:
                taken = [value for value, _ in zip(results, range(3), strict=False)]
                results.close()
                results, expected = taken, expected[: len(taken)]
                verdict.count("left half way")
            results = list(results)
        verdict.results += len(results)
        if len(results) != len(expected):
            return f"{len(results)} results of {len(expected)}: {self}"
        for x, (found, wanted) in enumerate(zip(results, expected, strict=True)):
            if not same(found, wanted):
                return f"{x}: {found!r:.1000}, not {wanted!r:.100}: {self}"
        if any(isinstance(result, TaskFailure) for result in results):
            verdict.count("exception")
        return ""


def _interrupted(
    seconds: float, plan: _Round, memory: Memory, shaky: Memory, verdict: Verdict
) -> str:
    """Run a round; somebody types Ctrl-C so many seconds later, if it still runs."""
    typed = threading.Event()

    def type_it() -> None:
        typed.set()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(seconds, type_it)
    try:
        try:
            timer.start()
            return plan.run(memory, shaky, verdict)
        finally:
            timer.cancel()
            timer.join()
            time.sleep(0.01)
    except KeyboardInterrupt:
        if not typed.is_set():
            raise
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.load")
    parser.add_argument("backend", choices=list(BACKENDS))
    parser.add_argument("seconds", type=float, nargs="?", default=HOUR)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--inside", action="store_true", help="do not look for what is left behind")
    given = parser.parse_args()
    if given.seed is None:
        given.seed = random.SystemRandom().randrange(10**6)
    return inside(given) if given.inside else outside(given)


def inside(given: argparse.Namespace) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    verdict = soak(given.backend, given.seconds, given.seed)
    print(json.dumps({"seed": given.seed, **verdict.figures()}), flush=True)
    return 1 if verdict.problems else 0


def outside(given: argparse.Namespace) -> int:
    """Run it in a program of its own, and see that nothing is there after it."""
    mark = uuid.uuid4().hex
    folder = Path(tempfile.mkdtemp(prefix="js-", dir="/tmp"))  # Ray's sockets want short names
    (folder / "temp").mkdir()
    environment = {**os.environ, **ENVIRONMENT, MARK: mark, "TMPDIR": str(folder / "temp")}
    if given.backend == "ray":
        environment["RAY_TMPDIR"] = str(folder / "ray")
        (folder / "ray").mkdir()
    command = [sys.executable, "-m", "tests.soak.load", given.backend, str(given.seconds)]
    command += ["--seed", str(given.seed), "--inside"]
    try:
        code = subprocess.call(command, env=environment, cwd=ROOT)
        behind = left(mark, folder, GONE_SECONDS * busyness())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if behind:
        print(behind, file=sys.stderr)
    return code or (1 if behind else 0)


if __name__ == "__main__":
    sys.exit(main())
