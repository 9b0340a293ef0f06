"""What one who may write to a cache, and has no key, could put there: one function an attack."""

from __future__ import annotations

import json
import lzma
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jobspan.codecs.compression import compress
from jobspan.codecs.entry import pack
from jobspan.codecs.header import MAGIC, Header
from jobspan.codecs.lease import Lease
from jobspan.codecs.signing import Signer

BOMB_BYTES = 1 << 36
"""What bombs claim to become: more than this machine has."""


@dataclass(frozen=True)
class Target:
    """What an attacker knows: the key under attack, honest entries, a file that must not appear."""

    digest: str
    honest: bytes
    other: bytes
    mark: str


Attack = Callable[[Target], bytes]
ATTACKS: dict[str, Attack] = {}
LIES: dict[str, Attack] = {}
"""Attacks that only a signature finds out: data that are well formed, and not the result."""


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__.replace("_", " ")] = function
    return function


def lie(function: Attack) -> Attack:
    LIES[function.__name__.replace("_", " ")] = function
    return function


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.mark),)


def forged(target: Target, parts: list[Any], codec: str = "json", **fields: Any) -> bytes:
    return bytes(pack(Header(target.digest, "project.f", 1.0, 1.0, codec, **fields), parts))


# --- damaged ---------------------------------------------------------------------------------


@attack
def nothing_at_all(target: Target) -> bytes:
    return b""


@attack
def foreign_bytes(target: Target) -> bytes:
    return b"<html>captive portal</html>" * 50


@attack
def only_the_magic(target: Target) -> bytes:
    return MAGIC


@attack
def truncated_in_the_header(target: Target) -> bytes:
    return target.honest[:90]


@attack
def truncated_by_a_byte(target: Target) -> bytes:
    return target.honest[:-1]


@attack
def longer_by_a_byte(target: Target) -> bytes:
    return target.honest + b"\0"


@attack
def a_bit_flipped_in_the_content(target: Target) -> bytes:
    return target.honest[:-1] + bytes([target.honest[-1] ^ 1])


@attack
def a_bit_flipped_in_the_header(target: Target) -> bytes:
    return target.honest[:100] + bytes([target.honest[100] ^ 1]) + target.honest[101:]


@attack
def replayed_from_another_key(target: Target) -> bytes:
    return target.other


# --- pickles ---------------------------------------------------------------------------------


@attack
def a_pickle_bomb(target: Target) -> bytes:
    return forged(target, [pickle.dumps(Bomb(target.mark))], "pickle")


@attack
def a_compressed_pickle_bomb(target: Target) -> bytes:
    plain = pickle.dumps(Bomb(target.mark))
    packed = zlib.compress(plain)
    return forged(target, [packed], "pickle", compression="zlib", sizes=[len(plain)])


@attack
def a_pickle_bomb_signed_with_a_foreign_key(target: Target) -> bytes:
    header = Header(target.digest, "project.f", 1.0, 1.0, "pickle")
    return bytes(pack(header, [pickle.dumps(Bomb(target.mark))], Signer(b"x" * 32).sign))


@attack
def a_pickle_bomb_beside_a_stolen_signature(target: Target) -> bytes:
    from jobspan.codecs.header import read_header

    stolen = read_header(memoryview(target.honest))[0].signature
    header = Header(target.digest, "project.f", 1.0, 1.0, "pickle")
    return bytes(pack(header, [pickle.dumps(Bomb(target.mark))], lambda head: stolen))


@attack
def an_array_of_objects(target: Target) -> bytes:
    head = _npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }")
    return forged(target, [head, pickle.dumps(Bomb(target.mark))], "npy")


@attack
def an_arrow_extension_that_is_a_pickle(target: Target) -> bytes:
    import pyarrow as pa

    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Bomb(target.mark)),
    }
    field = pa.field("a", pa.int64(), metadata=metadata)
    # Read without the extension's type it would be plain data, which no code has to fear.
    table = pa.table([pa.array([1])], schema=pa.schema([field]))
    stream = bytearray(_stream(table))
    return forged(target, [b"nonsense", bytes(stream)], "arrow")


