"""Starts and stops workers so many times; prints what is open before and after."""

import gc
import json
import sys
import threading
from pathlib import Path

import numpy as np

from jobspan import Parallel, delayed
from jobspan.backends.processes.idle import close_idle_workers


def what_is_open():
    gc.collect()
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "segments": sorted(f.name for f in Path("/dev/shm").iterdir() if "jobspan" in f.name),
        "mappings": len(Path("/proc/self/maps").read_text().splitlines()),
    }


def start_and_stop(cycles):
    array = np.ones(1000)
    for cycle in range(cycles):
        results = Parallel(n_jobs=2, max_nbytes=1000)(delayed(np.sum)(array) for _ in range(2))
        assert results == [1000.0, 1000.0]
        if cycle % 10 == 0:
            close_idle_workers()
    close_idle_workers()


start_and_stop(11)
print(json.dumps(what_is_open()))
start_and_stop(int(sys.argv[1]))
print(json.dumps(what_is_open()))
