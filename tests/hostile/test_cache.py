"""Entries that somebody else put there: with a key or safe=True none is run or returned."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import warnings
from itertools import count
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from attacks import ATTACKS, LIES, Bomb, Target, forged
from victim import KEY, MODES, computed, make_memory, plant

from jobspan import Memory
from jobspan.calls import Recalled
from jobspan.codecs.entry import pack, unpack
from jobspan.codecs.header import Header, read_header
from jobspan.codecs.signing import Signer
from jobspan.errors import EntryDamagedError
from jobspan.memory import CacheWarning
from jobspan.memory.format import EntryFormat
from jobspan.memory.inventory import problem_of, survey
from jobspan.memory.naming import entry_name
from jobspan.store import open_store

GROWTH_MEGABYTES = 150


numbers = count(1)
"""Arguments that no other test has: a damaged entry is told of once a process."""


@pytest.fixture(params=["mapped", "read"])
def remote(request):
    return request.param == "read"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*ATTACKS, *LIES])
def test_it_is_a_miss_is_told_and_is_replaced(name, mode, remote, tmp_path):
    if mode == "safe" and name in LIES:
        pytest.skip("well-formed data is found out by a signature only; the guide says so")
    memory = make_memory(tmp_path / "cache", mode, remote)
    mark = tmp_path / "mark"
    x = next(numbers)
    planted, data = plant(memory, {**ATTACKS, **LIES}[name], x, mark)
    function = memory.cache(computed)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert function(x) == [x, "right"]
    assert not mark.exists()
    assert bytes(memory.store_backend.get(planted)[0]) != data
    assert function.check_call_in_cache(x)
    if not data.startswith(b"joblease"):
        assert [w for w in told if issubclass(w.category, CacheWarning) and planted in str(w)]
    assert not [w for w in told if re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", str(w.message))]


@pytest.fixture
def unpickling_type():
    """A type of columns such as libraries register: what a stream says of it is unpickled."""
    pa = pytest.importorskip("pyarrow")

    class Unpickling(pa.ExtensionType):
        def __init__(self, told=b""):
            self.told = told
            super().__init__(pa.int64(), "project.unpickling")

        def __arrow_ext_serialize__(self):
            return self.told

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type, serialized):
            if serialized:
                pickle.loads(serialized)
            return cls(serialized)

    pa.register_extension_type(Unpickling())
    yield Unpickling
    pa.unregister_extension_type("project.unpickling")


@pytest.mark.parametrize("within", ["column", "list", "dictionary"])
def test_a_type_of_columns_whose_library_unpickles(within, unpickling_type, tmp_path):
    import pyarrow as pa

    mark = tmp_path / "mark"
    kind = unpickling_type(pickle.dumps(Bomb(str(mark))))
    column = pa.ExtensionArray.from_storage(kind, pa.array([1]))
    if within == "list":
        column = pa.ListArray.from_arrays([0, 1], column)
    if within == "dictionary":
        column = pa.DictionaryArray.from_arrays([0], pa.ListArray.from_arrays([0, 1], column))
    sink = pa.BufferOutputStream()
    table = pa.table({"a": column})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream = bytes(sink.getvalue())
    mark.unlink(missing_ok=True)
    memory = make_memory(tmp_path / "cache", "safe", remote=True)
    x = next(numbers)
    plant(memory, lambda target: forged(target, [b"arrow", stream], "arrow"), x, mark)
    with pytest.warns(CacheWarning, match="extension types"):
        assert memory.cache(computed)(x) == [x, "right"]
    assert not mark.exists()


@pytest.mark.parametrize("mode", MODES)
def test_many_at_once(mode, remote, tmp_path):
    memory = make_memory(tmp_path / "cache", mode, remote)
    for x, name in enumerate(ATTACKS):
        plant(memory, ATTACKS[name], x, tmp_path / "mark")
    function = memory.cache(computed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = function.recall_many([((x,), {}) for x in range(len(ATTACKS))])
    assert not any(isinstance(answer, Recalled) for answer in answers)
    assert not (tmp_path / "mark").exists()


def test_a_poisoned_tier(tmp_path):
    x = next(numbers)
    memory = Memory(tmp_path / "far", verbose=0, local_tier=tmp_path / "near", sign_key=KEY)
    function = memory.cache(computed)
    function(x)
    name = entry_name(function._keys.key((x,), {}))
    far = memory.store_backend
    honest = bytes(far.get(name)[0])
    target = Target(name.rpartition("/")[2], honest, honest, str(tmp_path / "mark"))
    open_store(str(tmp_path / "near")).put(name, ATTACKS["a pickle bomb"](target))
    with pytest.warns(CacheWarning, match="signature"):
        assert function(x) == [x, "right"]
    assert bytes(far.get(name)[0]) == honest
    assert not (tmp_path / "mark").exists()


def a_list(x):
    return list(range(x, x + 30_000))


def an_array(x):
    return np.arange(x, x + 30_000)


def alter_before_decoding(monkeypatch, memory, cached, x, alter):
    """Call `alter` with the entry's open file and its parts, verified, before they are decoded."""
    path = Path(memory.store_backend.local_path(entry_name(cached._keys.key((x,), {}))))
    decoded = EntryFormat.value

    def altered_first(self, header, parts, *, writable):
        with path.open("r+b") as file:
            alter(file, parts)
        return decoded(self, header, parts, writable=writable)

    monkeypatch.setattr(EntryFormat, "value", altered_first)


