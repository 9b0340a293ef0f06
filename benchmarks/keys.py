"""Keys beside ``joblib.hash``: large arrays, plain containers, frames, small values, code."""

from __future__ import annotations

import textwrap

from benchmarks.contest import Case, Contestant
from benchmarks.peers import TIMED

__all__ = ["CASES"]

_HASHES = {
    "jobspan": "from jobspan import hash as digest",
    "joblib": "from joblib import hash as digest",
    "blake3": (
        "from blake3 import blake3\n"
        "def digest(array):\n"
        "    data = (array if array.flags.c_contiguous else array.T).reshape(-1).view('u1')\n"
        "    return blake3(data, max_threads=blake3.AUTO).digest()"
    ),
}


def _case(name: str, value: str, bounds: dict[str, float], times: int = 7, loops: int = 1) -> Case:
    body = (
        f"{textwrap.dedent(value)}\n"
        f"seconds = timed(lambda: digest(value), times={times}, loops={loops})"
    )
    return Case(
        name,
        {
            library: Contestant(f"{_HASHES[library]}\n{TIMED}\n{body}")
            for library in ("jobspan", *bounds)
        },
        bounds,
    )


_ARRAY = "import numpy as np\nvalue = np.random.default_rng(0).random((3200, 3125))"

CASES = [
    _case("float64 array of 80 MB, C order", _ARRAY, {"joblib": 1 / 8, "blake3": 1.3}, 5),
    _case("float64 array of 80 MB, F order", f"{_ARRAY}.T", {"joblib": 1 / 8, "blake3": 1.3}, 5),
    _case(
        "list of 100,000 floats",
        "import random\nrandom.seed(0)\nvalue = [random.random() for _ in range(100_000)]",
        {"joblib": 1 / 20},
    ),
    _case(
        "dict of 10,000 str to int",
        "value = {f'name {i}': i for i in range(10_000)}",
        {"joblib": 1 / 20},
        loops=5,
    ),
    _case(
        "5,000 nested records",
        """
        value = [
            {"id": i, "name": f"name {i}", "tags": ["a", str(i)], "at": {"x": i / 7, "y": None}}
            for i in range(5_000)
        ]
        """,
        {"joblib": 1 / 20},
    ),
    _case(
        "set of 10,000 ints",
        "value = {i * 7919 for i in range(10_000)}",
        {"joblib": 1 / 8},
        loops=5,
    ),
    _case(
        "frame of 100,000 rows: int, float, text",
        """
        import numpy as np, pandas as pd
        value = pd.DataFrame({
            "a": np.arange(100_000),
            "b": np.random.default_rng(0).random(100_000),
            "c": [f"text {i % 5000}" for i in range(100_000)],
        })
        """,
        {"joblib": 1 / 3},
    ),
    _case(
        "(1, 'a', 2.5, {'x': [1, 2]})",
        "value = (1, 'a', 2.5, {'x': [1, 2]})",
        {"joblib": 1 / 4},
        loops=2000,
    ),
    Case(
        "fingerprint of an unchanged function, second call on",
        {
            "jobspan": Contestant(
                TIMED
                + textwrap.dedent(
                    """
                    import math
                    from jobspan.keys import fingerprint
                    SCALE = 2.5
                    def helper(x):
                        return x * SCALE
                    def function(x, y=1):
                        return helper(x) + math.sqrt(y)
                    seconds = timed(lambda: fingerprint(function), times=7, loops=5000)
                    """
                )
            )
        },
        {"seconds": 2e-6},
    ),
]
