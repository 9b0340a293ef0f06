"""scikit-learn on a cluster: a grid search over forests, on whatever backend is named."""

import os
import sys

from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

import jobspan


def search(X, y):
    forest = RandomForestClassifier(n_estimators=10, random_state=0, n_jobs=-1)
    grid = {"max_depth": [2, 4, 8], "max_features": [2, 4]}
    return GridSearchCV(forest, grid, cv=3, n_jobs=-1).fit(X, y)


if __name__ == "__main__":
    default = os.environ.get("JOBSPAN_BACKEND", "processes")
    backend = sys.argv[1] if len(sys.argv) > 1 else default
    X, y = make_classification(1_000, 10, n_informative=6, random_state=0)
    with jobspan.parallel_config(backend):
        found = search(X, y)
    print("best:", found.best_params_)
    print(f"accuracy {found.best_score_:.3f} after {len(found.cv_results_['params']) * 3} fits")
