"""What stores promise to threads and processes that use them at once: a part of the suite."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from jobspan.store.protocol import ObjectStore

__all__ = ["StoreRaces"]


class StoreRaces:
    """The tests of races; see :class:`jobspan.testing.stores.StoreConformance`."""

    shared: ClassVar[bool] = True
    conditional: ClassVar[bool] = True
    rounds: ClassVar[int] = 10
    guarded_deletes: ClassVar[bool] = True

    def test_threads_that_create_have_one_winner(self, store: ObjectStore) -> None:
        self._needs_conditions()
        for round_ in range(self.rounds):
            tokens = _at_once(8, lambda n, r=round_: store.create(f"claim/{r}", b"%d" % n))
            winners = [n for n, token in enumerate(tokens) if token is not None]
            assert len(winners) == 1, f"{len(winners)} winners"
            assert store.get(f"claim/{round_}") == (b"%d" % winners[0], tokens[winners[0]])

    def test_threads_that_swap_lose_no_update(self, store: ObjectStore) -> None:
        self._needs_conditions()
        store.put("counter", b"0")

        def count(_: int) -> None:
            for _ in range(8):
                while True:
                    data, token = store.get("counter")
                    if store.swap("counter", b"%d" % (int(data) + 1), token) is not None:
                        break

        _at_once(4, count)
        assert store.get("counter")[0] == b"32"

    def test_threads_that_delete_have_one_winner(self, store: ObjectStore) -> None:
        self._needs_conditions(deletes=True)
        for round_ in range(8):
            token = store.put("doomed", b"%d" % round_)
            gone = _at_once(6, lambda _, t=token: store.delete("doomed", t))
            assert gone.count(True) == 1

    def test_a_token_guards_what_came_after(self, store: ObjectStore) -> None:
        """Deleters of an old state never take away the new one."""
        self._needs_conditions(deletes=True)
        token = store.put("a", b"old")

        def act(number: int) -> bool:
            if number == 0:
                return store.swap("a", b"new", token) is not None
            return store.delete("a", token)

        outcome = _at_once(6, act)
        assert outcome.count(True) == 1
        if outcome[0]:
            assert store.get("a")[0] == b"new"

    def test_readers_see_whole_objects(self, store: ObjectStore) -> None:
        size = 200_000
        store.put("a", b"0" * size)
        end = threading.Event()

        def act(number: int) -> None:
            if number == 0:
                try:
                    for turn in range(25):
                        store.put("a", b"%d" % (turn % 10) * size)
                finally:
                    end.set()
                return
            while not end.is_set():
                data = store.get("a")[0]
                assert len(data) == size
                assert bytes(data) == bytes(data[:1]) * size

        _at_once(4, act)

    def test_processes_that_create_have_one_winner(self, store: ObjectStore) -> None:
        self._needs_conditions()
        if not self.shared:
            pytest.skip("each process has objects of its own here")
        names = [f"claim/{n}" for n in range(8)]
        context = multiprocessing.get_context("spawn")
        with context.Pool(3) as pool:
            won = pool.starmap(_create_all, [(store, names, n) for n in range(3)], chunksize=1)
        for position, name in enumerate(names):
            winners = [n for n in range(3) if won[n][position]]
            assert len(winners) == 1
            assert store.get(name)[0] == b"%d" % winners[0]

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
    @pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
    def test_store_after_a_fork(self, store: ObjectStore) -> None:
        store.put("a", b"parent")
        child = os.fork()
        if child == 0:
            signal.alarm(25)  # ends a child that hangs, whatever becomes of the parent
            status = 1
            try:
                if store.get("a")[0] == b"parent":
                    store.put("b", b"child")
                    status = 0
            finally:
                os._exit(status)
        deadline = time.monotonic() + 30
        while (waited := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.kill(child, 9)
                os.waitpid(child, 0)
                pytest.fail("the store hangs in a forked process")
            time.sleep(0.02)
        assert waited[1] == 0
        assert store.get("a")[0] == b"parent"
        if self.shared:
            assert store.get("b")[0] == b"child"

    def _needs_conditions(self, *, deletes: bool = False) -> None:
        if not self.conditional or (deletes and not self.guarded_deletes):
            pytest.skip("the store does not keep that condition")


def _at_once(count: int, act: Callable[..., Any]) -> list[Any]:
    """Run ``act(0)`` to ``act(count - 1)`` in threads that start together; what they returned."""
    start = threading.Barrier(count)

    def run(number: int) -> Any:
        start.wait(30)
        return act(number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # races that the interpreter's lock hides happen, too
    try:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(run, range(count)))
    finally:
        sys.setswitchinterval(interval)


def _create_all(store: ObjectStore, names: list[str], number: int) -> list[bool]:
    won = [store.create(name, b"%d" % number) is not None for name in names]
    store.close()
    return won
