"""Large results are mapped, not copied, wherever in the value their buffers are."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from jobspan import CacheWarning, Memory
from jobspan.testing.proxy import Proxy

N = 200_000


def array():
    return np.arange(float(N))


def nested():
    return {"list": [np.arange(N), (np.ones(N), "text")], "plain": 3}


def objects():
    return Holder(np.arange(N))


class Holder:
    def __init__(self, array):
        self.array = array


def frame():
    return pd.DataFrame({"a": np.arange(N), "b": np.arange(float(N))})


def table():
    return {"table": pa.table({"a": np.arange(N), "b": [str(x) for x in range(N)]})}


def polars_frame():
    return [pl.DataFrame({"a": np.arange(N), "b": [str(x) for x in range(N)]})]


def polars_series():
    return pl.Series("a", np.arange(N))


def addresses(value):
    """Return where in memory each large part of a result is."""
    if isinstance(value, np.ndarray):
        return [value.__array_interface__["data"][0]]
    if isinstance(value, dict):
        return [each for part in value.values() for each in addresses(part)]
    if isinstance(value, list | tuple):
        return [each for part in value for each in addresses(part)]
    if isinstance(value, Holder):
        return addresses(value.array)
    if isinstance(value, pd.DataFrame):
        return addresses([value[name].to_numpy() for name in value.columns])
    if isinstance(value, pa.Table):
        buffers = [b for column in value.columns for c in column.chunks for b in c.buffers()]
        return [b.address for b in buffers if b is not None and b.size > 1000]
    if isinstance(value, pl.DataFrame):
        return addresses(value.to_arrow(compat_level=pl.CompatLevel.newest()))
    if isinstance(value, pl.Series):
        return addresses(value.to_numpy(allow_copy=False))
    return []


def mapped_files():
    """Return the ranges of memory where files are mapped that look like entries."""
    ranges = []
    with Path("/proc/self/maps").open() as maps:
        for line in maps:
            span, *_, last = line.split()
            if len(last.rpartition("/")[2]) == 64:
                low, high = (int(each, 16) for each in span.split("-"))
                ranges.append((low, high))
    return ranges


MAKERS = [array, nested, objects, frame, table, polars_frame, polars_series]


def check_mapped(value):
    ranges = mapped_files()
    found = addresses(value)
    assert found
    for address in found:
        assert any(low <= address < high for low, high in ranges)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_whatever_holds_the_buffers_they_are_mapped(tmp_path, make):
    memory = Memory(tmp_path, verbose=0, mmap_mode="r")
    for value in (memory.cache(make)(), memory.cache(make)()):  # also when just computed
        check_mapped(value)
    assert memory.stats()["hits"] == 1


@pytest.mark.parametrize("make", [nested, frame, table], ids=lambda make: make.__name__)
def test_results_of_a_bucket_are_mapped_from_the_local_tier(moto_place, tmp_path, make):
    moto_place.memory().cache(make)()
    memory = moto_place.memory(local_tier=tmp_path / "tier", mmap_mode="r")
    memory.cache(make)()
    check_mapped(memory.cache(make)())
    check_mapped(moto_place.memory(local_tier=tmp_path / "tier", mmap_mode="r").cache(make)())
    assert memory.stats()["misses"] == 0


@pytest.mark.parametrize("codec", ["npy", "arrow"])
def test_other_codecs_map_too(tmp_path, codec):
    make = array if codec == "npy" else polars_table
    memory = Memory(tmp_path, verbose=0, mmap_mode="r", codec=codec)
    memory.cache(make)()
    check_mapped(memory.cache(make)())


def polars_table():
    return pl.DataFrame({"a": np.arange(N)})


def test_mapped_arrays_are_aligned_and_outlive_their_entry(tmp_path):
    memory = Memory(tmp_path, verbose=0, mmap_mode="r")
    memory.cache(array)()
    found = memory.cache(array)()
    assert found.ctypes.data % 64 == 0
    memory.cache(array).clear()
    memory.cache(array).call()
    assert np.array_equal(found, array())


def test_a_copy_on_write_map_changes_nothing_for_others(tmp_path):
    for mode in ("c", "r+", "w+", None):
        make = Memory(tmp_path, verbose=0, mmap_mode=mode).cache(array)
        make()[:] = -1.0
        make()[:] = -1.0
        assert np.array_equal(make(), array())
    assert Memory(tmp_path, verbose=0).verify() == []


def test_a_large_entry_of_a_bucket_is_read_in_parts_at_once(moto_place, moto_server):
    size = 30 << 20
    moto_place.memory().cache(bytes)(size)
    with Proxy(moto_server.endpoint) as proxy:
        memory = moto_place.through(proxy).memory(single_flight=False)
        proxy.reset()
        assert memory.cache(bytes)(size) == bytes(size)
        assert proxy.counts == {"GET": 4}  # ranges of 8 MiB
        # What only asks whether it is there reads its beginning.
        proxy.reset()
        assert memory.cache(bytes).check_call_in_cache(size)
        shelved = memory.cache(bytes).call_and_shelve(size)
        assert proxy.counts == {"GET": 2}
        assert memory.stats()["bytes_read"] < 40 << 20
        assert len(shelved.get()) == size


@pytest.mark.parametrize("at", [5 << 20, 12 << 20, -1])
def test_a_large_entry_of_a_bucket_is_verified_as_far_as_its_end(moto_place, at):
    memory = moto_place.memory()
    make = memory.cache(np.arange)
    make(3_000_000)
    store = memory.store_backend
    (name,) = [info.name for info in store.list()]
    data = bytearray(store.get(name)[0])
    data[at] ^= 1
    store.put(name, data)
    with pytest.warns(CacheWarning, match="does not match its digest"):
        assert (make(3_000_000) == np.arange(3_000_000)).all()
    assert (make(3_000_000) == np.arange(3_000_000)).all()
    assert (memory.stats()["hits"], memory.stats()["misses"]) == (1, 2)


def test_a_map_is_of_pages_that_were_not_read(tmp_path):
    """The bytes of a mapped array come from the disk when they are looked at, not before."""
    memory = Memory(tmp_path, verbose=0, mmap_mode="r")
    make = memory.cache(np.zeros)
    make(10_000_000)
    found = make(10_000_000)
    base = found
    while getattr(base, "base", None) is not None:
        base = base.base
    assert isinstance(getattr(base, "obj", base), mmap.mmap)
