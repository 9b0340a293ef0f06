"""Readers, writers and evictors in processes of their own, all at once."""

from __future__ import annotations

import multiprocessing
import random
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from jobspan.store import Sweeps, open_store

NAMES = [f"f/{number:02d}/entry" for number in range(12)]
SECONDS = 2.5


def _value(name: str, turn: int) -> bytes:
    return f"{name} {turn} ".encode() * (1 + turn % 3 * 2000)


def _is_whole(name: str, data: bytes) -> bool:
    turn = int(bytes(data[:64]).split(b" ")[1])
    return bytes(data) == _value(name, turn)


PATIENCE = 30.0
"""For so much longer those who had no turn on a busy machine may wait for one."""


def _act(part: str, store, end: float) -> int:
    dice, done = random.Random(part), 0
    while time.time() < end or (done == 0 and time.time() < end + PATIENCE):
        name = dice.choice(NAMES)
        if part.startswith("read"):
            try:
                assert _is_whole(name, store.get(name)[0]), name
            except KeyError:
                continue
        elif part.startswith("write"):
            data = _value(name, done)
            if dice.random() < 0.5 or store.create(name, data) is None:
                store.put(name, data)
        else:
            states = [(info.name, info.token) for info in store.list()]
            for state in dice.sample(states, len(states) // 2):
                store.delete(*state)
            if isinstance(store, Sweeps):
                store.sweep()
        done += 1
    return done


def _up(number: int, end: float) -> int:
    time.sleep(max(0.0, end - time.time()))
    return number


def _take_part(number: int, store, end: float) -> dict[str, int]:
    parts = [f"{kind} {number}" for kind in ("read", "read too", "write", "evict")]
    with ThreadPoolExecutor(len(parts)) as pool:
        done = dict(zip(parts, pool.map(lambda part: _act(part, store, end), parts), strict=True))
    store.close()
    return done


@pytest.mark.parametrize("kind", ["local", "fsspec", "obstore"])
def test_readers_writers_and_evictors(request, tmp_path, fresh_prefix, kind):
    if kind == "local":
        store = open_store(tmp_path / "store")
    else:
        server = request.getfixturevalue("moto_server")
        url = f"{server.bucket_url('together')}/{fresh_prefix()}"
        store = open_store(url, storage_options=server.storage_options, engine=kind)
    assert store.conditional
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        # All of them are up.
        list(pool.map(_up, range(3), [time.time() + 1.0] * 3))
        end = time.time() + SECONDS
        done = [*pool.map(_take_part, range(3), [store] * 3, [end] * 3)]
    assert all(count > 0 for each in done for count in each.values()), done
    for info in store.list():
        assert _is_whole(info.name, store.get(info.name)[0])
    store.close()
