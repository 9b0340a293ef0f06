"""Quick start: the loop of joblib's first example, on whatever backend the environment names."""

from math import sqrt

from jobspan import Parallel, delayed

# A list of all results, in the order of the calls.
roots = Parallel(n_jobs=2)(delayed(sqrt)(i**2) for i in range(10))
print(roots)

# A generator, which yields while calls go on.
total = 0.0
for root in Parallel(n_jobs=2, return_as="generator")(delayed(sqrt)(i) for i in range(100)):
    total += root
print(f"sum of roots: {total:.6f}")


def reciprocal(x):
    return 1 / x


# What fails leaves a TaskFailure in its place, and the rest goes on.
results = Parallel(n_jobs=2, on_error="return")(delayed(reciprocal)(x) for x in [1, 2, 0, 4])
print([getattr(result, "exception", result) for result in results])
