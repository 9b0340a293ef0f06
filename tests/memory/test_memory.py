"""What users of joblib's ``Memory`` know, and what is new, on a local store."""

from __future__ import annotations

import asyncio
import functools
import pickle
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from jobspan import CacheWarning, MemorizedResult, Memory, expires_after
from jobspan.errors import StoreError, StoreLocationError, UnkeyableError


class Calls(list):
    """What was called; functions write to it, and their keys do not depend on what is there."""

    def __jobspan_key__(self):
        return "calls"


calls = Calls()


@pytest.fixture(autouse=True)
def _no_calls():
    calls.clear()


@pytest.fixture
def memory(tmp_path):
    return Memory(tmp_path / "cache", verbose=0)


def test_a_result_is_computed_once(memory):
    @memory.cache
    def double(x, y=1):
        calls.append(x)
        return 2 * x + y

    assert [double(3), double(3, 1), double(x=3, y=1), double(4)] == [7, 7, 7, 9]
    assert calls == [3, 4]


@pytest.mark.parametrize(
    "value", [None, 0, "é", b"x" * 100_000, [1, {"a": (2, 3.5)}], np.arange(200_000.0), set("abc")]
)
def test_any_result_comes_back(memory, value):
    @memory.cache(version=1)
    def make():
        calls.append(1)
        return value

    for _ in range(2):
        result = make()
        assert type(result) is type(value)
        assert np.array_equal(result, value) if isinstance(value, np.ndarray) else result == value
    assert calls == [1]


def test_decorator_with_and_without_parentheses_and_options(memory):
    @memory.cache(ignore=["log"])
    def total(x, log=None):
        calls.append(log)
        return x + 1

    assert total(1, log="a") == total(1, log="b") == 2
    assert calls == ["a"]
    assert total.__name__ == "total"
    assert total.__wrapped__.__name__ == "total"
    with pytest.raises(ValueError, match="Ignore list: argument 'nothing'"):
        memory.cache(ignore=["nothing"])(lambda x: x)


def test_methods_of_a_cached_function(memory):
    @memory.cache
    def double(x):
        calls.append(x)
        return 2 * x

    assert not double.check_call_in_cache(5)
    shelved = double.call_and_shelve(5)
    assert isinstance(shelved, MemorizedResult)
    assert pickle.loads(pickle.dumps(shelved)).get() == shelved.get() == 10
    assert double.check_call_in_cache(5)
    value, metadata = double.call(5)
    assert value == 10
    assert metadata["duration"] >= 0
    assert calls == [5, 5]  # call() computes whatever is stored
    shelved.clear()
    with pytest.raises(KeyError, match="gone or damaged"):
        shelved.get()
    assert double.invalidate(5) is False
    double(5)
    assert double.invalidate(5) is True
    double(6)
    double.clear(warn=False)
    assert not double.check_call_in_cache(6)


def test_memory_none_is_a_pass_through():
    memory = Memory(None)

    @memory.cache
    def double(x):
        calls.append(x)
        return 2 * x

    assert [double(1), double(1)] == [2, 2]
    assert calls == [1, 1]
    assert double.call_and_shelve(3).get() == 6
    assert memory.eval(pow, 2, 3) == 8
    assert not double.check_call_in_cache(1)


def test_eval_clear_and_stats(memory):
    assert memory.eval(pow, 2, 5) == memory.eval(pow, 2, 5) == 32
    stats = memory.stats()
    assert (stats["hits"], stats["misses"]) == (1, 1)
    assert stats["bytes_written"] > 0
    memory.clear(warn=False)
    memory.eval(pow, 2, 5)
    assert memory.stats()["misses"] == 2


def test_joblib_wording(tmp_path, capsys):
    memory = Memory(tmp_path, verbose=1)

    def double(x):
        return 2 * x

    memory.cache(double)(21)
    told = capsys.readouterr().out
    assert "[Memory] Calling " in told
    assert "double(21)" in told
    assert "double - 0.0s, 0.0min" in told
    memory.cache(double)(21)
    assert capsys.readouterr().out == ""


def test_pickling(memory):
    copy = pickle.loads(pickle.dumps(memory))
    assert copy.eval(pow, 2, 3) == 8
    assert memory.cache(pow).check_call_in_cache(2, 3)
    function = pickle.loads(pickle.dumps(memory.cache(pow)))
    assert function.check_call_in_cache(2, 3)


class Model:
    def __init__(self, factor):
        self.factor = factor
        self.predict = memory_for_models.cache(self.predict)

    def predict(self, x):
        calls.append(x)
        return self.factor * x


