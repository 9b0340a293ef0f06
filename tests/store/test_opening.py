"""From a location to a store, and what is said where there can be none."""

from __future__ import annotations

import os
import pathlib
import pickle
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

import pytest

from jobspan import Memory
from jobspan.backends.addresses import without_credentials
from jobspan.errors import (
    MissingExtraError,
    StoreError,
    StoreLocationError,
    StoreUnavailableError,
)
from jobspan.store import ObjectStore, open_store, register_store
from jobspan.store.conditions import StoreWithoutConditionsWarning
from jobspan.store.locations import parse_location, scrub, without_secrets
from jobspan.store.memory import MemoryStore
from jobspan.testing.servers import free_ports

SECRET = "do-not-tell-anybody-7f3a"


def test_a_path_a_path_object_and_a_file_url_are_one_place(tmp_path):
    stores = [
        open_store(tmp_path / "a b"),
        open_store(str(tmp_path / "a b")),
        open_store((tmp_path / "a b").as_uri()),
        open_store(f"local://{tmp_path}/a b"),
    ]
    stores[0].put("x", b"1")
    for store in stores:
        assert store.get("x")[0] == b"1"
        assert store.url == (tmp_path / "a b").as_uri()


def test_home_and_relative_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    open_store("~/cache").put("x", b"1")
    assert open_store("cache").get("x")[0] == b"1"


def test_a_store_keeps_its_place_when_the_working_folder_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("cache")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.put("x", b"1")
    assert (tmp_path / "cache" / "x").read_bytes() == b"1"


def test_memory_is_where_fsspec_finds_it(fresh_prefix):
    import fsspec

    name = fresh_prefix()
    open_store(f"memory://{name}/deep").put("x", b"1")
    assert fsspec.filesystem("memory").cat_file(f"/{name}/deep/x") == b"1"
    fsspec.filesystem("memory").pipe_file(f"/{name}/deep/y", b"2")
    assert open_store(f"memory://{name}/deep").get("y")[0] == b"2"


def test_a_file_is_no_store(tmp_path):
    file = tmp_path / "results.txt"
    file.write_text("mine")
    with pytest.raises(StoreLocationError, match=r"is a file.*Pass a folder"):
        open_store(file)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("location", ["", "   "])
def test_an_empty_location(location):
    with pytest.raises(StoreLocationError, match="empty"):
        open_store(location)


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "gs://", "az:///x"])
def test_a_url_without_a_bucket(url):
    with pytest.raises(StoreLocationError, match=r"names no bucket.*://bucket/prefix"):
        open_store(url)


@pytest.mark.parametrize("location", [Path("s3://bucket/prefix"), "gs:/bucket/prefix"])
def test_a_url_that_lost_a_slash_is_no_folder(location, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreLocationError, match="://bucket/prefix' as a str"):
        open_store(location)


def test_storage_options_that_are_none(tmp_path):
    for options in ("key", [("key", "x")]):
        with pytest.raises(TypeError, match=r"storage_options.*pass a dict"):
            open_store(tmp_path, storage_options=options)
        with pytest.raises(TypeError, match=r"storage_options.*pass a dict"):
            Memory(tmp_path, storage_options=options)


def test_a_package_that_no_extra_brings_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "paramiko", None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
    with pytest.raises(ImportError, match="paramiko") as raised:
        open_store("sftp://host/folder")
    assert "jobspan[" not in str(raised.value)


def test_bytes_are_no_location(tmp_path):
    with pytest.raises(StoreLocationError, match="str or a path"):
        open_store(os.fsencode(tmp_path))


@pytest.mark.parametrize("location", ["warp://bucket/x", "htp://x", "S4://bucket"])
def test_an_unknown_scheme(location):
    with pytest.raises(StoreLocationError, match="knows no URLs") as caught:
        open_store(location)
    assert location.partition(":")[0].lower() in str(caught.value)
    assert "s3://bucket/prefix" in str(caught.value)


def test_an_unknown_engine(tmp_path):
    with pytest.raises(ValueError, match="'boto'"):
        open_store(tmp_path, engine="boto")


