"""Hyper-parameter search: every fold of every candidate is one cached call.

A grid that grows computes what is new; the data travels to each worker once.
"""

import tempfile
from itertools import product

import numpy as np
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from jobspan import Memory, Parallel, delayed


def score(X, y, fold, C, l1_ratio):
    train, test = list(KFold(4, shuffle=True, random_state=0).split(X))[fold]
    model = LogisticRegression(C=C, l1_ratio=l1_ratio, solver="saga", tol=0.01, random_state=0)
    return float(model.fit(X[train], y[train]).score(X[test], y[test]))


def search(cached, X, y, grid):
    calls = [(C, ratio, fold) for C, ratio in grid for fold in range(4)]
    parallel = Parallel(n_jobs=2)
    scores = parallel(delayed(cached)(X, y, fold, C, ratio) for C, ratio, fold in calls)
    means = np.reshape(scores, (-1, 4)).mean(axis=1)
    best = int(means.argmax())
    print(f"{len(calls)} fits, {parallel.stats.recalled} of them known: best {grid[best]}", end=" ")
    print(f"with {means[best]:.4f}")


def main(location):
    data, labels = make_classification(600, 20, n_informative=5, random_state=0)
    cached = Memory(location, verbose=0).cache(score)
    search(cached, data, labels, list(product([0.01, 0.1, 1.0], [0.0, 0.5])))
    search(cached, data, labels, list(product([0.01, 0.03, 0.1, 1.0], [0.0, 0.5])))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="jobspan-example-") as folder:
        main(folder)
