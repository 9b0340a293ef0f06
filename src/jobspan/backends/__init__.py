"""Where calls run: on this machine, on a Dask cluster, on a Ray cluster, or a third party's way."""