memory_for_models = Memory("memory://models-of-the-tests", verbose=0)


def test_bound_methods_depend_on_the_object():
    assert Model(2).predict(3) == Model(2).predict(3) == 6
    assert Model(5).predict(3) == 15
    assert calls == [3, 3]


def test_coroutines(memory):
    @memory.cache
    async def fetch(x):
        calls.append(x)
        await asyncio.sleep(0.01)
        return 2 * x

    async def main():
        together = await asyncio.gather(*(fetch(1) for _ in range(5)))
        return together, await fetch(1), await fetch.call(1), (await fetch.call_and_shelve(1)).get()

    together, again, (computed, _), shelved = asyncio.run(main())
    assert (*together, again, computed, shelved) == (2,) * 8
    assert calls == [1, 1]  # gathered calls compute once; call() computes anew


def test_what_raises_is_not_stored(memory):
    @memory.cache
    def fragile(x):
        calls.append(x)
        if len(calls) == 1:
            raise ValueError("not yet")
        return x

    with pytest.raises(ValueError, match="not yet"):
        fragile(1)
    assert fragile(1) == fragile(1) == 1
    assert calls == [1, 1]


def test_generators_are_refused_with_the_way_out(memory):
    with pytest.raises(TypeError, match="returns a list"):

        @memory.cache
        def numbers():
            yield 1


def test_expiry(memory):
    @memory.cache(expires=0.2)
    def now():
        calls.append(1)
        return len(calls)

    assert [now(), now()] == [1, 1]
    time.sleep(0.25)
    assert [now(), now()] == [2, 2]
    with pytest.raises(ValueError, match="expires"):
        memory.cache(expires=-1)(len)


def test_validation_callback(memory):
    seen = []

    def recent(metadata):
        seen.append(metadata)
        return len(seen) < 2

    @memory.cache(cache_validation_callback=recent)
    def double(x):
        calls.append(x)
        return 2 * x

    assert [double(1), double(1), double(1)] == [2, 2, 2]
    assert calls == [1, 1]
    assert set(seen[0]) == {"duration", "time", "input_args"}
    assert seen[0]["input_args"] == {"x": "1"}
    with pytest.raises(ValueError, match="needs to be callable"):
        memory.cache(cache_validation_callback=3)
    valid = memory.cache(cache_validation_callback=expires_after(days=1))(abs)
    assert valid(-1) == valid(-1) == 1


def test_two_versions_of_a_function_live_side_by_side(memory):
    def version(constant):
        scope = {"calls": calls}
        exec(f"def f(x):\n    calls.append({constant})\n    return x + {constant}", scope)
        return memory.cache(scope["f"])

    def outer(constant):
        def f(x):
            return x + constant

        return memory.cache(f)

    assert [outer(1)(1), outer(2)(1), outer(1)(1), outer(2)(1)] == [2, 3, 2, 3]
    assert memory.stats()["misses"] == 2


def test_version_and_depends(memory):
    def make(constant, **options):
        def f(x):
            calls.append(constant)
            return x

        return memory.cache(**options)(f)

    for constant in (1, 2):
        make(constant, version="a")(0)
    assert calls == [1]
    make(3, version="b")(0)
    assert calls == [1, 3]
    make(3, version="b", depends=["data of May"])(0)
    assert calls == [1, 3, 3]


def test_explain(memory):
    @memory.cache
    def scaled(x, scale=1.0):
        return x * scale

    assert "nothing is stored" in scaled.explain(1)
    scaled(1, scale=2.0)
    assert scaled.explain(1, scale=3.0) == "argument `scale`: 2.0 → 3.0"
    assert "nothing differs" in scaled.explain(1, scale=2.0)


def test_unkeyable_arguments_are_named(memory, tmp_path):
    @memory.cache
    def read(options):
        return 1

    with (tmp_path / "file").open("w") as file, pytest.raises(UnkeyableError) as caught:
        read({"out": [file]})
    assert "options['out'][0]" in str(caught.value)


def test_mmap_mode_maps_without_reading(memory, tmp_path):
    mapped = Memory(tmp_path / "cache", mmap_mode="r", verbose=0)

    def make():
        return {"a": np.arange(300_000.0), "b": [np.ones(50_000)]}

    first, second = mapped.cache(make)(), mapped.cache(make)()
    for result in (first, second):
        assert result["a"].sum() == np.arange(300_000.0).sum()
        assert not result["a"].flags.writeable
        assert result["a"].ctypes.data % 64 == 0
        assert not result["b"][0].flags.owndata
    plain = memory.cache(make)()
    plain["a"][0] = 5.0  # private and writable
    assert memory.cache(make)()["a"][0] == 0.0


