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
STUDIES = {
    "sklearn_cluster/sklearn_cluster.py": "after 18 fits",
    "image_thumbnails/image_thumbnails.py": "8 thumbnails of 9 pictures",
    "monte_carlo/monte_carlo.py": "pi = 3.14",
    "hyperparameter_search/hyperparameter_search.py": "32 fits, 24 of them known",
    "parquet_etl/parquet_etl.py": "6 files, 6 known from the cache",
    "resuming/resuming.py": "at least 15 known from before: True",
    "team_bucket/team_bucket.py": "Ben found 6 and computed 2",
}
"""Larger examples, and a line of what they print."""


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


@pytest.mark.parametrize("script", STUDIES)
def test_studies(script: str) -> None:
    printed = output(script, "threads")
    assert STUDIES[script] in printed
    assert output(script, "processes") == printed


@pytest.mark.parametrize(
    ("script", "backend"),
    [
        ("parquet_etl/parquet_etl.py", "dask"),
        ("team_bucket/team_bucket.py", "ray"),
        ("sklearn_cluster/sklearn_cluster.py", "dask"),
        ("sklearn_cluster/sklearn_cluster.py", "ray"),
    ],
)
def test_studies_on_a_cluster(script: str, backend: str) -> None:
    assert STUDIES[script] in output(script, backend)


def test_every_example_is_short_and_told_of() -> None:
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    for script in STUDIES:
        folder = (EXAMPLES / script).parent
        assert f"`{folder.name}`" in page
        assert f"python {script.rpartition('/')[2]}" in (folder / "README.md").read_text()
        assert len((EXAMPLES / script).read_text(encoding="utf-8").splitlines()) < 80


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for script in ("caching/caching.py", "feature_pipeline/feature_pipeline.py"):
        output(script, "threads")
    assert not list(tmp_path.glob("jobspan-example-*"))


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
