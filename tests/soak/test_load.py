"""A short soak of each backend; `make soak-load` runs an hour on each."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.soak.load import BACKENDS, OWN_PROCESSES

ROOT = Path(__file__).parents[2]

SEED = 164
"""One with which each fault happens within the first rounds, on every backend."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts what is open in /proc")


def problems(backend, seconds, seed):
    """Return what is wrong with a soak, "" where nothing is."""
    command = [sys.executable, "-m", "tests.soak.load", backend, str(seconds), "--seed", str(seed)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=seconds + 210, check=False
    )
    verdict = done.stdout.splitlines()[-1:]
    if done.returncode:
        return f"{backend}: {done.returncode} {verdict} {done.stderr[-3000:]}"
    faults = json.loads(verdict[0])["faults"]
    # The faults of the store are counted where calls run in this process.
    wanted = {"Ctrl-C", "SIGKILL" if backend in OWN_PROCESSES else "store"}
    missing = {fault for fault in wanted if not faults.get(fault)}
    return f"{backend}: {missing} never happened" if missing else ""


@pytest.mark.timeout(240)
def test_a_quarter_of_a_minute_on_all_backends_at_once():
    backends = [name for name in BACKENDS if name != "ray" or importlib.util.find_spec("ray")]
    with ThreadPoolExecutor(len(backends)) as threads:
        found = list(threads.map(lambda name: problems(name, 15, seed=SEED), backends))
    assert not any(found), "\n".join(filter(None, found))


@pytest.mark.soak
@pytest.mark.timeout(290)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_minute(backend):
    assert not problems(backend, 60, seed=SEED)
