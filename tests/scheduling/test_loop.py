"""The scheduler's loop on a simulated executor with a clock of its own: no thread, no sleep."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobspan.ambient import Settings
from jobspan.calls import Batch, CallContext, Recalled
from jobspan.errors import ParallelTimeoutError
from jobspan.outcomes import Failure, FailureKind, Outcome
from jobspan.scheduling.failures import TaskFailure
from jobspan.scheduling.loop import Scheduler
from jobspan.scheduling.policy import SchedulingPolicy
from jobspan.scheduling.retrying import RetryPolicy

CONTEXT = CallContext(settings=Settings())


class Simulation:
    """Workers that take a call's first argument as its duration, on a clock that leaps."""

    def __init__(self, workers: int, lose: Callable[[int, int], bool] = lambda _a, _b: False):
        self.workers = workers
        self.slots = 2 * workers
        self.now = 0.0
        self.peak = 0
        self._lose = lose
        self._free = [0.0] * workers
        self._events: list[tuple[float, int, Outcome]] = []

    def clock(self) -> float:
        return self.now

    def idle(self, seconds: float | None) -> None:
        assert seconds is not None, "nothing in flight, and nothing to wait for"
        self.now += seconds

    def submit(self, batch: Batch) -> None:
        seconds = 0.0
        values: list[Any] = []
        failures: dict[int, Failure] = {}
        for offset, (function, args, kwargs) in enumerate(batch.calls):
            seconds += args[0]
            try:
                if self._lose(batch.first + offset, batch.attempt):
                    raise RuntimeError("lost")
                values.append(function(*args, **kwargs))
            except Exception as error:
                values.append(None)
                kind = FailureKind.LOST if str(error) == "lost" else FailureKind.ERROR
                failures[offset] = Failure(error, kind=kind)
        start = max(heapq.heappop(self._free), self.now)
        heapq.heappush(self._free, start + seconds)
        outcome = Outcome(batch.number, values, failures, "w", start, seconds)
        heapq.heappush(self._events, (start + seconds, batch.number, outcome))
        self.peak = max(self.peak, len(self._events))

    def completed(self, timeout: float | None = None) -> list[Outcome]:
        if not self._events:
            return []
        if timeout is not None and self._events[0][0] > self.now + timeout:
            self.now += timeout
            return []
        self.now = max(self.now, self._events[0][0])
        outcomes = []
        while self._events and self._events[0][0] <= self.now:
            outcomes.append(heapq.heappop(self._events)[2])
        return outcomes

    def wake(self) -> None:
        pass

    def cancel(self) -> None:
        self._events.clear()

    def close(self) -> None:
        self.cancel()


class Silence:
    """An observer that counts."""

    def __init__(self) -> None:
        self.calls = self.failures = self.retries = self.found = 0
        self.total: int | None = None

    def dispatched(self, batch: Batch) -> None: ...

    def completed(self, batch: Batch, outcome: Outcome) -> None: ...

    def settled(self, calls: int, failures: int) -> None:
        self.calls += calls
        self.failures += failures

    def retried(self, index: int, failure: Failure, pause: float) -> None:
        self.retries += 1

    def recalled(self, calls: int) -> None:
        self.found += calls

    def exhausted(self, total: int) -> None:
        self.total = total


def run(
    simulation: Simulation, calls: Any, policy: SchedulingPolicy, total: int | None = None
) -> tuple[list[Any], Silence]:
    observer = Silence()
    scheduler = Scheduler(
        simulation,
        CONTEXT,
        policy,
        calls,
        observer,
        numbers=count(),
        total=total,
        clock=simulation.clock,
        idle=simulation.idle,
    )
    results: list[Any] = []
    for chunk in scheduler:
        results += chunk
    return results, observer


def identity(_seconds: float, value: Any) -> Any:
    return value


def broken(_seconds: float, value: Any) -> Any:
    raise ValueError(value)


def test_the_results_of_the_plain_loop() -> None:
    calls = [(identity, (0.01, i), {}) for i in range(100)]
    results, observer = run(Simulation(4), calls, SchedulingPolicy())
    assert results == list(range(100))
    assert (observer.calls, observer.failures, observer.total) == (100, 0, 100)


