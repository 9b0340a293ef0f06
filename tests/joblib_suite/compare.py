"""Run joblib's own tests, as its wheel brings them, with joblib and with jobspan in its place.

``python -m tests.joblib_suite.compare [words]``: all modules that are about what users see, or
those whose name holds one of the words. Ends with 1 where jobspan fails a test that joblib passes
and that is no difference meant to be (`differences`), or where one of those is none any more.
"""

from __future__ import annotations

import sys
from functools import partial

from tests.joblib_suite.differences import DIFFERENT, NOT_RUN
from tests.standin import running
from tests.standin.running import Run

MODULES = [
    "test_config",
    "test_parallel",
    "test_dask",
    "test_memory",
    "test_memory_async",
    "test_hashing",
    "test_numpy_pickle",
    "test_store_backends",
    "test_logger",
    "test_cloudpickle_wrapper",
    "test_init",
    "test_module",
]
OPTIONS = ["--timeout=60", "-p", "coroutines"]
PLUGINS = {"test_dask": ["-p", "distributed.utils_test"]}
"""What a module's tests expect of pytest besides."""


def run(*modules: str, stand_in: bool, words: str = "", limit: float = 1800) -> Run:
    """Run some of joblib's test modules in an interpreter of their own."""
    return running.run(
        running.installed("joblib"),
        [f"test/{module}.py" for module in modules],
        stand_in=stand_in,
        words=words,
        limit=limit,
        options=[*OPTIONS, *(each for module in modules for each in PLUGINS.get(module, ()))],
        variables={"STAND_IN_REST": "1"},
    )


def function_of(name: str) -> str:
    """Return what the list of differences calls a test: its module and its name.

    Examples
    --------
    >>> function_of("test.test_memory.TestIt::test_this[a-b]")
    'test_memory::test_this'
    """
    where, _, test = name.partition("::")
    module = next(part for part in where.split(".") if part.startswith("test_"))
    return f"{module}::{test.partition('[')[0]}"


def worse(theirs: Run, ours: Run) -> dict[str, str]:
    """Return the tests that fail with jobspan and not with joblib, but for those meant to."""
    return {
        name: text
        for name, text in running.worse(theirs, ours).items()
        if function_of(name) not in DIFFERENT
    }


def no_longer_different(module: str, ours: Run) -> set[str]:
    """Return the tests of a module on the list of differences that none of its variants fails."""
    listed = {name for name in DIFFERENT if name.startswith(f"{module}::")}
    return listed - {function_of(name) for name in ours.failed}


def _run_one(module: str, stand_in: bool) -> Run:
    return run(module, stand_in=stand_in)


def main() -> int:
    """Compare module by module."""
    words = sys.argv[1:]
    problems = 0
    print(f"{'module':52} {'joblib':>16} {'jobspan':>16} {'ratio':>6}")
    for module in [m for m in MODULES if not words or any(word in m for word in words)]:
        theirs, ours = running.with_each(partial(_run_one, module))
        print(running.side_by_side(module, theirs, ours), flush=True)
        for name, text in worse(theirs, ours).items():
            problems += 1
            print(f"FAILED {name}\n{text[-1500:]}", flush=True)
        for name in sorted(no_longer_different(module, ours)):
            problems += 1
            print(f"PASSES {name}: take it off the list of differences", flush=True)
    print(f"{problems} surprises; {len(DIFFERENT)} tests state what jobspan does otherwise:")
    for name, reason in DIFFERENT.items():
        print(f"  {name}: {reason}")
    for module, reason in NOT_RUN.items():
        print(f"  {module}, not run: {reason}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
