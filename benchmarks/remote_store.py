"""``Memory`` in a bucket: requests counted, latency injected, large entries, obstore beside s3fs.

Requests are counted at moto, through the proxy that the tests use. What is timed is timed at
SeaweedFS, the fastest S3 server at hand (written in Go; moto answers a few hundred requests a
second), with the proxy, where there is one, in a process of its own.
"""

from __future__ import annotations

import textwrap

from benchmarks.cache import SETUP
from benchmarks.contest import Case, Contestant
from benchmarks.servers import START_S3, shared_s3

__all__ = ["CASES", "SHARED"]

SHARED = shared_s3

_COUNTED = '''
from jobspan.testing.proxy import Proxy
from jobspan.testing.servers import Moto
server = Moto().start()
atexit.register(server.stop)
proxy = Proxy(server.endpoint).start()
url = server.bucket_url("bench") + "/cache"
options = {**server.storage_options, "endpoint_url": proxy.endpoint}

def counted(function):
    """Set how many requests a call makes once it is warm."""
    proxy.reset()
    begin = time.perf_counter()
    function()
    global seconds, requests
    seconds = time.perf_counter() - begin
    requests = sum(proxy.counts.values())
'''

_JOBSPAN = """
from jobspan import Memory
def cached(function, **settings):
    return Memory(url, storage_options=options, verbose=0, **settings).cache(function)
"""

_JOBLIB = '''
import s3fs
from joblib import Memory, register_store_backend
from joblib._store_backends import StoreBackendBase, StoreBackendMixin

class S3Store(StoreBackendBase, StoreBackendMixin):
    """joblib's store interface over s3fs, as joblib's documentation describes it."""

    def configure(self, location, verbose=1, backend_options=None):
        options = dict(backend_options or {})
        self.compress = options.pop("compress", False)
        self.mmap_mode = options.pop("mmap_mode", None)
        self.fs = s3fs.S3FileSystem(**options)
        self.location = location.removeprefix("s3://")
        self.verbose = verbose

    def _open_item(self, item, mode):
        return self.fs.open(item, mode)

    def _item_exists(self, item):
        self.fs.invalidate_cache()
        return self.fs.exists(item)

    def _move_item(self, source, target):
        self.fs.mv(source, target)

    def create_location(self, location):
        self.fs.makedirs(location, exist_ok=True)

    def clear_location(self, location):
        if self.fs.exists(location):
            self.fs.rm(location, recursive=True)

    def get_items(self):
        return []

register_store_backend("s3", S3Store)
def cached(function):
    memory = Memory(url, backend="s3", verbose=0, backend_options=options)
    return memory.cache(function)
'''

_SERVED = (
    START_S3
    + '''
import subprocess

PROXY = """
import sys
from jobspan.testing.proxy import Proxy
with Proxy(sys.argv[1], latency=float(sys.argv[2])) as proxy:
    print(proxy.endpoint, flush=True)
    sys.stdin.read()
"""

def behind_latency(latency):
    """Return the options that lead through a proxy that holds each request back."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROXY, server.endpoint, str(latency)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    def end():
        process.stdin.close()
        process.wait(20)
    atexit.register(end)
    return {**options, "endpoint_url": process.stdout.readline().strip()}
'''
)


def _counting(library: str, body: str) -> Contestant:
    return Contestant(f"{SETUP}\n{_COUNTED}\n{library}\n{textwrap.dedent(body)}")


def _served(body: str) -> Contestant:
    return Contestant(f"{SETUP}\n{_SERVED}\n{_JOBSPAN}\n{textwrap.dedent(body)}")


_HIT = """
function = cached(bench_functions.double)
function(0)
function(0)
counted(lambda: function(0))
"""

_MISS = """
function = cached(bench_functions.double)
function(0)
counted(lambda: function(1))
"""

_MISS_ALONE = """
function = cached(bench_functions.double, single_flight=False)
function(0)
counted(lambda: function(1))
"""

_HIT_IN_TIER = """
function = cached(bench_functions.double, local_tier=place)
function(0)
counted(lambda: function(0))
"""

_THOUSAND = """
from jobspan import Parallel, delayed
filling = cached(bench_functions.double)
Parallel(n_jobs=8, backend="threads")(delayed(filling)(i) for i in range(1000))
options = behind_latency(0.02)
function = cached(bench_functions.double, local_tier=place)
function(0)
begin = time.perf_counter()
{look_up}
seconds = time.perf_counter() - begin
assert results == [2 * i for i in range(1000)]
"""

