"""Caching an expensive result: computed once, read ever after, computed anew when code changes."""

import atexit
import os
import tempfile
import time

from jobspan import Memory, Parallel, delayed

temporary = tempfile.TemporaryDirectory(prefix="jobspan-example-")
atexit.register(temporary.cleanup)
location = os.environ.get("EXAMPLE_CACHE") or temporary.name
memory = Memory(location, verbose=0)


def smooth(values, width):
    return [sum(values[max(0, i - width) : i + 1]) / (width + 1) for i in range(len(values))]


@memory.cache
def expensive(seed, width=3):
    time.sleep(0.2)
    return smooth([(seed * k) % 17 for k in range(50)], width)


begin = time.perf_counter()
first = Parallel(n_jobs=2)(delayed(expensive)(seed) for seed in range(4))
computed = time.perf_counter() - begin

begin = time.perf_counter()
second = Parallel(n_jobs=2)(delayed(expensive)(seed) for seed in range(4))
recalled = time.perf_counter() - begin

print("the same results:", first == second)
print("recalled at least twice as fast:", recalled * 2 < computed)
print("why would expensive(1, width=4) miss?", expensive.explain(1, width=4))
print("checksum:", round(sum(map(sum, second)), 6))
