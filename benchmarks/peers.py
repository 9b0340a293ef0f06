"""How each library runs one function over many inputs: the same loop, at its best settings.

``calls`` stands for the inputs, ``function`` for the function, ``WORKERS`` for their number. Pools
are open before the clock starts, unless a case says that it is cold. The pools of the standard
library and of mpire fork, their quickest way; jobspan and loky start fresh interpreters.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.contest import Contestant

__all__ = ["PROCESSES", "THREADS", "TIMED", "Way", "contestants", "joblib_like"]

TIMED = """
import statistics, time
def noop(x): return None
def timed(function, times=5, loops=1):
    function()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        for _ in range(loops):
            function()
        taken.append((time.perf_counter() - begin) / loops)
    return statistics.median(taken)
"""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run a function over inputs.

    Parameters
    ----------
    imports : str
        What a script imports for it.
    pool : str
        What opens the pool.
    every : str
        What runs all calls, in batches that the library chooses; `concurrent.futures` has no such
        choice and is told what `multiprocessing` would take.
    single : str
        The same, each call a batch of its own.
    """

    imports: str
    pool: str
    every: str
    single: str


def joblib_like(library: str, settings: str = "") -> Way:
    """Return how joblib's programming model does it, settings such as ``', backend="x"'`` added."""
    return Way(
        f"from {library} import Parallel, delayed",
        f"Parallel(n_jobs=WORKERS{settings}BATCH)",
        "pool(delayed(function)(i) for i in calls)",
        "pool(delayed(function)(i) for i in calls)",
    )


_LOOP = Way(
    "from contextlib import nullcontext",
    "nullcontext()",
    "[function(i) for i in calls]",
    "[function(i) for i in calls]",
)

PROCESSES = {
    "jobspan": joblib_like("jobspan"),
    "joblib": joblib_like("joblib"),
    "futures": Way(
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context",
        'ProcessPoolExecutor(WORKERS, get_context("fork"))',
        "list(pool.map(function, calls, chunksize=max(1, len(calls) // (4 * WORKERS))))",
        "list(pool.map(function, calls))",
    ),
    "mp.Pool": Way(
        "from multiprocessing import get_context",
        'get_context("fork").Pool(WORKERS)',
        "pool.map(function, calls)",
        "pool.map(function, calls, chunksize=1)",
    ),
    "mpire": Way(
        "from mpire import WorkerPool",
        'WorkerPool(WORKERS, start_method="fork", keep_alive=True)',
        "pool.map(function, calls, concatenate_numpy_output=False)",
        "pool.map(function, calls, concatenate_numpy_output=False, chunk_size=1)",
    ),
    "loop": _LOOP,
}

THREADS = {
    "jobspan": joblib_like("jobspan", ', backend="threading"'),
    "joblib": joblib_like("joblib", ', backend="threading"'),
    "futures": Way(
        "from concurrent.futures import ThreadPoolExecutor",
        "ThreadPoolExecutor(WORKERS)",
        "list(pool.map(function, calls))",
        "list(pool.map(function, calls))",
    ),
    "mp.Pool": Way(
        "from multiprocessing.pool import ThreadPool",
        "ThreadPool(WORKERS)",
        "pool.map(function, calls)",
        "pool.map(function, calls, chunksize=1)",
    ),
    "mpire": Way(
        "from mpire import WorkerPool",
        'WorkerPool(WORKERS, start_method="threading", keep_alive=True)',
        "pool.map(function, calls, concatenate_numpy_output=False)",
        "pool.map(function, calls, concatenate_numpy_output=False, chunk_size=1)",
    ),
    "loop": _LOOP,
}

WARM = """
with {pool} as pool:
    def run(): return {run}
    {before}
    seconds = timed(run, times={times})
"""

COLD = """
begin = time.perf_counter()
with {pool} as pool:
    {run}
seconds = time.perf_counter() - begin
"""

BARE = """
with {pool} as pool:
    {run}
"""


def contestants(
    ways: Mapping[str, Way],
    setup: str,
    *,
    workers: int = 2,
    single: bool = False,
    names: Iterable[str] = (),
    shape: str = WARM,
    before: str = "",
    times: int = 5,
    after: str = "",
    cold: bool = False,
) -> dict[str, Contestant]:
    """Return a contestant for each way.

    Parameters
    ----------
    ways : mapping of str to Way
        `PROCESSES` or `THREADS`.
    setup : str
        What sets ``calls`` and ``function``.
    workers : int
        How many workers.
    single : bool
        Whether each call is a batch of its own.
    names : iterable of str
        Which ways; all if empty.
    shape : str
        `WARM`, `COLD` or `BARE`.
    before : str
        What a warm pool does before the clock starts, besides the calls themselves once.
    times : int
        Of how many runs the median is taken.
    after : str
        What runs at the end, such as a division by the ideal.
    cold : bool
        Whether the whole life of the interpreter is timed.
    """
    found = {}
    for name in names or ways:
        way = ways[name]
        source = "\n".join(
            [
                way.imports,
                "" if cold else TIMED,
                textwrap.dedent(setup),
                shape.format(
                    pool=way.pool,
                    run=way.single if single else way.every,
                    before=before,
                    times=times,
                ),
                textwrap.dedent(after),
            ]
        )
        source = source.replace("BATCH", ", batch_size=1" if single else "")
        found[name] = Contestant(source.replace("WORKERS", str(workers)), cold)
    return found
