"""Values and functions whose keys are committed; needs only the standard library by itself."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import importlib.util
import math
import operator
import pathlib
import re
import types
import typing
import uuid
import zoneinfo

NAMES = ["plain", "records"]
SCALE = 2.5


class Colour(enum.Enum):
    RED = 1
    GREEN = "g"


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


class Pair(typing.NamedTuple):
    left: int
    right: str = ""


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - keyed in its own way


@dataclasses.dataclass(order=True)
class Job:
    """A docstring, which does not count."""

    name: str
    size: int = 1
    tags: list[str] = dataclasses.field(default_factory=list)

    def scaled(self):
        return self.size * SCALE


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: float


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, a, b):
        self.a, self.b = a, b


class Plain:
    kind = "plain"

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    @property
    def double(self):
        return helper(self.x)

    def method(self, y):
        return [n for n in range(y) if n != self.x]


def helper(x):
    # A comment.
    return x * SCALE + len(NAMES)


def calls_helper(first, /, second=3, *rest, third=None, **others):
    """A docstring."""
    total = 0
    for index, value in enumerate(rest):
        total += helper(value) if index else first
    try:
        named = {name: f"{value!r:>{second}}" for name, value in others.items()}
    except (ValueError, TypeError) as error:
        named = {"error": f"a{error!s:}{{}}bc{index:02}{first=}"}
    match third:
        case [a, *b]:
            total += len(b) if a else 0
        case {"x": int() as c, **d}:
            total += c + len(d)
        case _:
            pass
    with_walrus = [y for x in rest if (y := x) > 1]
    return total, named, with_walrus, math.sqrt(second), (lambda z: z + total)


def recursive(n):
    return 1 if n < 2 else n * other(n - 1)


def other(n):
    return recursive(n)


def closes_over(factor):
    def inner(x):
        return factor * x

    return inner


@functools.lru_cache
def cached(x):
    return helper(x)


@functools.wraps(helper)
def wrapper(*args):
    return helper(*args)


TABLE = {"cached": cached, "recursive": recursive}


def reads_table(name):
    return TABLE[name](3)


def cyclic():
    value = [1, {"a": (2, [])}]
    value[1]["a"][1].append(value)
    return value


def tree():
    root = Plain(name="root", children=[])
    for number in range(3):
        root.children.append(Plain(name=number, parent=root))
    return root


def ordered(*names):
    return collections.OrderedDict((name, len(name)) for name in names)


UTC = dt.UTC
BUILTINS = {
    "none": None,
    "true": True,
    "one": 1,
    "minus one": -1,
    "large": 2**200 + 1,
    "one as float": 1.0,
    "zero": 0.0,
    "minus zero": -0.0,
    "nan": math.nan,
    "infinity": math.inf,
    "complex": 1 - 2j,
    "decimal": decimal.Decimal("1.50"),
    "fraction": fractions.Fraction(3, 7),
    "empty text": "",
    "text": "naïve ☃ \U0001f600 \ud800",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"ab"),
    "memoryview": memoryview(b"abc"),
    "list": [1, 2.5, "a", None, [True, b""]],
    "long list": list(range(3000)),
    "list of lists": [[n, str(n)] for n in range(40)],
    "records": [{"id": n, "tags": [str(n)], "at": {"x": n / 7, "y": None}} for n in range(50)],
    "uneven records": [{"id": n} if n % 2 else {"id": n, "odd": True} for n in range(50)],
    "tuple": (1, ("a", ())),
    "long tuple": tuple(range(100)),
    "tuples": [(n, -n) for n in range(64)],
    "dict": {"b": 1, "a": [2], 3: {"c": (4,)}},
    "mixed keys": {None: 1, (1, 2): 2, "a": 3, 1.5: 4, b"": 5},
    "large dict": {f"name {n}": n for n in range(1000)},
    "set": {3, 1, 2},
    "mixed set": {1, "a", None, (1, 2), frozenset({1})},
    "frozenset": frozenset("abc"),
    "range": range(0, 10, 3),
    "slice": slice(1, None, -1),
    "ellipsis": ...,
    "not implemented": NotImplemented,
    "date": dt.date(2024, 2, 29),
    "time": dt.time(1, 2, 3, 4),
    "datetime": dt.datetime(2024, 2, 29, 1, 2, 3, 4),  # noqa: DTZ001
    "datetime in UTC": dt.datetime(2024, 2, 29, 1, 2, tzinfo=UTC),
    "datetime in a zone": dt.datetime(2024, 2, 29, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
    "timedelta": dt.timedelta(days=-1, microseconds=5),
    "timezone": dt.timezone(dt.timedelta(hours=2), "here"),
    "path": pathlib.PurePosixPath("/a/b.txt"),
    "windows path": pathlib.PureWindowsPath("c:/a"),
    "uuid": uuid.UUID(int=7),
    "pattern": re.compile(r"a(b+)", re.IGNORECASE),
    "enum": Colour.GREEN,
    "flag": Access.READ | Access.WRITE,
    "named tuple": Point(1, 2),
    "typed named tuple": Pair(1),
    "dataclass": Job("a", 2, ["t"]),
    "frozen dataclass": Frozen(1.5),
    "slots": Slots(1, [2]),
    "plain": Plain(x=1, y="z"),
    "namespace": types.SimpleNamespace(a=1, b=2),
    "ordered": ordered("a", "bc"),
    "ordered the other way": ordered("bc", "a"),
    "default dict": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("abca"),
    "deque": collections.deque([1, 2], 5),
    "proxy": types.MappingProxyType({"a": 1}),
    "exception": ValueError("bad", 1),
    "getter": operator.itemgetter(1, "a"),
    "builtin": len,
    "builtin of a module": math.sqrt,
    "builtin class": dict,
    "module": math,
    "cyclic": cyclic(),
    "tree": tree(),
}

CODE = {
    "calls helper": calls_helper,
    "recursive": recursive,
    "closure": closes_over(3),
    "lambda": lambda x, y=2: x + y,
    "cached": cached,
    "wrapper": wrapper,
    "partial": functools.partial(helper, x=2),
    "table": reads_table,
    "method": Plain.method,
    "bound method": Plain(x=1).method,
    "class": Plain,
    "dataclass": Job,
    "enum": Colour,
}


def numpy():
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(0))
    grid = np.arange(24, dtype="i4").reshape(2, 3, 4)
    record = np.array([(1, 2.5, b"a")], dtype=[("a", "i2"), ("b", "f8"), ("c", "S3")])
    padded = np.array([(1, 2.5)], dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True))
    return {
        "int32": grid,
        "Fortran": np.asfortranarray(grid),
        "strided": grid[:, ::2, ::-1],
        "zero dimensions": np.array(3.5),
        "empty": np.zeros((0, 3)),
        "bool": np.array([True, False]),
        "big endian": np.arange(3, dtype=">f8"),
        "half": np.arange(3, dtype="f2"),
        "complex": np.array([1 + 2j]),
        "long double": np.arange(5, dtype="longdouble") / 2,
        "text": np.array(["a", "bcd"]),
        "bytes": np.array([b"a"]),
        "times": np.array(["2024-01-01", "NaT"], dtype="M8[ns]"),
        "spans": np.array([1, 2], dtype="m8[s]"),
        "records": record,
        "padded records": padded,
        "objects": np.array([1, "a", None, [2]], dtype=object),
        "masked": np.ma.masked_array([1.0, 2.0], [True, False], fill_value=-1.0),
        "float64": np.float64(1.5),
        "int8": np.int8(1),
        "bool scalar": np.bool_(True),
        "time scalar": np.datetime64("2024-01-01", "D"),
        "dtype": np.dtype("f4"),
        "record dtype": record.dtype,
        "type": np.float32,
        "generator": rng,
        "random state": np.random.RandomState(3),
    }


def pandas():
    import numpy as np
    import pandas as pd

    index = pd.Index([10, 20, 30], name="i")
    days = pd.DatetimeIndex(np.array(["2024-01-01", "2024-01-02", "NaT"], dtype="M8[ns]"))
    frame = pd.DataFrame(
        {
            "int": np.array([1, 2, 3], dtype="i8"),
            "float": [1.0, np.nan, -0.0],
            "text": ["a", "", "naïve"],
            "bool": [True, False, True],
        },
        index=index,
    )
    return {
        "frame": frame,
        "text with a gap": pd.Series(["a", np.nan, "b"]),
        "string": pd.Series(["a", None, "b"], dtype="string"),
        "nullable": pd.Series([1, None, 3], dtype="Int64"),
        "boolean": pd.Series([True, None], dtype="boolean"),
        "category": pd.Series(pd.Categorical(["a", "b", None], categories=["b", "a"])),
        "times": pd.Series(days),
        "zone": days.tz_localize("UTC"),
        "index": index,
        "range index": pd.RangeIndex(0, 10, 2),
        "multi index": pd.MultiIndex.from_tuples([(1, 2), (1, 3)], names=["a", "b"]),
        "mixed": pd.Series([1, "a", None], dtype=object),
        "timestamp": pd.Timestamp("2024-01-01 10:00", tz="UTC"),
        "timedelta": pd.Timedelta(days=1),
        "interval": pd.Interval(1, 2, closed="left"),
        "period": pd.Period("2024-01", "M"),
        "NA": pd.NA,
        "NaT": pd.NaT,
    }


def scipy():
    import numpy as np
    import scipy.sparse as sp

    dense = np.array([[0.0, 1.0], [2.0, 0.0]])
    return {name: getattr(sp, name)(dense) for name in ("csr_matrix", "csc_matrix", "coo_array")}


def polars():
    import polars as pl

    return {
        "frame": pl.DataFrame({"a": [1, 2, None], "b": ["x", "y", None], "c": [0.5, 1.5, 2.5]}),
        "times": pl.Series("t", [dt.datetime(2024, 1, 1)], dtype=pl.Datetime("ns")),  # noqa: DTZ001
    }


def pyarrow():
    import pyarrow as pa

    return {
        "table": pa.table({"a": [1, 2, None], "b": ["x", "y", None], "c": [0.5, 1.5, 2.5]}),
        "chunked": pa.chunked_array([[1, 2], [3]]),
        "times": pa.array([1, None, 3], pa.timestamp("ns")),
        "nested": pa.array([{"a": [1]}, {"a": []}, None]),
    }


PACKAGES = {f.__name__: f for f in (numpy, pandas, scipy, polars, pyarrow)}


def keys(packages: bool = True) -> dict[str, str]:
    """Return the key of every sample that can be made here."""
    from jobspan.keys import call_key, digest, fingerprint

    found = {f"builtins: {name}": digest(value) for name, value in BUILTINS.items()}
    for name, function in CODE.items():
        found[f"code: {name}"] = fingerprint(function).digest
    found["call"] = call_key(calls_helper, (1, 2, 3), {"x": [4], "third": {"x": 1}}).digest
    for name, make in PACKAGES.items():
        if packages and importlib.util.find_spec(name) is not None:
            found |= {f"{name}: {what}": digest(value) for what, value in make().items()}
    return found


if __name__ == "__main__":
    import json
    import sys

    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    import key_samples  # not __main__, which is part of a class's name

    print(json.dumps(key_samples.keys(packages="bare" not in sys.argv)))
