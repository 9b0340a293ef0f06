"""Monte Carlo: pi by throwing darts until the error is small enough, then stop the rest.

Every block of darts has a seed of its own, drawn from one: the result is the same on every backend
and with any number of workers.
"""

import math

import numpy as np

from jobspan import Parallel, delayed

BLOCK = 200_000


def hits(seed):
    darts = np.random.default_rng(seed).random((BLOCK, 2))
    return int((np.square(darts).sum(axis=1) < 1).sum())


def main(wanted=0.001):
    seeds = np.random.SeedSequence(42).spawn(1000)
    parallel = Parallel(n_jobs=2, return_as="generator", max_pending=8)
    results = parallel(delayed(hits)(seed) for seed in seeds)
    inside = blocks = 0
    for count in results:
        inside, blocks = inside + count, blocks + 1
        share = inside / (blocks * BLOCK)
        error = 4 * math.sqrt(share * (1 - share) / (blocks * BLOCK))
        if error < wanted:
            break
    results.close()  # the other calls are not needed
    print(f"pi = {4 * share:.5f} ± {error:.5f} after {blocks} of {len(seeds)} blocks")


if __name__ == "__main__":
    main()
