"""Arguments are bound to names; version, depends and ignore do what they say; misses explained."""

from __future__ import annotations

import functools
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobspan
from jobspan import Memory
from jobspan.keys import FunctionKeys, call_key, explain


def function(first, /, second, third=3, *rest, fourth=4, fifth, **others):
    return first


def plain(x, y=1, z=2):
    return x


def key(*args, **kwargs):
    return call_key(function, args, kwargs).digest


def test_every_way_of_passing_an_argument_has_one_key():
    keys = FunctionKeys(plain)
    ways = [((1,), {}), ((), {"x": 1}), ((1, 1), {}), ((1,), {"z": 2}), ((), {"z": 2, "x": 1})]
    assert len({keys.key(args, kwargs).digest for args, kwargs in ways}) == 1
    assert key(1, 2, fifth=5) == key(1, fifth=5, second=2) == key(1, 2, 3, fifth=5, fourth=4)
    assert key(1, 2, fifth=5, a=1, b=2) == key(1, 2, b=2, a=1, fifth=5)


def test_arguments_in_other_places_are_told_apart():
    calls = [
        ((1, 2), {"fifth": 5}),
        ((2, 1), {"fifth": 5}),
        ((1, 2, 3, 4), {"fifth": 5}),
        ((1, 2, 4), {"fifth": 5}),
        ((1, 2), {"fifth": 5, "first": 1}),
        ((1, 2), {"fifth": 5, "others": {"first": 1}}),
        ((1, 2), {"fifth": 5, "rest": (4,)}),
        ((1, 2), {"fifth": 5, "a": 1}),
        ((1, 2), {"fifth": 5, "a": None}),
        ((1, 2), {"fifth": 4, "fourth": 5}),
    ]
    assert len({key(*args, **kwargs) for args, kwargs in calls}) == len(calls)


@given(st.integers(), st.integers(), st.integers(), st.randoms(use_true_random=False))
def test_binding_is_normalised(x, y, z, chance):
    keys = FunctionKeys(plain)
    positional = chance.randint(0, 3)
    given = list({"x": x, "y": y, "z": z}.items())
    named = given[positional:]
    chance.shuffle(named)
    args = tuple(value for _, value in given[:positional])
    assert keys.key(args, dict(named)).digest == keys.key((x, y, z), {}).digest


def test_arguments_that_do_not_fit_are_refused_as_by_the_function():
    with pytest.raises(TypeError, match="missing a required"):
        key(1)
    with pytest.raises(TypeError, match=r"plain\(x, y=1, z=2\)"):
        call_key(plain, (1, 2, 3, 4), {})


def test_ignored_arguments_do_not_count():
    keys = FunctionKeys(function, ignore=["third", "*", "**"])
    assert keys.key((1, 2, 3, 4), {"fifth": 5, "a": object()}).digest == (
        keys.key((1, 2, 9), {"fifth": 5}).digest
    )
    assert keys.key((1, 2), {"fifth": 5}).digest != keys.key((1, 3), {"fifth": 5}).digest
    with pytest.raises(ValueError, match="'nothing' is not defined"):
        FunctionKeys(plain, ignore=["nothing"])


def make(factor):
    def scaled(x):
        return factor * x

    return scaled


def test_a_version_replaces_the_code():
    one = FunctionKeys(make(1), version="a")
    assert one.key((1,), {}).digest == FunctionKeys(make(2), version="a").key((1,), {}).digest
    others = [FunctionKeys(make(1), version=version) for version in ("b", 1, "1", None)]
    digests = {keys.key((1,), {}).digest for keys in (one, *others)}
    assert len(digests) == 5


