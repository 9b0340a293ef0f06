"""Cached functions that travel: decorated ones, methods, to workers and back."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from jobspan import Memory
from jobspan.memory import MemorizedFunc

PROJECT = """
from jobspan import Memory

memory = Memory({location!r}, verbose=0)

@memory.cache
def add(x):
    print("computing", flush=True)
    return x + 1

@Memory(None).cache
def plain(x):
    return x + 1

class Model:
    def __init__(self, factor):
        self.factor = factor

    @memory.cache
    def apply(self, x):
        print("computing", flush=True)
        return self.factor * x
"""

SCRIPT = """
import pickle, project
from jobspan import Memory, Parallel, delayed

memory = Memory({location!r}, verbose=0)

@memory.cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

for function in (project.add, project.plain, project.Model.apply):
    assert pickle.loads(pickle.dumps(function)) is function
for backend in ("processes", "threads", "sequential"):
    parallel = Parallel(n_jobs=2, backend=backend)
    assert parallel(delayed(fibonacci)(n) for n in range(10)) == [
        0, 1, 1, 2, 3, 5, 8, 13, 21, 34]
    assert parallel(delayed(project.add)(n) for n in range(3)) == [1, 2, 3]
    model = project.Model(3)
    assert parallel(delayed(model.apply)(n) for n in range(3)) == [0, 3, 6]
"""


def test_decorated_functions_of_modules_and_scripts_travel(tmp_path):
    location = str(tmp_path / "cache")
    (tmp_path / "project.py").write_text(PROJECT.format(location=location))
    (tmp_path / "script.py").write_text(SCRIPT.format(location=location))
    outputs = [
        subprocess.run(
            [sys.executable, str(tmp_path / "script.py")],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for _ in range(2)
    ]
    assert [done.stderr for done in outputs] == ["", ""]
    assert [done.stdout.count("computing") for done in outputs] == [6, 0]


class Model:
    def __init__(self, factor):
        self.factor = factor

    @Memory("memory://decorated-methods", verbose=0).cache
    def apply(self, x):
        """Multiply."""
        return self.factor * x


def test_a_decorated_method_has_the_methods_of_a_cached_function():
    model = Model(3)
    assert isinstance(Model.apply, MemorizedFunc)
    assert model.apply(2) == 6
    assert model.apply.check_call_in_cache(2)
    assert not Model(4).apply.check_call_in_cache(2)
    assert model.apply.call_and_shelve(2).get() == 6
    assert model.apply.call(5)[0] == 15
    assert "argument `x`" in model.apply.explain(9)
    assert model.apply.invalidate(2)
    assert not model.apply.check_call_in_cache(2)
    assert model.apply.__name__ == "apply"
    assert Memory("memory://again", verbose=0).cache(model.apply)(4) == 12


def test_a_bound_cached_method_as_an_argument_counts_with_its_object():
    run = Memory("memory://bound", verbose=0).cache(lambda method: method(1))
    assert [run(Model(factor).apply) for factor in (2, 3, 2)] == [2, 3, 2]


@pytest.mark.parametrize("arguments", [{"sign_key": b"k" * 32}, {"safe": True}, {"mode": "ro"}])
def test_a_pickled_memory_keeps_its_settings(tmp_path, arguments):
    memory = Memory(tmp_path, verbose=0, lease_seconds=5, **arguments)
    for copy in (pickle.loads(pickle.dumps(memory)), memory):
        function = pickle.loads(pickle.dumps(copy.cache(pow)))
        assert function.cache.format.safe is ("safe" in arguments)
        assert (function.cache.format.signer is not None) is ("sign_key" in arguments)
        assert function.cache.writable is ("mode" not in arguments)
        assert function.flight.lease_seconds == 5
