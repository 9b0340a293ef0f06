"""Canonical structures for columns and frames of pandas, polars and Arrow.

None of them is imported here: a value of their types exists only where somebody has loaded it.
"""

from __future__ import annotations

from functools import cache
from itertools import compress
from operator import not_
from typing import Any

from blake3 import blake3

from jobspan.keys.arrays import buffer_digest, encode_array
from jobspan.keys.bulk import kinds_of, packed_integers
from jobspan.keys.encoding import FOREIGN, Encoder, loaded, tagged


def _pandas(encoder: Encoder, value: Any) -> Any | None:
    pd = loaded("pandas")
    if isinstance(value, pd.DataFrame):
        columns = [
            encoder.step(f"[{name!r}]", _column(encoder, value.iloc[:, number].array))
            for number, name in enumerate(value.columns)
        ]
        return tagged(
            "frame",
            encoder.step(".columns", value.columns),
            encoder.step(".index", value.index),
            columns,
            _metadata(encoder, value),
        )
    if isinstance(value, pd.Series):
        return tagged(
            "series",
            encoder.plain(value.name),
            encoder.step(".index", value.index),
            _column(encoder, value.array),
            _metadata(encoder, value),
        )
    if isinstance(value, pd.RangeIndex):
        return tagged(
            "range index",
            value.start,
            value.stop,
            value.step,
            encoder.plain(value.name),
        )
    if isinstance(value, pd.MultiIndex):
        levels = [
            _column(encoder, value.get_level_values(number).array)
            for number in range(value.nlevels)
        ]
        return tagged("multi index", levels, encoder.plain(list(value.names)))
    if isinstance(value, pd.Index):
        return tagged("index", _column(encoder, value.array), encoder.plain(value.name))
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return tagged("column", _column(encoder, value))
    if value is pd.NA:
        return tagged("NA")
    if value is pd.NaT:
        return tagged("NaT")
    if isinstance(value, pd.Timestamp):
        return tagged("timestamp", value.isoformat(), value.fold, encoder.plain(value.tzinfo))
    if isinstance(value, pd.Timedelta):
        return tagged("timedelta64", value.isoformat())
    if isinstance(value, pd.Interval):
        return tagged("interval", encoder.items((value.left, value.right, value.closed)))
    if isinstance(value, pd.Period):
        return tagged("period", value.ordinal, value.freqstr)
    if isinstance(value, pd.api.extensions.ExtensionDtype):
        return tagged("extension dtype", str(value))
    return None


def _metadata(encoder: Encoder, value: Any) -> Any:
    """Return what a frame or series of any class holds besides its data; None: nothing."""
    names = [name for name in type(value)._metadata if name != "_name"]
    if not names and not value.attrs:
        return None
    held = {name: getattr(value, name, None) for name in names if name != "name"}
    return encoder.plain([dict(value.attrs), held])


def _column(encoder: Encoder, array: Any) -> Any:
    """Return a column's structure: text the same however pandas stores it."""
    np, pd = loaded("numpy"), loaded("pandas")
    if type(array).__name__ in ("NumpyExtensionArray", "PandasArray"):
        array = array.to_numpy()  # pandas' own name for a plain array
    dtype = array.dtype
    if isinstance(dtype, np.dtype):
        values = np.asarray(array)
        if dtype.kind != "O":
            return (str(dtype), encode_array(encoder, values))
        items = values.tolist()
        if _text_is_object(pd.__version__):
            missing = [type(item) is float and item != item for item in items]
            if {str} == kinds_of(list(compress(items, map(not_, missing)))):
                return ("text", *_text(items, missing))
        return ("object", encoder.plain(items))
    if isinstance(dtype, pd.CategoricalDtype):
        return (
            "category",
            encode_array(encoder, np.asarray(array.codes, dtype="i8")),
            _column(encoder, array.categories.array),
            bool(array.ordered),
        )
    if isinstance(dtype, pd.StringDtype):
        kind = "text" if dtype.na_value is not pd.NA else "string"
        arrow = array.__arrow_array__() if loaded("pyarrow") else None
        if arrow is not None and "string" in str(arrow.type):
            return (kind, *_arrow_text(arrow))
        items = array.to_numpy(dtype=object, na_value=None).tolist()
        return (kind, *_text(items, [item is None for item in items] if None in items else []))
    if isinstance(dtype, pd.ArrowDtype):
        return (str(dtype), _arrow(encoder, array.__arrow_array__()))
    if hasattr(array, "asi8"):
        return (str(dtype), encode_array(encoder, np.asarray(array.asi8)))
    mask = np.asarray(array.isna())
    plain = getattr(dtype, "numpy_dtype", None)
    if plain is not None and plain.kind in "iufb":  # Int64, boolean and the like
        values = array.to_numpy(dtype=plain, na_value=0)
        return (str(dtype), encode_array(encoder, values), encode_array(encoder, mask))
    items = array.astype(object)
    return (
        str(dtype),
        [None if gone else encoder.plain(item) for item, gone in zip(items, mask, strict=True)],
    )


