"""What joblib's reference says of ``Memory``, asserted of joblib and of jobspan side by side."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import inspect
import io
import pickle
import re
import time
import warnings

import joblib
import joblib.memory
import numpy as np
import pytest

import jobspan
import jobspan.memory


class Calls(list):
    """What was called; it counts for no key, neither joblib's nor ours."""

    def __jobspan_key__(self):
        return "calls"

    def __reduce__(self):
        return Calls, ()


calls = Calls()


@pytest.fixture(autouse=True)
def _no_calls():
    calls.clear()


@pytest.fixture(params=[joblib, jobspan], ids=["joblib", "jobspan"])
def library(request):
    return request.param


@pytest.fixture
def memory(library, tmp_path):
    return library.Memory(tmp_path / "cache", verbose=0)


def double(x, y=1, *, log=None):
    calls.append(x)
    return 2 * x * y


def failing(x):
    calls.append(x)
    raise ValueError(x)


async def fetch(x):
    calls.append(x)
    return 2 * x


def array():
    return np.arange(100_000.0)


SIGNATURES = [
    ("Memory", "__init__"),
    ("Memory", "cache"),
    ("Memory", "clear"),
    ("Memory", "reduce_size"),
    ("Memory", "eval"),
    ("MemorizedFunc", "__init__"),
    ("MemorizedFunc", "clear"),
    ("MemorizedResult", "__init__"),
    ("MemorizedResult", "get"),
    ("MemorizedResult", "clear"),
    ("NotMemorizedFunc", "clear"),
    ("NotMemorizedResult", "__init__"),
    ("expires_after", None),
    ("register_store_backend", None),
]


@pytest.mark.parametrize(("name", "method"), SIGNATURES)
def test_signatures_begin_as_joblibs(name, method):
    def parameters(module):
        where = module if hasattr(module, name) else module.memory
        thing = getattr(where, name)
        thing = thing if method is None else getattr(thing, method)
        return [
            (each.name, each.kind, each.default)
            for each in inspect.signature(thing).parameters.values()
        ]

    theirs, ours = parameters(joblib), parameters(jobspan)
    assert ours[: len(theirs)] == theirs
    for _, kind, default in ours[len(theirs) :]:
        assert kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
        assert default is not inspect.Parameter.empty


@pytest.mark.parametrize("name", ["Memory", "MemorizedFunc", "MemorizedResult", "StoreBackendBase"])
def test_public_methods_and_attributes_are_there(library, tmp_path, name):
    memory = library.Memory(tmp_path, verbose=0)
    function = memory.cache(double)
    examples = {
        "Memory": memory,
        "MemorizedFunc": function,
        "MemorizedResult": function.call_and_shelve(1),
        "StoreBackendBase": library.StoreBackendBase
        if hasattr(library, "StoreBackendBase")
        else library._store_backends.StoreBackendBase,
    }
    there = joblib.Memory(tmp_path / "theirs", verbose=0).cache(double)
    wanted = {
        "Memory": joblib.Memory(tmp_path, verbose=0),
        "MemorizedFunc": there,
        "MemorizedResult": there.call_and_shelve(1),
        "StoreBackendBase": joblib._store_backends.StoreBackendBase,
    }[name]
    inner = {"func_code_info"}  # how joblib looks at code
    missing = {
        each for each in dir(wanted) if not each.startswith("_") and each not in inner
    } - set(dir(examples[name]))
    assert not missing


def test_decorators_of_every_form(memory):
    assert memory.cache(double)(3) == 6
    assert memory.cache()(double)(3) == 6
    assert memory.cache(ignore=["log"])(double)(3, log=1) == 6
    assert memory.cache(double, ignore=["log"])(3, log=2) == 6
    assert memory.cache(memory.cache(double))(3) == 6
    assert memory.cache(func=double, verbose=0, mmap_mode=None)(3) == 6


def test_ignored_arguments_do_not_count(memory):
    total = memory.cache(double, ignore=["log"])
    assert total(1, log="a") == total(1, log="b") == 2
    assert calls == [1]
    with pytest.raises(ValueError, match="Ignore list"):
        memory.cache(double, ignore=["nothing"])(1)


