"""Every bound that was set is measured: as it was worded, and the lines that show it."""

# ruff: noqa: RUF001 - what was asked for is quoted as it was written

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.contest import Case
from benchmarks.runner.topics import FOLDER, topics

CASES: list[Case] = [case for topic in topics() for case in topic.cases]
IDEAL = 1 / 0.85

# What must be reached, as it was written, and for each bound in it: words of the case's name,
# beside whom, at most; None: it is only reported.
Bounds = dict[str, list[tuple[str, str, float | None]]]

PROCESSES: Bounds = {
    "cold script: import, 4 no-op calls on 2 workers, exit | 0.25 × joblib": [
        ("cold script import 4 no-op calls 2 workers exit", "joblib", 0.25)
    ],
    "no-op calls, `batch_size=1`, warm | 0.12 × joblib (loky), 0.3 × `ProcessPoolExecutor`": [
        ("3,000 no-op batch_size=1 warm", "joblib", 0.12),
        ("3,000 no-op batch_size=1 warm", "futures", 0.3),
    ],
    "20,000 no-op calls, automatic batches, warm | 0.25 × joblib": [
        ("20,000 no-op automatic warm", "joblib", 0.25)
    ],
    "1,000,000 × `sqrt`, cold pool included | 0.2 × joblib, parent's memory no higher": [
        ("1,000,000 x sqrt cold pool", "joblib", 0.2),
        ("1,000,000 x sqrt cold pool", "memory of joblib", 1.0),
    ],
    "4 results of 80 MB, list | 0.3 × joblib": [("4 results 80 MB list", "joblib", 0.3)],
    'the same through `return_as="generator"`, each dropped after use | 0.1 × joblib': [
        ("4 results 80 MB generator dropped", "joblib", 0.1)
    ],
    "one 80 MB array as argument of 8 calls, plain, in a dict, in an object | 0.8 × joblib each": [
        ("80 MB array argument of 8 calls plain", "joblib", 0.8),
        ("80 MB array argument of 8 calls in a dict", "joblib", 0.8),
        ("80 MB array argument of 8 calls in an object", "joblib", 0.8),
    ],
    "64 workers, 10 ms sleeps, 50 a worker: share of the ideal"
    " | >= 0.85 (joblib: 0.6 warm, 0.16 the first time)": [
        ("64 workers 10 ms 50 a worker warm ideal", "ideal", IDEAL)
    ],
    "mixed: 2,000 calls of 0 to 5 ms, random | <= 1.10 × (total work / workers)": [
        ("mixed 2,000 calls of 0 to 5 ms random", "ideal", 1.1)
    ],
}

PARALLEL: Bounds = {
    "threads, no-op, 20,000 calls: <= 0.15 × joblib threading and no slower than"
    " `ThreadPoolExecutor.map`": [
        ("threads 20,000 no-op", "joblib", 0.15),
        ("threads 20,000 no-op", "futures", 1.0),
    ],
    "sequential, no-op: <= 0.8 × joblib sequential": [("sequential no-op", "joblib", 0.8)],
    '10^6 calls from a generator with `return_as="generator"`: parent\'s memory grows by less'
    " than 50 MB": [("10^6 calls generator growth of the parent", "megabytes", 50)],
    "scheduler alone on the simulated executor: < 5 µs a batch at 1,000 workers": [
        ("scheduler alone 1,000 workers batch", "seconds", 5e-6)
    ],
}

KEYS: Bounds = {
    "float64 array of 80 MB, C or F order | 8 × faster; within 1.3 × of BLAKE3 alone": [
        ("float64 array 80 MB C order", "joblib", 1 / 8),
        ("float64 array 80 MB C order", "blake3", 1.3),
        ("float64 array 80 MB F order", "joblib", 1 / 8),
        ("float64 array 80 MB F order", "blake3", 1.3),
    ],
    "list of 100,000 floats; dict of 10,000 str → int; 5,000 nested records | 20 ×": [
        ("list of 100,000 floats", "joblib", 1 / 20),
        ("dict of 10,000 str to int", "joblib", 1 / 20),
        ("5,000 nested records", "joblib", 1 / 20),
    ],
    "set of 10,000 ints | 8 ×": [("set of 10,000 ints", "joblib", 1 / 8)],
    "frame of 100,000 rows: int, float, string columns | 3 ×": [
        ("frame of 100,000 rows", "joblib", 1 / 3)
    ],
    '`(1, "a", 2.5, {"x": [1, 2]})` | 4 ×': [("(1, 'a', 2.5, {'x': [1, 2]})", "joblib", 1 / 4)],
    "fingerprint of an unchanged function, second call on | < 2 µs": [
        ("fingerprint of an unchanged function", "seconds", 2e-6)
    ],
}

CACHE: Bounds = {
    "local hit, small value | <= 0.2 × joblib, <= 1.2 × diskcache": [
        ("local hit small value", "joblib", 0.2),
        ("local hit small value", "diskcache", 1.2),
    ],
    "local miss, small value | <= 0.5 × joblib": [("local miss small value", "joblib", 0.5)],
    "local hit, 80 MB array: read / mapped | <= 0.9 × / <= 0.05 × joblib's read": [
        ("local hit 80 MB array read", "joblib", 0.9),
        ("local hit 80 MB array mapped", "joblib", 0.05),
    ],
    "hit with an 80 MB array argument | <= 0.15 × joblib": [
        ("hit with an 80 MB array argument", "joblib", 0.15)
    ],
    "200,000 entries of one function, local: hit time against 100 entries | <= 1.5 ×": [
        ("200,000 entries 100", "ideal", 1.5)
    ],
}