@cache
def _text_is_object(version: str) -> bool:
    """Whether a column of text is one of objects in a version of pandas: before its third."""
    return int(version.partition(".")[0]) < 3


def _text(items: list[Any], missing: list[bool]) -> tuple[Any, ...]:
    """Return a text column's structure: lengths in characters, all text in UTF-8, what is missing.

    The same as `_arrow_text` gives for the same text.
    """
    if any(missing):
        items = ["" if gone else item for gone, item in zip(missing, items, strict=True)]
    lengths = packed_integers(map(len, items))
    data = "".join(items).encode("utf-8", "surrogatepass")
    gone = bytes(missing) if any(missing) else b""
    return (len(items), buffer_digest(lengths), buffer_digest(data), buffer_digest(gone))


def _arrow_text(column: Any) -> tuple[Any, ...]:
    """Return the structure of a text column that Arrow holds, from its buffers."""
    np, pa = loaded("numpy"), loaded("pyarrow")
    import pyarrow.compute as pc

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    hashers = blake3(), blake3(), blake3()
    missing = any(chunk.null_count for chunk in chunks)
    for chunk in chunks:
        if missing:
            hashers[2].update(np.asarray(pc.is_null(chunk).to_numpy(zero_copy_only=False), "u1"))
            chunk = pc.fill_null(chunk, "")  # noqa: PLW2901 - what lies under a null is unknown
        lengths = pc.utf8_length(chunk).to_numpy(zero_copy_only=False)
        hashers[0].update(lengths.astype("<i8").view("u1"))
        wide = chunk.cast(pa.large_string())
        _, offsets, data = wide.buffers()
        if len(wide) and data is not None:
            edges = np.frombuffer(offsets, "<i8", len(wide) + 1, wide.offset * 8)
            hashers[1].update(memoryview(data)[edges[0] : edges[-1]])
    return (len(column), *(hasher.digest() for hasher in hashers))


def _polars(encoder: Encoder, value: Any) -> Any | None:
    pl = loaded("polars")
    if isinstance(value, pl.DataFrame):
        return tagged("polars", [(s.name, _polars(encoder, s)) for s in value.get_columns()])
    if isinstance(value, pl.Series):
        return tagged("polars series", value.name, str(value.dtype), _polars_items(encoder, value))
    if isinstance(value, pl.LazyFrame):
        return tagged("polars lazy", value.serialize())
    return None


def _polars_items(encoder: Encoder, series: Any) -> Any:
    dtype = series.dtype
    if dtype.is_numeric() and not dtype.is_decimal() and not series.null_count():
        return encode_array(encoder, series.to_numpy())
    # Categories are numbered as they were met; times are finer than Python's.
    if "Categorical" not in str(dtype) and "Enum" not in str(dtype) and not dtype.is_decimal():
        series = series.to_physical()
    return encoder.plain(series.to_list())


def _pyarrow(encoder: Encoder, value: Any) -> Any | None:
    pa = loaded("pyarrow")
    if isinstance(value, pa.Table | pa.RecordBatch):
        columns = [
            (name, _pyarrow(encoder, column))
            for name, column in zip(value.schema.names, value.columns, strict=True)
        ]
        return tagged("arrow table", columns)
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return tagged("arrow", str(value.type), _arrow(encoder, value))
    if isinstance(value, pa.Scalar):
        array = pa.array([value.as_py()] if value.type is None else [value], value.type)
        return tagged("arrow scalar", str(value.type), _arrow(encoder, array))
    if isinstance(value, pa.DataType | pa.Schema | pa.Field):
        return tagged("arrow type", str(value))
    if isinstance(value, pa.Buffer):
        return tagged("arrow buffer", buffer_digest(value))
    return None


def _arrow(encoder: Encoder, column: Any) -> Any:
    """Return the structure of an Arrow array's items, whatever chunks and buffers hold them."""
    np, pa = loaded("numpy"), loaded("pyarrow")
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _arrow(encoder, column.cast(kind.value_type))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _arrow_text(column)
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        # Python's times are coarser.
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
        kind = column.type
    if (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and not column.null_count:
        hasher = blake3()
        for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            values = np.ascontiguousarray(chunk.to_numpy(zero_copy_only=False))
            hasher.update(values.view("u1"))
        return (len(column), hasher.digest())
    if pa.types.is_struct(kind):
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        parts = [_arrow(encoder, whole.field(number)) for number in range(kind.num_fields)]
        return (encoder.plain(whole.is_valid().to_pylist()), parts)
    return encoder.plain(column.to_pylist())


FOREIGN.update({"pandas": _pandas, "polars": _polars, "pyarrow": _pyarrow})
