"""The behaviours that every backend shares, as tests that a backend runs by deriving from a class.

A third party's backend is proved with a few lines::

    from jobspan.testing.backends import BackendConformance

    class TestMyBackend(BackendConformance):
        backend = "my-backend"

Every test is one behaviour, named by the first line of its docstring; the table of behaviours in
the documentation is made from them. Where an engine truly cannot do a thing, the class says so
(`can_kill`, `can_lose_workers`, `can_share_memory`), and the test states what happens instead.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar

import pytest

from jobspan import Parallel, RetryPolicy, TaskFailure, delayed, parallel_config
from jobspan.errors import (
    ParallelTimeoutError,
    RemoteTraceback,
    TaskTimeoutError,
    WorkerLostError,
)
from jobspan.outcomes import FailureKind

__all__ = ["BackendConformance"]

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class UserError(Exception):
    """An error with two arguments, which a careless pickle would not survive."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code


class Unpicklable:
    """A value that refuses to be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("this value stays where it is")


class Unreadable:
    """A value that can be pickled, but not read again."""

    def __reduce__(self) -> Any:
        return refuse, ("this value cannot be read",)


def refuse(reason: str) -> Any:
    raise ValueError(reason)


class UnpicklableError(Exception):
    """An exception that refuses to be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("this exception stays where it is")


def square(x: int) -> int:
    return x * x


def fail_at(x: int, bad: int) -> int:
    if x == bad:
        raise UserError(x, "as asked")
    return x


def sleep_and_return(seconds: float, value: int) -> int:
    time.sleep(seconds)
    return value


def log_and_fail(folder: str, name: str, failures: int) -> int:
    """Fail so many times, then return how often it was called; calls are counted in files."""
    path = Path(folder) / name
    with path.open("a") as file:
        file.write("x")
    calls = len(path.read_text())
    if calls <= failures:
        raise UserError(calls, "not yet")
    return calls


def be(name: str) -> str:
    """Take a name, and tell the one before."""
    before = tenant.get()
    tenant.set(name)
    return before


def leave_mark(folder: str) -> None:
    """Leave one file a call, named by the worker."""
    mark = f"{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}"
    (Path(folder) / mark).touch()


def count_nested(n: int) -> int:
    return sum(Parallel(n_jobs=2)(delayed(square)(i) for i in range(n)))


def count_deep(depth: int) -> int:
    if depth == 0:
        return 1
    return sum(Parallel(n_jobs=2)(delayed(count_deep)(depth - 1) for _ in range(2)))


def write_into(array: Any) -> float:
    array[0] = 1.0
    return float(array[0])


def total(holder: Any) -> float:
    array = holder["deep"][0] if isinstance(holder, dict) else holder
    return float(array.sum())


def make_array(rows: int, value: float) -> Any:
    import numpy as np

    return {"array": np.full((rows, 1024), value)}


def die(x: int, bad: int) -> int:
    if x == bad:
        os._exit(3)
    return x


