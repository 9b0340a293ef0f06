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

import pickle
import secrets
import time
from collections.abc import Callable
from typing import ClassVar

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
from jobspan.testing.store_histories import check_like_a_dict
from jobspan.testing.store_races import StoreRaces

__all__ = ["StoreConformance"]

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


class StoreConformance(StoreRaces):
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

    large: ClassVar[int] = 20 * 2**20 + 17
    examples: ClassVar[int] = 20

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

    def test_content_that_looks_like_the_end_of_a_message(self, store: ObjectStore) -> None:
        for data in (b"0\r\n\r\n", b"\r\n--==jobspan==--", b"\r\n--==jobspan==\r\n\r\nx"):
            store.put("name", data)
            assert store.get("name")[0] == data

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