@pytest.mark.parametrize("mmap_mode", [None, "r", "c"])
@pytest.mark.parametrize("function", [a_list, an_array])
def test_a_file_that_is_altered_while_it_is_read(function, mmap_mode, tmp_path, monkeypatch):
    """Somebody waits until the signature is verified, and writes a bomb over the pickle then."""
    mark = tmp_path / "mark"
    x = next(numbers)
    memory = Memory(tmp_path / "cache", verbose=0, sign_key=KEY, mmap_mode=mmap_mode)
    cached = memory.cache(function)
    honest = function(x)
    cached(x)

    def alter(file, parts):
        file.seek(file.read().index(bytes(parts[0][:20])))
        file.write(pickle.dumps(Bomb(str(mark)))[: len(parts[0])])
        if mmap_mode is None:  # who asks for a map gets what is there
            file.seek(30_000, os.SEEK_CUR)
            file.write(bytes(10_000))

    alter_before_decoding(monkeypatch, memory, cached, x, alter)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cached(x)
    assert not mark.exists()
    assert np.array_equal(found, honest)


class Flickering(bytearray):
    """What a map shows of a file that is written to: from the second look on a signed header."""

    signed = b""

    def __getitem__(self, place):
        self[: len(self.signed)] = self.signed
        return super().__getitem__(place)


def test_a_header_that_is_altered_while_it_is_read():
    """What the signature is over must be the bytes from which the fields were read."""
    digest = "ab" * 32
    honest = pack(Header(digest, "f", 1.0, 1.0), [b"honest", bytes(100)], Signer(KEY).sign)
    evil = pack(Header(digest, "f", 1.0, 1.0), [b"forged", bytes(100)], Signer(b"x" * 32).sign)
    seen = Flickering(evil)
    seen[24:56] = honest[24:56]  # the digest of the head
    seen.signed = bytes(honest[: read_header(honest)[1]])
    with pytest.raises(EntryDamagedError, match="digest"):
        unpack(seen, digest, settled=False)


class Chunks:
    """A codec of one's own, which takes as many parts as there are."""

    name, safe = "chunks", True

    def encode(self, value):
        return [bytes([each]) for each in value]

    def decode(self, parts):
        return b"".join(bytes(part) for part in parts)


def three_bytes(x):
    return b"abc"


def test_parts_that_are_taken_off_a_signed_entry(tmp_path):
    """How many there are stands before the head, and is signed, too."""
    memory = Memory(tmp_path, verbose=0, sign_key=KEY, codec=Chunks())
    function = memory.cache(three_bytes)
    x = next(numbers)
    function(x)
    path = Path(memory.store_backend.local_path(entry_name(function._keys.key((x,), {}))))
    data = path.read_bytes()
    assert struct.unpack_from("<I", data, 20) == (3,)
    path.write_bytes(data[:20] + struct.pack("<I", 1) + data[24:-128])
    assert unpack(path.read_bytes())[0].parts == (1,)  # whole, as far as digests tell
    with pytest.warns(CacheWarning, match="signature is wrong"):
        assert function(x) == b"abc"


