"""What cannot be meant is refused within seconds, with the value and what to type next."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobspan import Memory, Parallel, RetryPolicy, cpu_count, delayed, parallel_config
from jobspan.ambient import current
from jobspan.errors import (
    BackendUnreachableError,
    JobspanError,
    MissingExtraError,
    StoreLocationError,
    UnknownBackendError,
)
from jobspan.memory import MemorizedFunc, MemorizedResult


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("spec", ["dsak", "dsak://host:1", "dask://", 3, object()])
def test_unknown_backends(spec: Any) -> None:
    for use in (lambda: Parallel(backend=spec), lambda: parallel_config(backend=spec)):
        with pytest.raises(ValueError, match=r"backend|dask://") as caught:
            use()
        assert isinstance(caught.value, UnknownBackendError)


def test_a_close_name_is_suggested() -> None:
    with pytest.raises(UnknownBackendError, match="Did you mean 'threads'"):
        Parallel(backend="thraeds")


@pytest.mark.parametrize("scheme", ["dask", "ray"])
def test_unreachable_clusters(scheme: str) -> None:
    pytest.importorskip("distributed" if scheme == "dask" else "ray")
    address = f"{scheme}://127.0.0.1:{unused_port()}"
    begin = time.monotonic()
    with pytest.raises(BackendUnreachableError, match=address) as caught:
        Parallel(n_jobs=2, backend=address)([delayed(abs)(-1)])
    assert isinstance(caught.value, ConnectionError)
    assert f"backend='{scheme}'" in str(caught.value)
    assert time.monotonic() - begin < 15


@pytest.mark.parametrize("where", [Parallel, parallel_config])
def test_no_jobs(where: Any) -> None:
    with pytest.raises(ValueError, match="n_jobs == 0 in Parallel has no meaning"):
        where(n_jobs=0)


def test_inconsistent_hints() -> None:
    with pytest.raises(ValueError, match="inconsistent settings"):
        Parallel(prefer="processes", require="sharedmem")
    with pytest.raises(ValueError, match="does not support shared memory"):
        Parallel(backend="processes", require="sharedmem")


def test_unknown_options_name_the_backend() -> None:
    with pytest.raises(TypeError, match="threads"):
        Parallel(backend="threads", number_of_cores=3)
    with pytest.raises(ValueError, match="only supported when backend is not None"):
        parallel_config(n_jobs=2, number_of_cores=3)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBSPAN_BACKEND", "threads")
    monkeypatch.setenv("JOBSPAN_N_JOBS", "3")
    parallel = Parallel()
    assert parallel([delayed(abs)(-1)] * 4) == [1] * 4
    assert (parallel.stats.backend, parallel.stats.n_jobs) == ("threads", 3)
    monkeypatch.setenv("JOBSPAN_N_JOBS", "many")
    with pytest.raises(ValueError, match="JOBSPAN_N_JOBS='many'"):
        Parallel()
    monkeypatch.setenv("JOBSPAN_BACKEND", "cluster")
    with pytest.raises(UnknownBackendError, match="cluster"):
        Parallel()


@pytest.mark.parametrize("name", ["JOBSPAN_MAX_CPU_COUNT", "LOKY_MAX_CPU_COUNT"])
def test_a_limit_of_cores_in_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    assert cpu_count() >= 1
    monkeypatch.setenv(name, "two")
    with pytest.raises(ValueError, match=f"{name}='two' is no whole number"):
        Parallel(n_jobs=-1)


async def coroutine(x: int) -> int:
    await asyncio.sleep(0)
    return x


def test_a_call_made_too_early_is_told_at_once() -> None:
    with pytest.raises(TypeError, match=r"write delayed\(f\)\(x\)"):
        delayed(time.sleep(0))  # type: ignore[func-returns-value, arg-type]


def test_one_call_is_no_iterable_of_calls() -> None:
    with pytest.raises(TypeError, match=r"is one call; pass .* Parallel\(\)\(\[delayed"):
        Parallel(n_jobs=2)(delayed(abs)(-1))
    assert Parallel()((delayed(abs)(-1), delayed(dict)(), delayed(abs)(-3))) == [1, {}, 3]


def test_coroutine_functions_are_refused() -> None:
    with pytest.raises(TypeError, match="async function"):
        Parallel()([delayed(coroutine)(1)])


def test_locations(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(StoreLocationError, match="file"):
        Memory(file)
    with pytest.raises(ValueError, match="nowhere"):
        Memory("nowhere://bucket/prefix")
    with pytest.raises(ValueError, match="mode='x'"):
        Memory(tmp_path, mode="x")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"verbose": "loud"}, "verbose='loud': pass a number"),
        ({"verbose": None}, "verbose=None: pass a number"),
        ({"safe": "no"}, "safe='no': pass True or False"),
        ({"single_flight": "no"}, "single_flight='no': pass True or False"),
        ({"backend_options": 3}, "backend_options is a int; pass a dict"),
        ({"local_tier": 3}, "local_tier=3: pass the path of a folder"),
        ({"backend": ["s3"]}, r"backend \['s3'\]; register it with register_store_backend"),
    ],
)
def test_arguments_of_a_memory(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        Memory(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ignore": "base"}, "ignore='base': pass the names of arguments in a list"),
        ({"ignore": 3}, "ignore=3: pass the names of arguments in a list"),
        ({"ignore": [["base"]]}, r"ignore=\[\['base'\]\]: pass the names of arguments in a list"),
        ({"depends": "table.csv"}, r"depends='table.csv': pass .* in a list: \['table.csv'\]"),
        ({"depends": Path("table.csv")}, r"depends=.*: pass what results depend on in a list"),
        ({"version": object()}, "version=<object .*>: pass text or a number"),
        ({"verbose": "loud"}, "verbose='loud': pass a number"),
    ],
)
def test_arguments_of_cache(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    """Text is no list of its letters: it would be taken for one without a word."""
    with pytest.raises((TypeError, ValueError), match=says):
        Memory(tmp_path, verbose=0).cache(pow, **arguments)


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        (3, r"int 3 is not iterable; pass calls, as in memory\.prefetch\(delayed\(f\)\(x\) for x"),
        (None, "NoneType None is not iterable; pass calls"),
        (delayed(pow)(2, 3), r"is one call; pass .* memory\.prefetch\(\[delayed\(f\)\(x\)\]\)"),
        ([delayed(abs)(-1), 3], "call 1 is int 3, not a call; write delayed"),
        ([abs], "call 0 is builtin_function_or_method .*, not a call"),
        ([(abs, 1)], "call 0 is tuple .*, not a call"),
        ([(3, (), {})], r"cache\(3\): int is not callable; pass a function"),
    ],
)
def test_what_cannot_be_prefetched(tmp_path: Path, calls: Any, says: str) -> None:
    for memory in (Memory(tmp_path, verbose=0), Memory(None)):
        with pytest.raises(TypeError, match=says):
            memory.prefetch(calls)
        assert memory.prefetch([delayed(abs)(-1)]) == 0


def test_what_cannot_be_evaluated(tmp_path: Path) -> None:
    for memory in (Memory(tmp_path, verbose=0), Memory(None)):
        for wrong in (3, None):
            with pytest.raises(TypeError, match=f"cache\\({wrong}\\): .* is not callable; pass a"):
                memory.eval(wrong)


@pytest.mark.parametrize("call_id", [3, None, ("f",), ("f", 3), (3, "0" * 64), ("f", "0")])
def test_what_names_no_result(tmp_path: Path, call_id: Any) -> None:
    with pytest.raises(ValueError, match=r"call_id=.*: pass the function's name and the key's"):
        MemorizedResult(tmp_path, call_id)


def test_a_cached_function_made_by_hand(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expires='soon': pass a number of seconds"):
        MemorizedFunc(abs, tmp_path, expires="soon")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="cache_validation_callback needs to be callable"):
        MemorizedFunc(abs, tmp_path, cache_validation_callback=3)  # type: ignore[arg-type]


def test_misspelt_arguments() -> None:
    with pytest.raises(TypeError, match=r"'n_job'. Did you mean n_jobs=\?"):
        Parallel(n_job=2)
    with pytest.raises(TypeError, match=r"Did you mean timeout=\?"):
        Parallel(n_jobs=2, backend="threads", timout=2)
    with pytest.raises(ValueError, match=r"Got njobs=2. Did you mean n_jobs=\?"):
        parallel_config(njobs=2)
    with pytest.raises(TypeError, match=r"Did you mean verbose=\?"):
        parallel_config("threads", verbos=2)
    with parallel_config("threads"), pytest.raises(TypeError, match=r"Did you mean batch_size=\?"):
        Parallel(batchsize=2)


def test_every_argument_is_meant_where_it_is_taken_and_nowhere_else() -> None:
    with parallel_config("threads", n_jobs=1):
        for name in inspect.signature(Parallel).parameters:
            if name != "backend_kwargs":
                with pytest.raises(TypeError, match=rf"Did you mean {name}=\?"):
                    Parallel(**{f"{name}x": 1})
    for name in inspect.signature(parallel_config).parameters:
        if name != "backend_params":
            with pytest.raises(ValueError, match=rf"Did you mean {name}=\?"):
                parallel_config(**{f"{name}x": 1})
    with pytest.raises(ValueError, match=r"Got batchsize=2: pass backend= as well"):
        parallel_config(batchsize=2)


def test_a_missing_bucket(moto_server: Any) -> None:
    with pytest.raises(OSError, match="no-such-bucket") as caught:
        Memory("s3://no-such-bucket/prefix", storage_options=moto_server.storage_options)
    assert isinstance(caught.value, JobspanError)


def test_a_missing_extra_says_what_to_install() -> None:
    error = MissingExtraError("backend 'ray'", "ray")
    assert "pip install 'jobspan[ray]'" in str(error)
    assert isinstance(error, ImportError)


class Odd:
    """What nothing takes."""

    def __repr__(self) -> str:
        return "Odd()"


NAN, INF = float("nan"), float("inf")

WRONG: dict[str, list[Any]] = {
    "n_jobs": [0, "many", NAN, INF, [], Odd()],
    "backend": ["dsak", 3, b"dask", [], Odd()],
    "verbose": [None, "loud", NAN, INF, [], Odd()],
    "temp_folder": [3, True, b"folder", [], Odd()],
    "max_nbytes": [-1, "1X", "M", "-1M", "infM", NAN, INF, True, [], Odd()],
    "mmap_mode": ["x", 3, b"r", [], Odd()],
    "prefer": ["fast", 3, [], Odd()],
    "require": ["speed", 3, [], Odd()],
    "inner_max_num_threads": [0, -1, 1.5, "2", True, Odd()],
    "progress": ["bar", 3, 0, [], Odd()],
    "on_error": ["ignore", None, 3, [], Odd()],
    "retries": [-1, 1.5, "3", True, [], Odd()],
    "task_timeout": [-1, NAN, "1", True, [], Odd()],
    "initializer": ["print", 3, [], Odd()],
    "initargs": ["x", None, 3, {}, Odd()],
    "max_pending": [0, -1, 1.5, "2", True, INF, Odd()],
    "report": ["", 3, True, b"run.html", [], Odd()],
    "propagate": [0, "x", ["x"], True, Odd()],
}
ONLY_PARALLEL: dict[str, list[Any]] = {
    "return_as": ["tuple", None, 3, [], Odd()],
    "timeout": [-1, NAN, "1", True, [], Odd()],
    "pre_dispatch": ["import os", 0, None, [], Odd()],
    "batch_size": ["big", 0, -1, 1.5, None, True, [], Odd()],
    "memory": ["cache", 3, [], Odd()],
}
ONLY_CONFIG: dict[str, list[Any]] = {"bridge": [0, "yes", [], Odd()]}
REFUSED = [
    pytest.param(where, name, value, id=f"{where.__name__}-{name}-{value!r}")
    for where, more in ((Parallel, ONLY_PARALLEL), (parallel_config, ONLY_CONFIG))
    for name, values in {**WRONG, **more}.items()
    for value in values
]


@pytest.mark.parametrize(("where", "name", "value"), REFUSED)
def test_every_wrong_argument_is_refused_at_once(where: Any, name: str, value: Any) -> None:
    """By name, with the value and with what is taken, before a worker or a connection is there."""
    before, settings = set(threading.enumerate()), current()
    more = {"backend": "threads"} if name == "inner_max_num_threads" else {}
    with pytest.raises((TypeError, ValueError), match=r"pass|xpected|must be|meaning") as caught:
        where(**{name: value}, **more)
    text = str(caught.value)
    assert name in text
    assert repr(value) in text or str(value) in text
    assert set(threading.enumerate()) == before
    assert current() is settings


def test_every_argument_of_both_is_tried() -> None:
    for where, more in ((Parallel, ONLY_PARALLEL), (parallel_config, ONLY_CONFIG)):
        names = {
            name
            for name, parameter in inspect.signature(where).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        }
        assert names == {*WRONG, *more}


TAKEN: dict[str, list[Any]] = {
    "verbose": [0, 3, 1.5, True, np.int64(1)],
    "temp_folder": [None, "/tmp", Path("/tmp")],
    "max_nbytes": [None, 0, 10.5, "1K", "1.5M", "2g", np.int64(5)],
    "mmap_mode": [None, "r", "c", "r+", "w+"],
    "inner_max_num_threads": [None, 1, np.int64(2)],
    "progress": [None, True, False, print],
    "retries": [None, 0, 3, np.int64(3), RetryPolicy(attempts=1)],
    "task_timeout": [None, 5, 5.5, INF, np.int64(5), np.float32(5)],
    "timeout": [None, 5, 5.5, INF, np.int64(5)],
    "initargs": [(), (1,), [1]],
    "max_pending": [None, 3, np.int64(3)],
    "propagate": [None, (), [], contextvars.ContextVar("x"), [contextvars.ContextVar("y")]],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(n, v, id=f"{n}-{i}") for n, vs in TAKEN.items() for i, v in enumerate(vs)],
)
def test_every_form_that_is_taken(name: str, value: Any, capsys: Any) -> None:
    arguments: dict[str, Any] = {"backend": "threads", name: value}
    assert Parallel(n_jobs=2, **arguments)(delayed(abs)(-i) for i in range(5)) == list(range(5))


@pytest.mark.parametrize(
    "arguments",
    [
        {"attempts": -1},
        {"attempts": 1.5},
        {"attempts": True},
        {"lost_attempts": "2"},
        {"exceptions": "ValueError"},
        {"exceptions": [ValueError]},
        {"exceptions": (ValueError, 3)},
        {"delay": -1},
        {"delay": "1"},
        {"backoff": NAN},
        {"longest_delay": None},
        {"jitter": 2},
        {"jitter": "0.5"},
    ],
    ids=str,
)
def test_wrong_retry_policies(arguments: dict[str, Any]) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises((TypeError, ValueError), match="pass") as caught:
        RetryPolicy(**arguments)
    assert f"RetryPolicy({name}={value!r})" in str(caught.value)


def test_arguments_of_map() -> None:
    parallel = Parallel(n_jobs=2, backend="threads")
    with pytest.raises(TypeError, match="pass an iterable for each argument"):
        parallel.map(pow)
    with pytest.raises(TypeError, match=r"argument 2 of Parallel\.map after the function is int 3"):
        parallel.map(pow, [1], 3)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match="int is not callable"):
        parallel.map(3, [1])  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match="async function"):
        parallel.map(coroutine, [1])
    told: list[Any] = []
    told_of = Parallel(n_jobs=2, backend="threads", progress=told.append)
    assert told_of.map(pow, [2, 3, 4], (5, 2)) == [32, 9]
    assert told[0].total == 2
    assert parallel.map(pow, iter([2, 3]), [5, 2, 7]) == [32, 9]


def test_arguments_of_acall() -> None:
    for return_as in ("list", "generator"):
        parallel = Parallel(n_jobs=2, backend="threads", return_as=return_as)
        with pytest.raises(TypeError, match="int 3 is not iterable; pass calls"):
            parallel.acall(3)  # type: ignore[arg-type]  # on purpose

    async def wait() -> None:
        await Parallel(n_jobs=2, backend="threads").acall([abs])

    with pytest.raises(TypeError, match="not a call; write delayed"):
        asyncio.run(wait())


class Asynchronous:
    async def __call__(self, x: int) -> int:
        return x

    async def method(self, x: int) -> int:
        return x


class Generating:
    def __call__(self, x: int) -> Iterator[int]:
        yield x

    def method(self, x: int) -> Iterator[int]:
        yield x


async def asynchronous_generator(x: int) -> AsyncIterator[int]:
    yield x


@pytest.mark.parametrize("backend", ["sequential", "threads", "processes"])
@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (coroutine, "an async function"),
        (partial(coroutine), "an async function"),
        (asynchronous_generator, "an async function"),
        (Asynchronous(), "an async function"),
        (partial(Asynchronous()), "an async function"),
        (Asynchronous().method, "an async function"),
        (Generating(), "a generator function"),
        (Generating().method, "a generator function"),
        (partial(partial(Generating())), "a generator function"),
        (3, "int is not callable"),
    ],
)
def test_functions_that_no_worker_can_run(backend: str, function: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=kind):
        Parallel(n_jobs=2, backend=backend)([delayed(function)(1)] * 3)


def test_an_async_function_that_is_cached(tmp_path: Path) -> None:
    cached = Memory(tmp_path, verbose=0).cache(coroutine)
    with pytest.raises(TypeError, match="async function"):
        Parallel(n_jobs=2, backend="threads")([delayed(cached)(1)])


@pytest.mark.parametrize("backend", ["sequential", "threads", "processes"])
@pytest.mark.parametrize(
    "wrong", [abs, (abs, (1,)), [abs, (1,), {}], None, "abs", 3, (abs, (1,), {}, 4)]
)
def test_what_is_no_call(backend: str, wrong: Any) -> None:
    calls = [delayed(abs)(-1), wrong]
    for given in (calls, iter(calls)):
        with pytest.raises(TypeError, match=r"call 1 is \w+ .*, not a call; write delayed"):
            Parallel(n_jobs=2, backend=backend)(given)


@pytest.mark.parametrize("backend", ["sequential", "threads"])
def test_what_is_no_call_among_cached_ones(backend: str, tmp_path: Path) -> None:
    """Those are looked up many at once, read ahead."""
    cached = Memory(tmp_path, verbose=0).cache(pow)
    calls = [*(delayed(cached)(2, x) for x in range(5)), abs]
    with pytest.raises(TypeError, match="call 5 is builtin_function_or_method"):
        Parallel(n_jobs=2, backend=backend)(iter(calls))


@pytest.mark.parametrize("value", ["0", "1.5", "many"])
def test_the_number_in_the_environment(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("JOBSPAN_N_JOBS", value)
    with pytest.raises(ValueError, match=f"JOBSPAN_N_JOBS='{value}'"):
        Parallel()


def test_a_setting_without_a_backend_is_named() -> None:
    with pytest.raises(ValueError, match=r"Got inner_max_num_threads=2: pass backend= as well"):
        parallel_config(inner_max_num_threads=2)
    with pytest.raises(ValueError, match=r"Got n_cores=3: pass backend= as well"):
        parallel_config(n_cores=3)
