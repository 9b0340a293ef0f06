"""The local process pool beside joblib with loky and ``concurrent.futures``.

Each case lists its contestants; a contestant is Python source whose last line sets ``seconds``, and
sometimes ``megabytes``. Every one runs in a fresh interpreter, so that nobody finds another's pool
warm; the contestants of a case take turns, and medians are compared. Cases of a cold start are
timed from outside, start and exit of the interpreter included.

Run by hand: ``python benchmarks/processes.py [words of case names]``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CASES", "Case", "Contestant", "measure"]

LIBRARIES = {
    "jobspan": "from jobspan import Parallel, delayed",
    "joblib": "from joblib import Parallel, delayed",
    "futures": "from concurrent.futures import ProcessPoolExecutor",
}

_TIMED = """
import statistics, time
def noop(x): return None
def timed(function, times=5):
    function()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)
"""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One side of a case.

    Parameters
    ----------
    source : str
        What it runs; sets ``seconds`` unless the case is timed from outside.
    cold : bool
        Whether the whole life of the interpreter is what is timed.
    """

    source: str
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured, and what must be reached.

    Parameters
    ----------
    name : str
        What is measured.
    contestants : mapping of str to Contestant
        By the library's name; ``jobspan`` is one of them.
    at_most : mapping of str to float
        How many times a peer's seconds jobspan may take; ``"ideal"``: how many times 1.0, for cases
        whose contestants report seconds as a multiple of what cannot be beaten.
    memory_of : str or None
        The peer whose parent's memory must not be exceeded.
    """

    name: str
    contestants: Mapping[str, Contestant]
    at_most: Mapping[str, float]
    memory_of: str | None = None


def _warm(library: str, body: str) -> Contestant:
    return Contestant(f"{LIBRARIES[library]}\n{_TIMED}\n{textwrap.dedent(body)}")


def _both(body: str) -> dict[str, Contestant]:
    return {library: _warm(library, body) for library in ("jobspan", "joblib")}


def _both_cold(body: str) -> dict[str, Contestant]:
    return {
        library: Contestant(f"{LIBRARIES[library]}\n{textwrap.dedent(body)}", cold=True)
        for library in ("jobspan", "joblib")
    }


_MEMORY = """
import resource
megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""

_ARGUMENT = """
import numpy as np
class Holder: pass
array = np.random.default_rng(0).random(10_000_000)
holder = Holder()
holder.array = array
wrapped = {wrapped}
def total(value): return float({unwrapped}.sum())
seconds = timed(lambda: Parallel(n_jobs=2)(delayed(total)(wrapped) for _ in range(8)))
"""

