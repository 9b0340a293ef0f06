"""Equal values have equal keys; unequal ones never do."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import dataclasses
import enum
import io
import math
import os
import pickle
import random
import socket
import struct
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import cloudpickle
import key_samples
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jobspan
from jobspan.errors import UnkeyableError
from jobspan.keys import call_key, digest, register_key_encoder

SAMPLES = key_samples.BUILTINS

# --- equal values ------------------------------------------------------------------------------

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=3)
    | st.complex_numbers()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.uuids()
    | st.just(...)
)
hashable = st.recursive(
    leaves,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, min_size=1, max_size=2).map(lambda few: few * 17)
        | st.tuples(inner, inner)
        | st.dictionaries(hashable, inner, max_size=5)
        | st.fixed_dictionaries({"a": inner, "b": inner}).map(
            lambda one: [dict(one) for _ in range(20)]
        )
        | st.sets(hashable, max_size=5)
    ),
    max_leaves=10,
)


def shuffled(value: Any, chance: random.Random) -> Any:
    """Return an equal value: other objects, other orders of dictionaries and sets."""
    kind = type(value)
    if kind in (list, tuple):
        return kind(shuffled(item, chance) for item in value)
    if kind is dict:
        pairs = [(shuffled(k, chance), shuffled(v, chance)) for k, v in value.items()]
        chance.shuffle(pairs)
        return dict(pairs)
    if kind in (set, frozenset):
        members = [shuffled(item, chance) for item in value]
        chance.shuffle(members)
        return kind(members)
    if kind is str:
        return "".join(list(value))
    return copy.copy(value)


@given(value=values, chance=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_shuffled_copied_and_pickled_values_have_the_same_key(value, chance):
    key = digest(value)
    assert digest(shuffled(value, chance)) == key
    assert digest(copy.deepcopy(value)) == key
    assert digest(pickle.loads(pickle.dumps(value))) == key


def picklable(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except (TypeError, pickle.PicklingError):
        return False
    return True


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_keep_their_key_when_copied_and_pickled(name):
    value = SAMPLES[name]
    if name not in ("memoryview", "module", "proxy"):
        assert digest(copy.deepcopy(value)) == digest(value)
    if picklable(value):
        assert digest(pickle.loads(pickle.dumps(value))) == digest(value)


def test_an_exception_has_one_key_whoever_looked_at_it():
    fresh, raised = ValueError("bad", 1), ValueError("bad", 1)
    with pytest.raises(ValueError):
        raise raised
    assert raised.__dict__ == {}
    assert digest(fresh) == digest(raised)
    raised.add_note("that counts")
    assert digest(fresh) != digest(raised)


def test_no_two_samples_share_a_key():
    keys = {digest(value): name for name, value in SAMPLES.items()}
    assert len(keys) == len(SAMPLES)


@pytest.mark.parametrize("seed", ["0", "1", "12345"])
def test_keys_are_the_same_in_other_processes_with_other_hash_seeds(seed):
    source = "import key_samples, json; print(json.dumps(key_samples.keys(packages=False)))"
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=Path(key_samples.__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    import json

    assert json.loads(done.stdout) == key_samples.keys(packages=False)


def test_sharing_within_a_value_does_not_count():
    part, text = [1, 2], b"ab".decode()
    assert digest([part, part]) == digest([[1, 2], [1, 2]])
    assert digest([text, text]) == digest([b"ab".decode(), b"ab".decode()])
    one = key_samples.Plain(x=[1])
    assert digest([one, one]) == digest([key_samples.Plain(x=[1]), key_samples.Plain(x=[1])])


def test_deeply_shared_objects_take_no_longer_than_there_are_objects():
    node = key_samples.Plain(x=1)
    for _ in range(60):
        node = key_samples.Plain(left=node, right=node)
    assert digest(node) == digest(pickle.loads(pickle.dumps(node)))


def test_entangled_objects_have_a_key():
    nodes = [key_samples.Plain(number=number) for number in range(30)]
    for node in nodes:
        node.others = [other for other in nodes if other is not node]
    key = digest(nodes)
    assert digest(pickle.loads(pickle.dumps(nodes))) == key
    nodes[7].number = 70
    assert digest(nodes) != key


def test_cycles_end_and_differ():
    one: list[Any] = []
    one.append(one)
    two: list[Any] = [[]]
    two[0].append(two)
    wide: list[Any] = []
    wide.extend([wide] * 20)
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    hidden = key_samples.Plain(wide=wide)
    some = (one, two, wide, mapping, hidden, [wide] * 20, [[]], [], {"self": {}})
    assert len({digest(each) for each in some}) == len(some)
    assert digest(pickle.loads(pickle.dumps(two))) == digest(two)


def test_many_lists_within_lists_need_not_contain_themselves():
    value: list[Any] = [0, 1]
    for _ in range(6):
        value = [value, *([[]] * 16)]
        value = [value] * 2
    wide = [[[[[[number]] * 17] * 2] for number in range(20)]] * 17
    assert digest(wide) == digest(copy.deepcopy(wide)) == digest(pickle.loads(pickle.dumps(wide)))
    assert digest(value) == digest(pickle.loads(pickle.dumps(value)))


def test_a_value_nested_too_deeply_says_so():
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(UnkeyableError, match="nested too deeply"):
        digest(value)


# --- unequal values ----------------------------------------------------------------------------


def spelled(value: Any) -> str:
    """Spell a value out, types and all, in another way than keys are made."""
    kind = type(value).__name__
    if isinstance(value, float):
        return f"float:{struct.pack('<d', value).hex()}"
    if isinstance(value, complex):
        return f"complex:{struct.pack('<dd', value.real, value.imag).hex()}"
    if isinstance(value, str | bytes):
        return f"{kind}:{len(value)}:{value!a}"
    if isinstance(value, list | tuple):
        return f"{kind}({','.join(map(spelled, value))})"
    if isinstance(value, set | frozenset):
        return f"{kind}({','.join(sorted(map(spelled, value)))})"
    if isinstance(value, dict):
        return f"{kind}({','.join(sorted(f'{spelled(k)}={spelled(v)}' for k, v in value.items()))})"
    return f"{kind}:{value!r}"


NEAR: list[Any] = [0, 1, -1, True, False, None, 0.0, -0.0, 1.0, math.nan, 1j, 1 + 0j, ...]
NEAR += ["", "1", "0", "a", "b", "ab", "ba", "None", "True", "\0", "1,1"]
NEAR += [b"", b"1", b"a", b"ab", b"\0", bytearray(b"1")]
NEAR += [2**31, 2**63, 2**64, -(2**31), 256, 255, 65536, 1e300, math.inf, -math.inf]
near = st.sampled_from(NEAR)
near_hashable = near.filter(lambda value: type(value) is not bytearray)
near_misses = st.recursive(
    near,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(near_hashable, max_size=3)
        | st.frozensets(near_hashable, max_size=3)
        | st.dictionaries(near_hashable, inner, max_size=3)
        | st.dictionaries(st.sampled_from(["tuple", "dict", "set", "records"]), inner, max_size=1)
        | st.tuples(inner, st.integers(15, 18)).map(lambda pair: [pair[0]] * pair[1])
        | st.tuples(inner, st.integers(15, 18)).map(lambda pair: (pair[0],) * pair[1])
        | st.lists(inner, min_size=1, max_size=3).map(lambda few: [{"a": each} for each in few * 8])
        | st.lists(st.lists(inner, max_size=2), min_size=6, max_size=6).map(lambda few: few * 3)
    ),
    max_leaves=6,
)


def test_near_misses_never_share_a_key():
    known: dict[str, str] = {}

    @given(st.lists(near_misses, min_size=10, max_size=40))
    @settings(
        max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    def spell_and_key_agree(some):
        for value in some:
            spelling, key = spelled(value), digest(value)
            assert known.setdefault(key, spelling) == spelling

    spell_and_key_agree()
    # Systematically, as many pairs whatever Hypothesis drew.
    atoms = [0, 1, True, None, 0.0, -0.0, 1.0, "1", b"1", "", (), [], {}, set(), frozenset()]
    made = list(atoms)
    for one in atoms:
        made += [[one], (one,), {"a": one}, [one] * 16, (one,) * 16, [[one]] * 16, [(one,)] * 16]
        made += [[{"a": one}] * 16, {"tuple": [one]}, {"dict": one}, [[one, one]] * 8 + [[]] * 8]
        made += [x for other in atoms for x in ([one, other], (one, other), {"a": one, "b": other})]
    for value in made:
        spelling, key = spelled(value), digest(value)
        assert known.setdefault(key, spelling) == spelling
    assert len(set(known.values())) == len(known), "equal values have one key"
    assert len(known) * (len(known) - 1) // 2 >= 200_000


def test_concatenations_are_told_apart():
    pairs = [
        (["ab", "c"], ["a", "bc"]),
        ([["a"], "b"], [["a", "b"]]),
        ([["a"], ["b", "c"]] * 9, [["a", "b"], ["c"]] * 9),
        ({"a": "bc"}, {"ab": "c"}),
        (b"\x80\x03K\x01.", 1),
        (digest([1]), [1]),
        ({"dict": (["a"], [1])}, {"a": 1}),
        ({"tuple": [0] * 16}, (0,) * 16),
        ({"up": 1}, [{"up": 1}]),
        ([{"a": 1, "b": 2}] * 20, {"records": (20, ["a", "b"], [1] * 20, [2] * 20)}),
        ({"a": [1, 2] * 8}, {"a": ([1, 2] * 8,)}),
    ]
    for one, other in pairs:
        assert digest(one) != digest(other)


class Anonymous:
    def __init__(self, secret: int) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        return "Anonymous()"

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def test_objects_with_equal_reprs_are_told_apart():
    assert digest(Anonymous(1)) != digest(Anonymous(2))
    assert digest([Anonymous(1)]) == digest([Anonymous(1)])
    assert digest({Anonymous(1).secret: 1}) != digest({Anonymous(2).secret: 1})


class OrderedDerived(OrderedDict):
    pass


class Text(str):
    __slots__ = ()


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Text("a"), "a"),
        (Number.ONE, 1),
        (OrderedDict(a=1), {"a": 1}),
        (OrderedDerived(a=1, b=2), OrderedDerived(b=2, a=1)),
        (key_samples.Pair(1, "a"), (1, "a")),
        (key_samples.Point(1, 2), (1, 2)),
        (key_samples.Frozen(1.0), key_samples.Frozen(1)),
        (range(3), [0, 1, 2]),
        (Path("a"), "a"),
        (io.BytesIO(b"a"), io.BytesIO(b"b")),
        (memoryview(b"a"), b"a"),
        (int, float),
        (int, "builtins.int"),
        (len, sum),
        ([].append, [1].append),
        (math, os),
        (iter([1, 2]), iter([1, 3])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_look_alikes_are_told_apart(one, other):
    assert digest(one) != digest(other)


# --- values of one's own, and values without a key ---------------------------------------------


def test_attrs_and_pydantic_values_are_keyed_by_value():
    attrs = pytest.importorskip("attrs")
    pydantic = pytest.importorskip("pydantic")

    @attrs.define
    class Settings:
        x: int
        y: list[int] = attrs.field(factory=list)

    class Model(pydantic.BaseModel):
        x: int
        y: list[int] = pydantic.Field(default_factory=list)

    for kind in (Settings, Model):
        assert digest(kind(x=1)) == digest(kind(x=1)) != digest(kind(x=2))
        assert digest(kind(x=1, y=[1])) == digest(kind(x=1, y=[1])) != digest(kind(x=1, y=[2]))
        assert digest(cloudpickle.loads(cloudpickle.dumps(kind(x=1)))) is not None
    assert digest(Settings(x=1)) != digest(Model(x=1))


class Connection:
    def __init__(self, url: str) -> None:
        self.url, self.lock = url, threading.Lock()


class Keyed(Connection):
    def __jobspan_key__(self) -> object:
        return self.url


class Registered(Connection):
    pass


def test_a_type_can_say_what_it_stands_for():
    assert digest(Keyed("a")) == digest(Keyed("a")) != digest(Keyed("b"))
    register_key_encoder(Registered, lambda connection: connection.url)
    assert digest(Registered("a")) == digest(Registered("a")) != digest(Registered("b"))
    assert digest(Registered("a")) != digest(Keyed("a")) != digest("a")


def generator():
    yield 1


async def coroutine():
    await asyncio.sleep(0)


def test_what_has_no_value_raises_with_its_path():
    class Holder:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock

    def function(items, scale=1):
        return items

    with socket.socket() as sock, pytest.raises(UnkeyableError) as caught:
        call_key(function, ([{"conn": Holder(sock)}],), {})
    assert "items[0]['conn'].sock" in str(caught.value)
    assert "ignore=[...]" in str(caught.value)
    assert isinstance(caught.value, pickle.PicklingError)


@pytest.mark.parametrize(
    "make",
    [
        object,
        threading.Lock,
        generator,
        lambda: Path(__file__).open(),  # noqa: SIM115
        lambda: Path(__file__).open("rb"),  # noqa: SIM115
        lambda: sys._getframe(),
        lambda: contextvars.ContextVar("v"),
        lambda: {}.keys(),
        lambda: Connection("a"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [1, (v,)], lambda v: [{"a": v}] * 20])
def test_what_has_no_value_raises(make, wrap):
    with pytest.raises(UnkeyableError):
        jobspan.hash(wrap(make()))


def test_a_coroutine_has_no_key():
    waiting = coroutine()
    with pytest.raises(UnkeyableError, match="coroutine"):
        digest(waiting)
    waiting.close()


def test_threads_do_not_disturb_each_other():
    expected = {name: digest(value) for name, value in SAMPLES.items()}
    wrong = []

    def check():
        for _ in range(5):
            wrong.extend(name for name, value in SAMPLES.items() if digest(value) != expected[name])

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_an_edited_method_moves_the_key_of_an_instance():
    def make(factor):
        @dataclasses.dataclass
        class Scaler:
            x: int

            def scaled(self):
                return self.x * factor

        return Scaler(1)

    assert digest(make(2)) == digest(make(2)) != digest(make(3))
