"""Damaged, foreign and unsigned entries: never decoded, told once, replaced."""

from __future__ import annotations

import json
import pickle
import secrets
import warnings

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobspan import CacheWarning, MemorizedResult, Memory
from jobspan.cli.start import run
from jobspan.codecs.entry import pack, unpack
from jobspan.codecs.header import Header
from jobspan.codecs.signing import read_sign_key

KEY = b"a key of more than sixteen bytes"
PLACES = pytest.mark.parametrize("place", ["local", "moto"], indirect=True)


def only_entry(memory):
    (info,) = memory.store_backend.list()
    return info.name


def tampered(data: bytes, damage: str) -> bytes:
    return {
        "torn": data[: len(data) // 2],
        "short": data[:-1],
        "long": data + b"x",
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "flipped header": data[:100] + bytes([data[100] ^ 1]) + data[101:],
        "foreign": b"something else altogether",
        "empty": b"",
        "zeros": bytes(len(data)),
        "a pickle": pickle.dumps("evil"),
        "half a claim": b"jobleas",
    }[damage]


DAMAGES = [
    "torn",
    "short",
    "long",
    "flipped",
    "flipped header",
    "foreign",
    "empty",
    "zeros",
    "a pickle",
    "half a claim",
]


@PLACES
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("size", [1, 100_000])
def test_a_damaged_entry_is_a_miss_told_once_and_replaced(place, damage, size):
    memory = place.memory()
    make = memory.cache(np.arange)
    make(size)
    store, name = memory.store_backend, only_entry(memory)
    whole, _ = store.get(name)
    damaged = tampered(bytes(whole), damage)
    store.put(name, damaged)
    assert memory.verify() == [name]
    with pytest.warns(CacheWarning, match="is not used") as warned:
        found = [make(size) for _ in range(2)]
    assert all(np.array_equal(each, np.arange(size)) for each in found)
    assert len(warned) == 1
    assert name in str(warned[0].message)
    assert memory.verify() == []
    assert (memory.stats()["misses"], memory.stats()["hits"]) == (2, 1)
    # The reader who only looks finds it out, too.
    store.put(name, damaged)
    reader = place.memory(mode="ro")
    assert np.array_equal(reader.cache(np.arange)(size), np.arange(size))
    assert reader.stats()["misses"] == 1
    assert bytes(store.get(name)[0]) == damaged


@PLACES
def test_an_entry_of_another_key_is_not_used(place):
    memory = place.memory()
    power = memory.cache(pow)
    power(2, 3)
    name = only_entry(memory)
    power(2, 4)
    (other,) = (info.name for info in memory.store_backend.list() if info.name != name)
    memory.store_backend.put(name, memory.store_backend.get(other)[0])
    with pytest.warns(CacheWarning, match="is for key"):
        assert power(2, 3) == 8
    assert power(2, 3) == 8


def test_a_damaged_entry_of_the_tier_is_read_from_the_bucket_again(moto_place, tmp_path):
    memory = moto_place.memory(local_tier=tmp_path / "tier")
    power = memory.cache(pow)
    power(2, 3)
    (file,) = (path for path in (tmp_path / "tier").rglob("*") if len(path.name) == 64)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.warns(CacheWarning, match="truncated"):
        assert power(2, 3) == 8
    assert file.read_bytes() == whole
    file.write_bytes(whole[:-2])
    with pytest.warns(CacheWarning, match="truncated") as warned:  # looked at, and then read
        assert power.call_and_shelve(2, 3).get() == 8
    assert len(warned) == 1
    assert file.read_bytes() == whole
    assert memory.stats()["misses"] == 1


def keys():
    private = Ed25519PrivateKey.generate()
    yield "hmac", KEY, KEY, b"another key of sixteen bytes"
    yield "text", "a word of sixteen letters", b"a word of sixteen letters", KEY
    yield "ed25519", private, private, Ed25519PrivateKey.generate()
    yield "public", private, private.public_key(), Ed25519PrivateKey.generate().public_key()
    yield "hmac and ed25519", KEY, KEY, private
    yield "ed25519 and hmac", private, private, KEY


class Trap:
    """Pickles to something that tells when it is unpickled."""

    def __reduce__(self):
        return _spring, ()


def _spring():
    sprung.append(1)
    return "trapped"


sprung: list[int] = []


@PLACES
@pytest.mark.parametrize(
    ("writes", "reads", "wrong"), [pytest.param(*rest, id=name) for name, *rest in keys()]
)
def test_signatures(place, writes, reads, wrong, caplog):
    place.memory(sign_key=writes).cache(pow)(2, 5)
    reader = place.memory(sign_key=reads)
    assert reader.cache(pow)(2, 5) == 32
    assert reader.stats()["hits"] == 1
    assert reader.verify() == []
    stranger = place.memory(sign_key=wrong, mode="ro")
    name = only_entry(stranger)
    assert stranger.verify() == [name]
    with pytest.warns(CacheWarning, match=f"{name} is not used: the signature is wrong"):
        assert stranger.cache(pow)(2, 5) == 32
    assert stranger.stats()["hits"] == 0
    # Who wants no signature reads it all the same.
    assert place.memory().cache(pow).check_call_in_cache(2, 5)


@PLACES
def test_an_unsigned_entry_is_not_used_but_replaced(place):
    place.memory().cache(pow)(2, 5)
    signed = place.memory(sign_key=KEY)
    with pytest.warns(CacheWarning, match="the signature is missing"):
        assert signed.cache(pow)(2, 5) == 32
    assert signed.verify() == []
    assert signed.cache(pow)(2, 5) == 32
    assert signed.stats()["hits"] == 1


@PLACES
@pytest.mark.parametrize("sign_key", [KEY, Ed25519PrivateKey.generate()], ids=["hmac", "ed25519"])
@pytest.mark.parametrize("forgery", ["unsigned", "other key", "payload", "replayed", "stripped"])
def test_a_forged_entry_is_never_unpickled(place, sign_key, forgery):
    memory = place.memory(sign_key=sign_key)
    power = memory.cache(pow)
    power(2, 5)
    store, name = memory.store_backend, only_entry(memory)
    header, parts = unpack(bytes(store.get(name)[0]))
    signer = memory._cache.format.signer
    forged = Header(header.key, header.function, header.created, header.seconds)
    payload = pickle.dumps(Trap())
    if forgery == "unsigned":
        data = pack(forged, [payload])
    elif forgery == "other key":
        stranger = read_sign_key(secrets.token_bytes(32))
        data = pack(forged, [payload], stranger.sign)
    elif forgery == "payload":  # the head and its signature as they were
        whole = bytearray(store.get(name)[0])
        whole[-len(parts[0]) :] = payload[: len(parts[0])].ljust(len(parts[0]), b".")
        data = whole
    elif forgery == "replayed":  # signed with the key, for another call
        forged = Header("0" * 64, header.function, header.created, header.seconds)
        data = pack(forged, [payload], signer.sign)
    else:
        data = pack(forged, [payload], lambda text: "")
    store.put(name, data)
    sprung.clear()
    with pytest.warns(CacheWarning, match="is not used"):
        assert power(2, 5) == 32
    store.put(name, data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that entry was told of before
        found = memory.cache(pow).call_and_shelve(2, 5)
    assert found.get() == 32
    store.put(name, data)
    with pytest.raises(KeyError, match="gone or damaged"):
        found.get()
    assert not sprung


def test_who_only_verifies_stores_nothing_that_others_would_refuse(tmp_path):
    private = Ed25519PrivateKey.generate()
    reader = Memory(tmp_path, sign_key=private.public_key(), verbose=0)
    assert reader.cache(pow)(2, 5) == 32
    assert not list(reader.store_backend.list())


def test_secrets_are_not_shown(tmp_path, capsys):
    memory = Memory(tmp_path, sign_key=KEY, verbose=20)
    memory.cache(pow)(2, 5)
    memory.cache(pow)(2, 5)
    shown = repr(memory) + repr(memory.cache(pow)) + repr(memory._cache) + str(vars(memory))
    shown += "".join(capsys.readouterr())
    assert KEY.decode() not in shown


@PLACES
def test_safe_reads_and_writes_only_what_runs_no_code(place):
    place.memory().cache(pow)(2, 5)  # a pickle
    safe = place.memory(safe=True)
    with pytest.warns(CacheWarning, match="safe=True does not read the codec 'pickle'"):
        assert safe.cache(pow)(2, 5) == 32
    assert safe.cache(pow)(2, 5) == 32
    assert safe.stats()["hits"] == 1
    values = [None, [1, {"a": "é"}], 2.5, np.arange(5), np.float64(0.5), np.mean(np.arange(4))]
    for number, value in enumerate(values):
        make = safe.cache(version=number)(lambda value=value: value)
        first, second = make(), make()
        assert type(first) is type(second) is type(value)
        assert np.array_equal(first, second) if isinstance(value, np.ndarray) else first == second
    with pytest.warns(CacheWarning, match="with safe=True only"):
        assert safe.cache(version="set")(lambda: {1, 2})() == {1, 2}
    assert all(json.dumps(each) for each in safe.stats())


def test_a_trap_is_not_sprung_by_safe_or_verify(tmp_path):
    memory = Memory(tmp_path, verbose=0)
    make = memory.cache(version=1)(Trap)
    make()
    sprung.clear()
    assert memory.verify() == []
    with pytest.warns(CacheWarning):
        assert isinstance(Memory(tmp_path, verbose=0, safe=True).cache(version=1)(Trap)(), Trap)
    assert not sprung


@pytest.mark.parametrize("bad", [b"", b"short", "short", 3, object()])
def test_bad_keys_are_refused_and_not_shown(tmp_path, bad):
    with pytest.raises(ValueError, match="sign_key") as caught:
        Memory(tmp_path, sign_key=bad)
    assert "pass" in str(caught.value)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize("digest", ["../../secret", "A" * 64, "0" * 63, "0" * 64 + "\n", ""])
def test_a_reference_names_a_key_and_no_file(tmp_path, digest):
    shelved = Memory(tmp_path, verbose=0).cache(abs).call_and_shelve(-1)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        MemorizedResult(shelved._cache, (shelved.func_id, digest))
    assert MemorizedResult(shelved._cache, (shelved.func_id, shelved.args_id)).get() == 1


def test_keys_in_pem(tmp_path):
    """A public key that was read from a file is no secret to sign with."""
    private = Ed25519PrivateKey.generate()
    text = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    secret = private.private_bytes(text, serialization.PrivateFormat.PKCS8, plain)
    public = private.public_key().public_bytes(
        text, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert Memory(tmp_path, verbose=0, sign_key=secret.decode()).cache(abs)(-1) == 1
    file = tmp_path / "public.pem"
    file.write_bytes(public)
    assert Memory(tmp_path, verbose=0, sign_key=public).cache(abs).check_call_in_cache(-1)
    assert not read_sign_key(public).can_sign
    assert run(["cache", "verify", str(tmp_path), "--sign-key-file", str(file)]) == 0


def test_other_keys_in_pem_are_refused():
    text, der = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    password = serialization.BestAvailableEncryption(b"password")
    encrypted = Ed25519PrivateKey.generate().private_bytes(text, der, password)
    plain = serialization.NoEncryption()
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(text, der, plain)
    broken = "-----BEGIN PUBLIC KEY-----\nSECRET\n-----END PUBLIC KEY-----\n"
    for key, says in ((encrypted, "unencrypted"), (other, "EC.*Ed25519"), (broken, "cannot be")):
        with pytest.raises(ValueError, match=says) as caught:
            read_sign_key(key)
        assert "SECRET" not in str(caught.value)
