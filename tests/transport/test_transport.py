"""What crosses a boundary arrives as it was: small, large, by value, and broken."""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobspan.ambient import Settings
from jobspan.calls import Batch, CallContext
from jobspan.descriptors import Descriptor
from jobspan.errors import TransportError
from jobspan.outcomes import Failure
from jobspan.transport.batches import BatchDecoder, BatchEncoder, decode_ran, encode_ran
from jobspan.transport.pickling import decode, encode
from jobspan.transport.shared_memory import SegmentReceiver, SegmentReference, SegmentSender
from jobspan.worker.run import Ran

language: ContextVar[str] = ContextVar("language")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


def transfer(
    sender: SegmentSender, receiver: SegmentReceiver, value: Any, threshold: int = 1000
) -> Any:
    encoded = encode(value, sender.share, threshold)
    for reference in encoded.references:
        if reference.number not in receiver:
            receiver.add(reference.number, Descriptor(map(os.dup, (sender.descriptor(reference),))))
    return decode(encoded, receiver.fetch)


@pytest.fixture
def sender() -> Any:
    sender = SegmentSender()
    yield sender
    sender.close()


@pytest.fixture
def receiver() -> Any:
    receiver = SegmentReceiver()
    yield receiver
    receiver.close()


@settings(deadline=None, max_examples=60)
@given(values, st.integers(0, 3000), st.sampled_from(["C", "F"]), st.integers(0, 5000))
def test_any_value_arrives_at_any_depth(value: Any, size: int, order: Any, threshold: int) -> None:
    sender, receiver = SegmentSender(), SegmentReceiver()
    array = np.asarray(np.arange(size * 2.0).reshape(size, 2), order=order)
    got, deep = transfer(sender, receiver, (value, [{"deep": array}]), max(threshold, 1))
    got_array = deep[0]["deep"]
    assert got == value
    assert np.array_equal(got_array, array)
    assert got_array.flags.f_contiguous == array.flags.f_contiguous
    if 0 < threshold <= array.nbytes:
        assert not got_array.flags.writeable
    receiver.close()
    sender.close()


def test_one_array_is_copied_once(sender: SegmentSender, receiver: SegmentReceiver) -> None:
    array = np.arange(1000.0)
    for _ in range(5):
        transfer(sender, receiver, {"a": [array, array]})
    assert sender.bytes_shared == array.nbytes


def test_what_changed_since_is_copied_anew(
    sender: SegmentSender, receiver: SegmentReceiver
) -> None:
    array = np.zeros(1000)
    before = transfer(sender, receiver, array)
    array[:] = 1
    sender.begin()
    assert transfer(sender, receiver, array).sum() == 1000
    assert before.sum() == 0


def test_private_copies_are_writable_and_apart(sender: SegmentSender) -> None:
    receiver = SegmentReceiver("c")
    array = np.zeros(1000)
    first, second = transfer(sender, receiver, array), transfer(sender, receiver, array)
    first[:] = 1
    assert (array.sum(), second.sum()) == (0, 0)
    receiver.close()


def test_a_dropped_segment_stays_for_those_who_look_at_it(
    sender: SegmentSender, receiver: SegmentReceiver
) -> None:
    got = transfer(sender, receiver, np.full(1000, 7.0))
    receiver.close()
    sender.close()
    assert got.sum() == 7000


def test_pages_of_results_are_used_again() -> None:
    sender = SegmentSender(shares_again=False)
    freed: list[int] = []
    receiver = SegmentReceiver("w", freed.append)
    numbers = set()
    for value in range(4):
        encoded = encode(np.full(1000, float(value)), sender.share, 1000)
        (reference,) = encoded.references
        numbers.add(reference.number)
        if reference.number not in receiver:
            receiver.add(reference.number, Descriptor(map(os.dup, (sender.descriptor(reference),))))
        got = decode(encoded, receiver.fetch)
        assert got.sum() == 1000 * value
        got[0] = -1
        del got
        assert freed == [reference.number]
        freed.clear()
        sender.release([reference])
    assert len(numbers) == 1
    receiver.close()
    sender.close()


def test_no_room_is_an_error_that_says_what_to_do() -> None:
    sender = SegmentSender("/proc/does-not-exist")
    with pytest.raises(TransportError, match="temp_folder="):
        sender._segment_for(1 << 60)
    sender.close()


def test_a_reference_that_lies_is_an_error(
    sender: SegmentSender, receiver: SegmentReceiver
) -> None:
    with pytest.raises(TransportError, match="never arrived"):
        receiver.fetch(SegmentReference(10**9, 5))
    reference = sender.share(memoryview(b"x" * 100))
    assert reference is not None
    receiver.add(reference.number, Descriptor(map(os.dup, (sender.descriptor(reference),))))
    with pytest.raises(TransportError, match="shorter"):
        receiver.fetch(SegmentReference(reference.number, 1 << 30))


