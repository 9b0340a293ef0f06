"""What becomes of calls that fail, hang, or lose their worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobspan import Parallel, RetryPolicy, TaskFailure, delayed
from jobspan.errors import ParallelTimeoutError, RemoteTraceback, TaskTimeoutError, WorkerLostError
from jobspan.outcomes import FailureKind
from jobspan.testing.backends.suite import BackendTests
from jobspan.testing.backends.work import (
    UserError,
    answer,
    answers,
    die,
    fail_at,
    log_and_fail,
    sleep_and_return,
    square,
)

__all__ = ["Failures"]


class Failures(BackendTests):
    """What becomes of calls that fail, hang, or lose their worker."""

    def test_error_is_the_users(self) -> None:
        """An exception arrives as its own type, with the remote traceback as its cause."""

        def fail_here(x: int) -> int:
            return fail_at(x, 7)

        with pytest.raises(UserError) as caught:
            Parallel()(delayed(fail_here)(i) for i in range(20))
        assert caught.value.code == 7
        if not self.can_share_memory:
            assert isinstance(caught.value.__cause__, RemoteTraceback)
            line = fail_here.__code__.co_firstlineno + 1
            where = f'{Path(__file__).name}", line {line}, in fail_here'
            assert where in str(caught.value.__cause__)

    def test_error_ends_at_once(self) -> None:
        """A failing call ends the rest within a second or so."""
        calls = [delayed(fail_at)(7, 7), *(delayed(sleep_and_return)(0.05, i) for i in range(400))]
        begin = time.monotonic()
        with pytest.raises(UserError):
            Parallel(batch_size=1)(calls)
        assert time.monotonic() - begin < 5

    def test_on_error_return(self) -> None:
        """``on_error="return"`` puts a ``TaskFailure`` in the place of a failed call."""
        results = Parallel(on_error="return")(delayed(fail_at)(i, 3) for i in range(6))
        failure = results.pop(3)
        assert results == [0, 1, 2, 4, 5]
        assert isinstance(failure, TaskFailure)
        assert isinstance(failure.exception, UserError)
        assert (failure.index, failure.attempts) == (3, 1)
        assert failure.kind is FailureKind.ERROR
        assert "fail_at" in failure.traceback

    def test_on_error_skip(self) -> None:
        """``on_error="skip"`` leaves failed calls out."""
        results = Parallel(on_error="skip")(delayed(fail_at)(i, 3) for i in range(6))
        assert results == [0, 1, 2, 4, 5]

    def test_retries(self, tmp_path: Path) -> None:
        """``retries=`` tries failed calls again, and counts the attempts."""
        policy = RetryPolicy(attempts=2, delay=0.01)
        parallel = Parallel(retries=policy)
        calls = [delayed(log_and_fail)(str(tmp_path), str(i), i % 3) for i in range(6)]
        assert parallel(calls) == [1, 2, 3, 1, 2, 3]
        assert parallel.stats.retries == 6

    def test_retries_end(self, tmp_path: Path) -> None:
        """A call that fails to the end of its retries raises its last exception."""
        with pytest.raises(UserError) as caught:
            Parallel(retries=RetryPolicy(attempts=2, delay=0.01))(
                [delayed(log_and_fail)(str(tmp_path), "a", 99)]
            )
        assert caught.value.code == 3

    def test_not_awaited(self) -> None:
        """A call that returns a coroutine or an async generator fails, and says what to do."""
        calls: list[Any] = [delayed(lambda: answer(1))(), delayed(lambda: answers(2))()]
        calls.append(delayed(square)(3))
        coroutine, generator, value = Parallel(on_error="return")(calls)
        assert value == 9
        for failure in (coroutine, generator):
            assert isinstance(failure.exception, TypeError)
        assert "asyncio.run(answer(...))" in str(coroutine.exception)
        assert "async generator answers(...)" in str(generator.exception)
        with pytest.raises(TypeError, match="the coroutine answer"):
            Parallel()(calls[::2])

    def test_iterable_raises(self) -> None:
        """An exception of the iterable reaches the caller, and leaves all usable."""

        def calls() -> Iterator[Any]:
            yield from (delayed(square)(i) for i in range(5))
            raise ZeroDivisionError("in the iterable")

        with pytest.raises(ZeroDivisionError, match="in the iterable"):
            Parallel()(calls())
        with pytest.raises(ZeroDivisionError, match="in the iterable"):
            list(Parallel(return_as="generator")(calls()))
        assert Parallel()([delayed(square)(3)]) == [9]

    def test_timeout(self) -> None:
        """``timeout=`` raises ``TimeoutError`` when the next result takes longer."""
        if self.sequential:
            pytest.skip("a sequential call cannot be interrupted: timeout has no effect, as joblib")
        begin = time.monotonic()
        with pytest.raises(ParallelTimeoutError, match=r"timeout=0\.3"):
            Parallel(timeout=0.3)(delayed(sleep_and_return)(3, i) for i in range(4))
        assert time.monotonic() - begin < 10

    def test_task_timeout(self) -> None:
        """``task_timeout=`` gives up on one call; the others go on."""
        if self.sequential:
            pytest.skip("a sequential call cannot be interrupted: task_timeout has no effect")
        seconds = [0, 30, 0, 0]
        results = Parallel(task_timeout=2.5, on_error="return")(
            delayed(sleep_and_return)(s if self.can_kill else s / 10, i)
            for i, s in enumerate(seconds)
        )
        failure = results.pop(1)
        assert results == [0, 2, 3]
        assert isinstance(failure.exception, TaskTimeoutError)
        assert failure.kind is FailureKind.TIMEOUT

    def test_worker_lost(self) -> None:
        """A worker that dies takes only its own call with it, and is replaced."""
        if not self.can_lose_workers:
            pytest.skip("calls share one process with the caller: what ends one ends all")
        parallel = Parallel(retries=RetryPolicy(attempts=2, lost_attempts=0), on_error="return")
        results = parallel(delayed(die)(i, 3) for i in range(10))
        failure = results.pop(3)
        assert results == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        assert isinstance(failure.exception, WorkerLostError)
        assert (failure.kind, failure.attempts) == (FailureKind.LOST, 1)
        assert Parallel()(delayed(square)(i) for i in range(5)) == [0, 1, 4, 9, 16]

    def test_worker_lost_retried(self, tmp_path: Path) -> None:
        """``retries=`` counts lost workers apart from what calls raise."""
        if not self.can_lose_workers:
            pytest.skip("calls share one process with the caller: what ends one ends all")
        parallel = Parallel(retries=RetryPolicy(lost_attempts=1, delay=0.01), on_error="return")
        (failure,) = parallel([delayed(die)(3, 3)])
        assert failure.kind is FailureKind.LOST
        assert (failure.attempts, parallel.stats.retries) == (2, 1)
