"""Any bytes at all, given to what reads entries, claims and the frames of a worker's pipe."""

from __future__ import annotations

import pytest

pytest.importorskip("resource")  # the frames are those of POSIX

from fuzz import FEEDS, feed_frames
from hypothesis import given, settings
from hypothesis import strategies as st

from jobspan.backends.processes.frames import HEADER, FrameKind

longer = settings(deadline=None, max_examples=300)


@longer
@given(st.sampled_from(sorted(FEEDS)), st.binary(max_size=400))
def test_any_bytes(name, data):
    FEEDS[name].feed(data)


@longer
@given(st.data(), st.sampled_from(sorted(FEEDS)))
def test_what_was_whole_and_was_altered(data, name):
    feed = FEEDS[name]
    whole = bytearray(data.draw(st.sampled_from(feed.seeds)))
    for _ in range(data.draw(st.integers(1, 6))):
        if not whole:
            break
        place = data.draw(st.integers(0, len(whole) - 1))
        what = data.draw(st.sampled_from(["set", "cut", "insert", "repeat"]))
        if what == "set":
            whole[place] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del whole[place:]
        elif what == "insert":
            whole[place:place] = data.draw(st.binary(max_size=40))
        else:
            whole += whole[place:]
    feed.feed(bytes(whole))


@longer
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 40, 1 << 17, 1 << 40, 2**64 - 1]),
            st.integers(0, 2**64 - 1),
            st.integers(0, 9),
            st.sampled_from([0, 0, 0, 1, 200, 2**32 - 1]),
            st.binary(max_size=60),
        ),
        max_size=4,
    )
)
def test_headers_of_frames_that_lie(frames):
    feed_frames(
        b"".join(
            HEADER.pack(length, serial, kind, descriptors) + body
            for length, serial, kind, descriptors, body in frames
        )
    )


@pytest.mark.parametrize("length", [1 << 34, 1 << 62, 2**64 - 1])
def test_a_frame_takes_memory_as_it_fills(length):
    """What a header says does not take it."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    feed_frames(HEADER.pack(length, 1, FrameKind.RESULT, 0) + bytes(1000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def scribble(text):
    """Write to every pipe and socket that this process holds, as a stray library might."""
    import os
    import stat

    for descriptor in range(3, 64):
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
                os.write(descriptor, text)
        except OSError:
            continue
    return os.getpid()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    [
        b"printf debugging\n" * 30,
        HEADER.pack(2**63, 1, FrameKind.RESULT, 0),
        HEADER.pack(1 << 45, 1, FrameKind.RESULT, 0) + bytes(1000),
        HEADER.pack(4, 1, FrameKind.RESULT, 0) + b"oops",
        HEADER.pack(32, 1, FrameKind.RESULT, 0) + b"\xff" * 32,
        HEADER.pack(0, 77, FrameKind.DROPPED, 0),
        HEADER.pack(0, 1, FrameKind.RESULT, 5),
    ],
    ids=["text", "huge", "large", "short", "numbers", "unasked", "descriptors"],
)
def test_user_code_that_writes_to_the_workers_pipe(text):
    """What ran on that worker fails, and says so; nothing hangs, none of it is taken for a result.

    That is the call itself, or the one that its worker had begun with when the bytes were read.
    """
    from jobspan import Parallel, TaskFailure, delayed
    from jobspan.errors import JobspanError

    results = Parallel(n_jobs=2, batch_size=1, on_error="return", retries=0)(
        delayed(scribble)(text) if x == 3 else delayed(abs)(x) for x in range(8)
    )
    failed = [x for x, result in enumerate(results) if isinstance(result, TaskFailure)]
    assert all(results[x] == x for x in range(8) if x not in failed and x != 3)
    assert all(isinstance(results[x].exception, JobspanError) for x in failed)
    assert len(failed) <= 2
    assert Parallel(n_jobs=2)(delayed(abs)(x) for x in range(8)) == list(range(8))
