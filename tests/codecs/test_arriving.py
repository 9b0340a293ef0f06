"""The digests of an entry are the same however it arrives, and are taken of what has arrived."""

from __future__ import annotations

import random
import secrets

import pytest

from jobspan.codecs.arriving import Arriving
from jobspan.codecs.entry import pack, unpack
from jobspan.codecs.header import Header
from jobspan.errors import EntryDamagedError

PARTS = [
    [b""],
    [b"payload"],
    [b"payload", b"", b"b" * 63, secrets.token_bytes(5000)],
    [secrets.token_bytes(3000), b"", b""],
]


def packed(parts):
    return pack(Header("0" * 64, "project.f", 0.0, 1.0), parts)


def arrived(data, steps):
    arriving = Arriving()
    for filled in steps:
        arriving(memoryview(data), filled)
    return arriving.digests


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("seed", range(5))
def test_digests_are_the_same_however_an_entry_arrives(parts, seed):
    data = packed(parts)
    steps = sorted(random.Random(seed).choices(range(len(data)), k=7))
    header, _ = unpack(data)
    payload, buffers = arrived(data, [*steps, len(data)])
    assert payload == header.payload_digest
    assert len(parts) == 1 or buffers == header.buffers_digest
    _, found = unpack(data, digests=(payload, buffers))
    assert [bytes(part) for part in found] == parts


def test_what_was_altered_before_it_arrived_is_found_out():
    data = packed(PARTS[2])
    for at in (len(data) - 1, len(data) - 4000):
        altered = bytearray(data)
        altered[at] ^= 1
        digests = arrived(altered, [300, 700, 3000, len(data)])
        assert digests is not None
        with pytest.raises(EntryDamagedError, match="digest"):
            unpack(altered, digests=digests)


def test_there_are_no_digests_of_what_has_not_arrived_or_is_no_entry():
    data = packed(PARTS[2])
    assert arrived(data, []) is None
    assert arrived(data, [len(data) - 1]) is None
    assert arrived(data[:-1], [len(data) - 1]) is None
    assert arrived(b"no entry" * 1000, [100, 8000]) is None