_LARGE_HIT = """
function = cached(bench_functions.array)
value = function(0, 32 * 2**20)
assert function.check_call_in_cache(0, 32 * 2**20)
assert (function(0, 32 * 2**20) == value).all()
seconds = timed(lambda: function(0, 32 * 2**20), times=5)
"""

_LARGE_BARE = """
import asyncio, obstore, s3fs
from concurrent.futures import ThreadPoolExecutor
from obstore.store import S3Store
store = S3Store(
    "bench", access_key_id=options["key"], secret_access_key=options["secret"], region="us-east-1",
    endpoint=options["endpoint_url"], client_options={"allow_http": True},
)
data = bench_functions.array(0, 32 * 2**20).tobytes()
obstore.put(store, "large", data, use_multipart=False)
files = s3fs.S3FileSystem(**options)
at_once = ThreadPoolExecutor(16)
step = 16 * 2**20
def in_one():
    return bytes(obstore.get(store, "large").bytes())
def in_ranges():
    starts = [*range(0, len(data), step)]
    ends = [min(start + step, len(data)) for start in starts]
    return obstore.get_ranges(store, "large", starts=starts, ends=ends, coalesce=0)
def in_threads():
    def part(start):
        return obstore.get_range(store, "large", start=start, end=min(start + step, len(data)))
    return list(at_once.map(part, range(0, len(data), step)))
def with_s3fs():
    return files.cat_file("bench/large")
assert in_one() == data
assert b"".join(map(bytes, in_ranges())) == data
seconds = min(timed(way, times=5) for way in (in_one, in_ranges, in_threads, with_s3fs))
"""

_ENGINE = """
from jobspan.store import open_store
store = open_store(url, storage_options=options, engine="{engine}")
store.put("a", b"x" * 1000)
store.get("a")
seconds = timed(lambda: store.get("a"), times=15, loops=40)
"""

_ENGINE_HIT = """
from jobspan import Memory
from jobspan.store import open_store
store = open_store(url, storage_options=options, engine="{engine}")
with open(folder + "/bench_text.py", "w") as file:
    file.write("def text(number): return f'{{number:1000d}}'")
import bench_text
function = Memory(store, verbose=0).cache(bench_text.text)
function(0)
seconds = timed(lambda: function(0), times=15, loops=40)
"""

CASES = [
    Case(
        "requests of a hit on S3",
        {"jobspan": _counting(_JOBSPAN, _HIT), "joblib": _counting(_JOBLIB, _HIT)},
        {"requests": 1},
    ),
    Case(
        "requests of a miss on S3",
        {"jobspan": _counting(_JOBSPAN, _MISS_ALONE), "joblib": _counting(_JOBLIB, _MISS)},
        {"requests": 2},
    ),
    Case(
        "requests of a miss on S3 with single flight",
        {"jobspan": _counting(_JOBSPAN, _MISS)},
        {"requests": 3},
    ),
    Case(
        "requests of a hit in the filled local tier",
        {"jobspan": _counting(_JOBSPAN, _HIT_IN_TIER)},
        {"requests": 0},
    ),
    Case(
        "1,000 hits on S3 through Parallel, 20 ms a request",
        {
            "jobspan": _served(
                _THOUSAND.format(
                    look_up="results = Parallel(2)(delayed(function)(i) for i in range(1000))"
                )
            ),
            "one by one": _served(
                _THOUSAND.format(look_up="results = [function(i) for i in range(1000)]")
            ),
        },
        {"one by one": 0.15},
        quick={"range(1000)": "range(200)"},
        rounds=2,
    ),
    Case(
        "hit of 256 MB on S3 beside the bare client's best",
        {"jobspan": _served(_LARGE_HIT), "bare": _served(_LARGE_BARE)},
        {"bare": 1.3},
        rounds=2,
    ),
    Case(
        "hit of 1 kB on S3, obstore beside s3fs",
        {
            "jobspan": _served(_ENGINE_HIT.format(engine="obstore")),
            "s3fs": _served(_ENGINE_HIT.format(engine="fsspec")),
        },
    ),
    Case(
        "reading 1 kB from S3, obstore beside s3fs",
        {
            "jobspan": _served(_ENGINE.format(engine="obstore")),
            "s3fs": _served(_ENGINE.format(engine="fsspec")),
        },
    ),
]