CASES = [
    Case(
        "cold script: import, 4 no-op calls on 2 workers, exit",
        _both_cold("Parallel(n_jobs=2)(delayed(abs)(i) for i in range(4))"),
        {"joblib": 0.25},
    ),
    Case(
        "3,000 no-op calls, batch_size=1, warm",
        _both(
            """
            with Parallel(n_jobs=2, batch_size=1) as parallel:
                seconds = timed(lambda: parallel(delayed(noop)(i) for i in range(3000)))
            """
        )
        | {
            "futures": _warm(
                "futures",
                """
                import multiprocessing
                with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
                    seconds = timed(lambda: list(pool.map(noop, range(3000))))
                """,
            )
        },
        {"joblib": 0.12, "futures": 0.3},
    ),
    Case(
        "20,000 no-op calls, automatic batches, warm",
        _both(
            """
            with Parallel(n_jobs=2) as parallel:
                seconds = timed(lambda: parallel(delayed(noop)(i) for i in range(20_000)))
            """
        ),
        {"joblib": 0.25},
    ),
    Case(
        "1,000,000 x sqrt, cold pool included",
        _both(
            """
            from math import sqrt
            begin = time.perf_counter()
            Parallel(n_jobs=2)(delayed(sqrt)(i) for i in range(1_000_000))
            seconds = time.perf_counter() - begin
            """
            + textwrap.indent(_MEMORY, "            ")
        ),
        {"joblib": 0.2},
        memory_of="joblib",
    ),
    Case(
        "4 results of 80 MB, list",
        _both(
            """
            import numpy as np
            def make(value): return np.full(10_000_000, value, dtype=float)
            seconds = timed(lambda: Parallel(n_jobs=2)(delayed(make)(i) for i in range(4)))
            """
        ),
        {"joblib": 0.3},
    ),
    Case(
        "4 results of 80 MB, generator, each dropped after use",
        _both(
            """
            import numpy as np
            def make(value): return np.full(10_000_000, value, dtype=float)
            parallel = Parallel(n_jobs=2, return_as="generator")
            def consume():
                for result in parallel(delayed(make)(i) for i in range(4)):
                    del result
            seconds = timed(consume)
            """
        ),
        {"joblib": 0.1},
    ),
    *(
        Case(
            f"one 80 MB array as argument of 8 calls, {how}",
            _both(_ARGUMENT.format(wrapped=wrapped, unwrapped=unwrapped)),
            {"joblib": 0.8},
        )
        for how, wrapped, unwrapped in (
            ("plain", "array", "value"),
            ("in a dict", "{'array': array}", "value['array']"),
            ("in an object", "holder", "value.array"),
        )
    ),
    Case(
        "64 workers, 10 ms sleeps, 50 a worker, warm: times the ideal",
        _both(
            """
            with Parallel(n_jobs=64, batch_size=1) as parallel:
                parallel(delayed(time.sleep)(0.2) for _ in range(128))
                seconds = timed(lambda: parallel(delayed(time.sleep)(0.01) for _ in range(3200)), 3)
            seconds /= 0.5
            """
        ),
        {"ideal": 1 / 0.85},
    ),
    Case(
        "mixed: 2,000 calls of 0 to 5 ms, random: times work / workers",
        _both(
            """
            import random
            dice = random.Random(0)
            pauses = [dice.uniform(0, 0.005) for _ in range(2000)]
            with Parallel(n_jobs=2) as parallel:
                seconds = timed(lambda: parallel(delayed(time.sleep)(p) for p in pauses), 2)
            seconds /= sum(pauses) / 2
            """
        ),
        {"ideal": 1.1},
    ),
]


def measure(contestant: Contestant) -> dict[str, float]:
    """Run a contestant once in a fresh interpreter; return its seconds, and megabytes if told."""
    source = contestant.source
    if not contestant.cold:
        source += (
            "\nimport json\nprint(json.dumps({k: v for k, v in globals().items() "
            "if k in ('seconds', 'megabytes')}))"
        )
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", source], check=True, capture_output=True, text=True, timeout=300
    )
    if contestant.cold:
        return {"seconds": time.perf_counter() - begin}
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(words: list[str], rounds: int = 3) -> None:
    """Measure the cases whose names hold one of `words` and print a table."""
    for case in CASES:
        if words and not any(word in case.name for word in words):
            continue
        found: dict[str, list[dict[str, float]]] = {name: [] for name in case.contestants}
        for _ in range(rounds):
            for name, contestant in case.contestants.items():
                found[name].append(measure(contestant))
        medians = {
            name: statistics.median(each["seconds"] for each in results)
            for name, results in found.items()
        }
        ours = medians["jobspan"]
        print(case.name)
        for peer, bound in case.at_most.items():
            ratio = ours / medians.get(peer, 1.0)
            verdict = "reached" if ratio <= bound else "MISSED"
            beside = f"{medians[peer]:9.4f} s" if peer in medians else " " * 11
            print(f"  {ours:9.4f} | {peer:8} {beside} | {ratio:.3f} of {bound:.3f} {verdict}")
        if case.memory_of:
            memory = {
                name: statistics.median(each["megabytes"] for each in results)
                for name, results in found.items()
            }
            print(f"  parent's memory: {', '.join(f'{n} {m:.0f} MB' for n, m in memory.items())}")


if __name__ == "__main__":
    main(sys.argv[1:])
