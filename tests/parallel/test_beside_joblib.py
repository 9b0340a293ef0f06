"""What joblib 1.6 does with arguments, contexts and hints, done by both beside each other."""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy as np
import pytest

import jobspan

KINDS = {
    "LokyBackend": "processes",
    "MultiprocessingBackend": "processes",
    "ProcessBackend": "processes",
    "ThreadingBackend": "threads",
    "ThreadBackend": "threads",
    "SequentialBackend": "sequential",
}


def tried(function: Callable[[], Any]) -> Any:
    """Return what a function returns, or the type of what it raises and how that begins."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function()
        except Exception as error:
            return type(error).__mro__, str(error)


def both(function: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Return what comes of a function given joblib, and given jobspan."""
    return tried(lambda: function(joblib)), tried(lambda: function(jobspan))


def calls(library: Any, count: int = 7) -> Iterator[Any]:
    return (library.delayed(abs)(-i) for i in range(count))


@pytest.mark.parametrize(
    "n_jobs",
    [None, 1, 2, -1, -2, -100, 40, 2.7, "2", "-1", True, np.int64(2), np.float32(2.5)],
    ids=repr,
)
def test_n_jobs_that_are_taken(n_jobs: Any) -> None:
    def run(library: Any) -> Any:
        parallel = library.Parallel(n_jobs=n_jobs, backend="threading")
        return parallel.n_jobs, repr(parallel), parallel(calls(library))

    theirs, ours = both(run)
    assert ours == theirs
    if n_jobs is None or isinstance(n_jobs, int):
        theirs, ours = both(lambda library: library.effective_n_jobs(n_jobs))
        assert ours == theirs


@pytest.mark.parametrize(
    "n_jobs", [0, 0.5, False, "many", "2.5", [], {}, float("nan"), float("inf"), 1j], ids=repr
)
def test_n_jobs_that_are_refused(n_jobs: Any) -> None:
    """joblib refuses some of them when it is called, some with the bare message of ``int``."""
    theirs = tried(lambda: joblib.Parallel(n_jobs=n_jobs, backend="threading")(calls(joblib)))
    assert isinstance(theirs, tuple)
    uses: list[Callable[[], Any]] = [
        lambda: jobspan.Parallel(n_jobs=n_jobs),
        lambda: jobspan.Parallel(n_jobs=n_jobs, backend="threading"),
        lambda: jobspan.parallel_config(n_jobs=n_jobs),
        lambda: jobspan.parallel_backend("threading", n_jobs=n_jobs),
        lambda: jobspan.effective_n_jobs(n_jobs),
    ]
    for use in uses:
        with pytest.raises((TypeError, ValueError), match="n_jobs") as caught:
            use()
        assert "n_jobs == 0" in str(caught.value) or repr(n_jobs) in str(caught.value)
        if OverflowError not in theirs[0]:
            assert type(caught.value) in theirs[0]


@pytest.mark.parametrize(
    "pre_dispatch",
    [
        "all",
        "2*n_jobs",
        "n_jobs",
        "1.5*n_jobs",
        "n_jobs//2",
        "n_jobs - 1",
        "2**n_jobs",
        "n_jobs%3",
        "(n_jobs+1)*2",
        "2.5",
        1,
        2.5,
        np.int64(3),
    ],
    ids=repr,
)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_pre_dispatch_that_is_taken(pre_dispatch: Any, n_jobs: int) -> None:
    arguments = {"n_jobs": n_jobs, "backend": "threading", "pre_dispatch": pre_dispatch}
    theirs, ours = both(lambda library: library.Parallel(**arguments)(calls(library)))
    assert ours == theirs == list(range(7))


