"""The committed keys are what this interpreter, and every other on the machine, computes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import key_samples
import pytest

SCRIPT = Path(__file__).parents[1] / "recompute_golden_keys.py"
spec = importlib.util.spec_from_file_location("recompute_golden_keys", SCRIPT)
assert spec is not None
assert spec.loader is not None
recompute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recompute)

GOLDEN = json.loads(recompute.GOLDEN.read_text())
ADVICE = "keys changed: stored results would be lost; raise SCHEMA and run make golden ARGS=--write"


def test_keys_are_those_committed():
    found = key_samples.keys()
    differing = sorted(name for name in found if GOLDEN.get(name) != found[name])
    assert not differing, ADVICE


def test_every_committed_key_has_its_sample():
    names = set(key_samples.keys())
    installed = {name for name in key_samples.PACKAGES if importlib.util.find_spec(name)}
    missing = {name for name in set(GOLDEN) - names if name.partition(":")[0] in installed}
    assert not missing


@pytest.mark.parametrize("version", sorted(recompute.PACKAGES))
def test_keys_are_the_same_under_other_interpreters(version, tmp_path_factory):
    python = recompute.interpreters().get(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    if sys.version.startswith(version + "."):
        pytest.skip("that is this interpreter")
    try:
        python = recompute.make_environment(
            python, recompute.NEEDED, tmp_path_factory.mktemp("bare") / version
        )
    except recompute.subprocess.CalledProcessError:
        pytest.skip(f"no environment could be made for Python {version}")
    found = recompute.keys_under(python, "bare")
    assert len(found) > 80
    assert sorted(name for name in found if GOLDEN[name] != found[name]) == []


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_keys_are_the_same_with_old_and_new_packages(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["recompute", "--folder", str(tmp_path)])
    assert recompute.main() == 0


def test_no_two_values_share_a_committed_key():
    keys = [key for name, key in GOLDEN.items() if not name.startswith("code: ")]
    assert len(set(keys)) == len(keys)
