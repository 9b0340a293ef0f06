"""What an import costs, and that every name of joblib is there."""

from __future__ import annotations

import inspect
import subprocess
import sys

import joblib
import pytest

import jobspan

HEAVY = ("numpy", "pandas", "fsspec", "dask", "distributed", "ray", "joblib", "s3fs", "pyarrow")


@pytest.mark.parametrize(
    "statement",
    ["import jobspan", "from jobspan import Parallel, delayed, parallel_config, cpu_count"],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    code = f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", joblib.__all__)
def test_every_public_name_of_joblib_is_there(name: str) -> None:
    assert name in jobspan.__all__
    assert getattr(jobspan, name) is not None


SAME = [
    name
    for name in joblib.__all__
    if name not in {"MemorizedResult", "StoreBackendBase", "delayed"}
]


@pytest.mark.parametrize("name", SAME)
def test_signatures_are_joblibs(name: str) -> None:
    theirs = inspect.signature(getattr(joblib, name)).parameters
    ours = inspect.signature(getattr(jobspan, name)).parameters
    for parameter in theirs.values():
        assert parameter.name in ours, f"{name}({parameter.name}) is missing"
        mine = ours[parameter.name]
        assert mine.kind == parameter.kind, f"{name}({parameter.name})"
        if parameter.default is not inspect.Parameter.empty:
            assert repr(mine.default) == repr(parameter.default), f"{name}({parameter.name})"
    for parameter in ours.values():
        if parameter.name not in theirs:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, f"{name}({parameter.name})"


@pytest.mark.parametrize("name", ["cache", "eval", "clear", "reduce_size"])
def test_signatures_of_memory_are_joblibs(name: str) -> None:
    theirs = inspect.signature(getattr(joblib.Memory, name)).parameters
    ours = inspect.signature(getattr(jobspan.Memory, name)).parameters
    assert [n for n in ours if ours[n].kind is not inspect.Parameter.KEYWORD_ONLY] == list(theirs)
