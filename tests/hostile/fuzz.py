"""A fuzzer that alters whole bytes by a seed: ``python tests/hostile/fuzz.py [INPUTS] [SEED]``.

What is fed: an entry as a cache reads it, without decoding its value; an entry of a safe codec, its
value decoded; a header as an inventory reads it; a claim; frames as they come over a worker's
socket; the framing of a result within its frame. What comes in a well-formed frame from the
program's own worker is a pickle, and trusted: it is the program's own code that wrote it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import socket
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jobspan.backends.processes import messages
from jobspan.backends.processes.frames import (
    HEADER,
    FrameDamagedError,
    FrameKind,
    FrameReader,
)
from jobspan.backends.processes.messages import pack_result, unpack_result
from jobspan.codecs.compression import compress
from jobspan.codecs.entry import pack, unpack
from jobspan.codecs.header import Header, read_header
from jobspan.codecs.lease import Lease
from jobspan.codecs.signing import Signer
from jobspan.errors import CodecError, EntryDamagedError, JobspanWarning
from jobspan.keys import FunctionKeys
from jobspan.memory.format import EntryFormat
from jobspan.transport.batches import encode_ran
from jobspan.worker.run import Ran

SLOW_SECONDS = 1.0
"""No input of some kilobytes may take longer."""

GROWTH_BYTES = 64 << 20
"""What the process may grow by over a million inputs."""


@dataclass(frozen=True)
class Feed:
    """Something that reads bytes, and whole bytes to begin with; `feed` says how it ended."""

    feed: Callable[[bytes], str]
    seeds: tuple[bytes, ...]


KEY = FunctionKeys(abs).key((1,), {})


def entry(value, compression="", sign=None):
    from jobspan.codecs.plain import choose_safe

    codec = choose_safe(value)
    parts = [bytes(part) for part in codec.encode(value)]
    sizes = [len(part) for part in parts]
    if compression:
        parts = [compress(compression, 3, part) for part in parts]
    header = Header(
        KEY.digest, "project.f", 1e9, 0.5, codec.name, compression, sizes, {"code": "ab"}
    )
    return bytes(pack(header, parts, sign))


def feed_unpack(data):
    try:
        header, parts = unpack(data, KEY.digest)
        assert sum(map(len, parts)) <= len(data)
        assert header.components is not None
    except EntryDamagedError:
        return "damaged"
    return "read"


def feed_header(data):
    if len(data) % 2:
        data = mended(data)
    try:
        header, end = read_header(memoryview(data))
        assert end <= len(data)
        assert header.function.isprintable()
        assert header.components is not None
    except EntryDamagedError:
        return "damaged"
    return "read"


def feed_lease(data):
    lease = Lease.unpack(data)
    assert 0 <= lease.seconds <= 300
    return "expired" if not lease.holder else "read"


_SAFE = EntryFormat(safe=True)


def feed_safe_value(data):
    """Read an entry as ``safe=True`` does; checksums do not stop an attacker, so they are set."""
    try:
        header, parts = unpack(mended(data), check=False)
        _SAFE.value(header, parts, writable=True)
    except (EntryDamagedError, CodecError):
        return "damaged"
    return "read"


def mended(data):
    """Return an entry whose digests are right again, as far as it has them at all."""
    from blake3 import blake3

    from jobspan.codecs.header import _FACTS, _PREFIX

    if len(data) < _PREFIX.size + _FACTS.size:
        return data
    data = bytearray(data)
    length, signed, count = struct.unpack_from("<III", data, 12)
    start, end = _PREFIX.size, _PREFIX.size + length
    if end > len(data) or length < _FACTS.size + 16 * count:
        return bytes(data)
    position, parts = end + signed, []
    for part in struct.unpack_from(f"<{count}Q", data, start + _FACTS.size):
        position = -(-position // 64) * 64
        if position + part > len(data):
            break
        parts.append(data[position : position + part])
        position += part
    if parts:
        data[start + 32 : start + 64] = blake3(bytes(parts[0])).digest()
        rest = b"".join(bytes(part) for part in parts[1:])
        data[start + 64 : start + 96] = blake3(rest).digest() if parts[1:] else bytes(32)
    data[24:56] = blake3(bytes(data[start:end])).digest()
    return bytes(data)


def feed_frames(data):
    """Send bytes through a pipe, and the end of the stream after them."""
    there, here = os.pipe()
    rights, others = socket.socketpair()
    with rights, others, os.fdopen(there, "rb", 0), os.fdopen(here, "wb", 0) as sender:
        os.set_blocking(here, False)
        os.set_blocking(there, False)
        reader = FrameReader(there, rights)
        try:
            while True:
                if data:
                    data = data[sender.write(data[: 1 << 16]) :]
                else:
                    sender.close()
                if reader.receive() is None:
                    return "ended"
        except FrameDamagedError:
            return "damaged"


class _NoPickles:
    """Stands where pickle is: the framing is fed here, not the pickles of one's own workers."""

    @staticmethod
    def loads(data):
        bytes(data)
        raise EOFError


def feed_result(data):
    real, messages.pickle = messages.pickle, _NoPickles
    try:
        _, _, values, _, _ = unpack_result(data)
        assert len(values.payload) <= len(data)
    except (struct.error, EOFError):
        return "damaged"
    finally:
        messages.pickle = real
    return "read"


