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


def test_lightgbm() -> None:
    lightgbm: Any = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1, random_state=0)
    search = GridSearchCV(model, {"num_leaves": [4, 8]}, cv=2, n_jobs=2)
    alone = search.set_params(n_jobs=1).fit(X, Y).cv_results_["mean_test_score"]
    with jobspan.parallel_config("processes"):
        found = search.set_params(n_jobs=2).fit(X, Y).cv_results_["mean_test_score"]
    assert np.array_equal(found, alone)


@pytest.mark.soak  # numba compiles for minutes
@pytest.mark.timeout(900)
def test_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    umap: Any = pytest.importorskip("umap")
    opened: list[str] = []
    close = Drive.close

    def closing(drive: Drive) -> None:
        opened.append(type(drive).__name__)
        close(drive)

    monkeypatch.setattr(Drive, "close", closing)
    for where in ("threads", "processes"):
        opened.clear()
        with jobspan.parallel_config(where, n_jobs=2):
            model = umap.UMAP(
                n_neighbors=5, n_epochs=20, n_jobs=2, force_approximation_algorithm=True
            )
            embedded = model.fit_transform(X)
            again = model.transform(X[:20])  # builds its trees by joblib, in shared memory
        assert embedded.shape == (len(X), 2)
        assert np.isfinite(embedded).all()
        assert np.isfinite(again).all()
        # Processes share no memory: there joblib takes threads of its own.
        assert bool(opened) == (where == "threads")