@pytest.mark.parametrize(
    ("url", "blocked", "engine", "extra"),
    [
        ("s3://bucket", ["s3fs", "obstore"], "auto", "s3"),
        ("gs://bucket", ["gcsfs", "obstore"], "auto", "gcs"),
        ("az://bucket", ["adlfs", "obstore"], "auto", "azure"),
        ("s3://bucket", ["s3fs"], "fsspec", "s3"),
        ("s3://bucket", ["obstore"], "obstore", "fast"),
    ],
)
def test_a_missing_package_names_the_extra(monkeypatch, url, blocked, engine, extra):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in blocked else found(name)
    )
    with pytest.raises(MissingExtraError, match=rf"jobspan\[{extra}\]"):
        open_store(url, engine=engine)


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_a_missing_bucket(moto_server, engine):
    with pytest.raises(StoreLocationError, match="no bucket 'not-there'") as caught:
        open_store("s3://not-there/x", storage_options=moto_server.storage_options, engine=engine)
    assert "<" not in str(caught.value)  # no page of XML


@pytest.mark.parametrize("engine", ["auto", "fsspec"])
def test_a_misspelt_option_is_no_matter_of_the_network(moto_server, engine):
    options = {**moto_server.storage_options, "acces_key": "x"}
    with pytest.raises(StoreLocationError, match=r"option .* is not known to s3fs .*'acces_key'"):
        open_store("s3://bucket/x", storage_options=options, engine=engine)


def test_a_missing_bucket_on_other_clouds(fake_gcs_server, azurite_server):
    with pytest.raises(StoreLocationError, match="no bucket 'not-there'"):
        open_store("gs://not-there/x", storage_options=fake_gcs_server.storage_options)
    for engine in ("fsspec", "obstore"):
        with pytest.raises(StoreLocationError, match="not-there"):
            open_store(
                "az://not-there/x", storage_options=azurite_server.storage_options, engine=engine
            )


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_an_endpoint_where_nobody_listens_is_told_within_seconds(engine):
    options = {"key": "k", "secret": SECRET, "endpoint_url": f"http://127.0.0.1:{free_ports(1)[0]}"}
    start = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="endpoint") as caught:
        open_store("s3://bucket/x", storage_options=options, engine=engine)
    assert time.monotonic() - start < 15
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_wrong_credentials(azurite_server, engine):
    options = {
        "connection_string": azurite_server.storage_options["connection_string"].replace(
            "AccountKey=", "AccountKey=AAAA"
        )
    }
    with pytest.raises(StoreLocationError, match="credentials are not accepted") as caught:
        open_store(azurite_server.bucket_url("locked"), storage_options=options, engine=engine)
    assert options["connection_string"] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_wrong_credentials_for_s3(seaweedfs_server, engine):
    url = seaweedfs_server.bucket_url("locked")
    for wrong in ({"secret": SECRET}, {"key": "nobody", "secret": SECRET}):
        start = time.monotonic()
        with pytest.raises(StoreLocationError, match="credentials are not accepted") as caught:
            open_store(
                url,
                storage_options={**seaweedfs_server.storage_options, **wrong},
                engine=engine,
            )
        assert time.monotonic() - start < 10
        assert SECRET not in "".join(traceback.format_exception(caught.value))
    store = open_store(url, storage_options=seaweedfs_server.storage_options, engine=engine)
    store.put("a", b"1")
    store.close()


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_options_that_nobody_knows(engine):
    with pytest.raises(StoreError, match=r"bogus|counterpart") as caught:
        open_store("s3://bucket/x", storage_options={"bogus": SECRET}, engine=engine)
    assert SECRET not in str(caught.value)


def test_secrets_stay_out_of_sight(moto_server):
    options = {**moto_server.storage_options, "secret": SECRET, "token": SECRET + "-token"}
    url = moto_server.bucket_url("secrets")
    for engine in ("fsspec", "obstore"):
        store = open_store(url, storage_options=options, engine=engine)
        for text in (repr(store), str(store), store.url, f"{store.__dict__.get('url')}"):
            assert SECRET not in text
        with pytest.raises(KeyError) as caught:
            store.get("absent")
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        store.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sftp://user:pw@host/cache", "sftp://host/cache"),
        ("s3://bucket/x?token=1#2", "s3://bucket/x"),
        ("abfs://box@account.dfs.core.windows.net/x", "abfs://box@account.dfs.core.windows.net/x"),
        ("simplecache::sftp://user:pw@host/cache", "simplecache::sftp://host/cache"),
        ("memory://a/b@c", "memory://a/b@c"),
        ("https://[::1]:80/x@y", "https://[::1]:80/x@y"),
        ("https://host:80/x@y?token=a@b", "https://host:80/x@y"),
        (
            "zip://x::blockcache::ftp://u:pw@h/1::ftp://u:pw@k/2",
            "zip://x::blockcache::ftp://h/1::ftp://k/2",
        ),
        # Passwords that should have been quoted.
        ("ftp://user:p/w@host/cache", "ftp://host/cache"),
        ("ftp://user:p#w@host/cache", "ftp://host/cache"),
        ("ftp://user:p?w@host/cache?token=1", "ftp://host/cache"),
    ],
)
def test_a_shown_url_has_no_password(url, shown):
    assert without_secrets(url) == shown
    assert parse_location(url).url == shown


