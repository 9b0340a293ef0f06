"""A short soak of the local backends; `make soak-load` runs an hour on each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def soak(backend, seconds, seed):
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.load", backend, str(seconds), "--seed", str(seed)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=seconds + 60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["rounds"] > 5
    assert figures["problems"] == []


@pytest.mark.timeout(110)
@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_ten_seconds(backend):
    soak(backend, 10, seed=11)


@pytest.mark.soak
@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", ["threads", "processes", "dask", "ray"])
def test_a_minute(backend):
    soak(backend, 60, seed=12)
