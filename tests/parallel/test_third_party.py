"""A backend that another package brings: found by its entry point, proved by the suite."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobspan import Memory, Parallel, delayed
from jobspan.backends.choosing import BACKENDS
from jobspan.errors import UnknownBackendError
from jobspan.plans import Capabilities
from jobspan.testing.backends import BackendConformance

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_backend"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the example's package where only this module's tests see it."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--target", str(target), str(EXAMPLE)]
    subprocess.run(command, check=True, timeout=100)
    sys.path.insert(0, str(target))
    importlib.invalidate_caches()
    yield target
    sys.path.remove(str(target))
    BACKENDS.unregister("futures")
    sys.modules.pop("jobspan_futures", None)


def test_unknown_until_it_is_installed() -> None:
    with pytest.raises(UnknownBackendError, match="futures"):
        Parallel(n_jobs=2, backend="futures")


@pytest.mark.usefixtures("installed")
class TestFutures(BackendConformance):
    backend = "futures"
    can_share_memory = True


def test_the_example_runs(installed: Path) -> None:
    script = EXAMPLE / "third_party_backend.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert len(done.stdout.split()) == 4


def test_address(installed: Path) -> None:
    """A backend's name is a scheme too; what follows reaches its factory."""
    with pytest.raises(TypeError, match="does not take these options"):
        Parallel(n_jobs=2, backend="futures://somewhere")


@pytest.mark.parametrize("members", [{}, {"on_this_machine": False}, {"on_this_machine": True}])
def test_workers_that_are_known_to_be_here(
    installed: Path, tmp_path: Path, members: dict[str, bool]
) -> None:
    """A remote backend may tell that it is not, just now; one that does not may be elsewhere."""
    pattern: Any = importlib.import_module("jobspan_futures").FuturesBackend
    backend = type("Remote", (pattern,), {"capabilities": Capabilities(remote=True), **members})
    cached = Memory(tmp_path, verbose=0).cache(pow)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results: Any = Parallel(n_jobs=2, backend=backend())(delayed(cached)(2, i) for i in (1, 2))
    assert results == [2, 4]
    told = ["not shared" in str(each.message) for each in caught]
    assert any(told) is not members.get("on_this_machine", False)


def test_listed_by_name(installed: Path) -> None:
    results: Any = Parallel(n_jobs=2, backend="futures")(delayed(abs)(i) for i in (-1, 2))
    assert results == [1, 2]
    assert "futures" in BACKENDS
