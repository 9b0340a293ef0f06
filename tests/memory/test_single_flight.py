"""Of all who want one result, one computes it: whoever dies, stops, or has no clock."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobspan.memory import single_flight
from jobspan.store import open_store
from jobspan.store.conditions import StoreWithoutConditionsWarning
from jobspan.testing.faults import FailingStore
from jobspan.testing.proxy import Fault, Proxy

CROWD = Path(__file__).with_name("crowd.py")

HOLDER = """
import json, os, sys, time
from jobspan import Memory

url, options, folder, lease = sys.argv[1:]
memory = Memory(url, storage_options=json.loads(options) or None, verbose=0,
                lease_seconds=float(lease))

@memory.cache(version=1)
def who(x):
    open(os.path.join(folder, "computing"), "w").close()
    while not os.path.exists(os.path.join(folder, "go on")):
        time.sleep(0.01)
    return "the first"

print(who(1), flush=True)
"""


@pytest.mark.parametrize(
    ("place", "processes", "keys"),
    [("local", 16, 50), ("seaweedfs", 16, 50), ("moto", 4, 10)],
    indirect=["place"],
)
def test_sixteen_processes_compute_each_of_fifty_keys_once(place, tmp_path, processes, keys):
    """Half of them call a function, half await a coroutine function: each key twice in all."""
    log = tmp_path / "log"
    subprocess.run(
        [
            sys.executable,
            str(CROWD),
            place.url,
            json.dumps(place.options),
            str(log),
            str(processes),
            str(keys),
        ],
        check=True,
        timeout=110,
    )
    runs = Counter(log.read_text().split())
    assert sum(runs.values()) == 2 * keys
    assert set(runs.values()) == {1, 2}
    assert runs.pop("0") == 2  # 0 is -0
    assert set(runs.values()) == {1}


@pytest.fixture
def holder(place, tmp_path):
    """Start a process that holds the claim of ``who(1)`` until it is told to go on."""
    folder = tmp_path / "holder"
    folder.mkdir()
    (folder / "holder.py").write_text(HOLDER)
    process = subprocess.Popen(
        [
            sys.executable,
            str(folder / "holder.py"),
            place.url,
            json.dumps(place.options),
            str(folder),
            "2",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (folder / "computing").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.go_on = (folder / "go on").touch
    yield process
    process.kill()
    process.wait(10)


def who_of(place, answer, **arguments):
    memory = place.memory(lease_seconds=2, **arguments)

    def who(x):
        return answer

    who.__module__, who.__qualname__ = "__main__", "who"  # the same key as the holder's
    return memory.cache(who, version=1)


@pytest.mark.parametrize("place", ["local", "moto", "seaweedfs"], indirect=True)
def test_when_the_holder_is_killed_another_takes_over_within_the_lease(place, holder):
    holder.kill()
    holder.wait(10)
    begin = time.monotonic()
    assert who_of(place, "the second")(1) == "the second"
    assert time.monotonic() - begin < 2 + 4  # the lease, and the longest pause between two looks


@pytest.mark.parametrize("place", ["moto"], indirect=True)
def test_a_holder_that_was_stopped_does_not_write_over_the_result_of_who_took_over(place, holder):
    holder.send_signal(signal.SIGSTOP)
    second = who_of(place, "the second")
    assert second(1) == "the second"
    holder.go_on()
    holder.send_signal(signal.SIGCONT)
    assert holder.communicate(timeout=30)[0] == "the first\n"  # it has its own result
    assert second(1) == "the second"
    assert second.cache.counts.hits == 1


@pytest.mark.parametrize("place", ["local", "moto"], indirect=True)
def test_a_living_holder_is_waited_for_beyond_its_lease(place, holder):
    second = who_of(place, "the second")
    threading.Timer(3.5, holder.go_on).start()
    assert second(1) == "the first"
    assert second.cache.counts.misses == 0


@pytest.mark.parametrize("place", ["local", "moto"], indirect=True)
def test_who_has_waited_long_enough_computes_by_himself(place, holder):
    assert who_of(place, "impatient", patience_seconds=0.3)(1) == "impatient"


@pytest.mark.parametrize("place", ["moto"], indirect=True)
def test_a_clock_that_stands_still_holds_nobody_up(place, holder, monkeypatch):
    """The store's clock tells that the lease is over, whatever this machine's says."""
    holder.kill()
    stopped = SimpleNamespace(time=lambda: 0.0, monotonic=lambda: 1e6, sleep=time.sleep)
    monkeypatch.setattr(single_flight, "time", stopped)
    assert who_of(place, "the second")(1) == "the second"


@pytest.mark.parametrize("place", ["moto"], indirect=True)
def test_a_clock_of_the_store_that_stands_still_holds_nobody_up(place, holder, monkeypatch):
    """Who sees a claim unchanged for a lease takes it over, whatever the store's clock says."""
    holder.kill()
    second = who_of(place, "the second")
    monkeypatch.setattr(type(second.store_backend), "age", lambda *_: 0.0)
    assert second(1) == "the second"