def a_frame(x):
    return pd.DataFrame({"a": np.arange(x, x + 30_000)})


def an_array_of_chance(x):
    return np.random.default_rng(x).integers(0, 1 << 60, 30_000)


@pytest.mark.parametrize("mmap_mode", ["r", "c"])
@pytest.mark.parametrize(
    ("function", "options"),
    [(a_frame, {"codec": "arrow"}), (an_array_of_chance, {"compress": True})],
    ids=["arrow", "compressed"],
)
@pytest.mark.filterwarnings("ignore:Compressed results")
def test_what_is_no_array_of_the_file_is_no_map(
    function, options, mmap_mode, tmp_path, monkeypatch
):
    """Of other parts than arrays lengths and offsets are read, which must be those verified."""
    x = next(numbers)
    memory = Memory(tmp_path, verbose=0, sign_key=KEY, mmap_mode=mmap_mode, **options)
    cached = memory.cache(function)
    honest = function(x)
    cached(x)

    def alter(file, parts):
        file.seek(20_000)
        file.write(bytes(40_000))

    alter_before_decoding(monkeypatch, memory, cached, x, alter)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(cached(x), honest)


@pytest.mark.parametrize("name", ["a pickle bomb", "only the magic", "truncated by a byte"])
def test_a_claim_that_is_written_over_by_somebody_else_loses_no_result(name, tmp_path):
    """What stands there when a result is to be stored counts as another's only if it is good."""
    memory = Memory(open_store(f"memory://{tmp_path.name}"), verbose=0, sign_key=KEY)
    x = next(numbers)

    def attacked(x):
        target = Target(place.rpartition("/")[2], honest, honest, str(tmp_path / "mark"))
        memory.store_backend.put(place, ATTACKS[name](target))
        return [x, "right"]

    function = memory.cache(attacked, version=1)
    key = function._keys.key((x,), {})
    place = entry_name(key)
    honest = bytes(memory._cache.format.packed(key, [x, "right"], 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shelved = function.call_and_shelve(x)
        assert shelved.get() == [x, "right"]
    assert function.check_call_in_cache(x)


def a_large_list(x):
    return list(range(x, x + 40_000))


def test_a_large_entry_of_another_key_is_not_taken_for_stored(tmp_path):
    """Of a bucket's large entries the header alone is looked at."""
    memory = make_memory(tmp_path, "signed", remote=True)
    function = memory.cache(a_large_list)
    x = next(numbers)
    function(x)
    other, mine = (entry_name(function._keys.key((each,), {})) for each in (x, x + 1000))
    memory.store_backend.put(mine, bytes(memory.store_backend.get(other)[0]))
    with pytest.warns(CacheWarning, match="for key"):
        assert not function.check_call_in_cache(x + 1000)
    assert function.call_and_shelve(x + 1000).get() == a_large_list(x + 1000)


def many_arrays(x):
    return [np.arange(x, x + 10) for _ in range(6000)]


@pytest.mark.filterwarnings("error::jobspan.errors.JobspanWarning")
def test_an_honest_entry_with_a_long_head_is_known_by_it(tmp_path):
    memory = make_memory(tmp_path, "signed", remote=True)
    function = memory.cache(many_arrays)
    x = next(numbers)
    function(x)
    assert function.check_call_in_cache(x)
    (found,) = survey(memory.store_backend).entries
    assert found.header.function.endswith("many_arrays")


# --- what is no file of a cache, in its folder -------------------------------------------------


@pytest.fixture
def planted_path(tmp_path, request):
    """Where an entry is looked for, by a cache of some mode; its folder is there."""
    mode, mmap_mode = getattr(request, "param", ("signed", None))
    memory = Memory(tmp_path / "cache", verbose=0, mmap_mode=mmap_mode, **MODES[mode])
    function = memory.cache(computed)
    x = next(numbers)
    path = Path(memory.store_backend.local_path(entry_name(function._keys.key((x,), {}))))
    path.parent.mkdir(parents=True)
    return function, x, path


@pytest.mark.timeout(30)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.filterwarnings("ignore::jobspan.errors.JobspanWarning")
def test_a_pipe_in_the_place_of_an_entry_is_not_waited_for(planted_path):
    function, x, path = planted_path
    os.mkfifo(path)
    os.mkfifo(path.with_name("0" * 64))
    assert function(x) == [x, "right"]
    assert path.is_file()
    assert function.check_call_in_cache(x)
    survey(function.store_backend)


@pytest.mark.parametrize(
    "planted_path",
    [(mode, mmap_mode) for mode in MODES for mmap_mode in (None, "r")],
    indirect=True,
    ids=str,
)
def test_a_file_without_end_that_takes_no_space(planted_path):
    """A sparse file: to read it takes memory that its writer never had."""
    resource = pytest.importorskip("resource")
    function, x, path = planted_path
    digest = path.name
    facts = forged(Target(digest, b"", b"", ""), [b"[1]", bytes(100)])
    size = 1 << 37
    for begin in (facts, b"", facts[:20] + struct.pack("<I", 1000) + facts[24:], long_one(digest)):
        path.write_bytes(begin)
        os.truncate(path, size)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.warns(CacheWarning):
            assert function(x) == [x, "right"]
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_the_command_reads_no_file_without_end(planted_path):
    function, _, path = planted_path
    path.write_bytes(forged(Target(path.name, b"", b"", ""), [b"[1]"]))
    os.truncate(path, 1 << 40)
    store = function.store_backend
    assert "too long" in problem_of(store, entry_name_of(path, store))


def entry_name_of(path, store):
    return path.relative_to(store.location).as_posix()


def long_one(digest):
    """Return the start of an entry that says rightly how long its parts are."""
    from blake3 import blake3

    size = (1 << 37) - 512
    data = bytearray(forged(Target(digest, b"", b"", ""), [b"[1]", b""]))
    struct.pack_into("<4Q", data, 56 + 160, 3, size, 3, size)
    (length,) = struct.unpack_from("<I", data, 12)
    data[24:56] = blake3(bytes(data[56 : 56 + length])).digest()
    return bytes(data)


@pytest.mark.timeout(30)
def test_links_in_a_folder_lead_a_listing_nowhere(tmp_path):
    """Links to the folder itself make paths without end; others lead to what is not ours."""
    memory = Memory(tmp_path / "cache", verbose=0)
    memory.cache(computed)(1)
    other = Memory(tmp_path / "other", verbose=0)
    other.cache(len)("abc")
    for name in ("a", "b", "c"):
        (tmp_path / "cache" / name).symlink_to(tmp_path / "cache")
    (tmp_path / "cache" / "d").symlink_to("d")
    (tmp_path / "cache" / "builtins.len").symlink_to(tmp_path / "other" / "builtins.len")
    assert len(list(memory.store_backend.list())) == 1
    memory.clear(warn=False)
    assert not memory.cache(computed).check_call_in_cache(1)
    assert other.cache(len).check_call_in_cache("abc")


def test_the_memory_of_a_listing(tmp_path):
    """Headers may be long; of many, no more is kept than what a listing shows."""
    resource = pytest.importorskip("resource")
    store = open_store(str(tmp_path / "cache"))
    entry = forged(Target("ab" * 32, b"", b"", ""), [b""] * 100_000)
    for number in range(40):
        store.put(f"project.f/0/{number:064x}", entry)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(survey(store).entries) == 40
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_who_cannot_sign_does_not_vouch_for_what_others_wrote(tmp_path):
    """A reader with the public key does not fall back to unsigned entries."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    x = next(numbers)
    memory = Memory(tmp_path, verbose=0, sign_key=private)
    plant(memory, ATTACKS["a pickle bomb"], x, tmp_path / "mark")
    reader = Memory(tmp_path, verbose=0, sign_key=private.public_key(), mode="ro")
    with pytest.warns(CacheWarning, match="signature"):
        assert reader.cache(computed)(x) == [x, "right"]
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("mode", MODES)
def test_memory_stays_bounded(mode, remote, tmp_path):
    """In a process that may not have much: what entries say they are does not take it."""
    pytest.importorskip("resource")
    memory = make_memory(tmp_path / "cache", mode, remote)
    for x, name in enumerate(ATTACKS):
        plant(memory, ATTACKS[name], x, tmp_path / "mark")
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import victim; "
        "print(json.dumps(victim.run(*sys.argv[2:])))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, mode, "read" if remote else "mapped", str(len(ATTACKS))],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["results"] == [[x, "right"] for x in range(len(ATTACKS))]
    assert answer["grown"] < GROWTH_MEGABYTES * 1e6
    assert not (tmp_path / "mark").exists()


SERVERS = {"s3": "moto_server", "gs": "fake_gcs_server", "az": "azurite_server"}


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("kind", "engine"),
    [(kind, engine) for kind in SERVERS for engine in ("fsspec", "obstore")],
)
def test_nothing_is_decompressed_on_its_way(kind, engine, request, fresh_prefix):
    """Whoever writes an object may say that it is compressed, and HTTP's clients decompress it."""
    if (kind, engine) == ("gs", "obstore"):
        pytest.skip("fake-gcs-server does not speak what obstore does")
    server = request.getfixturevalue(SERVERS[kind])
    prefix = fresh_prefix()
    url = f"{server.bucket_url('hostile')}/{prefix}"
    bomb = gzip.compress(bytes(40 << 20))
    say_that_it_is_compressed(kind, server, f"{prefix}/bomb", bomb)
    store = open_store(url, storage_options=server.storage_options, engine=engine)
    assert bytes(store.get("bomb")[0]) == bomb
    assert bytes(store.get("bomb", 0, 1000)[0]) == bomb[:1000]
    store.close()


def say_that_it_is_compressed(kind, server, key, data):
    if kind == "s3":
        assert server.request("PUT", f"/hostile/{key}", data, {"Content-Encoding": "gzip"}) == 200
    elif kind == "gs":
        about = json.dumps({"name": key, "contentEncoding": "gzip"}).encode()
        parts = (b"application/json", about), (b"application/octet-stream", data)
        body = b"".join(b"--x\r\nContent-Type: %b\r\n\r\n%b\r\n" % part for part in parts)
        path = "/upload/storage/v1/b/hostile/o?uploadType=multipart"
        kind_of_body = {"Content-Type": "multipart/related; boundary=x"}
        assert server.request("POST", path, body + b"--x--", kind_of_body) == 200
    else:
        from azure.storage.blob import BlobServiceClient, ContentSettings

        text = server.storage_options["connection_string"]
        with BlobServiceClient.from_connection_string(text) as client:
            client.get_blob_client("hostile", key).upload_blob(
                data, content_settings=ContentSettings(content_encoding="gzip")
            )


# --- what the command shows ------------------------------------------------------------------


CLIMBING = (
    "../../outside",
    "..\\outside",
    "/etc/outside",
    "a/../../../outside",
    "project.f/ab/" + "../" * 5 + "outside",
    "\x1b]0;owned\x07/ab/" + "0" * 64,
)


@pytest.mark.parametrize("name", CLIMBING)
def test_names_that_climb_are_refused(name, tmp_path):
    store = open_store(str(tmp_path / "cache"))
    for call in (
        lambda: store.get(name),
        lambda: store.put(name, b"x"),
        lambda: store.create(name, b"x"),
        lambda: store.delete(name),
        lambda: list(store.list(name)),
    ):
        with pytest.raises(ValueError, match="cannot name"):
            call()
    assert not list(tmp_path.rglob("*outside*"))


@pytest.fixture
def bucket_with_climbing_names(moto_server, fresh_prefix):
    """A bucket takes any name."""
    url = f"{moto_server.bucket_url('hostile')}/{fresh_prefix()}"
    store = open_store(url, storage_options=moto_server.storage_options, engine="fsspec")
    function = Memory(store, verbose=0).cache(computed)
    function(1)
    honest = bytes(store.get(entry_name(function._keys.key((1,), {})))[0])
    folder = url.removeprefix("s3:/")
    for name in ("../outside", "x/../../outside", f"project.f/ab/../{'0' * 64}"):
        status = moto_server.request("PUT", f"{folder}/{quote(name, safe='')}", honest)
        assert status == 200
    yield url, moto_server
    store.close()


def test_objects_with_names_that_climb_lead_nowhere(bucket_with_climbing_names, tmp_path):
    url, server = bucket_with_climbing_names
    store = open_store(url, storage_options=server.storage_options, engine="fsspec")
    memory = Memory(store, verbose=0, local_tier=tmp_path / "tier")
    assert len(list(store.list())) == 1
    assert memory.cache(computed).check_call_in_cache(1)
    assert memory.verify() == []
    assert memory.reduce_size(items_limit=0) == 1
    memory.clear(warn=False)
    store.close()
    assert not list(tmp_path.rglob("*outside*"))


def test_the_command_refuses_names_that_climb(bucket_with_climbing_names, tmp_path):
    """It lists the others, or says what to do; it never writes outside of its target."""
    url, server = bucket_with_climbing_names
    options = tmp_path / "options.json"
    options.write_text(json.dumps(server.storage_options))
    command = [sys.executable, "-m", "jobspan.cli", "cache", "export", url]
    done = subprocess.run(
        [*command, str(tmp_path / "target"), "--options-file", str(options)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0 or "such a name" in done.stderr, done
    assert not list(tmp_path.rglob("*outside*"))


class Colourful:
    def __repr__(self):
        return "\x1b[31mred\x1b[0m\u202e"


def shows(thing):
    return 1


def test_what_users_own_texts_say_is_no_damage(tmp_path):
    memory = Memory(tmp_path, verbose=0)
    memory.cache(shows, version=1)(Colourful())
    (found,) = survey(memory.store_backend).entries
    (text,) = found.header.components["argument: thing"].split()[1:]
    assert text == r"\x1b[31mred\x1b[0m\u202e"
    assert memory.verify() == []


def test_the_command_stands_all_of_them(tmp_path):
    """Nothing is decoded, nothing crashes, and no terminal is given orders."""
    memory = Memory(tmp_path / "cache", verbose=0)
    for x, name in enumerate({**ATTACKS, **LIES}):
        plant(memory, {**ATTACKS, **LIES}[name], x, tmp_path / "mark")
    store = memory.store_backend
    evil = "\x1b]0;owned\x07"
    for number, header in enumerate(
        (
            Header("ab" * 32, evil, 1.0, 1.0, "json"),
            Header("ab" * 32, "f", 1.0, 1.0, "json", components={"argument: x": evil}),
            Header("ab" * 32, "f", 1e300, 1.0, "json"),
            Header("ab" * 32, "f", float("nan"), float("inf"), "json"),
            Header("ab" * 32, "f", -1e300, -1.0, "json"),
            Header("ab" * 32, "<script>alert(1)</script>", 1.0, 1.0, "json"),
            Header("ab" * 32, "f", 1.0, 1.0, evil),
            Header("ab" * 32, "f\nproject.mine  9 MB", 1.0, 1.0, "json"),
            Header("ab" * 32, "f\u202edesrever", 1.0, 1.0, "json"),
            Header("ab" * 32, "f", 1.0, 1.0, "json", components={"argument: x": "ab \u2066x"}),
            Header("ab" * 32, "f", 6.1e10, 6e10, "json"),
            Header("ab" * 32, "f", -6.1e10, 0.0, "json"),
        )
    ):
        store.put(f"f/{number:02}/{number:064x}", bytes(pack(header, [b"true"])))
        with contextlib.suppress(OSError):  # not every disk keeps such a time
            os.utime(store.local_path(f"f/{number:02}/{number:064x}"), (1e12, 1e12 - number))
    url = str(tmp_path / "cache")
    for arguments in (
        ["ls", url],
        ["ls", url, "--json"],
        ["ls", url, "f"],
        ["ls", url, "f", "--json"],
        ["stats", url],
        ["stats", url, "--json"],
        ["verify", url],
        ["report", url, "--html", str(tmp_path / "report.html")],
        *(["show", url, f"{number:064x}"] for number in range(12)),
        ["show", url, f"{11:064x}", "--json"],
        ["explain", url, f"{11:064x}"],
        ["prune", url, "--bytes", "1", "--yes"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "jobspan.cli", "cache", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode in (0, 1, 4), (arguments, said)
        assert "Traceback" not in said, (arguments, said)
        assert "\x1b]0" not in said, arguments
        assert "\x07" not in said, arguments
        assert "desrever" not in said, arguments
        assert "\u2066" not in said, arguments
        assert "project.mine" not in said, arguments
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert not (tmp_path / "mark").exists()
