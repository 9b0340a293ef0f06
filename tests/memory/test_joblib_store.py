"""Stores that were written for joblib hold jobspan's entries."""

from __future__ import annotations

import os
import shutil
from typing import ClassVar

import pytest
from joblib._store_backends import FileSystemStoreBackend

from jobspan import CacheWarning, Memory, StoreBackendBase, register_store_backend
from jobspan.memory.joblib_store import STORE_BACKENDS


class TheirFolder(FileSystemStoreBackend):
    """joblib's own, with its base class and its mixin."""

    configured: ClassVar[list[dict]] = []

    def configure(self, location, verbose=0, backend_options=None):
        self.configured.append(dict(backend_options))
        super().configure(location, verbose, backend_options)


class OurFolder(StoreBackendBase):
    """The seven methods, as joblib's reference lists them."""

    def configure(self, location, verbose=0, backend_options=None):
        self.location = location

    def _open_item(self, f, mode):
        return open(f, mode)  # noqa: PTH123

    def _item_exists(self, location):
        return os.path.exists(location)  # noqa: PTH110

    def _move_item(self, src, dst):
        os.replace(src, dst)  # noqa: PTH105

    def create_location(self, location):
        os.makedirs(location, exist_ok=True)  # noqa: PTH103

    def clear_location(self, location):
        shutil.rmtree(location)

    get_items = FileSystemStoreBackend.get_items


@pytest.fixture(params=[TheirFolder, OurFolder])
def name(request):
    register_store_backend("folder", request.param)
    yield "folder"
    STORE_BACKENDS.unregister("folder")


def test_a_registered_store_holds_results(tmp_path, name):
    def memory():
        return Memory(
            tmp_path / "cache", backend=name, verbose=0, backend_options={"colour": "red"}
        )

    power = memory().cache(pow)
    for x in range(5):
        assert power(2, x) == power(2, x) == 2**x
    assert power.cache.counts.hits == 5
    assert all(memory().cache(pow).check_call_in_cache(2, x) for x in range(5))
    assert power.invalidate(2, 1)
    assert not power.check_call_in_cache(2, 1)
    assert memory().verify() == []
    assert memory().reduce_size(items_limit=1) == 3
    memory().clear(warn=False)
    assert not power.check_call_in_cache(2, 4)
    if TheirFolder.configured:
        assert TheirFolder.configured[-1]["colour"] == "red"


def test_a_store_that_is_ready_is_a_location_too(tmp_path):
    backend = TheirFolder()
    backend.configure(str(tmp_path), backend_options={})
    memory = Memory(backend, verbose=0)
    assert memory.eval(pow, 2, 3) == memory.eval(pow, 2, 3) == 8
    assert memory.stats()["hits"] == 1


def test_what_fails_there_is_warned_of(tmp_path, name, monkeypatch):
    memory = Memory(tmp_path, backend=name, verbose=0)
    monkeypatch.setattr(memory.store_backend._backend, "_move_item", 3)
    with pytest.warns(CacheWarning, match="cannot be written"):
        assert memory.eval(pow, 2, 3) == 8


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(ValueError, match="name should be a string"):
        register_store_backend(3, OurFolder)
    for bad in (None, int, "text"):
        with pytest.raises(ValueError, match="should inherit StoreBackendBase"):
            register_store_backend("bad", bad)
    with pytest.raises(TypeError, match="register_store_backend"):
        Memory(tmp_path, backend="nosuch")
    with pytest.raises(TypeError, match="abstract"):
        StoreBackendBase()