@pytest.mark.parametrize("place", ["moto"], indirect=True)
def test_coroutines_wait_for_a_holder_too(place, holder):
    memory = place.memory(lease_seconds=2)

    async def who(x):
        return "the second"

    who.__module__, who.__qualname__ = "__main__", "who"  # the same key as the holder's
    cached = memory.cache(who, version=1)

    async def main():
        threading.Timer(0.5, holder.go_on).start()
        return await asyncio.gather(*(cached(1) for _ in range(10)))

    assert set(asyncio.run(main())) == {"the first"}


def test_a_cancelled_coroutine_gives_its_claim_up(tmp_path):
    from jobspan import Memory

    memory = Memory(tmp_path, verbose=0, patience_seconds=20)

    @memory.cache(version=1)
    async def slow(x):
        await asyncio.sleep(x)
        return x

    async def main():
        for pause in (0.0, 0.001, 0.01, 0.1):
            task = asyncio.create_task(slow(0.2))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return await asyncio.wait_for(slow(0.2), 10)

    assert asyncio.run(main()) == 0.2


@pytest.fixture
def proxy(moto_server):
    with Proxy(moto_server.endpoint) as proxy:
        yield proxy


def once(memory):
    runs = []

    @memory.cache(version=1, ignore=["runs"])
    def square(x, runs):
        runs.append(x)
        return x * x

    return lambda x: square(x, runs), runs


@pytest.mark.parametrize("engine", ["obstore", "s3fs"])
@pytest.mark.parametrize("kind", ["unavailable", "lost request", "lost answer"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_requests_that_fail_are_tried_again(moto_place, proxy, kind, method, engine):
    place = moto_place.through(proxy)
    if engine == "s3fs":
        place.options["config_kwargs"] = {"connect_timeout": 20}  # obstore does not know it
    memory = place.memory()
    assert memory.store_backend.conditional
    square, runs = once(memory)
    for x in range(1, 4):
        proxy.inject(Fault(kind, method))
        assert square(x) == x * x
    assert [square(x) for x in range(1, 4)] == [1, 4, 9]
    assert runs == [1, 2, 3]


def test_a_server_that_never_answers_costs_no_result(moto_place, proxy):
    place = moto_place.through(proxy)
    place.options["config_kwargs"] = {"read_timeout": 1, "retries": {"max_attempts": 0}}
    memory = place.memory(single_flight=False)
    square, runs = once(memory)
    proxy.inject(Fault("silence", times=1000))
    with pytest.warns(UserWarning, match="all the same") as warned:
        assert [square(x) for x in range(2)] == [0, 1]
    assert len(warned) == 1
    proxy.reset()
    square, runs = once(place.memory())  # the other one leaves the server alone for a while
    assert [square(x) for x in (2, 2)] == [4, 4]
    assert runs == [2]


def test_a_store_without_conditions_warns_once_and_works(moto_place, moto_server):
    with Proxy(moto_server.endpoint, hidden=["If-None-Match", "If-Match"]) as proxy:
        square, runs = once(moto_place.through(proxy).memory())
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            assert [square(x) for x in (1, 2, 1, 2)] == [1, 4, 1, 4]
        assert runs == [1, 2]
        assert [each.category for each in warned] == [StoreWithoutConditionsWarning]


@pytest.mark.parametrize(("single", "requests"), [(False, 2), (True, 3)])
def test_requests_of_hits_and_misses(moto_place, proxy, single, requests):
    memory = moto_place.through(proxy).memory(single_flight=single)
    assert memory.store_backend.conditional  # probed once a process
    square, _ = once(memory)
    proxy.reset()
    square(1)
    assert sum(proxy.counts.values()) == requests
    proxy.reset()
    assert square(1) == 1
    assert proxy.counts == {"GET": 1}


def test_a_filled_local_tier_answers_without_a_request(moto_place, proxy, tmp_path):
    place = moto_place.through(proxy)
    once(place.memory())[0](7)
    tiered = place.memory(local_tier=tmp_path / "tier")
    square, runs = once(tiered)
    proxy.reset()
    assert square(7) == 49
    assert proxy.counts == {"GET": 1}
    proxy.reset()
    assert [square(7), square(7)] == [49, 49]
    assert not proxy.counts
    square(8)  # what is computed fills the tier, too
    proxy.reset()
    assert square(8) == 64
    assert not proxy.counts
    assert runs == [8]


def test_no_claim_is_left_where_a_call_fails(moto_place):
    memory = moto_place.memory()

    @memory.cache(version=1)
    def fail(x):
        raise ValueError(os.getpid())

    for _ in range(2):
        with pytest.raises(ValueError, match=str(os.getpid())):
            fail(1)
    assert not list(memory.store_backend.list())


def test_no_claim_stays_where_ctrl_c_comes_as_the_heartbeat_starts(tmp_path, monkeypatch):
    """It would be renewed for as long as the program lives, and whoever wants the result waits."""
    from jobspan import Memory
    from jobspan.memory import claims

    monkeypatch.setattr(claims, "heartbeat", claims.Heartbeat())
    store = FailingStore(open_store(tmp_path), lambda operation, name: None)  # has no locks
    cached = Memory(store, verbose=0, patience_seconds=20).cache(abs)
    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cached(-1)
    assert list(store.list()) == []
    begin = time.monotonic()
    assert cached(-1) == 1
    assert time.monotonic() - begin < 10
