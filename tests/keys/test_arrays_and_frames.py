"""Arrays, frames and models are keyed by value, and never copied for it."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import key_samples
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from jobspan.keys import digest

PACKAGES = sorted(key_samples.PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_samples_keep_their_key_when_made_anew_copied_and_pickled(package):
    pytest.importorskip(package)
    for name, value in key_samples.PACKAGES[package]().items():
        key = digest(value)
        assert digest(key_samples.PACKAGES[package]()[name]) == key, name
        assert digest(pickle.loads(pickle.dumps(value))) == key, name
        if name != "strided":  # NumPy's copy of it may have the other order
            assert digest(copy.deepcopy(value)) == key, name


@pytest.mark.parametrize("package", PACKAGES)
def test_no_two_samples_share_a_key(package):
    pytest.importorskip(package)
    found = key_samples.PACKAGES[package]()
    assert len({digest(value) for value in found.values()}) == len(found)


@given(
    npst.arrays(
        npst.scalar_dtypes() | npst.array_dtypes(), npst.array_shapes(min_dims=0, max_side=4)
    )
)
@settings(max_examples=150, deadline=None)
def test_an_array_and_its_copies_have_one_key(array):
    key = digest(array)
    assert digest(array.copy(order="A")) == key
    assert digest(pickle.loads(pickle.dumps(array))) == key
    if array.ndim and len(array):
        twice = np.repeat(array, 2, axis=0)
        assert digest(twice[::2]) == digest(np.ascontiguousarray(twice[::2]))


def test_dtype_shape_and_order_are_told_apart():
    square = np.arange(16, dtype="i4").reshape(4, 4)
    near = [
        square,
        np.asfortranarray(square),
        square.T.copy(),
        square.reshape(2, 8),
        square.ravel(),
        square[np.newaxis],
        *(square.astype(kind) for kind in ("i8", "u4", "f4", "f8", "O", "c8", "S2", "U2")),
        square.view("f4"),
        square.view([("a", "i4")]),
        square.view([("b", "i4")]),
        square.view([("a", "i4")]).view(np.recarray),
        square.tolist(),
        square.tobytes(),
        np.ma.masked_array(square, square < 3),
        np.ma.masked_array(square, square < 0),
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.zeros(0),
        np.float64(1.0),
        np.float32(1.0),
        np.array(1.0),
        np.array([1.0]),
        1.0,
        np.array(["a"]),
        np.array(["a"], dtype="U2"),
        np.array([0, 1], "M8[s]"),
        np.array([0, 1], "M8[ms]"),
    ]
    assert len({digest(array) for array in near}) == len(near)


def test_byte_order_does_not_count_for_a_pickled_array_may_lose_it():
    array = np.arange(6, dtype="i4").reshape(2, 3)
    assert digest(array.astype(">i4")) == digest(array.astype("<i4"))
    record = np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")])
    assert digest(record.astype(record.dtype.newbyteorder(">"))) == digest(record)


def test_what_lies_between_fields_does_not_count():
    aligned = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    one, other = np.empty(3, aligned), np.empty(3, aligned)
    one.view("u1")[:], other.view("u1")[:] = 0, 255
    for array in (one, other):
        array["a"], array["b"] = [1, 2, 3], [0.5, 1.5, 2.5]
    assert one.tobytes() != other.tobytes()
    assert digest(one) == digest(other)
    other["b"][1] = 9
    assert digest(one) != digest(other)


def test_what_lies_under_a_mask_does_not_count():
    mask = [False, True]
    assert digest(np.ma.masked_array([1, 2], mask)) == digest(np.ma.masked_array([1, 3], mask))


class Quantity(np.ndarray):
    pass


def test_state_of_a_kind_of_array_counts():
    metres, kilometres = np.arange(3).view(Quantity), np.arange(3).view(Quantity)
    metres.unit, kilometres.unit = "m", "km"
    assert digest(metres) != digest(kilometres)
    assert digest(metres) != digest(np.arange(3))


def test_a_memory_map_equals_its_array(tmp_path):
    array = np.random.default_rng(0).random((30, 40))
    np.save(tmp_path / "a.npy", array)
    assert digest(np.load(tmp_path / "a.npy", mmap_mode="r")) == digest(array)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_contiguous_array_is_not_copied(order):
    array = np.zeros((2000, 5000), order=order)  # 80 MB
    digest(array[:10])
    assert most_memory(array) < 1 << 20


def test_a_strided_array_is_hashed_in_blocks():
    array = np.zeros((4000, 5000))[:, ::2]
    digest(array[:10])
    assert most_memory(array) < 40 << 20
    assert digest(array) == digest(np.ascontiguousarray(array))


def most_memory(array) -> int:
    tracemalloc.start()
    try:
        digest(array)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_random_generators_are_keyed_by_their_state():
    one, other = np.random.default_rng(1), np.random.default_rng(1)
    assert digest(one) == digest(other)
    one.random()
    assert digest(one) != digest(other)


# --- frames ------------------------------------------------------------------------------------

columns = st.sampled_from(
    [
        [1, 2, 3],
        [1.0, 2.0, np.nan],
        ["a", "b", "c"],
        ["a", "bc", ""],
        ["ab", "c", ""],
        [True, False, True],
        [b"a", b"b", b"c"],
        [None, "a", 1],
    ]
)


@given(st.lists(columns, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_frame_is_keyed_by_value_however_it_is_laid_out(parts):
    frame = pd.DataFrame({f"c{number}": part for number, part in enumerate(parts)})
    grown = pd.DataFrame(index=frame.index)
    for name in frame.columns:  # one block a column
        grown[name] = frame[name].copy()
    twice = pd.concat([frame, frame]).iloc[: len(frame)]
    key = digest(frame)
    assert digest(grown) == key
    assert digest(frame.copy()) == key
    assert digest(pickle.loads(pickle.dumps(frame))) == key
    assert digest(twice) == digest(twice.copy())


def test_near_misses_of_frames_are_told_apart():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    with_note = frame.copy()
    with_note.attrs["unit"] = "m"
    near = [
        frame,
        frame[["b", "a"]],
        frame.rename(columns={"a": "c"}),
        frame.set_index("a"),
        frame.set_axis([0, 2]),
        frame.rename_axis("i"),
        frame.astype({"a": "i4"}),
        frame.astype({"a": "Int64"}),
        frame.astype({"a": "float"}),
        frame.astype({"b": "string"}),
        frame.astype({"b": "category"}),
        frame.iloc[::-1],
        frame.iloc[:1],
        frame["a"],
        frame["b"],
        frame["a"].rename("c"),
        with_note,
        frame.to_dict(),
        pd.DataFrame({"a": [1, 2], "b": ["xy", ""]}),
        pd.DataFrame({"a": [1, 2], "b": ["", "xy"]}),
        pd.DataFrame({"a": [1, 2], "b": ["x", np.nan]}),
        pd.DataFrame({"a": [1, 2], "b": pd.Series([None, "y"], dtype="string")}),
        pd.DataFrame({"a": [1, 2], "b": pd.Series([None, "y"], dtype=object)}),
        pd.DataFrame({"a": [1, 2], "b": pd.Series([np.nan, "y"], dtype="category")}),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1, 0], dtype="Int64"),
        pd.Series(pd.to_datetime(["2024-01-01 00:00:00.000000001"])),
        pd.Series(pd.to_datetime(["2024-01-01 00:00:00.000000002"])),
        pd.Series(pd.to_datetime(["2024-01-01"]).tz_localize("UTC")),
    ]
    if int(pd.__version__.partition(".")[0]) >= 3:
        near.append(frame.astype({"b": object}))
    assert len({digest(each) for each in near}) == len(near)


def test_text_has_one_key_however_pandas_stores_it():
    items = ["a", "naïve", "", "\U0001f600"]
    for dtype in ("string[python]", "string[pyarrow]"):
        assert digest(pd.Series([*items, None], dtype=dtype)) == digest(
            pd.Series([*items, None], dtype="string")
        )
    sliced = pd.Series(["x", *items], dtype="string[pyarrow]").iloc[1:].reset_index(drop=True)
    assert digest(sliced) == digest(pd.Series(items, dtype="string[python]"))


def test_nanoseconds_count_in_polars_and_arrow():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    one, other = ([0], [1])
    for make in (
        lambda items: pl.Series(items, dtype=pl.Int64).cast(pl.Datetime("ns")),
        lambda items: pl.DataFrame({"a": pl.Series(items, dtype=pl.Int64).cast(pl.Time)}),
        lambda items: pa.array(items, pa.timestamp("ns")),
        lambda items: pa.table({"a": pa.array(items, pa.duration("ns"))}),
    ):
        assert digest(make(one)) == digest(make(one)) != digest(make(other))


def test_chunks_of_an_arrow_column_do_not_count():
    pa = pytest.importorskip("pyarrow")
    for items in ([1, 2, 3], ["a", None, "b"], [0.5, None, 1.5], [[1], [], None]):
        whole = pa.chunked_array([pa.array(items)])
        parts = pa.chunked_array([pa.array(items[:1], whole.type), pa.array(items[1:], whole.type)])
        assert digest(parts) == digest(whole)


def test_what_lies_under_a_null_does_not_count():
    pa = pytest.importorskip("pyarrow")
    offsets = pa.py_buffer(np.array([0, 1, 4, 5], "i4").tobytes())
    valid = pa.py_buffer(bytes([0b101]))
    hidden = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"axyzb"), valid)
    assert hidden.to_pylist() == ["a", None, "b"]
    assert digest(hidden) == digest(pa.array(["a", None, "b"]))
    assert digest(hidden) != digest(pa.array(["a", "", "b"]))


# --- models ------------------------------------------------------------------------------------


def test_sparse_matrices_and_arrays_are_told_apart():
    sp = pytest.importorskip("scipy.sparse")
    dense = np.array([[0.0, 1.0], [2.0, 0.0]])
    kinds = [
        sp.csr_matrix,
        sp.csr_array,
        sp.csc_matrix,
        sp.coo_matrix,
        sp.lil_matrix,
        sp.dok_matrix,
    ]
    assert len({digest(kind(dense)) for kind in kinds}) == len(kinds)
    assert digest(sp.csr_matrix(dense)) != digest(sp.csr_matrix(dense + 1))


def test_estimators_are_keyed_by_parameters_and_fitted_state():
    pytest.importorskip("sklearn")
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x, y = rng.random((40, 3)), np.arange(40) % 2
    for make in (
        lambda **given: make_pipeline(StandardScaler(), LogisticRegression(**given)),
        lambda **given: RandomForestClassifier(5, random_state=0, **given),
    ):
        blank, fitted = make(), make().fit(x, y)
        assert digest(blank) == digest(make())
        assert digest(fitted) == digest(make().fit(x, y))
        assert digest(fitted) == digest(pickle.loads(pickle.dumps(fitted)))
        assert len({digest(blank), digest(fitted), digest(make().fit(x + y[:, None], y))}) == 3
    assert digest(LogisticRegression(C=1.0)) != digest(LogisticRegression(C=2.0))


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6).reshape(2, 3)
    near = [tensor, tensor.T, tensor.float(), tensor.bfloat16(), tensor.bool(), tensor[0, 0]]
    assert len({digest(each) for each in near}) == len(near)
    assert digest(tensor.clone()) == digest(tensor)


def test_keys_of_packages_are_the_same_in_another_process():
    source = (
        "import key_samples as s; from jobspan.keys import digest;"
        "print([digest(v) for p in (s.numpy, s.pandas) for v in p().values()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=Path(key_samples.__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    here = [
        digest(value)
        for make in (key_samples.numpy, key_samples.pandas)
        for value in make().values()
    ]
    assert done.stdout.strip() == str(here)
