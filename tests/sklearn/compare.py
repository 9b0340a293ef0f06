"""Run scikit-learn's own tests with joblib, and with jobspan standing in for it, and compare.

Both run at the same time, so that whatever else the machine does slows both.

``python tests/sklearn/compare.py [words]``: the modules of scikit-learn that call joblib, or those
whose path holds one of the words. Ends with 1 where jobspan fails a test that joblib passes.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
STAND_IN = HERE / "standin"
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
DIFFERENT = {
    "test_filter_warning_propagates_no_side_effect_with_loky_backend": (
        "expects that the caller's warning filters do not hold in workers; with jobspan they do"
    ),
}
"""Tests that state what jobspan does otherwise on purpose."""


@dataclass
class Run:
    """What one run of the tests gave."""

    passed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    elapsed: float = 0.0

    def add(self, other: Run) -> None:
        """Take another run in."""
        self.passed |= other.passed
        self.failed |= other.failed
        self.seconds += other.seconds
        self.elapsed += other.elapsed


def scikit_learn() -> Path:
    """Return where scikit-learn is installed."""
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def run(modules: list[str], *, stand_in: bool, words: str = "", limit: float = 1800) -> Run:
    """Run scikit-learn's tests of some modules in an interpreter of their own."""
    root = scikit_learn()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JOBSPAN_")}
    if stand_in:
        environment["PYTHONPATH"] = str(STAND_IN)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}"]
        # The folder of site-packages must not come before the stand-in.
        command += ["--import-mode=append", "-p", "no:cacheprovider", "-p", "no:randomly"]
        command += ["-c", os.devnull, f"--rootdir={root}", "-k", words]
        command += [str(root / module) for module in modules]
        begin = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        elapsed = time.perf_counter() - begin
        if not report.exists():
            raise RuntimeError(done.stdout + done.stderr)
        found = Run(elapsed=elapsed)
        for case in ET.parse(report).iter("testcase"):
            name = f"{case.get('classname')}::{case.get('name')}"
            found.seconds += float(case.get("time") or 0)
            problem = case.find("failure")
            if problem is None:
                problem = case.find("error")
            if problem is not None:
                found.failed[name] = problem.text or ""
            elif case.find("skipped") is None:
                found.passed.add(name)
    return found


def worse(theirs: Run, ours: Run) -> dict[str, str]:
    """Return the tests that fail with jobspan and not with joblib, but for those meant to."""
    return {
        name: text
        for name, text in ours.failed.items()
        if name not in theirs.failed
        and re.sub(r"\[.*", "", name.rpartition("::")[2]) not in DIFFERENT
    }


def main() -> int:
    """Compare module by module, and the whole."""
    words = sys.argv[1:]
    modules = [m for m in MODULES if not words or any(word in m for word in words)]
    all_theirs, all_ours = Run(), Run()
    print(f"{'module':52} {'joblib':>16} {'jobspan':>16} {'ratio':>6}")
    for module in modules:
        with ThreadPoolExecutor(2) as both:
            running = [both.submit(run, [module], stand_in=stand_in) for stand_in in (False, True)]
            theirs, ours = [one.result() for one in running]
        all_theirs.add(theirs)
        all_ours.add(ours)
        print(
            f"{module:52} {len(theirs.passed):5} {theirs.elapsed:8.1f} s "
            f"{len(ours.passed):5} {ours.elapsed:8.1f} s {ours.elapsed / theirs.elapsed:6.2f}",
            flush=True,
        )
        for name, text in worse(theirs, ours).items():
            print(f"FAILED {name}\n{text[-1500:]}", flush=True)
    print(
        f"{'all':52} {len(all_theirs.passed):5} {all_theirs.elapsed:8.1f} s "
        f"{len(all_ours.passed):5} {all_ours.elapsed:8.1f} s "
        f"{all_ours.elapsed / all_theirs.elapsed:6.2f}"
    )
    problems = worse(all_theirs, all_ours)
    print(f"{len(problems)} tests fail with jobspan that pass with joblib")
    for name, reason in DIFFERENT.items():
        print(f"not counted: {name}: {reason}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
