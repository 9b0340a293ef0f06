"""The local process pool beside joblib with loky and ``concurrent.futures``.

Contestants are sources, each run in a fresh interpreter, so that nobody finds another's pool warm.
"""

from __future__ import annotations

import textwrap

from benchmarks.contest import Case, Contestant

__all__ = ["CASES"]

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