def test_calls_are_known_however_their_arguments_are_given(memory):
    total = memory.cache(double)
    assert total(1, 2) == total(1, y=2) == total(y=2, x=1)
    assert calls == [1]


def test_methods_of_a_cached_function(memory):
    total = memory.cache(double)
    assert total.check_call_in_cache(4) is False
    shelved = total.call_and_shelve(4)
    assert shelved.get() == 8
    assert total.check_call_in_cache(4) is True
    assert total.call_and_shelve(4).get() == 8
    assert calls == [4]
    value, metadata = total.call(4)
    assert value == 8
    assert calls == [4, 4]
    assert set(metadata) == {"duration", "input_args", "time"}
    assert metadata["input_args"] == {"x": "4", "y": "1", "log": "None"}
    assert isinstance(shelved.duration, float)
    assert shelved.metadata["input_args"]["x"] == "4"
    shelved.clear()
    assert total.check_call_in_cache(4) is False
    with pytest.raises(KeyError):
        shelved.get()
    total(4)
    total.clear(warn=False)
    assert total.check_call_in_cache(4) is False


def test_clearing_a_memory_clears_every_function_and_tells(memory, caplog):
    total, other = memory.cache(double), memory.cache(array)
    total(1), other()
    memory.clear()
    assert "Flushing completely the cache" in caplog.text
    assert not total.check_call_in_cache(1)
    assert not other.check_call_in_cache()
    memory.clear(warn=False)
    assert caplog.text.count("Flushing") == 1


def test_eval(memory):
    assert memory.eval(double, 3, y=2) == memory.eval(double, 3, 2) == 12
    assert calls == [3]


def test_failing_calls_are_not_stored(memory):
    fail = memory.cache(failing)
    for _ in range(2):
        with pytest.raises(ValueError, match="7"):
            fail(7)
    assert calls == [7, 7]


def test_a_memory_without_a_location_passes_everything_through(library):
    memory = library.Memory(None)
    total = memory.cache(double)
    assert [total(1), total(1)] == [2, 2]
    assert calls == [1, 1]
    shelved = total.call_and_shelve(2)
    assert shelved.get() == 4
    shelved.clear()
    with pytest.raises(KeyError, match="No value stored"):
        shelved.get()
    assert total.call(1) == (2, {})
    assert total.check_call_in_cache(1) is False
    assert total.clear() is None
    assert memory.eval(double, 2) == 4
    assert memory.clear(warn=False) is None
    memory.reduce_size(items_limit=1)
    assert repr(memory) == "Memory(location=None)"
    assert pickle.loads(pickle.dumps(total))(2) == 4
    assert "double" in repr(total)
    shelved = pickle.loads(pickle.dumps(total.call_and_shelve(3)))
    assert (shelved.get(), repr(shelved)) == (6, "NotMemorizedResult(6)")


def test_coroutine_functions(library, tmp_path):
    async def main(memory):
        cached = memory.cache(fetch)
        first, second = await cached(1), await cached(1)
        shelved = await cached.call_and_shelve(1)
        return first, second, shelved.get(), cached.check_call_in_cache(1)

    expected = (2, 2, 2)
    assert asyncio.run(main(library.Memory(tmp_path, verbose=0))) == (*expected, True)
    assert calls == [1]
    assert asyncio.run(main(library.Memory(None))) == (*expected, False)
    assert calls == [1, 1, 1, 1]


def test_call_of_a_coroutine_function_awaits_it(tmp_path):
    """joblib returns a pair with a coroutine in it where there is no location."""

    async def main(memory):
        return await memory.cache(fetch).call(2)

    assert asyncio.run(main(jobspan.Memory(None))) == (4, {})
    assert asyncio.run(main(jobspan.Memory(tmp_path, verbose=0)))[0] == 4


