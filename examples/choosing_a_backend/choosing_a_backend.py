"""Choosing a backend: by argument, by context, by environment, without touching the function."""

import os

from jobspan import Parallel, delayed, parallel_config


def word_lengths(line):
    return [len(word) for word in line.split()]


LINES = ["the quick brown fox", "jumps over", "the lazy dog"] * 4


def longest():
    """A library function that says nothing about where its calls run."""
    return max(max(lengths) for lengths in Parallel()(delayed(word_lengths)(x) for x in LINES))


# 1. As an argument, for one call.
print(Parallel(n_jobs=2, backend="threads")(delayed(word_lengths)(line) for line in LINES[:3]))

# 2. As a context, for all calls inside it, those of libraries too. An address works as well:
#    parallel_config("dask://scheduler:8786") or parallel_config("ray://head:10001").
with parallel_config(backend=os.environ.get("JOBSPAN_BACKEND", "processes"), n_jobs=2):
    print("longest word:", longest())

# 3. As JOBSPAN_BACKEND and JOBSPAN_N_JOBS in the environment, for a script that says nothing.
print("longest word:", longest())
