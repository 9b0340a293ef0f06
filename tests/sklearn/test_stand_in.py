"""scikit-learn's own tests pass with jobspan in joblib's place: a part, or all by `make soak`."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.sklearn import compare
from tests.standin import running

QUICK = "parallel or backend or pre_dispatch or n_jobs or 2d_array or pickle"
"""What the default suite runs of some modules: what calls joblib most directly."""


def test_scikit_learns_tests_pass() -> None:
    """None fails but those that say what jobspan does otherwise."""
    modules = [
        "utils/tests/test_parallel.py",
        "model_selection/tests/test_search.py",
        "ensemble/tests/test_forest.py",
    ]
    found = compare.run(modules, stand_in=True, words=QUICK, limit=110)
    assert len(found.passed) > 20
    assert not running.worse(running.Run(), found)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("module", compare.MODULES)
def test_all_of_scikit_learns_tests(module: str) -> None:
    """No test fails that passes with joblib."""
    theirs = compare.run([module], stand_in=False)
    ours = compare.run([module], stand_in=True)
    assert not running.worse(theirs, ours)


def test_the_stand_in_is_jobspan() -> None:
    code = (
        "import joblib, jobspan, joblib.parallel, joblib.numpy_pickle, joblib.memory,"
        "joblib.logger, joblib.hashing, joblib.externals.loky, joblib.externals.cloudpickle;"
        "assert joblib.Parallel is jobspan.Parallel;"
        "from sklearn.utils.parallel import Parallel; assert issubclass(Parallel, jobspan.Parallel)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(running.HERE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