def test_everything_can_be_pickled(memory):
    def copy(value):
        return pickle.loads(pickle.dumps(value))

    total = memory.cache(double, ignore=["log"])
    assert copy(total)(3) == 6
    assert total.check_call_in_cache(3, log=1)
    assert copy(memory).cache(double)(5) == 10
    assert copy(memory.cache(fetch)).func is fetch
    assert copy(total.call_and_shelve(3)).get() == 6
    assert len(pickle.dumps(memory.cache(array).call_and_shelve())) < 10_000


def test_methods_as_joblib_documents_them(memory):
    class Model:
        def __init__(self, factor):
            self.factor = factor
            self.apply = memory.cache(self.apply)

        def apply(self, x):
            calls.append(x)
            return self.factor * x

        def __reduce__(self):
            return Factor, (self.factor,)

        def __jobspan_key__(self):
            return self.factor

    assert Model(2).apply(3) == Model(2).apply(3) == 6
    assert Model(5).apply(3) == 15
    assert len(calls) <= 3


class Factor:
    def __init__(self, factor):
        self.factor = factor


def test_validation_callbacks_see_joblibs_metadata(library, tmp_path):
    seen = []

    def fresh(metadata):
        seen.append(dict(metadata))
        return len(seen) < 2

    memory = library.Memory(tmp_path, verbose=0)
    total = memory.cache(double, cache_validation_callback=fresh)
    assert [total(1), total(1), total(1)] == [2, 2, 2]
    assert calls == [1, 1]
    assert set(seen[0]) == {"duration", "input_args", "time"}
    with pytest.raises(ValueError, match=r"cache_validation_callback needs to be callable. Got 3"):
        memory.cache(double, cache_validation_callback=3)


def test_expires_after(library):
    for arguments in ({"days": 1}, {"seconds": 86400}, {"hours": 24}, {"minutes": 1440}):
        valid = library.expires_after(**arguments)
        now = time.time()
        assert valid({"time": now - 86300}) is True
        assert valid({"time": now - 86500}) is False
    assert library.expires_after()({"time": now}) is False


@pytest.mark.parametrize("compress", [True, 1, 9, ("zlib", 3), ("gzip", 3), ("bz2", 1), ("xz", 1)])
def test_compression(library, tmp_path, compress):
    memory = library.Memory(tmp_path, verbose=0, compress=compress)
    zeros = memory.cache(np.zeros)
    assert np.array_equal(zeros(100_000), zeros(100_000))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < 100_000


def test_compressed_results_cannot_be_mapped(library, tmp_path):
    with pytest.warns(UserWarning, match="Compressed results cannot be memmapped"):
        library.Memory(tmp_path, compress=True, mmap_mode="r")


@pytest.mark.parametrize(("mode", "writable"), [("r", False), ("c", True), (None, True)])
def test_mmap_mode(library, tmp_path, mode, writable):
    memory = library.Memory(tmp_path, verbose=0, mmap_mode=mode)
    make = memory.cache(array)
    for result in (make(), make()):
        assert np.array_equal(result, array())
        assert result.flags.writeable is writable
        if writable:
            result[0] = 5.0
    assert make()[0] == 0.0


def test_a_function_may_have_a_mmap_mode_of_its_own(tmp_path):
    """joblib takes the argument and goes by its memory's."""
    make = jobspan.Memory(tmp_path, verbose=0).cache(array, mmap_mode="r")
    assert [make().flags.writeable for _ in range(2)] == [False, False]


def test_small_arrays_are_read_only_too_under_mmap_mode_r(library, tmp_path):
    make = library.Memory(tmp_path, verbose=0, mmap_mode="r").cache(np.arange)
    assert not make(3).flags.writeable
    assert not make(3).flags.writeable


def test_reduce_size(memory):
    total = memory.cache(double)
    for x in range(6):
        total(x)
    memory.reduce_size()
    memory.reduce_size(bytes_limit="1G", items_limit=10, age_limit=dt.timedelta(days=1))
    assert all(total.check_call_in_cache(x) for x in range(6))
    memory.reduce_size(items_limit=2)
    assert sum(total.check_call_in_cache(x) for x in range(6)) == 2
    memory.reduce_size(bytes_limit="0K")
    assert not any(total.check_call_in_cache(x) for x in range(6))
    total(1)
    with pytest.raises(ValueError, match="age_limit has to be a positive timedelta"):
        memory.reduce_size(age_limit=dt.timedelta(days=-1))


