"""Making room: what goes first, what was used last, and everybody at once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jobspan import Memory
from jobspan.calls import Recalled
from jobspan.memory import format as entry_format
from jobspan.memory import last_use
from jobspan.memory.inventory import folders, survey
from jobspan.memory.naming import MARK
from jobspan.testing.proxy import Proxy

PLACES = pytest.mark.parametrize("place", ["local", "moto"], indirect=True)
DAYS = 86400.0


@pytest.fixture
def days_ago(monkeypatch):
    """Let entries be stored so many days ago, as their headers tell it."""

    def set_days(days):
        clock = SimpleNamespace(time=lambda: time.time() - days * DAYS)
        monkeypatch.setattr(entry_format, "time", clock)

    return set_days


def wait_for_marks():
    last_use._marks.wait(30)


@PLACES
@pytest.mark.parametrize("policy", ["lru", "cost"])
def test_limits(place, policy):
    memory = place.memory()
    power = memory.cache(pow)
    for x in range(8):
        power(2, x)
    assert memory.reduce_size(policy=policy) == 0
    assert memory.reduce_size(items_limit=8, bytes_limit="1M", policy=policy) == 0
    assert memory.reduce_size(items_limit=5, policy=policy) == 3
    sizes = [info.size for info in memory.store_backend.list()]
    assert memory.reduce_size(bytes_limit=sum(sizes) - 1, policy=policy) == 1
    assert memory.reduce_size(age_limit=timedelta(days=1), policy=policy) == 0
    time.sleep(1.1)  # a bucket's clock counts seconds
    assert memory.reduce_size(age_limit=timedelta(0), policy=policy) == 4
    assert not list(memory.store_backend.list())


@PLACES
def test_what_was_used_last_stays(place, days_ago):
    memory = place.memory()
    power = memory.cache(pow)
    days_ago(3)
    for x in range(4):
        power(2, x)
    if place.url.startswith("/"):
        for path in Path(place.url).rglob("*"):
            if path.is_file():
                os.utime(path, (time.time() - 3 * DAYS,) * 2)
    else:
        time.sleep(1.1)  # a bucket's clock counts seconds
    assert power(2, 1) == 2
    wait_for_marks()
    memory.reduce_size(items_limit=1)
    assert [power.check_call_in_cache(2, x) for x in range(4)] == [False, True, False, False]


def test_a_mark_a_day_tells_of_use_in_a_bucket(moto_place, moto_server, days_ago, monkeypatch):
    days_ago(3)
    moto_place.memory().cache(pow)(2, 5)
    with Proxy(moto_server.endpoint) as proxy:
        place = moto_place.through(proxy)

        def hit():
            """Hit in a process of its own, as far as marks know."""
            memory = place.memory()
            assert memory.store_backend.conditional  # probed once a process
            proxy.reset()
            assert [memory.cache(pow)(2, 5) for _ in range(5)] == [32] * 5
            wait_for_marks()
            return dict(proxy.counts)

        assert hit() == {"GET": 6, "PUT": 1}  # five hits, and one look at the mark
        assert hit() == {"GET": 6}  # there is one of today
        tomorrow = SimpleNamespace(time=lambda: time.time() + DAYS)
        monkeypatch.setattr(last_use, "time", tomorrow)
        assert hit() == {"GET": 6, "PUT": 1}
    memory = moto_place.memory()
    names = [info.name for info in memory.store_backend.list()]
    assert sum(name.endswith(MARK) for name in names) == 1
    # Marks are no results: nobody counts them as such.
    assert memory.verify() == []
    found = survey(memory.store_backend)
    assert (len(found.entries), len(found.damaged), len(found.marks)) == (1, 0, 1)
    assert [len(folder.entries) for folder in folders(memory.store_backend)] == [1]
    assert memory.reduce_size(items_limit=0) == 1
    assert not list(memory.store_backend.list())  # the mark has gone with its entry


def test_a_young_entry_needs_no_mark_and_a_reader_writes_none(moto_place, moto_server, days_ago):
    with Proxy(moto_server.endpoint) as proxy:
        place = moto_place.through(proxy)
        place.memory().cache(pow)(2, 5)
        days_ago(3)
        place.memory().cache(pow)(2, 6)
        young, reader = place.memory(), place.memory(mode="ro")
        proxy.reset()
        young.cache(pow)(2, 5)
        reader.cache(pow)(2, 6)
        wait_for_marks()
        assert proxy.counts == {"GET": 2}


def test_a_local_hit_touches_once_a_day(tmp_path, days_ago):
    days_ago(3)
    Memory(tmp_path, verbose=0).cache(pow)(2, 5)
    (file,) = (path for path in tmp_path.rglob("*") if len(path.name) == 64)
    old = time.time() - 2 * DAYS
    os.utime(file, (old, old))
    Memory(tmp_path, verbose=0).cache(pow)(2, 5)
    assert time.time() - file.stat().st_atime < 60
    assert file.stat().st_mtime == pytest.approx(old, abs=1)


def test_what_is_written_anew_while_others_evict_stays(tmp_path):
    memory = Memory(tmp_path, verbose=0)
    memory.cache(pow)(2, 5)
    store = memory.store_backend
    listed = list(store.list())
    store.put(listed[0].name, store.get(listed[0].name)[0] + b"")
    os.utime(tmp_path / listed[0].name, (1, 1))
    assert memory._cache.delete(listed) == 0
    assert len(list(store.list())) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"bytes_limit": "10X"}, "bytes_limit='10X'"),
        ({"bytes_limit": "many"}, "10G"),
        ({"age_limit": timedelta(days=-1)}, "positive"),
        ({"age_limit": 30}, r"timedelta\(days=30\)"),
        ({"policy": "newest"}, "'lru' or 'cost'"),
        ({"bytes_limit": -1}, "bytes_limit=-1"),
        ({"bytes_limit": float("nan")}, "bytes_limit=nan"),
        ({"bytes_limit": True}, "bytes_limit=True"),
        ({"items_limit": -1}, "items_limit=-1"),
        ({"items_limit": "3"}, "items_limit='3'"),
        ({"items_limit": 1.5}, "items_limit=1.5"),
    ],
)
def test_bad_limits_are_refused_with_what_to_type(tmp_path, arguments, error):
    with pytest.raises((ValueError, TypeError), match=error):
        Memory(tmp_path, verbose=0).reduce_size(**arguments)


def test_limits_may_be_any_numbers_that_joblib_takes(tmp_path):
    memory = Memory(tmp_path, verbose=0)
    power = memory.cache(pow)
    assert [power(2, x) for x in range(3)] == [1, 2, 4]
    assert memory.reduce_size(bytes_limit=1e9, items_limit=np.int64(2)) == 1
    assert memory.reduce_size(bytes_limit=np.float64(0)) == 2


# --- everybody at once -----------------------------------------------------------------------


def crowd(url, options, seconds, number):
    """Read, write or evict for some seconds; every result must be right, and none may fail."""
    memory = Memory(url, storage_options=options or None, verbose=0, lease_seconds=5)
    dice = random.Random(number)

    @memory.cache(version=1)
    def table(x):
        return {"x": x, "text": str(x) * (1 + x % 7 * 3000), "bytes": bytes([x % 256]) * (x * 100)}

    def check(x, value):
        assert value["x"] == x
        assert value["text"] == str(x) * (1 + x % 7 * 3000)
        assert value["bytes"] == bytes([x % 256]) * (x * 100)

    deadline = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < deadline:
        rounds += 1
        x = dice.randrange(60)
        if number % 10 == 0:
            policy = dice.choice(["lru", "cost"])
            memory.reduce_size(items_limit=dice.randrange(5, 50), policy=policy)
            time.sleep(dice.random() / 10)
        elif number % 10 == 1:
            check(x, table.call(x)[0])
        elif number % 10 == 2:
            table.invalidate(x)
        elif number % 10 == 3:
            for each, found in enumerate(table.recall_many([((y,), {}) for y in range(10)])):
                if isinstance(found, Recalled):
                    check(each, found.value)
        else:
            check(x, table(x))
    assert memory.stats()["failures"] == 0, memory.stats()
    return rounds


PROGRAM = """
import importlib.util, json, os, sys, warnings
warnings.simplefilter("error")
spec = importlib.util.spec_from_file_location("eviction_tests", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
children = []
for number in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert module.crowd(sys.argv[3], json.loads(sys.argv[4]), float(sys.argv[5]), number)
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(status)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
sys.exit(any(statuses))
"""


def run_crowd(place, processes, seconds):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            __file__,
            str(processes),
            place.url,
            json.dumps(place.options),
            str(seconds),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    memory = place.memory()
    assert memory.verify() == []


@pytest.mark.parametrize("place", ["local", "seaweedfs"], indirect=True)
def test_readers_writers_and_evictors_at_once(place):
    run_crowd(place, processes=20, seconds=5)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("place", ["local", "seaweedfs"], indirect=True)
def test_a_hundred_readers_writers_and_evictors_for_a_minute(place):
    run_crowd(place, processes=100, seconds=60)