class BackendConformance:
    """Behaviours of ``Parallel`` that are the same on every backend.

    Attributes
    ----------
    backend : str, Backend or class
        What users would pass as ``backend=``.
    options : dict
        Further options that they would pass.
    n_jobs : int
        How many calls run at once.
    can_share_memory : bool
        Calls run in the caller's memory: nothing is pickled or copied.
    can_kill : bool
        A running call can be stopped.
    can_lose_workers : bool
        Workers are processes of their own: one that dies is replaced.
    sequential : bool
        Calls run one after the other in the caller's thread.
    """

    backend: ClassVar[Any]
    options: ClassVar[dict[str, Any]] = {}
    n_jobs: ClassVar[int] = 2
    can_share_memory: ClassVar[bool] = False
    can_kill: ClassVar[bool] = False
    can_lose_workers: ClassVar[bool] = False
    sequential: ClassVar[bool] = False

    @pytest.fixture(autouse=True)
    def _within_context(self) -> Iterator[None]:
        with parallel_config(backend=self.backend, n_jobs=self.n_jobs, **self.options):
            yield

    # --- results -----------------------------------------------------------------------

    def test_results_in_order(self) -> None:
        """Results come in the order of the calls."""
        calls = (delayed(sleep_and_return)(0.01 * (5 - i % 5) / 5, i) for i in range(40))
        assert Parallel()(calls) == list(range(40))

    def test_many_small_calls(self) -> None:
        """Thousands of small calls give the results of the plain loop."""
        assert Parallel()(delayed(square)(i) for i in range(3000)) == [i * i for i in range(3000)]

    @pytest.mark.parametrize("batch_size", [1, 7, "auto"])
    @pytest.mark.parametrize("pre_dispatch", ["all", 1, "3 * n_jobs"])
    def test_batches(self, batch_size: Any, pre_dispatch: Any) -> None:
        """Any batch size and pre-dispatch gives the same results."""
        parallel = Parallel(batch_size=batch_size, pre_dispatch=pre_dispatch)
        assert parallel(delayed(square)(i) for i in range(50)) == [i * i for i in range(50)]

    def test_pre_dispatch(self) -> None:
        """The input is read no further than ``pre_dispatch=`` allows."""
        moments: list[float] = []

        def calls() -> Iterator[Any]:
            for i in range(6):
                moments.append(time.monotonic())
                yield delayed(sleep_and_return)(0.2, i)

        assert Parallel(pre_dispatch=3, batch_size=1)(calls()) == list(range(6))
        assert sum(moment < moments[0] + 0.2 for moment in moments) <= 3

    def test_empty(self) -> None:
        """No calls give no results, from an empty list or an exhausted iterator."""
        exhausted = iter([delayed(square)(1)])
        next(exhausted)
        assert Parallel()([]) == []
        assert Parallel()(exhausted) == []
        assert list(Parallel(return_as="generator")([])) == []

    def test_functions_by_value(self) -> None:
        """Lambdas, closures and keyword arguments work."""
        offset = 10
        functions = [lambda x, *, y=1: x + y + offset, lambda x, *, y=1: x * y * offset]
        calls = [delayed(function)(3, y=2) for function in functions]
        assert Parallel()(calls) == [15, 60]

    def test_map(self) -> None:
        """``map`` is a shorthand."""
        assert Parallel().map(pow, [2, 3], [5, 2]) == [32, 9]

    def test_reused_in_with_block(self) -> None:
        """A ``with`` block serves many calls, also after one that failed."""
        with Parallel() as parallel:
            assert parallel(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]
            with pytest.raises(UserError):
                parallel(delayed(fail_at)(i, 3) for i in range(10))
            assert parallel(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]

    def test_several_threads(self) -> None:
        """Several threads use one backend at once, each through its own ``Parallel``."""
        results: dict[int, Any] = {}

        def run(number: int) -> None:
            with parallel_config(backend=self.backend, n_jobs=self.n_jobs, **self.options):
                results[number] = Parallel()(delayed(square)(i) for i in range(20))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {number: [i * i for i in range(20)] for number in range(3)}

    # --- generators --------------------------------------------------------------------

    def test_generator(self) -> None:
        """``return_as="generator"`` yields results in order while calls go on."""
        generator = Parallel(return_as="generator")(delayed(square)(i) for i in range(100))
        assert next(generator) == 0
        assert list(generator) == [i * i for i in range(1, 100)]

    def test_generator_unordered(self) -> None:
        """``return_as="generator_unordered"`` yields every result once, as they come."""
        parallel = Parallel(return_as="generator_unordered", batch_size=1)
        list(parallel(delayed(sleep_and_return)(0.05, i) for i in range(8)))  # workers start
        slow_first = [(0.5, 0), *((0.0, i) for i in range(1, 10))]
        results = list(parallel(delayed(sleep_and_return)(s, i) for s, i in slow_first))
        assert sorted(results) == list(range(10))
        if not self.sequential:
            assert results.index(0) >= 7  # at most two batches wait behind a slow one

    def test_generator_closed_early(self) -> None:
        """A generator that is closed or dropped cancels the rest and leaves all usable."""
        parallel = Parallel(return_as="generator")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            generator = parallel(delayed(sleep_and_return)(0.01, i) for i in range(1000))
            assert next(generator) == 0
            generator.close()
            generator = parallel(delayed(sleep_and_return)(0.01, i) for i in range(1000))
            assert next(generator) == 0
            del generator
            gc.collect()
        assert list(parallel(delayed(square)(i) for i in range(5))) == [0, 1, 4, 9, 16]

    def test_busy(self) -> None:
        """One object runs one call at a time, and says so."""
        parallel = Parallel(return_as="generator")
        generator = parallel(delayed(square)(i) for i in range(5))
        with pytest.raises(RuntimeError, match="already running"):
            parallel(delayed(square)(i) for i in range(5))
        assert list(generator) == [0, 1, 4, 9, 16]

    def test_block_left_with_a_generator_open(self) -> None:
        """Leaving a ``with`` block ends its open generator, and leaves nothing running."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Parallel(return_as="generator") as parallel:
                generator = parallel(delayed(sleep_and_return)(0.01, i) for i in range(10_000))
                assert next(generator) == 0
            if not self.sequential:
                assert len(list(generator)) < 9_999
        assert Parallel()([delayed(square)(3)]) == [9]

    def test_slow_consumer(self) -> None:
        """A consumer that is slower than the workers bounds what is computed ahead of it."""
        read: list[int] = []

        def calls() -> Iterator[Any]:
            for i in range(10_000):
                read.append(i)
                yield delayed(square)(i)

        parallel = Parallel(return_as="generator", max_pending=5, batch_size=1)
        generator = parallel(calls())
        assert next(generator) == 0
        time.sleep(0.5)
        ahead = len(read)
        assert ahead <= 5 + 2 + 4 * parallel.stats.n_jobs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            generator.close()

    # --- failures ----------------------------------------------------------------------

    def test_error_is_the_users(self) -> None:
        """An exception arrives as its own type, with the remote traceback as its cause."""

        def fail_here(x: int) -> int:
            return fail_at(x, 7)

        with pytest.raises(UserError) as caught:
            Parallel()(delayed(fail_here)(i) for i in range(20))
        assert caught.value.code == 7
        if not self.can_share_memory:
            assert isinstance(caught.value.__cause__, RemoteTraceback)
            where = f'backends.py", line {fail_here.__code__.co_firstlineno + 1}, in fail_here'
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
        results = Parallel(task_timeout=1.5, on_error="return")(
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
        results = Parallel(on_error="return")(delayed(die)(i, 3) for i in range(10))
        failure = results.pop(3)
        assert results == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        assert isinstance(failure.exception, WorkerLostError)
        assert failure.kind is FailureKind.LOST
        assert Parallel()(delayed(square)(i) for i in range(5)) == [0, 1, 4, 9, 16]

    def test_unpicklable(self) -> None:
        """What cannot be pickled fails its own call, by name, and never hangs."""
        if self.can_share_memory:
            pytest.skip("nothing is pickled")

        def give(kind: int) -> Any:
            if kind == 1:
                return Unpicklable()
            if kind == 2:
                raise UnpicklableError("from the worker")
            return kind

        calls = [
            delayed(give)(0),
            delayed(give)(1),
            delayed(give)(2),
            delayed(square)(Unpicklable()),  # type: ignore[arg-type]
            delayed(give)(3),
        ]
        results = Parallel(on_error="return")(calls)
        assert (results[0], results[4]) == (0, 3)
        assert [isinstance(result, TaskFailure) for result in results[1:4]] == [True] * 3
        assert "Unpicklable" in str(results[1].exception)
        assert "UnpicklableError" in repr(results[2].exception)
        assert "from the worker" in str(results[2].exception)

    def test_unreadable_argument(self) -> None:
        """What a worker cannot unpickle fails its own call, with the reason."""
        if self.can_share_memory:
            pytest.skip("nothing is pickled")
        calls = [delayed(square)(x) for x in range(4)]
        calls[2] = delayed(square)(Unreadable())  # type: ignore[arg-type]
        results = Parallel(on_error="return", batch_size=4)(calls)
        assert [*results[:2], results[3]] == [0, 1, 9]
        assert isinstance(results[2], TaskFailure)
        assert "this value cannot be read" in str(results[2].exception)

    # --- context -----------------------------------------------------------------------

    def test_initializer(self, tmp_path: Path) -> None:
        """``initializer=`` runs once a worker, before its first call."""
        parallel = Parallel(initializer=leave_mark, initargs=(str(tmp_path),))
        parallel(delayed(sleep_and_return)(0.01, i) for i in range(20))
        marks = [path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir()]
        assert 1 <= len(marks) <= 8
        assert len(set(marks)) == len(marks)

    def test_propagated_variables(self) -> None:
        """``propagate=`` lets context variables hold in every call, the first and the last."""
        token = tenant.set("alice")
        try:
            results = Parallel(propagate=[tenant])(delayed(tenant.get)() for _ in range(20))
        finally:
            tenant.reset(token)
        assert results == ["alice"] * 20

    def test_variables_are_each_calls_own(self) -> None:
        """Context variables that a call sets are seen by no other call, nor by the caller."""
        for batch_size in (1, 5):
            results = Parallel(batch_size=batch_size)(delayed(be)(f"call {i}") for i in range(20))
            assert results == ["nobody"] * 20
        assert (
            list(Parallel(on_error="skip")(delayed(be)("call") for _ in range(5))) == ["nobody"] * 5
        )
        assert tenant.get() == "nobody"

    def test_variables_of_the_initializer(self) -> None:
        """Context variables that the initializer sets hold in every call of a ``with`` block."""
        with Parallel(initializer=be, initargs=("bob",)) as parallel:
            for _ in range(2):
                assert parallel(delayed(be)("alice") for _ in range(20)) == ["bob"] * 20
        assert tenant.get() == "nobody"

    def test_nested(self) -> None:
        """Parallel calls nest without deadlock, to any depth."""
        assert Parallel()(delayed(count_nested)(4) for _ in range(4)) == [14] * 4
        assert Parallel()(delayed(count_deep)(2) for _ in range(2)) == [4] * 2

    # --- data --------------------------------------------------------------------------

    def test_large_arguments(self) -> None:
        """Large arrays arrive whole, at any depth."""
        np = pytest.importorskip("numpy")
        array = np.arange(300_000, dtype=float)
        expected = float(array.sum())
        calls = [delayed(total)(array), delayed(total)({"deep": [array]})] * 4
        assert Parallel()(calls) == [expected] * 8

    def test_large_results(self) -> None:
        """Large arrays come back whole."""
        pytest.importorskip("numpy")
        results = Parallel()(delayed(make_array)(300, i) for i in range(4))
        assert [float(result["array"][-1, -1]) for result in results] == [0, 1, 2, 3]

    def test_large_arguments_are_read_only(self) -> None:
        """Large arrays arrive read-only, and the error of writing to one says what to do."""
        np = pytest.importorskip("numpy")
        if self.can_share_memory:
            pytest.skip("calls share the caller's memory: nothing is copied or protected")
        array = np.zeros(300_000)
        with pytest.raises(ValueError, match="read-only") as caught:
            Parallel()([delayed(write_into)(array)] * 2)
        notes = " ".join(getattr(caught.value, "__notes__", []))
        assert "mmap_mode" in notes
        assert array[0] == 0

    def test_large_arguments_copied_on_write(self) -> None:
        """``mmap_mode="c"`` gives each call a private writable view."""
        np = pytest.importorskip("numpy")
        if self.can_share_memory:
            pytest.skip("calls share the caller's memory: nothing is copied or protected")
        array = np.zeros(300_000)
        assert Parallel(mmap_mode="c")([delayed(write_into)(array)] * 3) == [1.0] * 3
        assert array[0] == 0

    def test_changed_between_calls(self) -> None:
        """A large array that changed between two calls of a block arrives as it is now."""
        np = pytest.importorskip("numpy")
        array = np.zeros(300_000)
        with Parallel() as parallel:
            assert parallel([delayed(total)(array)] * 2) == [0.0] * 2
            array[:] = 1
            assert parallel([delayed(total)(array)] * 2) == [300_000.0] * 2

    # --- figures and bad input ---------------------------------------------------------

    def test_stats(self) -> None:
        """``Parallel.stats`` tells what the last call did."""
        parallel = Parallel(on_error="skip")
        parallel(delayed(fail_at)(i, 3) for i in range(10))
        assert (parallel.stats.calls, parallel.stats.failures) == (10, 1)
        assert parallel.stats.work_seconds >= 0
        assert parallel.stats.elapsed_seconds > 0

    @pytest.mark.parametrize("return_as", ["list", "generator"])
    def test_progress_events(self, return_as: Any) -> None:
        """``progress=`` tells a callable how far the call is, from the start to the end."""
        events: list[Any] = []
        parallel = Parallel(progress=events.append, return_as=return_as, on_error="skip")
        assert len(list(parallel([delayed(fail_at)(i, 3) for i in range(20)]))) == 19
        assert [events[0].kind, events[-1].kind] == ["started", "finished"]
        assert events[0].total == events[-1].total == events[-1].done == 20
        assert events[-1].failures == 1
        assert [event.done for event in events] == sorted(event.done for event in events)

    def test_verbose_lines(self, capsys: pytest.CaptureFixture[str]) -> None:
        """``verbose=`` prints joblib's lines, to stdout from 50 up."""
        Parallel(verbose=51)(delayed(square)(i) for i in range(5))
        told = capsys.readouterr().out
        assert "Done   5 out of   5" in told
        assert "elapsed:" in told

    def test_report(self, tmp_path: Path) -> None:
        """``report=`` writes a page about the call."""
        page = tmp_path / "run.html"
        Parallel(report=page)(delayed(square)(i) for i in range(5))
        assert "<b>5</b><span>calls</span>" in page.read_text(encoding="utf-8")

    def test_awaited(self) -> None:
        """``await`` and ``async for`` do not block the event loop."""

        async def both() -> tuple[list[int], list[int], int]:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            ticking = asyncio.create_task(tick())
            calls = [delayed(sleep_and_return)(0.02, i) for i in range(8)]
            collected = await Parallel().acall(calls)
            streamed = [result async for result in Parallel(return_as="generator").acall(calls)]
            ticking.cancel()
            return collected, streamed, ticks

        collected, streamed, ticks = asyncio.run(both())
        assert collected == streamed == list(range(8))
        assert ticks >= 3

    def test_subclass(self) -> None:
        """A subclass that overrides ``__call__`` runs as any other."""

        class Doubling(Parallel):
            def __call__(self, iterable: Any) -> Any:
                return super().__call__(
                    (function, args, kwargs) for function, args, kwargs in [*iterable, *iterable]
                )

        assert Doubling()([delayed(square)(i) for i in range(3)]) == [0, 1, 4, 0, 1, 4]

    def test_not_a_call(self) -> None:
        """What is no delayed call is refused by name."""
        with pytest.raises(TypeError, match="delayed"):
            Parallel()([square])
        with pytest.raises(TypeError, match="generator"):
            Parallel()([delayed(calls_of_nothing)()])

    def test_wrong_arguments(self) -> None:
        """Wrong arguments are refused before anything runs, with the forms that are taken."""
        for arguments in (
            {"n_jobs": 0},
            {"n_jobs": "many"},
            {"batch_size": 0},
            {"batch_size": "big"},
            {"pre_dispatch": "import os"},
            {"return_as": "tuple"},
            {"on_error": "ignore"},
            {"retries": -1},
            {"task_timeout": -1},
            {"max_nbytes": "1X"},
            {"mmap_mode": "x"},
            {"max_pending": 0},
        ):
            with pytest.raises(ValueError, match=r".+"):
                Parallel(**arguments)


def calls_of_nothing() -> Iterator[None]:
    yield None
