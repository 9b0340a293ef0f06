"""Values as bytes and back: what each codec takes, and that it comes back as it was."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from jobspan import CacheWarning, Memory, register_codec
from jobspan.codecs.arrow import ArrowCodec
from jobspan.codecs.compression import compress, decompress, read_compress
from jobspan.codecs.plain import JsonCodec, NpyCodec
from jobspan.codecs.values import CODECS, PickleCodec
from jobspan.errors import CodecError, EntryDamagedError, MissingExtraError

ARRAYS = [
    np.arange(12.0).reshape(3, 4),
    np.asfortranarray(np.arange(12).reshape(3, 4)),
    np.arange(24).reshape(2, 3, 4)[:, ::2, ::-1],
    np.array(3.5),
    np.empty((0, 3)),
    np.array(["é", "abc"]),
    np.array(["2026-11-25", "NaT"], dtype="datetime64[ns]"),
    np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", ">f8")]),
    np.arange(3, dtype=">i2"),
    np.array([True, False]),
    np.float64(1.5),
    np.int8(-3),
    np.str_("text"),
    np.datetime64("2026-11-25"),
    np.bool_(True),
]


def through(codec, value):
    return codec.decode([memoryview(bytes(part)) for part in codec.encode(value)])


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_npy(array):
    found = through(NpyCodec(), array)
    assert type(found) is type(array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert np.array_equal(found, array, equal_nan=array.dtype.kind in "mMf")


def test_npy_keeps_the_order_of_memory():
    assert through(NpyCodec(), np.asfortranarray(np.ones((3, 4)))).flags.f_contiguous
    assert through(NpyCodec(), np.ones((3, 4))).flags.c_contiguous


@pytest.mark.parametrize("value", [np.array([object()]), np.ma.masked_array([1]), [1], "a"])
def test_npy_refuses_what_it_would_change(value):
    with pytest.raises(CodecError, match="npy"):
        NpyCodec().encode(value)


def test_npy_reads_no_objects():
    import io

    file = io.BytesIO()
    np.lib.format.write_array_header_2_0(
        file, {"descr": "|O", "fortran_order": False, "shape": (1,)}
    )
    with pytest.raises(CodecError, match="objects"):
        NpyCodec().decode([file.getvalue(), bytes(8)])


@pytest.mark.parametrize(
    "value",
    [None, True, 3, -(2**70), 1.5, float("inf"), "é\ud800", [], {}, {"a": [1, {"b": None}]}],
    ids=repr,
)
def test_json(value):
    found = through(JsonCodec(), value)
    assert type(found) is type(value)
    assert found == value


@pytest.mark.parametrize("value", [(1,), {1: 2}, {"a": (1,)}, b"x", 1j, np.float64(1), object()])
def test_json_refuses_what_it_would_change(value):
    with pytest.raises(CodecError, match="JSON"):
        JsonCodec().encode(value)


def frames():
    index = pd.date_range("2026-01-01", periods=3, name="day")
    yield pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]}, index=index)
    yield pd.DataFrame({"c": pd.Categorical(["u", "v", "u"]), "t": pd.to_timedelta([1, 2, 3])})
    yield pd.DataFrame({"p": pd.period_range("2026", periods=3), "i": pd.interval_range(0, 3)})
    yield pd.DataFrame()
    yield pl.DataFrame({"a": [1, None], "b": ["x", "y"], "c": [[1], [2, 3]]})
    yield pa.table({"a": [1, 2], "b": [{"x": 1}, None]})


@pytest.mark.parametrize("frame", list(frames()), ids=lambda frame: type(frame).__module__[:9])
def test_arrow(frame):
    found = through(ArrowCodec(), frame)
    assert type(found) is type(frame)
    assert found.equals(frame)
    if isinstance(frame, pd.DataFrame):
        assert found.dtypes.equals(frame.dtypes)
        pd.testing.assert_index_equal(found.index, frame.index, check_freq=True)


@pytest.mark.parametrize(
    "frame", [{"a_name": [1]}, {"outer": [{"a_name": 1}]}], ids=["column", "field"]
)
def test_a_name_that_is_no_text_does_not_reach_polars(frame, capfd):
    kind, stream = map(bytes, ArrowCodec().encode(pl.DataFrame(frame)))
    with pytest.raises(UnicodeDecodeError):
        ArrowCodec().decode([kind, stream.replace(b"a_name", b"a\xffname")])
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"o": pd.Series(["x", "y"], dtype=object)}),
        pd.DataFrame({"o": pd.Series([1, None], dtype=object)}),
        pd.DataFrame({"o": [(1, 2), (3, 4)]}),
        pd.DataFrame({"o": [1, "a"]}),
        pd.DataFrame({"o": [object()]}),
        pd.Series([1]),
        [1],
    ],
    ids=["text", "numbers", "tuples", "mixed", "objects", "series", "list"],
)
def test_arrow_refuses_what_it_would_change(tmp_path, frame):
    memory = Memory(tmp_path, codec="arrow", verbose=0)
    calls = []

    @memory.cache(version=1, ignore=["calls"])
    def make(calls):
        calls.append(1)
        return frame

    with pytest.warns(CacheWarning, match="cannot store the result"):
        assert make(calls) is frame
    assert make(calls) is frame
    assert calls == [1, 1]


@pytest.mark.parametrize(
    "value",
    [lambda x: x + 1, {1, 2}, (1, [2]), *ARRAYS[:3]],
    ids=lambda value: type(value).__name__,
)
def test_pickle(value):
    found = through(PickleCodec(), value)
    if callable(value):
        assert found(1) == 2
    else:
        assert np.array_equal(found, value) if isinstance(value, np.ndarray) else found == value


@pytest.mark.parametrize(
    ("value", "codec"),
    [
        ([1, "a"], "json"),
        (np.arange(3), "npy"),
        (np.float64(2.0), "npy"),
        (pd.DataFrame({"a": [1]}), "arrow"),
        (pl.DataFrame({"a": [1]}), "arrow"),
        ((1, 2), "pickle"),
        (np.array([None]), "pickle"),
        (pd.DataFrame({"o": [1, "a"]}), "pickle"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_auto_chooses_by_type_and_pickles_the_rest(tmp_path, value, codec):
    from jobspan.memory.inventory import survey

    memory = Memory(tmp_path, codec="auto", verbose=0)
    make = memory.cache(version=1)(lambda: value)
    first, second = make(), make()
    assert type(first) is type(second) is type(value)
    assert memory.stats()["hits"] == 1
    (entry,) = survey(memory.store_backend).entries
    assert entry.header.codec == codec


COMPRESSIONS = ["zlib", "gzip", "bz2", "lzma", "xz", "zstd", "lz4"]


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("data", [b"", b"abc" * 10_000, memoryview(bytes(range(256)))], ids=len)
def test_compression(name, data):
    packed = compress(name, 3, data)
    assert decompress(name, packed, len(data)) == data
    for size in {max(len(data) - 1, 0), len(data) + 1} - {len(data)}:
        with pytest.raises(EntryDamagedError):
            decompress(name, packed, size)
    with pytest.raises(EntryDamagedError):
        decompress(name, b"no such data at all", 5)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_bomb_makes_no_more_than_the_header_says(name):
    import tracemalloc

    packed = compress(name, 1, bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(EntryDamagedError):
            decompress(name, packed, 1000)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (False, ("", 0)),
        (None, ("", 0)),
        (0, ("", 0)),
        (True, ("zlib", 3)),
        (9, ("zlib", 9)),
        ("zstd", ("zstd", 3)),
        (("gzip", 5), ("gzip", 5)),
        (("xz", 0), ("", 0)),
        (("zstd", 19), ("zstd", 19)),
    ],
)
def test_compress_is_given_as_in_joblib(given, read):
    assert read_compress(given) == read


@pytest.mark.parametrize("bad", [10, -1, "zip", ("zlib", 10), ("zlib",), ("zlib", "3"), 2.5, [1]])
def test_bad_compress_is_refused_with_the_forms_that_are_taken(tmp_path, bad):
    with pytest.raises(ValueError, match="pass True, a level"):
        Memory(tmp_path, compress=bad)


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [
        ({"compress": "zstd"}, "zstandard", "compress"),
        ({"compress": ("lz4", 1)}, "lz4.frame", "compress"),
        ({"codec": "arrow"}, "pyarrow", "arrow"),
    ],
    ids=["zstd", "lz4", "arrow"],
)
def test_a_missing_package_is_told_when_a_memory_is_made(
    tmp_path, monkeypatch, arguments, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'jobspan\[{extra}\]'"):
        Memory(tmp_path, **arguments)


class Reversed:
    name, safe = "reversed", True

    def encode(self, value):
        return [value[::-1].encode()]

    def decode(self, parts):
        return bytes(parts[0]).decode()[::-1]


@pytest.fixture
def registered():
    register_codec("reversed", Reversed)
    yield
    CODECS.unregister("reversed")


@pytest.mark.usefixtures("registered")
def test_a_codec_of_ones_own(tmp_path):
    memory = Memory(tmp_path, codec="reversed", verbose=0, safe=True)
    shout = memory.cache(str.upper)
    assert [shout("hey"), shout("hey")] == ["HEY", "HEY"]
    # Who did not ask for it reads it by the name in the entry.
    plain = Memory(tmp_path, verbose=0)
    assert plain.cache(str.upper)("hey") == "HEY"
    assert plain.stats()["hits"] == 1


def test_an_object_may_be_a_codec_without_being_registered(tmp_path):
    memory = Memory(tmp_path, codec=Reversed(), verbose=0)
    shout = memory.cache(str.upper)
    assert [shout("hey"), shout("hey")] == ["HEY", "HEY"]
    assert memory.stats()["hits"] == 1
    with pytest.warns(CacheWarning, match="no codec is called 'reversed'"):
        assert Memory(tmp_path, mode="ro", verbose=0).cache(str.upper)("hey") == "HEY"


class Broken(Reversed):
    name = "broken"

    def encode(self, value):
        raise ZeroDivisionError("oh")


def test_a_codec_that_fails_loses_no_result(tmp_path):
    shout = Memory(tmp_path, codec=Broken(), verbose=0).cache(str.upper)
    with pytest.warns(CacheWarning, match="'broken' cannot write str: oh"):
        assert shout("hey") == "HEY"


def test_bad_codecs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="1 to 32 bytes"):
        register_codec("x" * 33, Reversed)
    with pytest.raises(TypeError, match="encode, decode, name, safe"):
        register_codec("bad", int)
    with pytest.raises(CodecError, match="has no 'encode'"):
        Memory(tmp_path, codec=3)
    with pytest.raises(CodecError, match=r"pass one of \['auto'"):
        Memory(tmp_path, codec="nosuch")