def test_results_inside_parallel(library, memory):
    total = memory.cache(double)
    for _ in range(2):
        assert library.Parallel(n_jobs=2)(library.delayed(total)(x) for x in range(4)) == [
            0,
            2,
            4,
            6,
        ]
    assert all(total.check_call_in_cache(x) for x in range(4))


def told(library, location, verbose):
    """Return what a memory tells of some calls, with what differs between runs taken out."""
    memory = library.Memory(location, verbose=verbose)
    total = memory.cache(plain)
    out, log = io.StringIO(), io.StringIO()
    import logging

    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    logging.getLogger(library.__name__).addHandler(handler)
    logging.getLogger(library.__name__).propagate = False
    try:
        with contextlib.redirect_stdout(out), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            total({"a": [1, 2]}, z="q")
            total({"a": [1, 2]}, z="q")
            total.call_and_shelve({"a": [1, 2]}, z="q").get()
            total(np.arange(1000), [list(range(2000)), "x" * 3000])
            total.clear()
            memory.clear()
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger(library.__name__).removeHandler(handler)
        logging.getLogger(library.__name__).propagate = True
    text = re.sub(r"[0-9a-f]{32,64}", "KEY", out.getvalue() + log.getvalue())
    text = re.sub(r"(file://)?" + re.escape(str(location)) + r"\S*", "PLACE", text)
    text = re.sub(r"identified by \S+", "identified by NAME", text)
    text = re.sub(r"0x[0-9a-f]+", "ADDRESS", text).replace("y=(1, 2), z='q', x", "x")
    text = text.replace("x={'a': [1, 2]}, y=(1, 2), z='q'", "x={'a': [1, 2]}")
    return [line.strip() for line in text.splitlines()]


def plain(x, y=(1, 2), *, z="a"):
    return 2


@pytest.mark.parametrize("verbose", [0, 1, 2, 5, 10, 11, 20])
def test_the_same_lines_are_printed(tmp_path, verbose):
    theirs, ours = (
        told(library, tmp_path / library.__name__, verbose) for library in (joblib, jobspan)
    )
    assert ours == theirs


@pytest.mark.parametrize("made_before", [True, False])
def test_a_new_cache_is_kept_out_of_git(library, tmp_path, made_before):
    if made_before:
        (tmp_path / "new" / "cache").mkdir(parents=True)
    memory = library.Memory(tmp_path / "new" / "cache", verbose=0)
    assert memory.cache(double)(2) == 4
    ignored = (tmp_path / "new" / "cache" / ".gitignore").read_text()
    assert "*" in ignored.splitlines()
    (tmp_path / "new" / "cache" / ".gitignore").write_text("mine")
    memory = library.Memory(tmp_path / "new" / "cache", verbose=0)
    memory.cache(double)(3)
    memory.clear(warn=False)
    assert (tmp_path / "new" / "cache" / ".gitignore").read_text() == "mine"


def test_a_folder_that_holds_other_things_is_not_kept_out_of_git(tmp_path):
    """joblib keeps it out: what was in such a folder would be missing from commits."""
    (tmp_path / "code.py").write_text("")
    assert jobspan.Memory(tmp_path, verbose=0).cache(double)(2) == 4
    assert not (tmp_path / ".gitignore").exists()


def test_a_cache_that_is_only_read_makes_no_folder(tmp_path):
    memory = jobspan.Memory(tmp_path / "cache", verbose=0, mode="ro")
    assert memory.cache(double)(2) == 4
    assert not (tmp_path / "cache").exists()


def test_the_place_of_a_cache_can_be_asked_for(memory, tmp_path):
    function = memory.cache(double)
    for one in (memory, function, function.call_and_shelve(1)):
        assert str(one.store_backend.location).startswith(str(tmp_path / "cache"))
