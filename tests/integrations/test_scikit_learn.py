"""scikit-learn on every backend: the same results, data sent once, no core asked for twice."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.datasets import make_classification
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline

import jobspan
from jobspan.cores import cpu_count
from jobspan.integrations.driving import Drive
from jobspan.transport.content import ContentStore
from jobspan.transport.shared_memory import SegmentSender

X, Y = make_classification(200, 8, random_state=0)


class Looks(ClassifierMixin, BaseEstimator):
    """Learns nothing, and takes no time for it."""

    def __init__(self, setting: int = 0) -> None:
        self.setting = setting

    def fit(self, X: Any, y: Any) -> Looks:  # noqa: N803 - scikit-learn's name
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803 - scikit-learn's name
        return np.zeros(len(X))


class Counts(Looks):
    """Notes how many of its kind are fitted at the same time."""

    def __init__(self, folder: str = "") -> None:
        self.folder = folder

    def fit(self, X: Any, y: Any) -> Counts:  # noqa: N803 - scikit-learn's name
        mark = Path(self.folder, uuid.uuid4().hex)
        mark.touch()
        time.sleep(0.03)
        self.most_ = len(list(Path(self.folder).iterdir()))
        mark.unlink()
        super().fit(X, y)
        return self


class Centre(TransformerMixin, BaseEstimator):
    """Leaves a file for each time that it is fitted."""

    def __init__(self, folder: str = "") -> None:
        self.folder = folder

    def fit(self, X: Any, y: Any = None) -> Centre:  # noqa: N803 - scikit-learn's name
        Path(self.folder, uuid.uuid4().hex).touch()
        self.mean_ = X.mean(axis=0)
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803 - scikit-learn's name
        return X - self.mean_


def forest(**settings: Any) -> RandomForestClassifier:
    return RandomForestClassifier(8, random_state=0, **settings)


def test_same_results(block: Any) -> None:
    search = GridSearchCV(forest(n_jobs=2), {"max_depth": [2, 4]}, cv=3, n_jobs=2)
    stack = StackingClassifier(
        [("forest", forest()), ("line", LogisticRegression())], cv=2, n_jobs=2
    )
    alone = clone(search).set_params(n_jobs=1, estimator__n_jobs=1).fit(X, Y)
    scores = cross_val_score(stack.set_params(n_jobs=1), X, Y, cv=2)
    importance = permutation_importance(alone, X, Y, n_repeats=2, random_state=0)
    halving = HalvingGridSearchCV(forest(), {"max_depth": [2, 4]}, cv=2, random_state=0)
    halved = clone(halving).fit(X, Y)
    with block():
        found = search.fit(X, Y)
        assert np.allclose(found.predict_proba(X), alone.predict_proba(X))
        assert found.best_params_ == alone.best_params_
        assert np.array_equal(
            cross_val_score(stack.set_params(n_jobs=2), X, Y, cv=2, n_jobs=2), scores
        )
        again = permutation_importance(alone, X, Y, n_repeats=2, random_state=0, n_jobs=2)
        assert np.array_equal(again.importances, importance.importances)
        assert halving.set_params(n_jobs=2).fit(X, Y).best_params_ == halved.best_params_


def test_data_travels_once_a_worker(where: str, block: Any, monkeypatch: Any) -> None:
    """20 fits get X and y and the indexes of 2 folds: they are not sent with each."""
    if where == "threads":
        pytest.skip("nothing travels")
    sent: list[int] = []
    shared: list[int] = []
    close = Drive.close

    def closing(drive: Drive) -> None:
        sent.append(drive.bytes_sent)
        close(drive)

    monkeypatch.setattr(Drive, "close", closing)
    if where == "processes":
        owner: Any = SegmentSender
        name = "share"
    else:
        owner = ContentStore
        name = "handle"
    original = getattr(owner, name)
    known: dict[int, Any] = {}

    def counted(self: Any, buffer: memoryview) -> Any:
        result = original(self, buffer)
        key = getattr(result, "number", id(result))
        if key not in known:
            known[key] = result
            shared.append(buffer.nbytes)
        return result

    monkeypatch.setattr(owner, name, counted)
    large = np.random.default_rng(0).normal(size=(20_000, 10))  # 1.6 MB
    y = (large[:, 0] > 0).astype(np.int64)  # 160 kB
    with block():
        search = GridSearchCV(Looks(), {"setting": list(range(10))}, cv=2, n_jobs=2, refit=False)
        search.fit(large, y)
    indexes = 2 * 20_000 * 8
    assert sum(sent) < 3 * (y.nbytes + indexes)  # 20 times so much without
    assert sum(shared) < large.nbytes + 12 * (1 << 20)
    assert sum(n for n in shared if n >= large.nbytes) <= 2 * large.nbytes


def write(array: Any, number: int) -> float:
    array[0] = number
    return float(array.sum())


def test_what_is_sent_once_is_still_each_calls_own(where: str, block: Any) -> None:
    if where == "threads":
        pytest.skip("calls share the caller's memory")
    array = np.zeros(5_000)
    with block():
        results = joblib.Parallel(n_jobs=2)(joblib.delayed(write)(array, i) for i in range(8))
    assert results == list(range(8))


def test_pipeline_with_our_memory_in_a_bucket(
    where: str, block: Any, tmp_path: Path, moto_server: Any, fresh_prefix: Any
) -> None:
    """The workers share it: each fold is transformed once, and never again."""
    url = f"{moto_server.bucket_url('pipelines')}/{where}-{fresh_prefix()}"
    memory = jobspan.Memory(url, storage_options=moto_server.storage_options, verbose=0)
    steps = [("centre", Centre(str(tmp_path))), ("line", LogisticRegression())]
    pipeline = Pipeline(steps, memory=memory)
    assert clone(pipeline).get_params()["memory"].location == memory.location
    for _ in range(2):
        with block():
            search = GridSearchCV(pipeline, {"line__C": [0.1, 1.0]}, cv=2, n_jobs=2)
            assert search.fit(X, Y).score(X, Y) > 0.8
        assert len(list(tmp_path.iterdir())) == 3  # two folds, and all of it


def most_at_once(search: BaggingClassifier, X: Any, y: Any) -> int:  # noqa: N803
    return max(model.most_ for model in search.estimators_)


def test_a_search_over_ensembles_never_oversubscribes(block: Any, tmp_path: Path) -> None:
    """Both levels ask for all there is; fits that run at the same time are counted."""
    ensemble = BaggingClassifier(Counts(str(tmp_path)), n_estimators=4, n_jobs=-1)
    grid = {"max_samples": [0.5, 1.0]}
    with block():
        search = GridSearchCV(ensemble, grid, cv=2, scoring=most_at_once, refit=False, n_jobs=-1)
        search.fit(X, Y)
    most = [search.cv_results_[f"split{fold}_test_score"].max() for fold in range(2)]
    assert 1 <= max(most) <= max(2, cpu_count())
