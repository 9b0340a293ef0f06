"""A script on the login node that asks Slurm for workers as it needs them (dask-jobqueue)."""

from dask_jobqueue import SLURMCluster
from distributed import Client

from jobspan import Parallel, delayed, parallel_config


def square(x):
    return x * x


def main():
    cluster = SLURMCluster(cores=8, processes=8, memory="32GB", walltime="01:00:00")
    cluster.adapt(minimum_jobs=0, maximum_jobs=10)
    with Client(cluster) as client, parallel_config("dask", client=client, connect_timeout=600):
        print(sum(Parallel()(delayed(square)(x) for x in range(10_000))))


if __name__ == "__main__":
    main()
