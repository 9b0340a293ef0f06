"""The examples give the same on every backend, chosen by the environment alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = [
    "quick_start/quick_start.py",
    "choosing_a_backend/choosing_a_backend.py",
    "caching/caching.py",
    "sklearn_pipeline/sklearn_pipeline.py",
    "feature_pipeline/feature_pipeline.py",
]
BACKENDS = ["threads", "processes", "dask", "ray"]


def output(script: str, backend: str) -> str:
    environment = {**os.environ, "JOBSPAN_BACKEND": backend, "JOBSPAN_N_JOBS": "2"}
    environment.pop("EXAMPLE_CACHE", None)
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    return {script: output(script, "sequential") for script in SCRIPTS}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_same_output(script: str, backend: str, expected: dict[str, str]) -> None:
    assert expected[script].strip()
    lines = output(script, backend).splitlines()
    # Ray's own lines on a worker's output are not the example's.
    assert [line for line in lines if "(pid=" not in line] == expected[script].splitlines()


def test_the_demo_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--files", "40"],
        cwd=EXAMPLES.parent,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Ray, what Dask stored" in done.stdout
    assert "top words" in done.stdout