def test_scrubbing_finds_secrets_at_any_depth():
    options = {
        "client_kwargs": {"aws_secret_access_key": SECRET},
        "credentials": [{"password": "hunter2!"}],
        "endpoint_url": "http://example.com",
        "config_kwargs": {"proxies": {"http": "http://someone:pass%40word@proxy"}},
        "s3_additional_kwargs": {"SSECustomerKey": b"0123456789abcdef"},
        "cookies": {"session": "c00k1e"},
    }
    text = f"failed with {SECRET} and hunter2! at http://example.com"
    assert scrub(text, options) == "failed with *** and *** at http://example.com"
    text = "by http://someone:pass%40word@proxy, pass@word, 0123456789abcdef, c00k1e"
    assert scrub(text, options) == "by http://someone:***@proxy, ***, ***, ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ray://u:pw@h:1", "ray://h:1"),
        ("no answer at 'tls://u:p/q@h:1', x@y.z", "no answer at 'tls://h:1', y.z"),
        ("tls://u:p@q@[::1]:8786", "tls://[::1]:8786"),
        ("tls://token@h:8786", "tls://h:8786"),
    ],
)
def test_a_shown_address_has_no_password(text, shown):
    assert without_credentials(text) == shown


def test_a_registered_scheme(fresh_prefix):
    register_store("scratch-test", lambda location, options: MemoryStore(location.bucket))
    store = open_store(f"scratch-test://{fresh_prefix()}")
    assert isinstance(store, ObjectStore)
    store.put("a", b"1")
    assert store.get("a")[0] == b"1"


def test_any_other_file_system_warns_once_that_it_keeps_no_conditions(tmp_path):
    store = open_store(
        f"dir://{tmp_path}/s", storage_options={"target_protocol": "file", "path": "/"}
    )
    store.put("a", b"1")
    with pytest.warns(StoreWithoutConditionsWarning):
        assert not store.conditional
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not store.conditional
        pickle.loads(pickle.dumps(store)).get("a")


def test_engines_see_the_same_objects(moto_server, fresh_prefix):
    url = f"{moto_server.bucket_url('engines')}/{fresh_prefix()}"
    slow = open_store(url, storage_options=moto_server.storage_options, engine="fsspec")
    fast = open_store(url, storage_options=moto_server.storage_options, engine="obstore")
    token = slow.put("a/ü +%", b"1")
    assert fast.get("a/ü +%") == (b"1", token)
    second = fast.swap("a/ü +%", b"2", token)
    assert second is not None
    assert slow.swap("a/ü +%", b"3", token) is None
    assert slow.swap("a/ü +%", b"3", second) is not None
    for store in (slow, fast):
        assert [info.name for info in store.list()] == ["a/ü +%"]
        store.close()


def test_importing_the_store_loads_no_file_system():
    code = (
        "import sys, jobspan.store; "
        "print([m for m in ('fsspec', 's3fs', 'obstore', 'numpy', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_process_that_used_a_bucket_ends_quietly(moto_server, fresh_prefix):
    """No warning of an unclosed session, no thread that holds up the end."""
    url = f"{moto_server.bucket_url('quiet')}/{fresh_prefix()}"
    for engine in ("fsspec", "obstore"):
        code = (
            "from jobspan.store import open_store\n"
            f"store = open_store({url!r}, storage_options={moto_server.storage_options!r}, "
            f"engine={engine!r})\n"
            "store.put('a', b'1'); store.create('b', b'1'); print(dict(store.get_many(['a'])))\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "default", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout.strip() == "{'a': b'1'}"
        assert done.stderr == ""


def test_no_path_of_another_store_is_reached(tmp_path):
    (tmp_path / "outside").write_text("secret")
    store = open_store(tmp_path / "inside")
    store.put("x", b"1")
    for name in ("../outside", "x/../../outside", str(tmp_path / "outside")):
        with pytest.raises(ValueError, match="cannot name"):
            store.get(name)
    assert pathlib.Path(tmp_path / "outside").read_text() == "secret"
