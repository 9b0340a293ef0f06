"""The Ray backend beside ``ray.util.joblib`` and plain Ray tasks, on a Ray of this machine.

Not named ``ray``: that is in the name of every case with an array. Each contestant starts a Ray of
its own, which is not timed; in a quick run those with two CPUs share one.
"""

from __future__ import annotations

import textwrap

from benchmarks.contest import Case, Contestant
from benchmarks.peers import TIMED
from benchmarks.servers import START_RAY, shared_ray

__all__ = ["CASES", "SHARED"]

SHARED = shared_ray

STARTS = {
    "jobspan": """
        from jobspan import Parallel, delayed, parallel_config
        start(CPUS)
        context = parallel_config("ray", n_jobs=CPUS)
        context.__enter__()
        """,
    "ray.util": """
        from joblib import Parallel, delayed, parallel_config
        from ray.util.joblib import register_ray
        start(CPUS)
        register_ray()
        context = parallel_config("ray", n_jobs=CPUS)
        context.__enter__()
        """,
    "tasks": """
        start(CPUS)
        """,
}

_COMMON = f"""
{TIMED}
import warnings
warnings.simplefilter("ignore")
{START_RAY}
"""


def _contestant(name: str, body: str, cpus: int = 2) -> Contestant:
    start = textwrap.dedent(STARTS[name]).replace("CPUS", str(cpus))
    end = 'globals().get("context") and context.__exit__(None, None, None)\nray.shutdown()'
    return Contestant(f"{_COMMON}\n{start}\n{textwrap.dedent(body)}\n{end}")


def _both(body: str, cpus: int = 2) -> dict[str, Contestant]:
    return {name: _contestant(name, body, cpus) for name in ("jobspan", "ray.util")}


_ARRAY = """
import numpy as np
holder = {"array": np.random.default_rng(0).random(10_000_000)}
def total(value): return float(value["array"].sum())
"""

_COUNTED = """
puts = []
put = ray.put
def counting(value, **options):
    puts.append(value)
    return put(value, **options)
ray.put = counting
"""

_RESULT = """
import numpy as np
def make(value): return np.full(10_000_000, value, dtype=float)
"""

CASES = [
    Case(
        "Ray: 1,000 no-op calls, batch_size=1, warm",
        _both(
            """
            with Parallel(batch_size=1) as parallel:
                seconds = timed(lambda: parallel(delayed(noop)(i) for i in range(1000)))
            """
        )
        | {
            "tasks": _contestant(
                "tasks",
                """
                task = ray.remote(noop)
                seconds = timed(lambda: ray.get([task.remote(i) for i in range(1000)]))
                """,
            )
        },
        {"ray.util": 0.4, "tasks": 0.5},
    ),
    Case(
        "Ray: 20,000 no-op calls, automatic batches, warm",
        _both(
            """
            with Parallel() as parallel:
                seconds = timed(lambda: parallel(delayed(noop)(i) for i in range(20_000)))
            """
        ),
        {"ray.util": 0.8},
    ),
    Case(
        "Ray: 80 MB array in a dict, 8 calls, one put",
        {
            "jobspan": _contestant(
                "jobspan",
                f"{_COUNTED}{_ARRAY}\n"
                "seconds = timed(lambda: Parallel()(delayed(total)(holder) for _ in range(8)))\n"
                "large = [value for value in puts if getattr(value, 'nbytes', 0) >= 80_000_000]\n"
                "assert len(large) == 1, f'{len(large)} puts of the array'",
            ),
            "ray.util": _contestant(
                "ray.util",
                f"{_ARRAY}\n"
                "seconds = timed(lambda: Parallel()(delayed(total)(holder) for _ in range(8)))",
            ),
            "tasks": _contestant(
                "tasks",
                f"{_ARRAY}\n"
                "task = ray.remote(total)\n"
                "seconds = timed(lambda: ray.get([task.remote(holder) for _ in range(8)]))",
            ),
        },
        {"ray.util": 0.5},
    ),
    Case(
        "Ray: 4 results of 80 MB",
        {
            **_both(
                f"{_RESULT}\n"
                "seconds = timed(lambda: Parallel()(delayed(make)(i) for i in range(4)))"
            ),
            "tasks": _contestant(
                "tasks",
                f"{_RESULT}\n"
                "task = ray.remote(make)\n"
                "seconds = timed(lambda: ray.get([task.remote(i) for i in range(4)]))",
            ),
        },
        {"ray.util": 0.9},
    ),
    Case(
        "Ray: 8 workers, 1,000 calls of 10 ms, warm: times the ideal",
        _both(
            """
            with Parallel() as parallel:
                seconds = timed(lambda: parallel(delayed(time.sleep)(0.01) for _ in range(1000)), 3)
            seconds /= 1.25
            """,
            cpus=8,
        ),
        {"ideal": 1 / 0.85},
    ),
]
