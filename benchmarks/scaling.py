"""Scaling: what a call costs as calls, workers, entries and distances grow."""

from __future__ import annotations

import textwrap

from benchmarks.contest import Contestant, Curve
from benchmarks.peers import PROCESSES, TIMED, Way
from benchmarks.scheduler import SIMULATION

__all__ = ["CURVES"]


def _contestants(body: str, *names: str) -> dict[str, Contestant]:
    """Return a contestant for each way: ``POOL`` and ``RUN`` stand for what it opens and calls."""
    return {name: _contestant(PROCESSES[name], body) for name in names or PROCESSES}


def _contestant(way: Way, body: str) -> Contestant:
    single = "SINGLE" in body
    source = f"{way.imports}\n{TIMED}\n{textwrap.dedent(body).replace('SINGLE', '')}"
    source = source.replace("POOL", way.pool).replace("RUN", way.single if single else way.every)
    return Contestant(source.replace("BATCH", ", batch_size=1" if single else ""))


_CALLS = """
WORKERS, points = 2, []
function = noop
with POOL as pool:
    for count in [100, 1000, 10_000, 100_000, 1_000_000]:
        calls = range(count)
        taken = []
        for _ in range(max(1, min(10, 300_000 // count))):
            begin = time.perf_counter()
            RUN
            taken.append(time.perf_counter() - begin)
        points.append((count, statistics.median(taken) / count * 1e6))
"""

_WORKERS = """
points = []
function = time.sleep
for WORKERS in [1, 4, 16, 64, 128]:
    calls = [0.01] * (20 * WORKERS)
    with POOL as pool: # SINGLE
        seconds = timed(lambda: RUN, 2)
    points.append((WORKERS, seconds / 0.2))
"""

_FOLDER = '''
import atexit, os, random, shutil, statistics, sys, tempfile, time
folder = tempfile.mkdtemp(prefix="jobspan-bench-")
atexit.register(shutil.rmtree, folder, ignore_errors=True)
with open(folder + "/bench_entries.py", "w") as file:
    file.write("def double(x):\\n    return 2 * x\\n")
sys.path.insert(0, folder)
from bench_entries import double
place = folder + "/cache"
def microseconds(hits, times=15):
    """Return what one of 100 hits costs."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        for number in range(100):
            hits(number)
        taken.append((time.perf_counter() - begin) / 100)
    return statistics.median(taken) * 1e6
sizes = [100, 1000, 10_000, 100_000, 1_000_000]
points = []
'''

# The first hundred entries come from calls. The others stand beside them under other keys, in the
# folders that their keys' first digits name; a thousand share a file, for a million files take
# minutes to make and to remove.
_ENTRIES = {
    "jobspan": """
        from jobspan import Memory
        function = Memory(place, verbose=0).cache(double)
        for number in range(100):
            function(number)
        entries = os.path.join(place, "bench_entries.double")
        shard = os.path.join(entries, sorted(os.listdir(entries))[0])
        with open(os.path.join(shard, os.listdir(shard)[0]), "rb") as file:
            entry = file.read()
        for digits in range(256):
            os.makedirs(os.path.join(entries, f"{digits:02x}"), exist_ok=True)
        dice = random.Random(0)
        present = 100
        for size in sizes:
            for number in range(size - present):
                key = f"{dice.getrandbits(256):064x}"
                path = f"{entries}/{key[:2]}/{key}"
                if number % 1000:
                    os.link(first, path)
                else:
                    first = path
                    with open(path, "wb") as file:
                        file.write(entry)
            present = size
            points.append((size, microseconds(function)))
        """,
    "joblib": """
        from joblib import Memory
        function = Memory(place, verbose=0).cache(double)
        present = 0
        for size in [each for each in sizes if each <= 10_000]:
            for number in range(present, size):
                function(number)
            present = size
            points.append((size, microseconds(function)))
        """,
    "diskcache": """
        from diskcache import Cache
        cache = Cache(place, eviction_policy="none")
        function = cache.memoize()(double)
        present = 0
        for size in [each for each in sizes if each <= 100_000]:
            with cache.transact():
                for number in range(present, size):
                    function(number)
            present = size
            points.append((size, microseconds(function)))
        """,
}

