"""What many calls are given travels in few buffers, and arrives as it was when it was given."""

from __future__ import annotations

from typing import Any

import numpy as np

from jobspan.integrations.repeating import Repetitions, _Packed, _unpacked

THRESHOLD = 1 << 20


def given(repetitions: Repetitions, *args: Any) -> tuple[Any, ...]:
    """Return the arguments of a call as they are sent."""
    function, sent, _ = repetitions.replaced((len, args, {}))
    return sent if function is len else sent[0]


def buffers(*calls: tuple[Any, ...]) -> set[int]:
    return {id(value.buffer) for call in calls for value in call if isinstance(value, _Packed)}


def test_the_folds_of_a_search_are_one_buffer() -> None:
    repetitions = Repetitions(THRESHOLD)
    y = np.zeros(20_000)
    folds = [(np.arange(16_000) + i, np.arange(4_000) + i) for i in range(5)]
    once = [given(repetitions, y, *fold) for fold in folds]
    again = [given(repetitions, y, *fold) for fold in folds for _ in range(3)]
    assert once[0][0] is y
    assert len(buffers(*once, *again)) == 2  # y was seen again first, with the first fold
    for call, fold in zip(again[::3], folds, strict=True):
        for value, expected in zip(call, (y, *fold), strict=True):
            assert np.array_equal(_unpacked(value), expected)


def test_what_changed_before_it_came_again_is_sent_as_it_is_now() -> None:
    repetitions = Repetitions(THRESHOLD)
    one, other = np.zeros(5_000), np.zeros(5_000)
    given(repetitions, other)
    given(repetitions, one)
    given(repetitions, one)  # packs the other one, too
    other[:] = 7
    (sent,) = given(repetitions, other)
    assert (_unpacked(sent) == 7).all()


def test_values_of_one_call_each_are_packed_at_most_once() -> None:
    repetitions = Repetitions(THRESHOLD)
    same = np.zeros(5_000)
    calls = [given(repetitions, same, np.full(5_000, float(i))) for i in range(20)]
    assert len(buffers(*calls)) == 1
    assert [float(_unpacked(call[1])[0]) for call in calls] == list(range(20))


def test_what_needs_more_than_the_plain_pickler_travels_as_ever() -> None:
    repetitions = Repetitions(THRESHOLD)
    functions = np.array([lambda: None] * 2_000, dtype=object)
    plain = np.zeros(5_000)
    for _ in range(3):
        assert given(repetitions, plain, functions)[1] is functions