def test_unordered_results_come_as_they_are_ready() -> None:
    calls = [(identity, (1.0 if i == 0 else 0.01, i), {}) for i in range(10)]
    policy = SchedulingPolicy(ordered=False, batch_size=1)
    results, _ = run(Simulation(2), calls, policy)
    assert sorted(results) == list(range(10))
    assert results[-1] == 0


def test_a_thousand_workers_are_kept_busy() -> None:
    seconds = 0.1
    calls = ((identity, (seconds, i), {}) for i in range(100_000))
    simulation = Simulation(1000)
    results, _ = run(simulation, calls, SchedulingPolicy(), total=100_000)
    assert results == list(range(100_000))
    assert simulation.now <= 1.15 * seconds * 100_000 / 1000


def test_uneven_calls_are_balanced() -> None:
    durations = [0.005 * ((i * 7919) % 101) / 100 for i in range(2000)]
    calls = [(identity, (seconds, i), {}) for i, seconds in enumerate(durations)]
    simulation = Simulation(4)
    results, _ = run(simulation, calls, SchedulingPolicy(), total=2000)
    assert results == list(range(2000))
    assert simulation.now <= 1.05 * sum(durations) / 4


def test_a_slow_turn_shrinks_batches() -> None:
    durations = [1e-6] * 20_000 + [0.05] * 400
    calls = [(identity, (seconds, i), {}) for i, seconds in enumerate(durations)]
    simulation = Simulation(4)
    run(simulation, calls, SchedulingPolicy(), total=None)
    assert simulation.now <= 1.6 * sum(durations) / 4


def test_long_calls_do_not_queue_behind_one_another() -> None:
    simulation = Simulation(2)
    run(simulation, [(identity, (1.0, i), {}) for i in range(6)], SchedulingPolicy())
    assert simulation.peak == 2


def test_no_more_in_flight_than_pre_dispatched() -> None:
    simulation = Simulation(4)
    policy = SchedulingPolicy(pre_dispatch=3, batch_size=1)
    run(simulation, [(identity, (0.001, i), {}) for i in range(50)], policy)
    assert simulation.peak == 3


def test_a_generator_is_read_no_further_than_dispatched() -> None:
    read: list[int] = []

    def calls() -> Iterator[Any]:
        for i in range(100):
            read.append(i)
            yield identity, (1.0, i), {}

    scheduler = Scheduler(
        simulation := Simulation(2),
        CONTEXT,
        SchedulingPolicy(pre_dispatch=3, batch_size=1),
        calls(),
        Silence(),
        numbers=count(),
        clock=simulation.clock,
        idle=simulation.idle,
    )
    assert next(iter(scheduler)) == [0]
    assert len(read) <= 5


def test_a_failure_is_raised_and_the_rest_cancelled() -> None:
    simulation = Simulation(2)
    calls = [(broken if i == 3 else identity, (0.1, i), {}) for i in range(100)]
    with pytest.raises(ValueError, match="3"):
        run(simulation, calls, SchedulingPolicy(batch_size=1))
    assert simulation.now < 1
    assert simulation.completed() == []


def test_failures_in_their_place() -> None:
    calls = [(broken if i % 3 == 0 else identity, (0.0, i), {}) for i in range(10)]
    results, observer = run(Simulation(2), calls, SchedulingPolicy(on_error="return"))
    assert [isinstance(result, TaskFailure) for result in results] == [
        i % 3 == 0 for i in range(10)
    ]
    assert [r.index for r in results if isinstance(r, TaskFailure)] == [0, 3, 6, 9]
    assert (observer.calls, observer.failures) == (10, 4)
    results, _ = run(Simulation(2), calls, SchedulingPolicy(on_error="skip"))
    assert results == [1, 2, 4, 5, 7, 8]


def test_retries_wait_longer_and_longer() -> None:
    attempts: list[float] = []
    simulation = Simulation(1)

    def fails_twice(_seconds: float) -> str:
        attempts.append(simulation.now)
        if len(attempts) < 3:
            raise ConnectionError
        return "done"

    policy = SchedulingPolicy(retries=RetryPolicy(attempts=2, delay=1.0, jitter=0))
    scheduler = Scheduler(
        simulation,
        CONTEXT,
        policy,
        [(fails_twice, (0.0,), {}), (identity, (10.0, "slow"), {})],
        Silence(),
        numbers=count(),
        clock=simulation.clock,
        idle=simulation.idle,
    )
    assert [value for chunk in scheduler for value in chunk] == ["done", "slow"]
    assert attempts[1] >= 1.0
    assert attempts[2] >= attempts[1] + 2.0