def test_no_descriptor_is_left() -> None:
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(50):
        sender, receiver = SegmentSender(), SegmentReceiver()
        transfer(sender, receiver, [np.zeros(1000), np.ones(2000)])
        receiver.close()
        sender.close()
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_memory_mapped_files_travel_by_path(tmp_path: Any) -> None:
    array = np.memmap(tmp_path / "a", dtype="f8", mode="w+", shape=(10_000,))
    array[:] = 3
    encoded = encode(array)
    assert len(encoded.payload) < 2000
    assert decode(encoded).sum() == 30_000


def test_context_variables_travel_by_name() -> None:
    assert decode(encode(language)) is language


def test_a_builtin_travels_where_another_stands_in_its_place(monkeypatch: Any) -> None:
    plain = len
    monkeypatch.setattr("builtins.len", lambda value: plain(value))
    encoded = encode(plain)
    monkeypatch.undo()
    assert decode(encoded) is len


def test_what_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TransportError, match=r"generator at \[0\]\['conn'\]\[1\]"):
        encode([{"conn": (1, (x for x in []))}])


# --- batches ---------------------------------------------------------------------------------

CONTEXT = CallContext(settings=Settings())
numbers = count()


def batch(*calls: Any, context: CallContext = CONTEXT) -> Batch:
    return Batch(next(numbers), 0, calls, context)


def test_functions_and_contexts_are_sent_once() -> None:
    encoder, decoder = BatchEncoder(), BatchDecoder()
    offset = 10

    def add(x: int, y: int = 0) -> int:
        return x + y + offset

    for _ in range(2):
        encoded = encoder.encode(batch((add, (1,), {}), (add, (2,), {"y": 3}), (abs, (-1,), {})))
        decoder.learn(encoded)
    assert decoder.missing(list(encoded.functions)) == []
    _, calls, _ = decoder.decode(encoded.batch)
    assert [f(*args, **kwargs) for f, args, kwargs in calls] == [11, 15, 1]
    assert len(encoded.batch.payload) < 300


def test_a_closure_is_as_it_is_when_the_call_begins() -> None:
    encoder, decoder = BatchEncoder(), BatchDecoder()
    state = {"offset": 1}

    def add(x: int) -> int:
        return x + state["offset"]

    for expected in (2, 6):
        context = CallContext(settings=Settings())
        encoded = encoder.encode(batch((add, (1,), {}), context=context))
        decoder.learn(encoded)
        _, ((function, args, _),), _ = decoder.decode(encoded.batch)
        assert function(*args) == expected
        state["offset"] = 5


def test_a_bad_result_fails_alone() -> None:
    class StubbornError(Exception):
        def __reduce__(self) -> Any:
            raise TypeError("stays where it is")

    ran = Ran(
        [1, (x for x in []), 3, None], {3: Failure(StubbornError("1 and 2"), "traceback")}, 0.0, 0.0
    )
    got = decode_ran(encode_ran(ran), 4)
    assert got.values == [1, None, 3, None]
    assert "generator" in str(got.failures[1].exception)
    assert isinstance(got.failures[3].exception, TransportError)
    assert "Stubborn" in str(got.failures[3].exception)
    assert "1 and 2" in str(got.failures[3].exception)
    assert got.failures[3].traceback == "traceback"


class StatusError(OSError):
    """As many libraries write them: the constructor takes what `args` does not have."""

    def __init__(self, code: int, *, url: str) -> None:
        super().__init__(code, f"{url} answered {code}")
        self.url = url


class PlainError(ValueError):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b


@pytest.mark.parametrize(
    "error", [StatusError(404, url="x"), PlainError(1, 2)], ids=["os", "value"]
)
def test_an_exception_that_its_constructor_cannot_make_again(error: Any) -> None:
    error.add_note("a note")
    ran = Ran([None], {0: Failure(error, "traceback")}, 0.0, 0.0)
    got = decode_ran(encode_ran(ran), 1).failures[0].exception
    assert (type(got), str(got), got.args) == (type(error), str(error), error.args)
    assert vars(got) == vars(error)
    assert getattr(got, "errno", None) == getattr(error, "errno", None)


def test_an_exception_that_tells_an_address() -> None:
    ran = Ran([None], {0: Failure(ValueError(object()), "traceback")}, 0.0, 0.0)
    got = decode_ran(encode_ran(ran), 1).failures[0].exception
    assert type(got) is ValueError
    assert "<object object at" in str(got)


def test_what_cannot_be_pickled_is_named_as_the_user_knows_it() -> None:
    lock = threading.Lock()

    def reads(x: int) -> Any:
        return lock, x

    class Holder:
        def __init__(self) -> None:
            self.lock = lock

        def method(self, x: int) -> int:
            return x

    for call, where in (
        ((pow, (1, {"a": [lock]}), {}), "argument 1\\['a'\\]\\[0\\]"),
        ((pow, (1,), {"mod": lock}), "argument 'mod'"),
        ((reads, (1,), {}), r"test_what.*reads → lock"),
        ((Holder().method, (1,), {}), r"\.__self__\.lock"),
    ):
        with pytest.raises(TransportError, match=f"cannot pickle lock at {where}: cannot"):
            BatchEncoder().encode(batch(call))
