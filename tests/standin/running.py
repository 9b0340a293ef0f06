"""Runs the tests that another package brings along, with joblib or with jobspan in its place."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent


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


def installed(package: str) -> Path:
    """Return where a package is installed."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def run(
    root: Path,
    modules: Sequence[str],
    *,
    stand_in: bool,
    words: str = "",
    limit: float = 1800,
    options: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Run:
    """Run some of a package's test modules in an interpreter of their own.

    Parameters
    ----------
    root : Path
        Where the package is installed.
    modules : sequence of str
        Paths below `root`.
    stand_in : bool
        Whether jobspan is in joblib's place.
    words : str
        Which tests, as for ``pytest -k``.
    limit : float
        Seconds that the run may take.
    options : sequence of str
        Further arguments for pytest.
    variables : mapping, optional
        Further environment variables.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JOBSPAN_")}
    environment |= variables or {}
    paths = [str(HERE)] if stand_in else []
    environment["PYTHONPATH"] = os.pathsep.join([*paths, str(HERE / "plugins")])
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}"]
        # The folder of site-packages must not come before the stand-in.
        command += ["--import-mode=append", "-p", "no:cacheprovider", "-p", "no:randomly"]
        command += ["-c", os.devnull, f"--rootdir={root}", "-k", words, *options]
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


def with_each(run_with: Callable[[bool], Run]) -> tuple[Run, Run]:
    """Run with joblib and with jobspan in its place, at the same time: what else the machine does
    slows both."""
    with ThreadPoolExecutor(2) as both:
        theirs, ours = both.map(run_with, (False, True))
    return theirs, ours


def worse(theirs: Run, ours: Run) -> dict[str, str]:
    """Return the tests that fail with jobspan and not with joblib, and what they tell."""
    return {name: text for name, text in ours.failed.items() if name not in theirs.failed}


def side_by_side(module: str, theirs: Run, ours: Run) -> str:
    """Return a line that compares two runs."""
    return (
        f"{module:52} {len(theirs.passed):5} {theirs.elapsed:8.1f} s "
        f"{len(ours.passed):5} {ours.elapsed:8.1f} s {ours.elapsed / theirs.elapsed:6.2f}"
    )