@pytest.mark.parametrize(
    "pre_dispatch",
    [
        "",
        "abc",
        "ALL",
        "n_jobs;1",
        "__import__('os')",
        "n_jobs.real",
        "10**10**10",
        "n_jobs^1",
        "~n_jobs",
        "nan",
        "(" * 5000,
        "1/0",
        None,
        [],
        -1,
        0,
        "0",
        "-n_jobs",
        "0*n_jobs",
        float("inf"),
        float("nan"),
        True,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_pre_dispatch_that_is_refused(pre_dispatch: Any) -> None:
    """joblib loses all calls without a word where it is 0."""
    with pytest.raises(ValueError, match=r"pre_dispatch=.*arithmetic on n_jobs such as '2 \* n_jo"):
        jobspan.Parallel(pre_dispatch=pre_dispatch)


@pytest.mark.parametrize(
    "batch_size", [1, 5, "auto", "AUTO", 0, -1, 1.0, None, np.int32(3), "3", []], ids=repr
)
def test_batch_sizes(batch_size: Any) -> None:
    arguments = {"n_jobs": 2, "backend": "threading", "batch_size": batch_size}
    theirs, ours = both(lambda library: library.Parallel(**arguments)(calls(library)))
    assert ours == theirs


NOT_GIVEN = "not given"


def chosen(library: Any, context: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """Return where calls would run, and how many at once."""
    with library.parallel_config(**context):
        parallel = library.Parallel(**arguments)
        return KINDS[type(parallel._backend).__name__], parallel.n_jobs


def given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value != NOT_GIVEN}


def test_every_mix_of_backends_numbers_and_hints() -> None:
    """Some 9,000 of them; where jobspan chooses otherwise is told below, and nowhere else."""
    backends = (NOT_GIVEN, "loky", "threading", "sequential")
    prefer = (NOT_GIVEN, "threads", "processes", None)
    require = (NOT_GIVEN, "sharedmem", None)
    mixes = itertools.product(
        (*backends, "multiprocessing"), (NOT_GIVEN, None, 3), prefer[:3], require[:2],
        backends, (NOT_GIVEN, None, 4), prefer, require,
    )  # fmt: skip
    otherwise = []
    for c_backend, c_jobs, c_prefer, c_require, backend, jobs, a_prefer, a_require in mixes:
        context = given(backend=c_backend, n_jobs=c_jobs, prefer=c_prefer, require=c_require)
        arguments = given(backend=backend, n_jobs=jobs, prefer=a_prefer, require=a_require)
        theirs, ours = both(lambda lib, c=context, a=arguments: chosen(lib, c, a))
        if ours == theirs or (
            isinstance(ours[0], tuple)
            and isinstance(theirs[0], tuple)
            and (ours[0][0] is theirs[0][0] or ours[1] == theirs[1])
        ):
            continue
        # A context whose settings contradict each other is refused when it is made.
        if (c_prefer, c_require) == ("processes", "sharedmem"):
            assert "inconsistent settings" in ours[1]
        # A context's hard constraint holds for a backend that is named in the block, too.
        elif c_require == "sharedmem" and a_require == NOT_GIVEN and backend == "loky":
            assert "does not support shared memory" in ours[1]
        # A context's number holds also where a hint asks for threads; joblib falls to 1 there.
        elif c_jobs == 3 and theirs[1] == 1:
            assert ours == (theirs[0], 3)
        else:
            otherwise.append((context, arguments, theirs, ours))
    assert not otherwise


@pytest.mark.parametrize(
    ("context", "arguments"),
    [
        ({}, {"prefer": "fast"}),
        ({}, {"require": "speed"}),
        ({}, {"prefer": "processes", "require": "sharedmem"}),
        ({"inner_max_num_threads": 2}, {}),
        ({}, {"return_as": "tuple"}),
        ({}, {"n_jobs": "many"}),
        ({}, {"batch_size": -1}),
    ],
    ids=repr,
)
def test_the_messages_begin_as_joblibs(context: dict[str, Any], arguments: Any) -> None:
    theirs, ours = both(lambda library: chosen(library, context, arguments))
    assert ours[0][0] in theirs[0]
    assert ours[1].startswith(theirs[1])


@pytest.mark.parametrize("backend", ["no-such-backend", "loky", "threading"])
def test_shared_memory_and_backends(backend: str) -> None:
    theirs, ours = both(lambda lib: lib.Parallel(backend=backend, require="sharedmem") and "taken")
    if theirs == "taken":
        assert ours == theirs
    else:
        assert issubclass(ours[0][0], theirs[0][0])


def test_a_fall_back_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for library in (joblib, jobspan):
        with library.parallel_config(backend="loky"):
            library.Parallel(n_jobs=2, require="sharedmem", verbose=10)
        told.append(capsys.readouterr().out)
    assert told[1].split()[2:6] == told[0].split()[2:6] == ["as", "joblib", "backend", "instead"]
    assert told[1].endswith("as the latter does not provide shared memory semantics.\n")


def test_contexts_nest_and_end_in_the_same_way() -> None:
    def seen(library: Any) -> list[Any]:
        at = [chosen(library, {}, {})]
        with library.parallel_config(backend="threading", n_jobs=3) as config:
            at.append(config["n_jobs"])
            at.append(chosen(library, {"n_jobs": 2}, {}))
            at.append(chosen(library, {"backend": "sequential"}, {}))
            with library.parallel_backend("threading") as (_, n_jobs):
                at.append(n_jobs)
                at.append(library.effective_n_jobs(None))
            at.append(chosen(library, {"verbose": 5}, {"n_jobs": None}))
        at.append(chosen(library, {}, {}))
        held = library.parallel_config(backend="threading", n_jobs=2)
        at.append(chosen(library, {}, {}))
        held.unregister()
        at.append(chosen(library, {}, {}))
        with pytest.raises(ZeroDivisionError), library.parallel_config(n_jobs=2):
            raise ZeroDivisionError
        at.append(chosen(library, {}, {}))
        return at

    theirs, ours = both(seen)
    assert ours == theirs
    assert isinstance(ours, list)


def test_a_context_serves_again() -> None:
    """Once ended, the object that set it changes nothing; a new one does."""

    def seen(library: Any) -> Any:
        config = library.parallel_config(backend="threading", n_jobs=2)
        with config:
            inside = chosen(library, {}, {})
        with library.parallel_config(backend="threading", n_jobs=2):
            return inside, chosen(library, {}, {})

    theirs, ours = both(seen)
    assert ours == theirs


def test_counters_and_names_that_users_read() -> None:
    def seen(library: Any) -> Any:
        parallel = library.Parallel(n_jobs=2, backend="threading", batch_size=3, return_as="list")
        with parallel as same:
            results = same(calls(library))
        return (
            results,
            same is parallel,
            repr(parallel),
            parallel.n_jobs,
            parallel.return_as,
            parallel.return_generator,
            parallel.return_ordered,
            parallel.batch_size,
            parallel.pre_dispatch,
            parallel.timeout,
            parallel.verbose,
            parallel.n_completed_tasks,
            parallel.n_dispatched_tasks,
        )

    theirs, ours = both(seen)
    assert ours == theirs


def test_progress_printed_by_a_subclass() -> None:
    def seen(library: Any) -> Any:
        done = []

        class Telling(library.Parallel):  # type: ignore[misc, name-defined]
            def print_progress(self) -> None:
                done.append(self.n_completed_tasks)

        results = Telling(n_jobs=2, backend="threading", batch_size=1)(calls(library))
        return results, max(done)

    theirs, ours = both(seen)
    assert ours == theirs


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_object_that_is_still_busy(return_as: str, n_jobs: int) -> None:
    """Called from within its own iterable, or while its generator is being consumed."""

    def run(library: Any) -> Any:
        parallel = library.Parallel(n_jobs=n_jobs, backend="threading", return_as=return_as)

        def within() -> Iterator[Any]:
            yield library.delayed(abs)(-1)
            parallel(calls(library))

        return list(parallel(within()))

    theirs, ours = both(run)
    assert ours == theirs
    assert "already running" in ours[1]

    def consume(library: Any) -> Any:
        parallel = library.Parallel(n_jobs=n_jobs, backend="threading", return_as=return_as)
        generator = parallel(calls(library))
        told = tried(lambda: parallel(calls(library)))
        return told, sorted(generator), sorted(parallel(calls(library)))

    theirs, ours = both(consume)
    assert ours == theirs


@pytest.mark.parametrize("what", [3, None, abs, 1.5], ids=repr)
def test_what_is_not_iterable(what: Any) -> None:
    for n_jobs in (1, 2):
        arguments = {"n_jobs": n_jobs, "backend": "threading"}
        theirs, ours = both(lambda library, a=arguments: library.Parallel(**a)(what))
        assert ours[0][0] is theirs[0][0] is TypeError
        assert "not iterable; pass calls" in ours[1]


def make_adder(by: int) -> Callable[[int], int]:
    return lambda x: x + by


class Holder:
    """A class whose instances hold what pickle refuses."""

    def __init__(self, by: int) -> None:
        self.adder = make_adder(by)

    def __call__(self, x: int) -> int:
        return self.adder(x)


@pytest.mark.parametrize("keep_wrapper", [True, False])
def test_wrap_non_picklable_objects(keep_wrapper: bool) -> None:
    def seen(library: Any) -> Any:
        wrap = library.wrap_non_picklable_objects
        wrapped = wrap(make_adder(2), keep_wrapper)
        again = pickle.loads(pickle.dumps(wrapped))
        kind = wrap(Holder, keep_wrapper)
        held = pickle.loads(pickle.dumps(kind(5)))
        return (
            wrapped(1),
            again(1),
            hasattr(again, "_obj"),
            kind.__name__,
            held(1),
            hasattr(held, "_obj"),
            held.adder(2),
        )

    theirs, ours = both(seen)
    assert ours == theirs
    wrapped = jobspan.wrap_non_picklable_objects(make_adder(2))
    parallel = jobspan.Parallel(n_jobs=2)
    assert parallel(jobspan.delayed(wrapped)(i) for i in range(3)) == [2, 3, 4]


@pytest.mark.parametrize("only_physical_cores", [False, True])
@pytest.mark.parametrize("limit", [None, "1", "1000"])
def test_cpu_count(
    monkeypatch: pytest.MonkeyPatch, only_physical_cores: bool, limit: str | None
) -> None:
    if limit is not None:
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", limit)
    theirs, ours = both(lambda lib: lib.cpu_count(only_physical_cores=only_physical_cores))
    assert ours == theirs


def test_delayed() -> None:
    theirs, ours = both(lambda library: library.delayed(pow)(2, exp=5))
    assert ours == theirs == (pow, (2,), {"exp": 5})
