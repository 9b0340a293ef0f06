"""Resuming an interrupted run: what was computed before the interruption is not computed again."""

import sys
import tempfile

from jobspan import Memory, Parallel, delayed


def simulate(number):
    state = number
    for _ in range(20_000):
        state = (state * 1_103_515_245 + 12_345) % (1 << 31)
    return state


def run(location, stop_after=None):
    """Run 40 simulations; as if the power failed, perhaps, after some of them."""
    cached = Memory(location, verbose=0).cache(simulate)
    parallel = Parallel(n_jobs=2, return_as="generator", batch_size=1)
    results = []
    for result in parallel(delayed(cached)(number) for number in range(40)):
        results.append(result)
        if len(results) == stop_after:
            raise KeyboardInterrupt
    return results, parallel.stats.recalled


def main(location):
    try:
        run(location, stop_after=15)
    except KeyboardInterrupt:
        print("interrupted after 15 results")
    results, recalled = run(location)
    print(f"{len(results)} results, at least 15 known from before: {recalled >= 15}")
    results, recalled = run(location)
    print(f"all known the third time: {recalled == len(results)}, sum {sum(results)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:  # a folder or URL that stays
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory(prefix="jobspan-example-") as folder:
            main(folder)