def test_lost_workers_are_counted_apart() -> None:
    policy = SchedulingPolicy(retries=RetryPolicy(lost_attempts=1, delay=0.0))
    simulation = Simulation(2, lose=lambda index, attempt: index == 4 and attempt == 1)
    results, observer = run(simulation, [(identity, (0.1, i), {}) for i in range(8)], policy)
    assert results == list(range(8))
    assert observer.retries == 1
    with pytest.raises(ValueError, match="0"):
        run(Simulation(1), [(broken, (0.1, 0), {})], policy)


def test_the_next_result_is_waited_for_so_long() -> None:
    simulation = Simulation(2)
    calls = [(identity, (seconds, 0), {}) for seconds in (0.1, 5.0, 0.1, 0.1)]
    with pytest.raises(ParallelTimeoutError, match=r"timeout=1\.0"):
        run(simulation, calls, SchedulingPolicy(timeout=1.0, batch_size=1))
    assert simulation.now == pytest.approx(1.1)


class Cache:
    """A function that has the even numbers stored."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, _seconds: float, value: int) -> int:
        assert value % 2
        return value

    def stored_only_here(self) -> None:
        return None

    def recall_many(self, calls: Any) -> list[Recalled | None]:
        self.asked.append(len(calls))
        return [None if args[1] % 2 else Recalled(args[1]) for args, _ in calls]


@pytest.mark.parametrize("ordered", [True, False])
def test_stored_results_never_travel(ordered: bool) -> None:
    cache = Cache()
    simulation = Simulation(2)
    calls = ((cache, (0.1, i), {}) for i in range(100))
    results, observer = run(simulation, calls, SchedulingPolicy(ordered=ordered))
    assert (results if ordered else sorted(results)) == list(range(100))
    assert (observer.found, observer.calls) == (50, 100)
    assert cache.asked[0] == 100
    assert simulation.now == pytest.approx(0.1 * 50 / 2)


@settings(max_examples=300, deadline=None)
@given(
    durations=st.lists(st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 2.0]), max_size=60),
    bad=st.sets(st.integers(0, 59), max_size=5),
    lost=st.sets(st.integers(0, 59), max_size=5),
    batch_size=st.sampled_from([None, 1, 3, 100]),
    pre_dispatch=st.sampled_from([None, 1, 4, 1000]),
    ordered=st.booleans(),
    workers=st.integers(1, 5),
    on_error=st.sampled_from(["return", "skip"]),
    known=st.booleans(),
    max_pending=st.sampled_from([None, 1, 7]),
)
def test_any_mix_yields_the_results_of_the_plain_loop(
    durations: list[float],
    bad: set[int],
    lost: set[int],
    batch_size: int | None,
    pre_dispatch: int | None,
    ordered: bool,
    workers: int,
    on_error: Any,
    known: bool,
    max_pending: int | None,
) -> None:
    calls = [(broken if i in bad else identity, (s, i), {}) for i, s in enumerate(durations)]
    policy = SchedulingPolicy(
        ordered=ordered,
        batch_size=batch_size,
        pre_dispatch=pre_dispatch,
        on_error=on_error,
        retries=RetryPolicy(lost_attempts=1, delay=0.01, jitter=0),
        bounded=True,
        max_pending=max_pending,
    )
    simulation = Simulation(workers, lose=lambda i, attempt: i in lost and attempt == 1)
    observer = Silence()
    scheduler = Scheduler(
        simulation,
        CONTEXT,
        policy,
        calls,
        observer,
        numbers=count(),
        total=len(calls) if known else None,
        clock=simulation.clock,
        idle=simulation.idle,
    )
    results = []
    for chunk in scheduler:
        results += chunk
        scheduler.taken(len(results))
    got = [result.index if isinstance(result, TaskFailure) else result for result in results]
    expected = [i for i in range(len(calls)) if on_error == "return" or i not in bad]
    assert (got if ordered else sorted(got)) == expected
    assert observer.calls == len(calls)
