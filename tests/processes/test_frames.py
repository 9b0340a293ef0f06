"""Frames arrive as they were sent: whole, in order, with their descriptors, however pipes fill."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobspan.backends.processes.frames import (
    HEADER,
    Frame,
    FrameDamagedError,
    FrameKind,
    FrameReader,
    FrameWriter,
)

SIZES = st.one_of(
    st.integers(0, 200), st.integers(30_000, 40_000), st.integers(60_000, 70_000), st.just(400_000)
)


@contextmanager
def connected() -> Iterator[tuple[FrameWriter, FrameReader, int]]:
    """Yield both ends of a connection that never blocks, and the pipe that is written to."""
    there, here = os.pipe()
    with ExitStack() as stack:
        stack.callback(os.close, there)
        stack.callback(os.close, here)
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            stack.enter_context(end)
            end.setblocking(False)
        os.set_blocking(there, False)
        os.set_blocking(here, False)
        writer = FrameWriter(here, ours)
        stack.callback(writer.close)
        yield writer, FrameReader(there, theirs), here


def read(writer: FrameWriter, reader: FrameReader, count: int) -> list[Frame]:
    """Return so many frames, sending what waits meanwhile."""
    frames: list[Frame] = []
    for _ in range(10_000):
        with suppress(BlockingIOError):
            frames += reader.receive() or []
        if len(frames) >= count and not writer.waiting:
            return frames
        writer.flush()
    raise AssertionError(f"{len(frames)} of {count} frames came")


def open_files() -> int:
    """Return how many there are; fewer than before where the collector closed others' files."""
    return len(list(Path("/proc/self/fd").iterdir()))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(SIZES, st.integers(1, 4), st.integers(0, 3)), max_size=8))
def test_frames_arrive_whole_and_in_order(sent: list[tuple[int, int, int]]) -> None:
    before = open_files()
    with connected() as (writer, reader, _), ExitStack() as files:
        identities = []
        for serial, (size, parts, count) in enumerate(sent):
            body = bytes([serial + 1]) * size
            step = -(-size // parts) or 1
            payload = [memoryview(body)[at : at + step] for at in range(0, size, step)]
            mine = [os.memfd_create("test") for _ in range(count)]
            for descriptor in mine:
                files.callback(os.close, descriptor)
            identities.append([os.fstat(descriptor).st_ino for descriptor in mine])
            assert writer.send(FrameKind.RESULT, serial, payload, mine) == size
        frames = read(writer, reader, len(sent))
        for serial, (size, _, _) in enumerate(sent):
            kind, number, body, descriptors = frames.pop(0)
            assert (kind, number) == (FrameKind.RESULT, serial)
            assert bytes(body) == bytes([serial + 1]) * size
            assert [os.fstat(each.number).st_ino for each in descriptors] == identities[serial]
            assert not any(os.get_inheritable(each.number) for each in descriptors)
            descriptors.clear()
    assert open_files() <= before


def test_more_descriptors_than_a_message_takes() -> None:
    with connected() as (writer, reader, _), Path(os.devnull).open("rb") as file:
        writer.send(FrameKind.BATCH, 1, [b"body"], [file.fileno()] * 450)
        ((_, _, body, descriptors),) = read(writer, reader, 1)
        assert (body, len(descriptors)) == (b"body", 450)


def test_a_header_that_promises_descriptors_which_never_came() -> None:
    before = open_files()
    with connected() as (writer, reader, pipe), Path(os.devnull).open("rb") as file:
        writer.send(FrameKind.BATCH, 1, [], [file.fileno()])
        os.write(pipe, HEADER.pack(0, 2, FrameKind.RESULT, 2))
        with pytest.raises(FrameDamagedError, match="0 descriptors came, not 2"):
            reader.receive()
    assert open_files() <= before


def test_what_is_not_sent_when_the_connection_ends_leaves_nothing_open() -> None:
    before = open_files()
    with connected() as (writer, _, _), Path(os.devnull).open("rb") as file:
        for serial in range(3):
            writer.send(FrameKind.BATCH, serial, [bytes(100_000)], [file.fileno()])
        assert writer.waiting
    assert open_files() <= before
