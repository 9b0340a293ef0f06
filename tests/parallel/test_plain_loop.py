"""Any mix of calls and settings gives what the plain loop gives, on real workers."""

from __future__ import annotations

import time
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobspan import Parallel, TaskFailure, delayed

BACKENDS = [
    pytest.param("sequential", id="sequential"),
    pytest.param("threads", id="threads"),
    pytest.param("processes", id="processes"),
]


def work(index: int, seconds: float, bad: bool) -> int:
    if seconds:
        time.sleep(seconds)
    if bad:
        raise ValueError(index)
    return -index


def plain_loop(calls: list[tuple[int, float, bool]], on_error: str) -> list[Any]:
    """Return what running the calls one after the other gives, failures by their index."""
    results: list[Any] = []
    for index, _, bad in calls:
        if not bad:
            results.append(-index)
        elif on_error == "return":
            results.append(("failed", index))
    return results


def seen(result: Any) -> Any:
    return ("failed", result.index) if isinstance(result, TaskFailure) else result


@pytest.mark.parametrize("backend", BACKENDS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.lists(st.tuples(st.sampled_from([0, 0, 0, 0.001, 0.01]), st.booleans()), max_size=30),
    batch_size=st.sampled_from(["auto", 1, 3, 100]),
    pre_dispatch=st.sampled_from(["all", 1, "2 * n_jobs", 50]),
    return_as=st.sampled_from(["list", "generator", "generator_unordered"]),
    on_error=st.sampled_from(["return", "skip", "raise"]),
    max_pending=st.sampled_from([None, 1, 5]),
    workers=st.integers(1, 3),
    taken=st.integers(0, 40),
    listed=st.booleans(),
)
def test_any_mix_yields_the_results_of_the_plain_loop(
    backend: str,
    shape: list[tuple[float, bool]],
    batch_size: Any,
    pre_dispatch: Any,
    return_as: Any,
    on_error: str,
    max_pending: int | None,
    workers: int,
    taken: int,
    listed: bool,
) -> None:
    calls = [(index, seconds, bad) for index, (seconds, bad) in enumerate(shape)]
    parallel = Parallel(
        n_jobs=workers,
        backend=backend,
        batch_size=batch_size,
        pre_dispatch=pre_dispatch,
        return_as=return_as,
        on_error=on_error,
        max_pending=max_pending,
    )
    given_calls: Any = (delayed(work)(*call) for call in calls)
    if listed:
        given_calls = list(given_calls)
    fails = on_error == "raise" and any(bad for _, _, bad in calls)
    expected = plain_loop(calls, on_error)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an early close tells what it threw away
        if fails:
            with pytest.raises(ValueError, match=r"\d+") as caught:
                list(parallel(given_calls))
            assert calls[caught.value.args[0]][2]
            return
        results = parallel(given_calls)
        if return_as == "list":
            assert [seen(result) for result in results] == expected
            return
        got = [seen(next(results)) for _ in range(min(taken, len(expected)))]
        if taken > len(expected):
            assert next(results, None) is None
        results.close()
    if return_as == "generator":
        assert got == expected[: len(got)]
    else:
        assert len(set(got)) == len(got)
        assert set(got) <= set(expected)