REMOTE: Bounds = {
    "requests: hit / miss / miss with single flight, counted at a local S3 server | 1 / 2 / <= 3": [
        ("requests of a hit", "requests", 1),
        ("requests of a miss", "requests", 2),
        ("requests of a miss single flight", "requests", 3),
    ],
    "1,000 hits on S3 through `Parallel`, empty tier, 20 ms latency injected a request"
    " | <= 0.15 × one at a time": [("1,000 hits S3 Parallel 20 ms", "one by one", 0.15)],
    "256 MB entry from S3 | <= 1.3 × the bare client's best": [("256 MB S3", "bare", 1.3)],
    "the fast engine (obstore) against s3fs, 1 kB hit | reported": [
        ("hit 1 kB S3 obstore s3fs", "s3fs", None)
    ],
}

DASK: Bounds = {
    "no-op, `batch_size=1` | 0.4 × joblib-dask, 1.1 × `client.map`": [
        ("dask no-op batch_size=1", "joblib", 0.4),
        ("dask no-op batch_size=1", "distributed", 1.1),
    ],
    "20,000 no-op, automatic | 0.3 × joblib-dask": [("dask 20,000 no-op", "joblib", 0.3)],
    "80 MB array nested in a dict, 8 calls | bytes moved: once a worker; first time"
    " 0.6 × joblib-dask, again in the same context 0.2 ×": [
        ("dask 80 MB array dict 8 calls first time", "joblib", 0.6),
        ("dask 80 MB array dict 8 calls again", "joblib", 0.2),
    ],
    "4 results of 80 MB | 0.35 × joblib-dask": [("dask 4 results of 80 MB", "joblib", 0.35)],
    "8 single-thread workers, 1,000 calls of 10 ms | >= 0.85 of the ideal": [
        ("dask 8 workers 1,000 calls of 10 ms", "ideal", IDEAL)
    ],
}

RAY: Bounds = {
    "no-op, `batch_size=1` | 0.4 × ray.util.joblib, 0.5 × plain tasks": [
        ("ray no-op batch_size=1", "ray.util", 0.4),
        ("ray no-op batch_size=1", "tasks", 0.5),
    ],
    "20,000 no-op, automatic | 0.8 × ray.util.joblib": [("ray 20,000 no-op", "ray.util", 0.8)],
    "80 MB array nested in a dict, 8 calls | 0.5 × ray.util.joblib, one put": [
        ("ray 80 MB array dict 8 calls one put", "ray.util", 0.5)
    ],
    "4 results of 80 MB | 0.9 × ray.util.joblib": [("ray 4 results of 80 MB", "ray.util", 0.9)],
    "8 workers, 1,000 calls of 10 ms | >= 0.85 of the ideal": [
        ("ray 8 workers 1,000 calls of 10 ms", "ideal", IDEAL)
    ],
}

SCIKIT_LEARN: Bounds = {
    "grid search on 50,000 × 50 with 40 fits: jobspan against joblib on processes, Dask and Ray:"
    " no slower anywhere, <= 0.7 × joblib's on Dask": [
        ("grid search processes", "joblib", 1.0),
        ("grid search dask", "joblib", 0.7),
        ("grid search ray", "", 1.0),
    ],
}

# By the module that measures it.
ALL = {
    "batching": PROCESSES,
    "dispatch": PARALLEL,
    "keys": KEYS,
    "cache": CACHE,
    "remote_store": REMOTE,
    "dask": DASK,
    "on_ray": RAY,
    "scikit_learn": SCIKIT_LEARN,
}
ROWS = [(topic, row, bounds) for topic, rows in ALL.items() for row, bounds in rows.items()]


@pytest.mark.parametrize(("topic", "row", "bounds"), ROWS, ids=lambda each: str(each)[:60])
def test_bound_is_a_line_of_the_output(
    topic: str, row: str, bounds: list[tuple[str, str, float | None]]
) -> None:
    if not (Path(FOLDER) / f"{topic}.py").exists():
        pytest.skip(f"benchmarks/{topic}.py is not there")
    for words, peer, bound in bounds:
        found = [case for case in CASES if _is_named(case, words) and _has(case, peer, bound)]
        assert found, f"{row}: no case named {words!r} with a bound of {bound} beside {peer!r}"


def _is_named(case: Case, words: str) -> bool:
    name = case.name.lower()
    return all(word in name for word in words.lower().split())


def _has(case: Case, peer: str, bound: float | None) -> bool:
    if bound is None:
        return peer in case.contestants
    if peer.startswith("memory of "):
        return case.memory_of == peer.removeprefix("memory of ")
    bounds = [case.at_most.get(peer)] if peer else list(case.at_most.values())
    return any(each is not None and 0.999 * bound < each < 1.001 * bound for each in bounds)
