"""Ctrl-C comes while a thread starts: it is Ctrl-C, and nothing goes on behind it."""

from __future__ import annotations

import threading
import time

import pytest

from jobspan import Parallel, delayed

CALLS = 500


@pytest.fixture
def interrupted_starts(monkeypatch):
    """The next thread of jobspan starts, and its starter is interrupted before it knows."""
    start = threading.Thread.start
    names = []

    def interrupted(timeout=None):
        raise KeyboardInterrupt

    def start_interrupted(thread):
        if not names and thread.name.startswith("jobspan"):
            names.append(thread.name)
            thread._started.wait = interrupted
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_interrupted)
    return names


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("jobspan")]


def noting(x, seen):
    seen.append(x)
    time.sleep(0.01)
    return x


@pytest.mark.parametrize(
    ("backend", "return_as"),
    [("threads", "list"), ("threads", "generator")],
)
def test_it_is_an_interrupt_and_nothing_goes_on(backend, return_as, interrupted_starts):
    before = set(threads())
    seen = []
    parallel = Parallel(n_jobs=2, backend=backend, return_as=return_as)
    with pytest.raises(KeyboardInterrupt):
        list(parallel(delayed(noting)(x, seen) for x in range(CALLS)))
    assert len(interrupted_starts) == 1
    end = time.monotonic() + 5
    while set(threads()) - before and time.monotonic() < end:
        time.sleep(0.01)
    assert set(threads()) - before == set()
    assert len(seen) < CALLS
    again = parallel(delayed(noting)(x, seen) for x in range(8))
    assert list(again) == list(range(8))
