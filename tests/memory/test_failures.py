"""Whatever becomes of the store, a call returns its result, and one warning says what is wrong."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from jobspan import CacheWarning, Memory
from jobspan.testing.proxy import Fault, Proxy


def squares(memory, numbers):
    """Return what calls gave, how many were computed, and the warnings that came."""
    runs = []

    @memory.cache(version=1, ignore=["runs"])
    def square(x, runs):
        runs.append(x)
        return x * x

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = [square(x, runs) for x in numbers]
    return found, len(runs), warned


def check_one_warning(warned, what):
    assert [each.category for each in warned] == [CacheWarning]
    assert re.search(what, str(warned[0].message))
    assert warned[0].filename == __file__


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(small_disk):
    memory = Memory(small_disk, verbose=0)
    make = memory.cache(np.zeros)
    with pytest.warns(CacheWarning, match="No space left.*all the same") as warned:
        assert [make(100_000 + n).sum() for n in range(5)] == [0.0] * 5
    assert len(warned) == 1
    assert make(10).sum() == make(10).sum() == 0.0  # what is small still fits
    assert memory.stats()["hits"] == 1
    left = [path for path in small_disk.rglob("*") if path.is_file() and "tmp" in path.name]
    assert not left


def test_a_disk_that_is_remounted_for_reading_only(small_disk):
    memory = Memory(small_disk, verbose=0)
    assert squares(memory, [1])[:2] == ([1], 1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    found, computed, warned = squares(memory, [1, 2, 3])
    assert (found, computed) == ([1, 4, 9], 2)
    check_one_warning(warned, "cannot be written.*Read-only file system")


READER = """
import os, sys, warnings
from jobspan import Memory