# --- codecs that are none --------------------------------------------------------------------


@attack
def a_codec_that_names_a_function(target: Target) -> bytes:
    return forged(target, [b"true"], "os:system")


@attack
def a_codec_that_nobody_knows(target: Target) -> bytes:
    return forged(target, [b"true"], "\x1b[2J")


@attack
def a_compression_that_nobody_knows(target: Target) -> bytes:
    return forged(target, [b"true"], compression="lzma", sizes=[4])


# --- sizes that lie --------------------------------------------------------------------------


@attack
def parts_longer_than_the_entry(target: Target) -> bytes:
    return _with_numbers(target, [BOMB_BYTES], [BOMB_BYTES])


@attack
def parts_whose_ends_wrap_around(target: Target) -> bytes:
    return _with_numbers(target, [2**64 - 1, 2**64 - 1], [1, 1])


@attack
def a_header_longer_than_the_entry(target: Target) -> bytes:
    return target.honest[:12] + struct.pack("<I", 2**32 - 1) + target.honest[16:]


@attack
def a_signature_longer_than_the_entry(target: Target) -> bytes:
    return target.honest[:16] + struct.pack("<I", 2**32 - 1) + target.honest[20:]


@attack
def four_billion_parts(target: Target) -> bytes:
    return target.honest[:20] + struct.pack("<I", 2**32 - 1) + target.honest[24:]


@attack
def no_part_at_all(target: Target) -> bytes:
    return forged(target, [])


@attack
def a_size_before_compression_that_lies(target: Target) -> bytes:
    packed = zlib.compress(b"[" + b"1," * 1000 + b"1]")
    return forged(target, [packed], compression="zlib", sizes=[BOMB_BYTES])


@attack
def a_size_before_compression_beyond_all_numbers(target: Target) -> bytes:
    packed = zlib.compress(b"true")
    return forged(target, [packed], compression="zlib", sizes=[2**64 - 1])


@lru_cache
def _blanks(name: str) -> bytes:
    """Return much that is nothing to JSON, as a bomb."""
    return compress(name, 3, b"1" + b" " * (1 << 28))


def _bomb(name: str) -> Attack:
    def decompression_bomb(target: Target) -> bytes:
        packed = _blanks(name)
        return forged(target, [packed], compression=name, sizes=[len(packed)])

    return decompression_bomb


for _name in ("zlib", "gzip", "bz2", "lzma", "xz", "zstd", "lz4"):
    ATTACKS[f"a {_name} bomb"] = _bomb(_name)


@attack
def a_decompression_bomb_that_says_so(target: Target) -> bytes:
    packed = _blanks("zlib")
    return forged(target, [packed], compression="zlib", sizes=[BOMB_BYTES])


@attack
def many_small_decompression_bombs(target: Target) -> bytes:
    """Each part is small enough; all of them are more than there is. The first ones do explode."""
    size = 1 << 26
    packed = compress("zstd", 3, b"1" + b" " * (size - 1))
    parts = [packed] * 8 + [b"no part"] * (BOMB_BYTES // size)
    return forged(target, parts, compression="zstd", sizes=[size] * len(parts))


@attack
def a_dictionary_of_lzma_larger_than_memory(target: Target) -> bytes:
    """Its decoder takes what the first bytes say before it has read any more."""
    packed = lzma.compress(b"true", lzma.FORMAT_ALONE)
    return forged(
        target,
        [packed[:1] + struct.pack("<I", 3 << 30) + packed[5:]],
        compression="lzma",
        sizes=[4],
    )


@attack
def an_array_larger_than_its_bytes(target: Target) -> bytes:
    head = _npy_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({BOMB_BYTES},), }}")
    return forged(target, [head, bytes(64)], "npy")


