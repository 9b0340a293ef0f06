"""An ETL over Parquet on S3: one call a file, sums by key, the result written back.

Runs on a real S3 server that is started on this machine; with a URL, on your own bucket.

usage: python parquet_etl.py [s3://BUCKET/FOLDER]
"""

import sys

import fsspec
import numpy as np
import pandas as pd

from jobspan import Memory, Parallel, delayed
from jobspan.testing.servers import Moto


def extract(url, options):
    """Read one file, leave out what is not valid, sum by shop."""
    frame = pd.read_parquet(url, storage_options=options)
    frame = frame[frame["amount"] > 0]
    return frame.groupby("shop")["amount"].agg(["sum", "count"])


def fill(folder, options, files=6):
    """Write some sales, for want of a shop."""
    for number in range(files):
        random = np.random.default_rng(number)
        frame = pd.DataFrame(
            {"shop": random.choice(["north", "south"], 500), "amount": random.integers(-5, 95, 500)}
        )
        frame.to_parquet(f"{folder}/sales/{number}.parquet", storage_options=options)


def main(folder, options):
    system, path = fsspec.core.url_to_fs(folder, **options)
    urls = sorted(f"s3://{name}" for name in system.glob(f"{path}/sales/*.parquet"))
    memory = Memory(f"{folder}/cache", storage_options=options, verbose=0)
    # The options hold a password and do not change what a file holds: they are no part of the key.
    cached = memory.cache(extract, ignore=["options"])
    parallel = Parallel(n_jobs=2, retries=2)
    parts = parallel(delayed(cached)(url, options) for url in urls)
    total = pd.concat(parts).groupby(level=0).sum()
    total.to_parquet(f"{folder}/totals.parquet", storage_options=options)
    print(f"{len(urls)} files, {parallel.stats.recalled} known from the cache")
    print(total.to_string())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], {})
    else:
        with Moto() as server:
            folder = server.bucket_url("etl")
            fill(folder, server.storage_options)
            main(folder, server.storage_options)
            main(folder, server.storage_options)
