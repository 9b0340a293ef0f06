"""The conformance suite for object stores.

A store of your own is tested by a class in a test module of your own, run with pytest::

    import pytest
    from jobspan.testing.stores import StoreConformance
    from my_package import MyStore

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self, tmp_path):
            store = MyStore(tmp_path)
            yield store
            store.close()

The fixture gives an empty store for each test. Class attributes say what cannot be expected of it.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from jobspan.store.names import MAX_NAME_BYTES, MAX_SEGMENT_BYTES
from jobspan.store.protocol import (
    BulkDeletes,
    BulkReads,
    LocalPaths,
    ObjectInfo,
    ObjectStore,
    StoreClock,
    Sweeps,
    Touches,
)

__all__ = ["StoreConformance", "check_like_a_dict"]

BAD_NAMES = (
    "",
    ".",
    "..",
    "/etc/passwd",
    "../outside",
    "a/../../outside",
    "a/./b",
    "a//b",
    "a/",
    "a\\b",
    "..\\outside",
    "a\x00b",
    "a\nb",
    "a\ud800",
    "a/.jobspan-tmp",
    "x" * (MAX_SEGMENT_BYTES + 1),
    "/".join(["x" * 100] * (MAX_NAME_BYTES // 100)) + "/" + "x" * 100,
)

ODD_NAMES = (
    "plain",
    "with space and + sign",
    "percent %41 %2F %zz",
    "question?query=1&b#fragment",
    "colon:star*pipe|quote\"less<greater>'",
    "tilde~at@equal=comma,semicolon;dollar$",
    "brackets[0]{1}(2)!^`",
    ".hidden",
    "trailing.",
    "Straße/日本語/emoji-🎈",
    "x" * MAX_SEGMENT_BYTES,
    "é" * (MAX_SEGMENT_BYTES // 2),
    "/".join(["y" * 99] * (MAX_NAME_BYTES // 100)),
)


class StoreConformance:
    """What every store promises. Subclass it and give it a fixture `store`.

    Attributes
    ----------
    shared : bool
        Whether a pickled store reaches the same objects from another process.
    conditional : bool
        Whether the store keeps conditions on writes; where False, races are not tested.
    large : int
        Bytes of the large object that is written and read.
    examples : int
        How many histories are tried against a dictionary.
    rounds : int
        How many times threads race for the same name.
    guarded_deletes : bool
        Whether a delete with a token is one step, so that only one of two at once is told True.
    """

    shared: ClassVar[bool] = True
    conditional: ClassVar[bool] = True
    large: ClassVar[int] = 20 * 2**20 + 17
    examples: ClassVar[int] = 20
    rounds: ClassVar[int] = 10
    guarded_deletes: ClassVar[bool] = True

    def test_is_a_store(self, store: ObjectStore) -> None:
        assert isinstance(store, ObjectStore)
        assert isinstance(store.url, str)
        assert store.conditional is self.conditional

    def test_absent_object(self, store: ObjectStore) -> None:
        with pytest.raises(KeyError, match="no/such"):
            store.get("no/such")
        with pytest.raises(KeyError):
            store.get("no/such", 3, 10)

    def test_put_and_get(self, store: ObjectStore) -> None:
        token = store.put("a/b", b"first")
        assert store.get("a/b") == (b"first", token)
        second = store.put("a/b", b"second, and longer")
        assert second != token
        assert store.get("a/b") == (b"second, and longer", second)

    def test_the_type_of_what_is_read_is_bytes(self, store: ObjectStore) -> None:
        store.put("a", memoryview(b"123"))
        store.put("b", bytearray(b"456"))
        assert type(store.get("a")[0]) is bytes
        assert store.get("a")[0] == b"123"
        assert store.get("b")[0] == b"456"

    def test_a_mutable_buffer_can_be_changed_after_writing(self, store: ObjectStore) -> None:
        data = bytearray(b"before")
        store.put("a", data)
        data[:] = b"after!"
        assert store.get("a")[0] == b"before"

    def test_empty_object(self, store: ObjectStore) -> None:
        token = store.put("empty", b"")
        assert store.get("empty") == (b"", token)
        assert store.get("empty", 0, 10)[0] == b""
        assert [info.size for info in store.list()] == [0]

    def test_ranges_are_those_of_a_slice(self, store: ObjectStore) -> None:
        data = b"0123456789"
        token = store.put("a", data)
        for start in (0, 3, 9, 10, 12):
            for end in (None, 0, 4, 9, 10, 11, 100):
                assert store.get("a", start, end) == (data[start:end], token), (start, end)

    def test_large_object(self, store: ObjectStore) -> None:
        data = secrets.token_bytes(2**16) * (self.large // 2**16) + b"end"
        token = store.put("large", data)
        found, found_token = store.get("large")
        assert found == data
        if not isinstance(found, bytes):
            assert isinstance(found, memoryview)
            assert found.format == "B"
            if not found.readonly:  # it is the caller's own
                found[:10] = bytes(10)
                assert store.get("large")[0] == data
        assert found_token == token
        assert store.get("large", 9 * 2**20)[0] == data[9 * 2**20 :]
        claimed = store.create("large-2", data)
        assert claimed is not None
        if self.conditional:
            assert store.create("large-2", data[1:]) is None
            assert store.swap("large-2", data[2:], claimed) is not None
            assert store.swap("large-2", data[3:], claimed) is None
            assert store.get("large-2", 0, 50)[0] == data[2:52]

    def test_create_has_one_winner(self, store: ObjectStore) -> None:
        token = store.create("a/claim", b"mine")
        assert token is not None
        assert store.create("a/claim", b"yours") is None
        assert store.get("a/claim") == (b"mine", token)

    def test_create_after_delete(self, store: ObjectStore) -> None:
        store.create("a", b"1")
        assert store.delete("a")
        assert store.create("a", b"2") is not None
        assert store.get("a")[0] == b"2"

    def test_swap_wants_the_current_token(self, store: ObjectStore) -> None:
        first = store.put("a", b"1")
        second = store.swap("a", b"2", first)
        assert second is not None
        assert second != first
        assert store.swap("a", b"3", first) is None
        assert store.get("a") == (b"2", second)
        third = store.put("a", b"4")
        assert store.swap("a", b"5", second) is None
        assert store.swap("a", b"5", third) is not None
        assert store.get("a")[0] == b"5"

    def test_swap_of_an_absent_object(self, store: ObjectStore) -> None:
        token = store.put("a", b"1")
        store.delete("a")
        assert store.swap("a", b"2", token) is None
        with pytest.raises(KeyError):
            store.get("a")

    def test_delete(self, store: ObjectStore) -> None:
        store.put("a", b"1")
        store.put("b", b"2")
        assert store.delete("a")
        with pytest.raises(KeyError):
            store.get("a")
        assert store.get("b")[0] == b"2"
        store.delete("a")  # absent: no error

    def test_delete_wants_the_current_token(self, store: ObjectStore) -> None:
        first = store.put("a", b"1")
        second = store.put("a", b"22")
        assert not store.delete("a", first)
        assert store.get("a")[0] == b"22"
        assert store.delete("a", second)
        assert not store.delete("a", second)
        with pytest.raises(KeyError):
            store.get("a")

    def test_list(self, store: ObjectStore) -> None:
        assert list(store.list()) == []
        before = time.time()
        names = ["a/b/1", "a/b/2", "a/bc/3", "a/d", "e"]
        for number, name in enumerate(names):
            store.put(name, b"x" * number)
        found = {info.name: info for info in store.list()}
        assert sorted(found) == sorted(names)
        for number, name in enumerate(names):
            info = found[name]
            assert isinstance(info, ObjectInfo)
            assert info.size == number
            assert before - 120 < info.modified < time.time() + 120
            assert info.token is None or info.token == store.get(name)[1]
        for prefix in ("a/", "a/b", "a/b/", "a/b/1", "a/bc/", "x", "a/x/y", "e"):
            expected = sorted(name for name in names if name.startswith(prefix))
            assert sorted(info.name for info in store.list(prefix)) == expected

    def test_list_leaves_out_what_the_store_keeps_for_itself(self, store: ObjectStore) -> None:
        store.put("a", b"1")
        token = store.create("b", b"2")
        assert token is not None
        store.swap("b", b"3", token)
        store.delete("a", "no such token")
        if isinstance(store, StoreClock):
            store.age("a")
        assert sorted(info.name for info in store.list()) == ["a", "b"]

    def test_bad_names_are_refused(self, store: ObjectStore) -> None:
        calls: list[Callable[[str], object]] = [
            store.get,
            lambda name: store.put(name, b"1"),
            lambda name: store.create(name, b"1"),
            lambda name: store.swap(name, b"1", "token"),
            store.delete,
        ]
        for name in BAD_NAMES:
            for call in calls:
                with pytest.raises(ValueError, match="cannot name an object"):
                    call(name)
        assert list(store.list()) == []

    def test_bad_prefixes_are_refused(self, store: ObjectStore) -> None:
        assert list(store.list("..")) == []  # the start of "..a", which is a name
        for prefix in ("../", "/", "a//", "a/../", "a\\"):
            with pytest.raises(ValueError, match="cannot name an object"):
                list(store.list(prefix))

    def test_odd_names(self, store: ObjectStore) -> None:
        for number, name in enumerate(ODD_NAMES):
            assert store.create(name, str(number).encode()) is not None, name
        for number, name in enumerate(ODD_NAMES):
            assert store.get(name)[0] == str(number).encode(), name
        assert sorted(info.name for info in store.list()) == sorted(ODD_NAMES)
        for name in ODD_NAMES:
            assert store.delete(name, store.get(name)[1]), name
        assert list(store.list()) == []

    def test_closed_store_opens_again(self, store: ObjectStore) -> None:
        store.put("a", b"1")
        store.close()
        assert store.get("a")[0] == b"1"
        store.close()
        store.close()

    def test_pickled_store(self, store: ObjectStore) -> None:
        token = store.put("a", b"1")
        other = pickle.loads(pickle.dumps(store))
        assert other.url == store.url
        if self.shared:
            assert other.get("a") == (b"1", token)
        other.close()

    # Races

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

    # Optional abilities

    def test_local_paths(self, store: ObjectStore) -> None:
        if not isinstance(store, LocalPaths):
            pytest.skip("the store has no local paths")
        store.put("a/b", b"old")
        with open(store.local_path("a/b"), "rb") as file:  # noqa: PTH123
            store.put("a/b", b"new")
            assert file.read() == b"old"
        assert store.get("a/b")[0] == b"new"
        with pytest.raises(ValueError, match="cannot name an object"):
            store.local_path("../outside")

    def test_bulk_reads(self, store: ObjectStore) -> None:
        if not isinstance(store, BulkReads):
            pytest.skip("the store reads one object at a time")
        expected: dict[str, bytes | None] = {f"n/{n}": b"%d" % n for n in range(150)}
        for name, data in expected.items():
            store.put(name, data or b"")
        large = b"0123456789abcdef" * (9 * 2**16)
        store.put("large", large)
        expected |= {"large": large, "absent/1": None, "absent/2": None}
        assert dict(store.get_many(iter(expected))) == expected
        assert list(store.get_many([])) == []
        some = store.get_many(expected)
        next(some)
        some.close()  # type: ignore[attr-defined]

    def test_bulk_deletes(self, store: ObjectStore) -> None:
        if not isinstance(store, BulkDeletes):
            pytest.skip("the store deletes one object at a time")
        tokens = {f"n/{n}": store.put(f"n/{n}", b"%d" % n) for n in range(50)}
        store.put("n/7", b"new")
        states = [*tokens.items(), ("absent", "no-such-token")]
        assert store.delete_many(iter(states)) == 49
        assert [info.name for info in store.list()] == ["n/7"]
        assert store.delete_many([("n/7", None)]) == 1
        assert store.delete_many([]) == 0

    def test_clock(self, store: ObjectStore) -> None:
        if not isinstance(store, StoreClock):
            pytest.skip("the store has no clock")
        assert store.age("a") is None
        store.put("a", b"1")
        age = store.age("a")
        assert age is not None
        assert 0 <= age < 5
        time.sleep(1.1)  # buckets tell whole seconds
        later = store.age("a")
        assert later is not None
        assert later >= 1 or later > age
        assert later < 8

    def test_touches(self, store: ObjectStore) -> None:
        if not isinstance(store, Touches):
            pytest.skip("the store notes no last use")
        token = store.put("a", b"1")
        first = next(iter(store.list()))
        time.sleep(0.02)
        store.touch("a")
        store.touch("absent")
        second = next(iter(store.list()))
        assert first.touched is not None
        assert second.touched is not None
        assert second.touched > first.touched
        assert second.modified == first.modified
        assert store.get("a") == (b"1", token)

    def test_sweeps(self, store: ObjectStore) -> None:
        if not isinstance(store, Sweeps):
            pytest.skip("nothing can be left behind in the store")
        store.put("a/b", b"1")
        store.sweep(0.0)
        assert store.get("a/b")[0] == b"1"

    # Any history

    def test_behaves_like_a_dict(self, store: ObjectStore) -> None:
        pytest.importorskip("hypothesis")
        check_like_a_dict(store, examples=self.examples)

    def _needs_conditions(self, *, deletes: bool = False) -> None:
        if not self.conditional or (deletes and not self.guarded_deletes):
            pytest.skip("the store does not keep that condition")


def check_like_a_dict(store: ObjectStore, *, examples: int = 20, steps: int = 15) -> None:
    """Do anything that can be done, in any order, to a store and to a dictionary, and compare.

    Parameters
    ----------
    store : ObjectStore
        An empty store; it is emptied again before each history.
    examples : int
        Number of histories.
    steps : int
        Longest history.
    """
    from hypothesis import HealthCheck, Phase, settings
    from hypothesis import strategies as st
    from hypothesis.stateful import (
        RuleBasedStateMachine,
        initialize,
        invariant,
        rule,
        run_state_machine_as_test,
    )

    names = st.sampled_from(["a", "b/1", "b/2", "b/c/3", "déjà/vu"])
    values = st.binary(max_size=64)

    class Machine(RuleBasedStateMachine):
        @initialize()
        def empty(self) -> None:
            for info in list(store.list()):
                store.delete(info.name)
            self.model: dict[str, bytes] = {}
            self.tokens: dict[str, str] = {}
            # Tokens of states that are over, and of which no later state had the same bytes.
            self.stale: dict[str, tuple[str, bytes]] = {}

        def written(self, name: str, data: bytes, token: str) -> None:
            self.over(name)
            self.model[name] = data
            self.tokens[name] = token

        def over(self, name: str) -> None:
            if name in self.model:
                self.stale[name] = (self.tokens.pop(name), self.model.pop(name))

        @rule(name=names, data=values)
        def put(self, name: str, data: bytes) -> None:
            self.written(name, data, store.put(name, data))

        @rule(name=names, data=values)
        def create(self, name: str, data: bytes) -> None:
            token = store.create(name, data)
            assert (token is None) == (name in self.model)
            if token is not None:
                self.written(name, data, token)

        @rule(name=names, data=values)
        def swap(self, name: str, data: bytes) -> None:
            if name in self.model:
                token = store.swap(name, data, self.tokens[name])
                assert token is not None
                self.written(name, data, token)

        @rule(name=names, data=values)
        def swap_stale(self, name: str, data: bytes) -> None:
            token, old = self.stale.get(name, ("no-such-token", b""))
            if self.model.get(name) != old:
                assert store.swap(name, data, token) is None

        @rule(name=names)
        def delete(self, name: str) -> None:
            store.delete(name)
            self.over(name)

        @rule(name=names)
        def delete_state(self, name: str) -> None:
            if name in self.model:
                assert store.delete(name, self.tokens[name])
                self.over(name)
            else:
                assert not store.delete(name, "no-such-token")

        @rule(name=names)
        def delete_stale(self, name: str) -> None:
            token, old = self.stale.get(name, ("no-such-token", b""))
            if self.model.get(name) != old:
                assert not store.delete(name, token)

        @rule(name=names, start=st.integers(0, 70), length=st.none() | st.integers(0, 70))
        def get(self, name: str, start: int, length: int | None) -> None:
            end = None if length is None else start + length
            if name in self.model:
                expected = self.model[name][start:end]
                assert store.get(name, start, end) == (expected, self.tokens[name])
            else:
                with pytest.raises(KeyError):
                    store.get(name, start, end)

        @rule(prefix=st.sampled_from(["", "b", "b/", "b/c/", "d", "z"]))
        def list_prefix(self, prefix: str) -> None:
            found = {info.name: info.size for info in store.list(prefix)}
            assert found == {
                name: len(data) for name, data in self.model.items() if name.startswith(prefix)
            }

        @invariant()
        def same_content(self) -> None:
            for name, data in getattr(self, "model", {}).items():
                assert store.get(name)[0] == data

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )


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
