"""Run scikit-learn's own tests with joblib, and with jobspan standing in for it, and compare.

``python -m tests.sklearn.compare [words]``: the modules of scikit-learn that call joblib, or those
whose path holds one of the words. Ends with 1 where jobspan fails a test that joblib passes.
"""

from __future__ import annotations

import sys
from functools import partial

from tests.standin import running
from tests.standin.running import Run

MODULES = [
    "utils/tests/test_parallel.py",
    "model_selection/tests/test_search.py",
    "model_selection/tests/test_successive_halving.py",
    "model_selection/tests/test_validation.py",
    "ensemble/tests/test_forest.py",
    "ensemble/tests/test_bagging.py",
    "ensemble/tests/test_voting.py",
    "ensemble/tests/test_stacking.py",
    "tests/test_multioutput.py",
    "tests/test_pipeline.py",
    "inspection/tests/test_permutation_importance.py",
    "feature_selection/tests/test_rfe.py",
    "decomposition/tests/test_dict_learning.py",
]


def run(modules: list[str], *, stand_in: bool, words: str = "", limit: float = 1800) -> Run:
    """Run scikit-learn's tests of some modules in an interpreter of their own."""
    root = running.installed("sklearn")
    return running.run(root, modules, stand_in=stand_in, words=words, limit=limit)


def _run_one(module: str, stand_in: bool) -> Run:
    return run([module], stand_in=stand_in)


def main() -> int:
    """Compare module by module, and the whole."""
    words = sys.argv[1:]
    modules = [m for m in MODULES if not words or any(word in m for word in words)]
    all_theirs, all_ours = Run(), Run()
    print(f"{'module':52} {'joblib':>16} {'jobspan':>16} {'ratio':>6}")
    for module in modules:
        theirs, ours = running.with_each(partial(_run_one, module))
        all_theirs.add(theirs)
        all_ours.add(ours)
        print(running.side_by_side(module, theirs, ours), flush=True)
        for name, text in running.worse(theirs, ours).items():
            print(f"FAILED {name}\n{text[-1500:]}", flush=True)
    print(running.side_by_side("all", all_theirs, all_ours))
    problems = running.worse(all_theirs, all_ours)
    print(f"{len(problems)} tests fail with jobspan that pass with joblib")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
