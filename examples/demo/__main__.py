"""One real job on this machine's cores, on a Dask cluster and on a Ray, with one shared cache.

Every file of Python's standard library goes through a cached function that tokenises it and counts
words and syntax. The cache is in an S3 bucket, served by a real S3 server on this machine. What the
first cluster stores, the second one finds.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.feature_pipeline.features import features, read
from jobspan import Memory, Parallel, delayed, parallel_config
from jobspan.testing.servers import Moto, SeaweedFS, Server, ServerUnavailableError

Row = tuple[str, float, int, int]


def corpus(limit: int | None) -> list[str]:
    """Return the sources of the running interpreter's standard library."""
    folder = Path(os.__file__).parent
    paths = [path for path in folder.rglob("*.py") if "site-packages" not in path.parts]
    return [read(path) for path in sorted(paths)[:limit]]


def run(extract: Callable[..., Any], texts: list[str]) -> tuple[list[Any], int]:
    """Run the job where the surrounding context says; return results and how many were stored."""
    parallel = Parallel()
    results = parallel(delayed(extract)(text) for text in texts)
    return results, parallel.stats.recalled


def start_server() -> Server:
    try:
        return SeaweedFS().start()
    except ServerUnavailableError:
        return Moto().start()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--files", type=int, default=None, help="no more files than these")
    arguments.add_argument("--jobs", type=int, default=2)
    given = arguments.parse_args()
    console = Console()
    texts = corpus(given.files)
    size = sum(map(len, texts)) / 1e6
    console.print(f"[bold]{len(texts)}[/] files of Python's standard library, {size:.1f} MB")

    rows: list[Row] = []
    begin = time.perf_counter()
    expected = [features(text) for text in texts]
    rows.append(("plain loop", time.perf_counter() - begin, 0, len(texts)))

    console.print("starting an S3 server ...")
    server = start_server()
    try:
        options = server.storage_options
        laptop = Memory(server.bucket_url("demo-laptop"), storage_options=options, verbose=0)
        team = Memory(server.bucket_url("demo-team"), storage_options=options, verbose=0)
        steps = [
            ("processes, empty cache", "processes", laptop),
            ("processes, warm cache", "processes", laptop),
            ("Dask, empty cache", "dask", team),
            ("Ray, what Dask stored", "ray", team),
            ("processes, the same", "processes", team),
        ]
        for name, backend, memory in steps:
            console.print(f"{name} ...")
            extract = memory.cache(features)
            with parallel_config(backend=backend, n_jobs=given.jobs):
                Parallel()([delayed(abs)(-1)])  # workers start outside of the time
                begin = time.perf_counter()
                results, recalled = run(extract, texts)
                rows.append((name, time.perf_counter() - begin, recalled, len(texts) - recalled))
            if results != expected:
                sys.exit(f"{name}: the results differ from the plain loop's")
    finally:
        server.stop()
    report(console, rows, expected)


def report(console: Console, rows: list[Row], results: list[Any]) -> None:
    table = Table(title="the same job, the same results")
    for column in ("where", "seconds", "speed-up", "hits", "misses"):
        table.add_column(column, justify="left" if column == "where" else "right")
    base = rows[0][1]
    for name, seconds, hits, misses in rows:
        table.add_row(name, f"{seconds:.2f}", f"{base / seconds:.1f} x", str(hits), str(misses))
    console.print(table)
    words: Counter[str] = Counter()
    for result in results:
        words.update(result["words"])
    console.print("top words:", ", ".join(f"{word} {n:,}" for word, n in words.most_common(10)))


if __name__ == "__main__":
    main()