@pytest.mark.parametrize("compress", [True, 3, "zlib", ("zstd", 3), ("lz4", 1)])
def test_compression(tmp_path, compress):
    memory = Memory(tmp_path, compress=compress, verbose=0)
    value = np.zeros(200_000)
    assert np.array_equal(memory.eval(np.zeros, 200_000), value)
    assert np.array_equal(memory.eval(np.zeros, 200_000), value)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < value.nbytes / 10
    assert memory.stats()["hits"] == 1


def test_read_only_mode(tmp_path):
    writer = Memory(tmp_path, verbose=0)
    writer.eval(pow, 2, 3)
    reader = Memory(tmp_path, mode="ro", verbose=0)
    assert reader.eval(pow, 2, 3) == 8
    assert reader.eval(pow, 2, 4) == 16
    assert reader.stats() | {"bytes_read": 0, "seconds_saved": 0} == {
        "hits": 1,
        "misses": 1,
        "seconds_saved": 0,
        "bytes_read": 0,
        "bytes_written": 0,
        "failures": 0,
    }
    assert not writer.cache(pow).check_call_in_cache(2, 4)


@pytest.mark.parametrize("place", ["local", "moto"], indirect=True)
def test_read_only_mode_deletes_nothing(place):
    stored = place.memory().cache(pow)
    assert stored(2, 3) == 8
    memory = place.memory(mode="ro")
    power = memory.cache(pow)
    for delete in (
        lambda: power.invalidate(2, 3),
        power.call_and_shelve(2, 3).clear,
        lambda: power.clear(warn=False),
        lambda: memory.clear(warn=False),
        lambda: memory.reduce_size(items_limit=0),
    ):
        with pytest.raises(StoreError, match="mode='rw'"):
            delete()
    assert stored.check_call_in_cache(2, 3)


def test_a_reference_to_what_could_not_be_stored_holds_the_result(tmp_path):
    runs = []

    def triple(x):
        runs.append(x)
        return 3 * x

    reader = Memory(tmp_path, mode="ro", verbose=0).cache(triple, version=1)
    shelved = reader.call_and_shelve(2)
    assert (shelved.get(), runs) == (6, [2])
    assert pickle.loads(pickle.dumps(shelved)).get() == 6

    async def later(x):
        return 3 * x

    waiting = Memory(tmp_path, mode="ro", verbose=0).cache(later, version=1)
    assert asyncio.run(waiting.call_and_shelve(3)).get() == 9


def test_names_of_any_kind(memory):
    def long():
        return 1

    long.__qualname__ = "../../" + "é<>:" * 100
    function = memory.cache(version=1)(long)
    assert function() == function() == 1
    assert function.check_call_in_cache()

    @memory.cache
    def echo(text):
        return text

    for text in ("x" * 300, "../../etc/passwd", "ü\0/\\", "\ud800"):
        assert echo(text) == echo(text) == text


def test_nothing_is_written_outside_of_the_location(tmp_path):
    location = tmp_path / "inside"
    memory = Memory(location, verbose=0)

    def f():
        return 1

    f.__qualname__ = "../../outside"
    memory.cache(version=1)(f)()
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_reduce_size(memory):
    for exponent in range(10):
        memory.eval(pow, 2, exponent)
    assert memory.reduce_size(items_limit=4) == 6
    assert memory.reduce_size(bytes_limit="1K") >= 1
    assert memory.reduce_size(age_limit=timedelta(0)) >= 1
    assert memory.reduce_size() == 0
    with pytest.raises(ValueError, match="positive"):
        memory.reduce_size(age_limit=timedelta(-1))
    with pytest.raises(ValueError, match="policy"):
        memory.reduce_size(policy="newest")


def test_cost_policy_keeps_what_took_long(tmp_path):
    memory = Memory(tmp_path, verbose=0)

    @memory.cache
    def work(seconds):
        time.sleep(seconds)
        return seconds

    for seconds in (0.0, 0.2, 0.01):
        work(seconds)
    memory.reduce_size(items_limit=1, policy="cost")
    assert [work.check_call_in_cache(seconds) for seconds in (0.0, 0.2, 0.01)] == [
        False,
        True,
        False,
    ]


