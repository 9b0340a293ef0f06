"""Further libraries that use joblib or scikit-learn's interface run there too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV

import jobspan
from jobspan.integrations.driving import Drive

X, Y = make_classification(150, 8, random_state=0)


@pytest.mark.parametrize(
    ("library", "name", "settings"),
    [("lightgbm", "LGBMClassifier", {"verbose": -1}), ("xgboost", "XGBClassifier", {})],
)
def test_a_search_over_boosted_trees(library: str, name: str, settings: dict[str, Any]) -> None:
    package: Any = pytest.importorskip(library)
    model = getattr(package, name)(n_estimators=5, n_jobs=1, random_state=0, **settings)
    search = GridSearchCV(model, {"max_depth": [2, 4]}, cv=2, n_jobs=2)
    alone = search.set_params(n_jobs=1).fit(X, Y).cv_results_["mean_test_score"]
    with jobspan.parallel_config("processes"):
        found = search.set_params(n_jobs=2).fit(X, Y).cv_results_["mean_test_score"]
    assert np.array_equal(found, alone)


@pytest.mark.soak  # numba compiles for minutes
@pytest.mark.timeout(600)
def test_umap() -> None:
    umap: Any = pytest.importorskip("umap")
    with jobspan.parallel_config("threads", n_jobs=2):
        model = umap.UMAP(n_neighbors=5, n_epochs=20, n_jobs=2, force_approximation_algorithm=True)
        embedded = model.fit_transform(X)
    assert embedded.shape == (len(X), 2)
    assert np.isfinite(embedded).all()


@pytest.mark.soak  # numba compiles for minutes
@pytest.mark.timeout(600)
def test_the_neighbours_of_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees over bits are what its search for neighbours builds by joblib, in shared memory."""
    pynndescent: Any = pytest.importorskip("pynndescent")
    drives: list[Drive] = []
    close = Drive.close

    def closing(drive: Drive) -> None:
        drives.append(drive)
        close(drive)

    monkeypatch.setattr(Drive, "close", closing)
    bits = np.random.default_rng(0).integers(0, 256, size=(400, 8)).astype("u1")
    found = []
    for where in ("threads", "processes"):
        drives.clear()
        with jobspan.parallel_config(where, n_jobs=2):
            search = pynndescent.NNDescent(
                bits, metric="bit_hamming", n_neighbors=5, n_jobs=2, random_state=0
            )
        found.append(search.neighbor_graph[0])
        # Processes share no memory: joblib takes threads of its own there.
        assert bool(drives) == (where == "threads")
    assert np.array_equal(*found)
