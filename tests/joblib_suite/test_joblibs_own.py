"""joblib's own tests pass with jobspan in its place: a part, or all by `make soak`."""

from __future__ import annotations

import pytest
from tests.joblib_suite import compare
from tests.joblib_suite.differences import DIFFERENT
from tests.standin import running

QUICK = {
    "test_memory": "kwarg or partial or ignore or eval or args or validation or TestMemorizedFunc",
    "test_numpy_pickle": "standard_types or persistence or compress_level or in_socket or memmap",
    "test_parallel": "invalid or effective_n_jobs or exhausted or kwargs or input_with_threads",
}
"""What the default suite runs of some modules: what is done in a moment."""


def test_joblibs_tests_pass() -> None:
    """None fails but those that say what jobspan does otherwise."""
    words = " or ".join(f"({module} and ({some}))" for module, some in QUICK.items())
    found = compare.run(*QUICK, stand_in=True, words=words, limit=110)
    assert len(found.passed) > 80
    assert not compare.worse(running.Run(), found)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("module", compare.MODULES)
def test_all_of_joblibs_tests(module: str) -> None:
    """No test fails that passes with joblib, and no difference is listed that is none."""
    theirs = compare.run(module, stand_in=False)
    ours = compare.run(module, stand_in=True)
    assert not compare.worse(theirs, ours)
    assert not compare.no_longer_different(module, ours)


def test_every_difference_is_a_test_of_joblibs() -> None:
    tests = running.installed("joblib") / "test"
    for name in DIFFERENT:
        module, _, test = name.partition("::")
        source = (tests / f"{module}.py").read_text()
        assert f"def {test}(" in source, name