def _frame_seeds():
    body = b"".join(
        map(bytes, pack_result(encode_ran(Ran([1, "a"], {}, 1.0, 2.0)), (), (), forgot=False))
    )
    one = HEADER.pack(len(body), 1, FrameKind.RESULT, 0) + body
    return (
        one,
        one * 3,
        HEADER.pack(0, 2, FrameKind.DROPPED, 0),
        HEADER.pack(100_000, 1, FrameKind.RESULT, 0) + bytes(100_000),
    )


def _result_seeds():
    ran = encode_ran(Ran([1, None], {1: _failure()}, 1.0, 2.0))
    return tuple(
        b"".join(map(bytes, pack_result(ran, segments, dropped, forgot=forgot)))
        for segments, dropped, forgot in (((), (), False), ((1, 2), (3,), True))
    )


def _failure():
    from jobspan.outcomes import Failure

    return Failure(ValueError("no"))


def _entries():
    import pandas as pd
    import polars as pl

    signer = Signer(b"k" * 32)
    return (
        entry([1, {"a": [None, 2.5, "text"]}]),
        entry({"many": list(range(300))}, "zlib"),
        entry(["x" * 500], "zstd"),
        entry(["x" * 500], "lz4"),
        entry(np.arange(20.0).reshape(4, 5), "", signer.sign),
        entry(
            pd.DataFrame({"a": [1, 2], "b": ["x", None], "p": pd.period_range("2026", periods=2)})
        ),
        entry(pl.DataFrame({"a": [1, None], "b": [["x"], ["y", "z"]]})),
    )


ENTRIES = _entries()
FEEDS = {
    "entry": Feed(feed_unpack, ENTRIES),
    "header": Feed(feed_header, ENTRIES),
    "value": Feed(feed_safe_value, ENTRIES),
    "claim": Feed(feed_lease, (Lease("host:1:ab", 30.0).pack(),)),
    "frames": Feed(feed_frames, _frame_seeds()),
    "result": Feed(feed_result, _result_seeds()),
}

NUMBERS = [
    struct.pack(code, number)
    for code in ("<I", "<Q", ">I", "<H")
    for number in (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF)
] + [struct.pack("<I", 2**32 - 1), struct.pack("<Q", 2**64 - 1), struct.pack("<Q", 2**63)]


def altered(chance, whole):
    """Return other bytes: flipped, cut, repeated, numbers in their place."""
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        if not data:
            return chance.randbytes(chance.randrange(100))
        place = chance.randrange(len(data))
        if chance.random() < 0.5:
            place = min(place, chance.randrange(200))  # where the header is
        how = chance.randrange(7)
        if how == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif how == 1:
            data[place] = chance.randrange(256)
        elif how == 2:
            number = chance.choice(NUMBERS)
            data[place : place + len(number)] = number
        elif how == 3:
            del data[place : place + chance.randrange(1, 60)]
        elif how == 4:
            data[place:place] = chance.randbytes(chance.randrange(1, 60))
        elif how == 5:
            data[place:place] = data[place : place + chance.randrange(1, 200)]
        else:
            del data[place:]
    return bytes(data)


def run(inputs, seed):
    """Feed so many inputs; return the rows of a table: feed, inputs, how they ended, slowest."""
    chance = random.Random(seed)
    names = sorted(FEEDS)
    endings = {name: Counter() for name in names}
    slowest = dict.fromkeys(names, 0.0)
    corpus = {name: list(FEEDS[name].seeds) for name in names}
    begin_memory = None
    for number in range(inputs):
        name = names[number % len(names)]
        data = altered(chance, chance.choice(corpus[name]))[: 1 << 17]
        begin = time.process_time()  # a busy machine makes nobody slow
        try:
            ending = FEEDS[name].feed(data)
        except BaseException:
            print(f"{name}: input {number} of seed {seed} fails: {data[:4000]!r}", file=sys.stderr)
            raise
        seconds = time.process_time() - begin
        if seconds > SLOW_SECONDS:
            raise AssertionError(f"{name}: input {number} of seed {seed} took {seconds:.1f} s")
        slowest[name] = max(slowest[name], seconds)
        endings[name][ending] += 1
        if ending == "read" and chance.random() < 0.01:
            corpus[name].append(data)
            del corpus[name][200:]
        if number == min(20_000, inputs // 10):
            begin_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin_memory) * 1024
    if grown > GROWTH_BYTES:
        raise AssertionError(f"the process has grown by {grown / 1e6:.0f} MB")
    rows = [
        (name, sum(endings[name].values()), dict(endings[name]), slowest[name]) for name in names
    ]
    return rows, grown


def main(arguments):
    inputs = int(arguments[0]) if arguments else 1_200_000
    seed = int(arguments[1]) if len(arguments) > 1 else random.SystemRandom().randrange(10**6)
    warnings.simplefilter("ignore", JobspanWarning)
    begin = time.monotonic()
    rows, grown = run(inputs, seed)
    for name, fed, ended, slowest in rows:
        print(f"{name:8} {fed:9,} inputs  {json.dumps(ended):45} slowest {slowest * 1e3:.1f} ms")
    print(
        f"seed {seed}: {inputs:,} inputs in {time.monotonic() - begin:.0f} s, "
        f"grown by {grown / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