def test_depends_adds_functions_modules_files_and_values(tmp_path, monkeypatch):
    def digest(*depends, **given):
        return call_key(plain, (1,), {}, depends=depends, **given).digest

    (tmp_path / "folder").mkdir()
    table, same = tmp_path / "table.csv", tmp_path / "folder" / "table.csv"
    table.write_text("a")
    same.write_text("a")
    module = types.ModuleType("key_depended_module")
    (tmp_path / "key_depended_module.py").write_text("x = 1\n")
    module.__file__ = str(tmp_path / "key_depended_module.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert digest(make(1)) == digest(make(1)) != digest(make(2))
    assert digest(functools.partial(plain, 1)) != digest(functools.partial(plain, 2))
    assert digest([1]) == digest([1]) != digest([2])
    assert digest([1], version=1) != digest([2], version=1)
    assert digest(np) != digest(module) != digest()
    before = [digest(table, same), digest(tmp_path / "folder"), digest(Memory(None).cache(make(1)))]
    same.write_text("b")
    after = [digest(table, same), digest(tmp_path / "folder"), digest(Memory(None).cache(make(2)))]
    assert all(one != other for one, other in zip(before, after, strict=True))
    with pytest.raises(FileNotFoundError):
        digest(tmp_path / "missing.csv")


# --- explain -----------------------------------------------------------------------------------


def words(now, *stored):
    return explain(now, [each.components for each in stored]).splitlines()


def test_an_argument_that_differs():
    keys = FunctionKeys(plain)
    assert words(keys.key((1, 2.0), {}), keys.key((1, 3.0), {})) == ["argument `y`: 3.0 → 2.0"]
    one, other = np.zeros(3), np.ones(3)
    assert words(keys.key((one,), {}), keys.key((other,), {})) == [
        "argument `x`: another ndarray of shape (3,)"
    ]


def test_the_nearest_entry_is_compared():
    keys = FunctionKeys(plain)
    stored = [keys.key(args, {}) for args in ((1, 2, 3), (1, 2, 4), (7, 8, 9))]
    assert words(keys.key((7, 8, 3), {}), *stored) == ["argument `z`: 9 → 3"]


def test_of_entries_as_near_the_same_one_is_told_whatever_their_order():
    keys = FunctionKeys(plain)
    stored = [keys.key((1, 2, last), {}) for last in (5, 4, 6)]
    for some in (stored, stored[::-1]):
        assert words(keys.key((1, 2, 9), {}), *some) == ["argument `z`: 4 → 9"]


def test_a_helper_that_changed():
    def outer(clean_text, scale=1):
        def run(x):
            return clean_text(x) * scale

        return run

    def before(x):
        return x

    def after(x):
        return -x

    before.__qualname__ = after.__qualname__ = "clean_text"
    now, stored = call_key(outer(after), ("a",), {}), call_key(outer(before), ("a",), {})
    assert words(now, stored) == ["helper `clean_text` changed"]
    now = call_key(outer(before, 2), ("a",), {})
    assert words(now, stored) == ["the value of `scale` changed"]


def test_the_function_its_defaults_a_version_and_a_package():
    def one(x, y=1):
        return x

    def other(x, y=1):
        return -x

    def third(x, y=2):
        return x

    def averaged(x):
        return np.mean(x)

    first = call_key(one, (1, 1), {})
    assert words(call_key(other, (1, 1), {}), first) == ["the function changed"]
    assert "the defaults of the function changed" in words(call_key(third, (1, 1), {}), first)
    assert words(call_key(one, (1,), {}, version=2), call_key(one, (1,), {}, version=1)) == [
        "version: 1 → 2"
    ]
    now = call_key(averaged, (1,), {})
    older = {**now.components, "code: package numpy": "1.0"}
    assert explain(now, [older]) == f"numpy 1.0 → {np.__version__}"


def test_nothing_stored_and_nothing_different():
    now = call_key(plain, (1,), {})
    assert explain(now, []) == f"nothing is stored for {now.function}"
    assert explain(now, [now.components]) == "nothing differs: the result is stored"


def test_a_cached_function_explains_its_miss():
    memory = Memory("memory://explained", verbose=0)
    cached = memory.cache(plain)
    cached(1, y=2.0)
    assert cached.explain(1, y=3.0) == "argument `y`: 2.0 → 3.0"
    assert cached.explain(1, y=2.0) == "nothing differs: the result is stored"


# --- jobspan.hash ------------------------------------------------------------------------------


def test_hash_has_the_lengths_of_the_functions_that_it_is_named_for():
    lengths = {"md5": 32, "sha1": 40, "sha256": 64, "blake3": 64}
    assert {name: len(jobspan.hash([1], name)) for name in lengths} == lengths
    assert jobspan.hash([1]) == jobspan.hash([1], "md5", coerce_mmap=True)
    with pytest.raises(ValueError, match="sha512"):
        jobspan.hash(1, "sha512")