def test_verify_names_damaged_entries(memory, tmp_path):
    memory.eval(pow, 2, 3)
    memory.eval(pow, 2, 4)
    assert memory.verify() == []
    (entry, _) = sorted(path for path in (tmp_path / "cache").rglob("*") if len(path.name) == 64)
    entry.write_bytes(entry.read_bytes()[:-1])
    (bad,) = memory.verify()
    assert bad.endswith(entry.name)


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign", "empty", "other key"])
def test_a_damaged_entry_is_a_miss_reported_once_and_replaced(memory, tmp_path, damage):
    double = memory.cache(functools.partial(pow, 2))
    double(3)
    (entry,) = (path for path in (tmp_path / "cache").rglob("*") if len(path.name) == 64)
    whole = entry.read_bytes()
    memory.eval(pow, 3, 3)
    other = next(
        path for path in (tmp_path / "cache").rglob("*") if len(path.name) == 64 and path != entry
    )
    damaged = {
        "truncate": whole[: len(whole) // 2],
        "flip": whole[:-1] + bytes([whole[-1] ^ 1]),
        "foreign": b"something else",
        "empty": b"",
        "other key": other.read_bytes(),
    }[damage]
    entry.write_bytes(damaged)
    with pytest.warns(CacheWarning, match="is not used") as warned:
        assert double(3) == 8
    assert len(warned) == 1
    assert entry.read_bytes() != damaged
    assert double.check_call_in_cache(3)


def test_every_bit_counts(memory, tmp_path):
    """No single flipped bit changes a result: it is found, or it is padding."""
    memory.eval(pow, 2, 200)
    (entry,) = (path for path in (tmp_path / "cache").rglob("*") if len(path.name) == 64)
    whole = bytearray(entry.read_bytes())
    reader = Memory(tmp_path / "cache", mode="ro", verbose=0)

    def read_with_each_third_byte_altered():
        for position in range(0, len(whole), 3):
            whole[position] ^= 1
            entry.write_bytes(whole)
            assert reader.eval(pow, 2, 200) == 2**200
            whole[position] ^= 1

    with pytest.warns(CacheWarning):
        read_with_each_third_byte_altered()


def test_a_result_that_cannot_be_stored(memory):
    @memory.cache
    def make():
        return (x for x in ())

    with pytest.warns(CacheWarning, match="cannot store the result"):
        assert list(make()) == []


def test_bad_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreLocationError, match="is a file"):
        Memory(tmp_path / "file")
    with pytest.raises(StoreLocationError, match="nosuch"):
        Memory("nosuch://bucket")
    with pytest.raises(ValueError, match="mode='x'"):
        Memory(tmp_path, mode="x")
    with pytest.raises(ValueError, match="at least 16"):
        Memory(tmp_path, sign_key=b"short")
    with pytest.raises(ValueError, match="mmap_mode"):
        Memory(tmp_path, mmap_mode="q")
    with pytest.raises(ValueError, match="codec"):
        Memory(tmp_path, codec="nosuch")
    with pytest.raises(ValueError, match="safe"):
        Memory(tmp_path, codec="pickle", safe=True)
    with pytest.raises(TypeError, match="not callable"):
        Memory(tmp_path).cache(3)
    with pytest.raises(TypeError, match="a URL such as"):
        Memory(3)
    with pytest.raises(StoreLocationError, match="no folder of this machine"):
        Memory(tmp_path, local_tier="s3://bucket/tier")
    with pytest.raises(StoreLocationError, match="is a file"):
        Memory(tmp_path, local_tier=tmp_path / "file")
    for name in ("lease_seconds", "patience_seconds"):
        with pytest.raises(ValueError, match=f"{name}=-1: pass seconds"):
            Memory(tmp_path, **{name: -1})


SCRIPT = """
import sys
from jobspan import Memory

memory = Memory(sys.argv[1], verbose=0)

@memory.cache
def slow(x):
    print("computing")
    return x + 1

print(slow(1))
"""


def test_another_run_of_a_script_hits(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "cache")]
    runs = [
        subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        for _ in range(2)
    ]
    assert runs == ["computing\n2\n", "2\n"]


def test_another_checkout_hits(tmp_path):
    outputs = []
    for checkout in ("one", "two/deeper"):
        folder = tmp_path / checkout
        folder.mkdir(parents=True)
        (folder / "project.py").write_text(
            "from jobspan import Memory\nimport sys\n\ndef helper(x):\n    return x + 1\n\n"
            "def slow(x):\n    print('computing')\n    return helper(x)\n"
        )
        (folder / "main.py").write_text(
            "import sys\nfrom jobspan import Memory\nfrom project import slow\n"
            "print(Memory(sys.argv[1], verbose=0).cache(slow)(1))\n"
        )
        done = subprocess.run(
            [sys.executable, str(folder / "main.py"), str(tmp_path / "cache")],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        outputs.append(done.stdout)
    assert outputs == ["computing\n2\n", "2\n"]
    assert Path(tmp_path / "cache").exists()