@attack
def an_array_of_nothing_without_end(target: Target) -> bytes:
    head = _npy_header(f"{{'descr': '|V0', 'fortran_order': False, 'shape': ({2**62},), }}")
    return forged(target, [head, bytes(64)], "npy")


@attack
def a_frame_of_nothing_without_end(target: Target) -> bytes:
    import pyarrow as pa

    table = pa.table({str(number): pa.nulls(2**31 - 2) for number in range(20)})
    return forged(target, [b"pandas", _stream(table)], "arrow")


@attack
def a_frame_compressed_inside(target: Target) -> bytes:
    import pyarrow as pa

    table = pa.table({"a": [0] * (1 << 20)})
    return forged(target, [b"pandas", _stream(table, "zstd")], "arrow")


@attack
def a_frame_that_makes_polars_panic(target: Target) -> bytes:
    import pyarrow as pa

    table = pa.table({"a": pa.array([[], []], pa.list_(pa.int8(), 0))})
    return forged(target, [b"polars", _stream(table)], "arrow")


@attack
def a_frame_whose_types_give_a_terminal_orders(target: Target) -> bytes:
    import pyarrow as pa

    metadata = {
        b"ARROW:extension:name": b"arrow.uuid",
        b"ARROW:extension:metadata": b"\x1b]0;owned\x07",
    }
    field = pa.field("a", pa.binary(16), metadata=metadata)
    table = pa.table([pa.array([bytes(16)], pa.binary(16))], schema=pa.schema([field]))
    return forged(target, [b"arrow", _stream(table)], "arrow")


@attack
def a_frame_with_offsets_beyond_its_end(target: Target) -> bytes:
    import pyarrow as pa

    stream = bytearray(_stream(pa.table({"a": ["x" * 7, "y" * 7]})))
    place = stream.index(struct.pack("<iii", 0, 7, 14))
    stream[place : place + 12] = struct.pack("<iii", 0, 2**30, 2**31 - 1)
    return forged(target, [b"pandas", bytes(stream)], "arrow")


# --- text for people -------------------------------------------------------------------------


@attack
def a_value_nested_too_deeply(target: Target) -> bytes:
    return forged(target, [b"[" * 200_000])


@attack
def a_claim_of_a_megabyte(target: Target) -> bytes:
    return Lease("[" * (1 << 20), 1e300).pack()


@attack
def a_claim_for_ever(target: Target) -> bytes:
    return b"joblease" + json.dumps({"holder": "me", "seconds": 1e999}).encode()


# --- what only a signature finds out ---------------------------------------------------------


@lie
def another_value(target: Target) -> bytes:
    return forged(target, [b'"forged"'])


@lie
def another_array(target: Target) -> bytes:
    head = _npy_header("{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }")
    return forged(target, [head, bytes(8)], "npy")


@lie
def an_entry_whose_signature_was_taken_off(target: Target) -> bytes:
    from jobspan.codecs.entry import unpack

    header, parts = unpack(target.honest)
    return forged(target, [bytes(part) for part in parts], header.codec)


def _npy_header(text: str) -> bytes:
    padded = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(padded)) + padded


def _stream(table: Any, compression: str | None = None) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _with_numbers(target: Target, lengths: list[int], sizes: list[int]) -> bytes:
    """Return an entry whose table of lengths says what it wants, under a right digest."""
    from blake3 import blake3

    from jobspan.codecs.header import _FACTS, _PREFIX, VERSION

    facts = _FACTS.pack(bytes.fromhex(target.digest), bytes(32), bytes(32), 1.0, 1.0, b"json", b"")
    head = facts + struct.pack(f"<{2 * len(lengths)}Q", *lengths, *sizes)
    head += json.dumps({"function": "project.f", "components": {}}).encode()
    prefix = _PREFIX.pack(MAGIC, VERSION, len(head), 0, len(lengths), blake3(head).digest())
    return prefix + head + bytes(4096)
