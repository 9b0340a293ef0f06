"""Code on clusters: the user's own goes along, packages installed in any folder are imported."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

import jobspan
from jobspan.errors import TransportError

CODE = """
import sys
import threading

LOCK = threading.Lock()  # as a library's handle, it cannot be pickled

def home():
    with LOCK:
        return sys.modules[__name__].__file__

class Model:
    def home(self):
        return home()
"""

OWN = """
import sys
from tool_of_a_team import code

def home():
    return __name__ in sys.modules, code.home()
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a folder with an installed package, a compiled one and a module of the user's own."""
    built = tmp_path_factory.mktemp("built")
    wheel = built / "tool_of_a_team-1.0-py3-none-any.whl"
    about = "tool_of_a_team-1.0.dist-info"
    files = {
        "tool_of_a_team/__init__.py": "",
        "tool_of_a_team/code.py": CODE,
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: tool-of-a-team\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        record = "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD"))
        archive.writestr(f"{about}/RECORD", record)
    target = tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, timeout=120)

    psutil: Any = pytest.importorskip("psutil")
    part = next(
        file
        for file in Path(psutil.__file__).parent.glob("_psutil_*")
        if file.name.endswith(tuple(EXTENSION_SUFFIXES))
    )
    compiled = target / "compiled_in_place"
    compiled.mkdir()
    shutil.copy(part, compiled)
    (compiled / "__init__.py").write_text(f"from . import {part.name.partition('.')[0]}\n")
    (compiled / "code.py").write_text(CODE)

    (target / "own_project.py").write_text(OWN)
    yield target
    for name in list(sys.modules):
        if name.partition(".")[0] in ("tool_of_a_team", "compiled_in_place", "own_project"):
            del sys.modules[name]


@pytest.fixture
def folder(where: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put it on this process's path, and not on that of a cluster that was started before."""
    monkeypatch.syspath_prepend(target)
    return target


@pytest.fixture
def known_to_workers(where: str, options: dict[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """Return the options of a backend whose workers have the folder on their path."""
    if where == "ray":
        yield {"runtime_env": {"env_vars": {"PYTHONPATH": str(folder)}}}
        return
    if where == "dask":
        options["client"].run(lambda: sys.path.insert(0, str(folder)))
    yield options
    if where == "dask":
        options["client"].run(lambda: sys.path.remove(str(folder)))


PACKAGES = ["tool_of_a_team", "compiled_in_place"]


def homes(calls: list[Any], **options: Any) -> list[Any]:
    with jobspan.parallel_config(**options):
        return list(jobspan.Parallel(n_jobs=2)(jobspan.delayed(call)() for call in calls))


def test_what_workers_lack_is_named(where: str, options: Any, folder: Path) -> None:
    if where not in ("dask", "ray"):
        pytest.skip("workers find what the caller finds")
    for package in PACKAGES:
        code = importlib.import_module(f"{package}.code")
        told = f"install {package} where the workers run"
        for call in (code.home, code.Model().home):
            with pytest.raises(TransportError, match=told):
                homes([call] * 2, backend=where, **options)


def test_the_users_own_goes_along_and_packages_are_imported(
    where: str, known_to_workers: Any, folder: Path
) -> None:
    """In one folder, of which the user's own module uses a package."""
    own = importlib.import_module("own_project")
    codes = [importlib.import_module(f"{package}.code") for package in PACKAGES]
    calls = [own.home, *(call for code in codes for call in (code.home, code.Model().home))]
    imported = where in ("threads", "processes")
    assert homes(calls, backend=where, **known_to_workers) == [
        (imported, codes[0].__file__),
        *[code.__file__ for code in codes for _ in range(2)],
    ]
