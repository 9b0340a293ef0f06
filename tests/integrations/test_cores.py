"""Nested calls, OpenMP and BLAS in them: together they may use no more threads than cores."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import BaggingClassifier, HistGradientBoostingClassifier
from sklearn.model_selection import GridSearchCV
from tests.integrations.test_scikit_learn import Looks

import jobspan
from jobspan.cores import cpu_count

X, Y = make_classification(120, 6, random_state=0)


class Asks(Looks):
    """Notes how many threads all fits that run just now may start: by OpenMP, and by BLAS."""

    def __init__(self, folder: str = "") -> None:
        self.folder = folder

    def fit(self, X: Any, y: Any) -> Asks:  # noqa: N803 - scikit-learn's name
        from threadpoolctl import threadpool_info

        HistGradientBoostingClassifier(max_iter=1).fit(X, y)
        libraries = threadpool_info()
        most = {
            kind: max(each["num_threads"] for each in libraries if each["user_api"] == kind)
            for kind in ("openmp", "blas")
        }
        name = f"{os.getpid()}.{most['openmp']}.{most['blas']}.{uuid.uuid4().hex}"
        mark = Path(self.folder, name)
        mark.touch()
        time.sleep(0.03)
        marks = [other.name.split(".") for other in Path(self.folder).iterdir()]
        # OpenMP has threads for each thread that asks; BLAS has one pool a process.
        pools = {process: int(blas) for process, _, blas, _ in marks}
        self.most_ = max(sum(int(openmp) for _, openmp, _, _ in marks), sum(pools.values()))
        mark.unlink()
        super().fit(X, y)
        return self


def most(search: BaggingClassifier, X: Any, y: Any) -> int:  # noqa: N803
    return max(model.most_ for model in search.estimators_)


def most_at_once(folder: Path) -> int:
    """Return how many threads a search over ensembles may start at the same time."""
    ensemble = BaggingClassifier(Asks(str(folder)), n_estimators=4, n_jobs=-1)
    grid = {"max_samples": [0.5, 1.0]}
    search = GridSearchCV(ensemble, grid, cv=2, scoring=most, refit=False, n_jobs=-1).fit(X, Y)
    return int(max(search.cv_results_[f"split{fold}_test_score"].max() for fold in range(2)))


def openmp_threads() -> int:
    import sklearn.ensemble  # noqa: F401 - brings OpenMP
    from threadpoolctl import threadpool_info

    return max(each["num_threads"] for each in threadpool_info() if each["user_api"] == "openmp")


@pytest.fixture(params=[(2, 1), (1, 2), (1, 1)], ids=["2 workers", "2 threads", "1 thread"])
def in_this_process(request: pytest.FixtureRequest, monkeypatch: Any) -> Iterator[Any]:
    """Connect to a Dask cluster whose workers are threads of this process."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    workers, threads = request.param
    with distributed.Client(
        n_workers=workers, threads_per_worker=threads, processes=False, dashboard_address=None
    ) as client:
        yield client


def test_all_levels_together(block: Any, tmp_path: Path) -> None:
    with block():
        assert 1 <= most_at_once(tmp_path) <= max(2, cpu_count())


def test_a_dask_cluster_in_this_process(
    in_this_process: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    here = openmp_threads()
    threads = sum(in_this_process.nthreads().values())
    with jobspan.parallel_config("dask", client=in_this_process):
        assert 1 <= most_at_once(tmp_path) <= max(2, cpu_count())
        found = jobspan.Parallel()([jobspan.delayed(openmp_threads)()] * 4)
        assert set(found) == {max(1, cpu_count() // threads)}
        monkeypatch.setenv("JOBSPAN_MAX_CPU_COUNT", "1")  # from the next call on
        assert set(jobspan.Parallel()([jobspan.delayed(openmp_threads)()] * 4)) == {1}
    # Other tasks of those threads have what they had.
    assert in_this_process.submit(openmp_threads).result() == here


def test_what_the_user_says_holds(block: Any) -> None:
    here = openmp_threads()
    with block(inner_max_num_threads=1):
        assert jobspan.Parallel(n_jobs=2)([jobspan.delayed(openmp_threads)()] * 4) == [1] * 4
    assert openmp_threads() == here
