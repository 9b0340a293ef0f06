"""``Parallel`` and ``Memory`` together: stored results never travel, ended runs go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest

from jobspan import Memory, Parallel, delayed
from jobspan.parallel import intake
from jobspan.testing.proxy import Proxy

RUN = Path(__file__).with_name("run.py")
LOCAL = ["sequential", "threads", "processes"]


def where(x):
    return x, os.getpid()


def run(backend, tmp_path, calls=20, seconds=0.0, **options):
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(RUN),
        backend,
        str(tmp_path / "cache"),
        str(tmp_path / "log"),
        str(calls),
    ]
    environment = {**os.environ, "SECONDS": str(seconds)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, **options)


def computed(tmp_path):
    log = tmp_path / "log"
    return Counter(log.read_text().split()) if log.exists() else Counter()


@pytest.mark.parametrize("backend", LOCAL)
@pytest.mark.parametrize("form", ["decorated", "memory="])
def test_stored_results_never_travel_and_workers_store_what_they_compute(tmp_path, backend, form):
    memory = Memory(tmp_path, verbose=0)
    options = {"n_jobs": 2, "backend": backend}
    function = memory.cache(where) if form == "decorated" else where
    parallel = Parallel(**options, **({} if form == "decorated" else {"memory": memory}))
    first = parallel(delayed(function)(x) for x in range(12))
    assert [x for x, _ in first] == list(range(12))
    if backend == "processes":
        assert os.getpid() not in {pid for _, pid in first}
        assert memory.stats()["bytes_written"] == 0  # the workers have written
    parallel(delayed(function)(x) for x in range(20))
    assert parallel.stats.recalled == 12
    again = parallel(delayed(function)(x) for x in range(12))
    assert again == first
    assert parallel.stats.recalled == 12
    assert parallel.n_dispatched_batches == 0


@pytest.mark.parametrize("backend", LOCAL)
def test_a_cached_function_inside_of_calls(tmp_path, backend):
    memory = Memory(tmp_path, verbose=0)
    inner = memory.cache(where)

    def outer(x):
        return inner(x % 3)

    found = Parallel(n_jobs=2, backend=backend)(delayed(outer)(x) for x in range(12))
    assert len(set(found)) == 3  # with single flight each is computed once, whoever asks


def test_stored_results_of_a_bucket_are_read_at_once(moto_place, moto_server):
    moto_place.memory().cache(pow)(2, 0)
    Parallel(n_jobs=2, backend="threads", memory=moto_place.memory())(
        delayed(pow)(2, x) for x in range(50)
    )
    with Proxy(moto_server.endpoint) as proxy:
        memory = moto_place.through(proxy).memory()
        parallel = Parallel(n_jobs=2, backend="processes", memory=memory)
        proxy.reset()
        assert parallel(delayed(pow)(2, x) for x in range(50)) == [2**x for x in range(50)]
        assert proxy.counts == {"GET": 50}
        assert parallel.stats.recalled == 50
        assert memory.stats()["hits"] == 50


@pytest.mark.parametrize("form", ["decorated", "memory=", "method"])
@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_a_miss_in_a_bucket_makes_three_requests(moto_place, moto_server, backend, form):
    calls = 20
    with Proxy(moto_server.endpoint) as proxy:
        memory = moto_place.through(proxy).memory()
        parallel = Parallel(n_jobs=2, backend=backend, memory=memory if form == "memory=" else None)

        class Adder:
            @memory.cache
            def add(self, x):
                return x + 1

        function = {"decorated": memory.cache(where), "memory=": where, "method": Adder().add}[form]
        memory.cache(pow)(2, 1)  # whether conditions are kept is found out once a process
        proxy.reset()
        found = parallel(delayed(function)(x) for x in range(calls))
        assert proxy.counts == {"GET": calls, "PUT": 2 * calls}
        proxy.reset()
        assert parallel(delayed(function)(x) for x in range(calls)) == found
        assert proxy.counts == {"GET": calls}


def test_what_others_store_between_look_and_run_is_read(moto_place):
    runs = []

    def step(x):
        if x == 0:  # all were looked up by now, and another host is quicker with the rest
            for later in range(1, 8):
                elsewhere(later)
        runs.append(x)
        return -x

    elsewhere = moto_place.memory().cache(step, version=1)
    here = moto_place.memory().cache(step, version=1)
    parallel = Parallel(n_jobs=2, backend="threads", pre_dispatch="all", batch_size=8)
    assert parallel(delayed(here)(x) for x in range(8)) == [-x for x in range(8)]
    assert sorted(runs) == [*range(8)]
    assert parallel.stats.recalled == 0


def test_equal_calls_are_computed_once(moto_place):
    runs = []

    def step(x):
        runs.append(x)
        return -x

    cached = moto_place.memory().cache(step, version=1)
    parallel = Parallel(n_jobs=2, backend="threads")
    assert parallel(delayed(cached)(x % 3) for x in range(30)) == [-(x % 3) for x in range(30)]
    assert sorted(runs) == [0, 1, 2]


@pytest.mark.parametrize("pre_dispatch", ["2*n_jobs", "all"])
@pytest.mark.parametrize(
    "mix", ["pc", "ppppppcc", "cp", "cpd", "pcdpd", "p" * 300 + "c" * 20 + "pd" * 20]
)
def test_any_mix_of_plain_and_cached_functions(tmp_path, mix, pre_dispatch):
    memory = Memory(tmp_path, verbose=0)
    functions = {"p": abs, "c": memory.cache(where), "d": memory.cache(hash)}
    numbers = list(enumerate(mix, 1))
    for number, kind in numbers:
        functions[kind](number)
    parallel = Parallel(n_jobs=2, backend="threads", pre_dispatch=pre_dispatch)
    found = parallel(delayed(functions[kind])(number) for number, kind in numbers)
    assert found == [(n, os.getpid()) if kind == "c" else n for n, kind in numbers]
    assert parallel.stats.recalled == len(mix) - mix.count("p")


def test_prefetch_fills_the_tier(moto_place, moto_server, tmp_path):
    writer = moto_place.memory()
    power = writer.cache(pow)
    for x in range(5):
        power(2, x)
    with Proxy(moto_server.endpoint) as proxy:
        memory = moto_place.through(proxy).memory(local_tier=tmp_path / "tier")
        calls = [delayed(pow)(2, x) for x in range(4)]
        calls += [delayed(memory.cache(pow))(2, x) for x in (4, 99)]
        assert memory.prefetch(iter(calls)) == 5
        proxy.reset()
        assert [memory.cache(pow)(2, x) for x in range(5)] == [1, 2, 4, 8, 16]
        assert not proxy.counts


def test_prefetch_takes_methods_as_they_are_cached(tmp_path):
    memory = Memory(tmp_path / "cache", local_tier=tmp_path / "tier", verbose=0)

    class Model:
        def __init__(self, scale):
            self.scale = scale

        @memory.cache(ignore=["self"], version=1)
        def triple(self, x):
            return 3 * x

    assert [Model(x).triple(x) for x in range(3)] == [0, 3, 6]
    assert memory.prefetch(delayed(Model(9).triple)(x) for x in range(5)) == 3


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_an_ended_run_goes_on_where_it_stopped(tmp_path, how):
    calls = 40
    process = run("processes", tmp_path, calls, 0.05, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while sum(computed(tmp_path).values()) < 10:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    assert process.wait(30) != 0
    time.sleep(0.5)  # workers whose parent is gone end with the call they run
    begun = sum(computed(tmp_path).values())
    assert begun < calls
    done = run("threads", tmp_path, calls)  # on another backend
    assert done.communicate(timeout=60)[0].endswith("recalled\n")
    runs = computed(tmp_path)
    assert len(runs) == calls
    assert sum(runs.values()) <= calls + 2  # no more anew than were running just then


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_run_goes_on_upon_a_cluster(tmp_path, backend):
    first = run("processes", tmp_path, 10)
    assert first.communicate(timeout=60)[0] == "0 recalled\n"
    second = run(backend, tmp_path, 14)
    recalled, warning = second.communicate(timeout=100)[0].split("\n")
    assert recalled == "10 recalled"
    assert f"which workers of the {backend} cluster on other machines do not see" in warning
    assert set(computed(tmp_path).values()) == {1}
    third = run("threads", tmp_path, 14)  # the workers have stored what they computed
    assert third.communicate(timeout=60)[0] == "14 recalled\n"


@pytest.fixture
def dask_client():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_a_local_cache_on_a_cluster_is_warned_of_once(tmp_path, dask_client, monkeypatch):
    monkeypatch.setattr(intake, "_warned_of", set())
    memory = Memory(tmp_path, verbose=0)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for options in ({"memory": memory}, {"memory": memory}, {}):
            function = pow if options else memory.cache(pow)
            parallel = Parallel(n_jobs=2, backend="dask", client=dask_client, **options)
            assert parallel(delayed(function)(2, x) for x in range(3)) == [1, 2, 4]
    told = [str(each.message) for each in warned if "not shared" in str(each.message)]
    assert len(told) == 1
    assert memory.store_backend.url in told[0]
    assert "s3://bucket/prefix" in told[0]
    assert {each.filename for each in warned if "not shared" in str(each.message)} == {__file__}


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_cluster_started_here_has_nothing_to_warn_of(tmp_path, backend):
    """Its workers share this machine's folders; and Dask's usual port may well be taken."""
    script = """if True:
        import socket, sys
        from jobspan import Memory, Parallel, delayed
        occupied = socket.socket()
        try:
            occupied.bind(("127.0.0.1", 8787))
            occupied.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        cached = Memory(sys.argv[1], verbose=0).cache(pow)
        print(Parallel(n_jobs=2, backend=sys.argv[2])(delayed(cached)(2, x) for x in range(3)))
    """
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), backend],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[1, 2, 4]\n", "")


def test_two_versions_of_the_code_share_a_place_and_lose_no_hit(moto_place):
    def version(constant):
        def step(x):
            return x + constant

        return step

    for round_number in range(2):
        for constant in (1, 2):
            memory = moto_place.memory()
            step = version(constant)
            found = Parallel(n_jobs=2, backend="threads", memory=memory)(
                delayed(step)(x) for x in range(5)
            )
            assert found == [x + constant for x in range(5)]
            stats = memory.stats()
            assert (stats["hits"], stats["misses"]) == ((5, 0) if round_number else (0, 5))