_SERVER = """
from jobspan.testing.proxy import Proxy
from jobspan.testing.servers import Moto
server = Moto().start()
atexit.register(server.stop)
url = server.bucket_url("bench")
proxy = Proxy(server.endpoint).start()
atexit.register(proxy.stop)
options = {**server.storage_options, "endpoint_url": proxy.endpoint}
def cached(**tier):
    from jobspan import Memory
    memory = Memory(url, storage_options=options, verbose=0, single_flight=False, **tier)
    return memory.cache(double)
latencies = [1, 2, 5, 10, 20, 50, 100]
def milliseconds(hit, count, each=1):
    taken = []
    for number in range(count):
        begin = time.perf_counter()
        hit(number)
        taken.append((time.perf_counter() - begin) / each)
    return statistics.median(taken) * 1e3
def measure(hit, count=10, each=1):
    for latency in latencies:
        proxy.latency = latency / 1e3
        points.append((latency, milliseconds(hit, count, each)))
"""

_LATENCIES = {
    "jobspan": """
        function = cached()
        for number in range(10):
            function(number)
        measure(function)
        """,
    "local tier": """
        function = cached(local_tier=folder + "/tier")
        for number in range(10):
            function(number)
        measure(function)
        """,
    "100 in bulk": """
        from jobspan import Parallel, delayed
        function = cached()
        calls = [delayed(function)(number) for number in range(100)]
        parallel = Parallel(n_jobs=2)
        parallel(calls)
        measure(lambda number: parallel(calls), 3, 100)
        """,
    "s3fs alone": """
        import s3fs
        client = s3fs.S3FileSystem(**options)
        client.pipe_file("bench/entry", b"x" * 1000)
        measure(lambda number: client.cat_file("bench/entry", max_concurrency=1))
        """,
}

_SIMULATED = """
points = []
for workers in [10, 100, 1000, 10_000]:
    taken = min(seconds_a_batch(workers, max(100_000, 5 * workers)) for _ in range(3))
    points.append((workers, taken * 1e6))
"""

CURVES = [
    Curve(
        "a no-op call among many, 2 warm workers",
        _contestants(_CALLS),
        "calls",
        "microseconds a call",
        quick={", 100_000, 1_000_000]": "]"},
        rounds=1,
    ),
    Curve(
        "calls of 10 ms on many workers, 20 a worker",
        _contestants(_WORKERS, "jobspan", "joblib", "futures", "mp.Pool", "mpire"),
        "workers",
        "times the ideal",
        quick={"[1, 4, 16, 64, 128]": "[1, 4, 16]"},
        limit=240,
        rounds=1,
    ),
    Curve(
        "a local hit among many entries",
        {name: Contestant(f"{_FOLDER}{textwrap.dedent(body)}") for name, body in _ENTRIES.items()},
        "entries of one function",
        "microseconds a hit",
        quick={", 100_000, 1_000_000]": "]"},
        limit=240,
        rounds=1,
    ),
    Curve(
        "a hit on S3, far from the store",
        {
            name: Contestant(f"{_FOLDER}{_SERVER}{textwrap.dedent(body)}")
            for name, body in _LATENCIES.items()
        },
        "milliseconds of latency injected a request",
        "milliseconds a hit",
        quick={"[1, 2, 5, 10, 20, 50, 100]": "[1, 10]"},
        rounds=1,
    ),
    Curve(
        "the scheduler alone, simulated workers",
        {"jobspan": Contestant(SIMULATION + _SIMULATED)},
        "workers",
        "microseconds a batch",
        quick={"range(3)": "range(1)"},
        rounds=1,
    ),
]