if os.geteuid() == 0:  # who may do anything
    Memory(sys.argv[2]).cache(pow, version=1)  # imports what it takes, while it may be read
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
memory = Memory(sys.argv[1], verbose=0)
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    found = [memory.cache(pow, version=1)(2, x) for x in (3, 4, 5)]
assert found == [8, 16, 32], found
assert memory.stats()["hits"] == 1, memory.stats()
assert len(warned) == 1, [str(each.message) for each in warned]
assert "cannot be written" in str(warned[0].message), str(warned[0].message)
assert "Permission denied" in str(warned[0].message)
"""


def test_a_folder_of_somebody_else():
    """One may read there and not write; root becomes another user for it."""
    top = Path(tempfile.mkdtemp(prefix="jobspan-test-"))
    folder = top / "cache"
    Memory(folder, verbose=0).cache(pow, version=1)(2, 3)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    top.chmod(0o755)
    try:
        subprocess.run(
            [sys.executable, "-c", READER, str(folder), str(top / "other")],
            check=True,
            timeout=60,
        )
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        shutil.rmtree(top)


def test_a_folder_that_is_deleted_meanwhile_is_made_anew(tmp_path):
    memory = Memory(tmp_path / "cache", verbose=0)
    assert squares(memory, [1, 2])[:2] == ([1, 4], 2)
    shutil.rmtree(tmp_path / "cache")
    assert squares(memory, [1, 1]) == ([1, 1], 1, [])


def test_a_folder_that_has_become_a_file(tmp_path):
    memory = Memory(tmp_path / "cache", verbose=0)
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("")
    found, computed, warned = squares(memory, [1, 2])
    assert (found, computed) == ([1, 4], 2)
    check_one_warning(warned, "cannot be written")


@pytest.mark.parametrize("single_flight", [True, False])
def test_a_bucket_that_is_gone_in_mid_run(moto_server, single_flight):
    url = moto_server.bucket_url(f"gone-{single_flight}".lower())
    memory = Memory(
        url,
        storage_options=moto_server.storage_options,
        verbose=0,
        single_flight=single_flight,
    )
    assert squares(memory, [1, 1])[:2] == ([1, 1], 1)
    import s3fs

    for info in list(memory.store_backend.list()):
        memory.store_backend.delete(info.name)
    s3fs.S3FileSystem(**moto_server.storage_options).rmdir(url[5:])
    found, computed, warned = squares(memory, [1, 2, 3])
    assert (found, computed) == ([1, 4, 9], 3)
    check_one_warning(warned, "cannot be (read|written)")


@pytest.mark.parametrize("engine", ["obstore", "s3fs"])
@pytest.mark.parametrize("single_flight", [True, False])
def test_credentials_that_expire_in_mid_run(moto_place, moto_server, single_flight, engine):
    with Proxy(moto_server.endpoint) as proxy:
        place = moto_place.through(proxy)
        if engine == "s3fs":
            place.options["config_kwargs"] = {"connect_timeout": 20}  # obstore does not know it
        memory = place.memory(single_flight=single_flight)
        assert squares(memory, [1, 1])[:2] == ([1, 1], 1)
        proxy.inject(Fault("expired", times=1000))
        found, computed, warned = squares(memory, [1, 2, 3])
        assert (found, computed) == ([1, 4, 9], 3)
        check_one_warning(warned, "cannot be read.*")
        proxy.reset()
        assert squares(memory, [1])[:2] == ([1], 0)


def test_a_server_that_has_ended(fresh_prefix):
    from jobspan.testing.servers import Moto

    with Moto() as server:
        memory = Memory(
            server.bucket_url("ended"), storage_options=server.storage_options, verbose=0
        )
        squares(memory, [1])
    with pytest.raises((OSError, http.client.HTTPException)):
        server.request("GET", "/")
    memory = Memory(memory.store_backend, verbose=0, single_flight=False)
    found, computed, warned = squares(memory, [1])
    assert (found, computed) == ([1], 1)
    check_one_warning(warned, "cannot be read")


def test_a_tier_that_fails_is_told_once_and_the_bucket_answers(moto_place, tmp_path):
    memory = moto_place.memory(local_tier=tmp_path / "tier")
    squares(memory, [1, 2])
    shutil.rmtree(tmp_path / "tier")
    (tmp_path / "tier").write_text("")
    found, computed, warned = squares(memory, [1, 2, 3])
    assert (found, computed) == ([1, 4, 9], 1)
    check_one_warning(warned, "tier cannot be written")


class Odd:
    """A store whose every operation fails in its own way."""

    url = "odd://store"
    conditional = True

    def fail(self, *args, **kwargs):
        raise ZeroDivisionError("no such thing")

    get = put = create = swap = delete = list = close = fail


@pytest.mark.parametrize("single_flight", [True, False])
def test_a_store_that_fails_in_any_way(single_flight):
    memory = Memory(Odd(), verbose=0, single_flight=single_flight)
    Odd.url = f"odd://{single_flight}"
    found, computed, warned = squares(memory, [1, 2])
    assert (found, computed) == ([1, 4], 2)
    check_one_warning(warned, "no such thing")


@pytest.mark.parametrize(
    "name", ["../../etc/x", "a/b\\c", "Straße.<locals>.日本語", "x" * 400, ".", "a\ud800", "con"]
)
@pytest.mark.parametrize("place", ["local", "moto"], indirect=True)
def test_functions_of_any_name(place, tmp_path, name):
    def function(text):
        return text

    function.__qualname__ = name
    cached = place.memory().cache(function, version=1)
    for text in ("y" * 300, "../../etc/passwd", "日本語\0", "\ud800"):
        assert cached(text) == cached(text) == text
        assert cached.check_call_in_cache(text)
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}
    names = [info.name for info in cached.store_backend.list()]
    assert len(names) == 4
    assert not any(".." in each.split("/") for each in names)
    cached.clear()
    assert not list(cached.store_backend.list())


def test_two_names_that_look_alike_do_not_share_a_folder(tmp_path):
    from jobspan.memory.naming import function_prefix

    names = ["a.b", "a-b", "a_b", "a/b", "a:b", "a b", "a.é", "a.ê", "a.<b>"]
    prefixes = [function_prefix(name) for name in names]
    assert len(set(prefixes)) >= len(names) - 1  # "a.<b>" may stand with "a._b_"


def test_a_result_of_more_than_two_gigabytes_of_address_space(tmp_path):
    """A huge value that cannot be packed is returned: nothing is lost for want of memory."""

    class Huge:
        def __reduce__(self):
            raise MemoryError("too large")

    memory = Memory(tmp_path, verbose=0)
    with pytest.warns(CacheWarning, match="too large"):
        assert isinstance(memory.cache(Huge, version=1)(), Huge)


def test_what_lies_in_the_same_folder_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("1")
    memory = Memory(tmp_path, verbose=0)
    memory.eval(pow, 2, 3)
    memory.reduce_size(items_limit=0)
    assert memory.verify() == []
    memory.eval(pow, 2, 3)
    memory.clear(warn=False)
    assert not memory.cache(pow).check_call_in_cache(2, 3)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert Path(tmp_path, "data", "a.csv").read_text() == "1"


def test_entries_that_an_earlier_version_spread_further_are_misses_and_deleted_as_all_are(tmp_path):
    memory = Memory(tmp_path, verbose=0)
    assert squares(memory, [1, 2])[1] == 2
    for entry in [path for path in tmp_path.rglob("*") if len(path.name) == 64]:
        earlier = entry.parent.with_name(entry.name[:2])
        earlier.mkdir()
        entry.rename(earlier / entry.name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert squares(memory, [1, 2])[1] == 2
        assert squares(memory, [1, 2])[1] == 0
        assert memory.verify() == []
        assert memory.reduce_size(items_limit=3) == 1
        memory.clear(warn=False)
    assert not [path for path in tmp_path.rglob("*") if len(path.name) == 64]
