"""Canonical structures for values of the standard library and of the scientific packages.

No package is imported here: a value of its types exists only where somebody has loaded it.
"""

from __future__ import annotations

from functools import cache
from itertools import compress
from operator import not_
from typing import Any

from blake3 import blake3

from jobspan.keys.bulk import kinds_of, packed_integers
from jobspan.keys.canonical import FOREIGN, Encoder, class_name, loaded, tagged, unkeyable

__all__ = ["buffer_digest"]

BLOCK_BYTES = 1 << 24
"""A non-contiguous array is hashed in blocks of about so many bytes, never copied whole."""

THREADED_BYTES = 1 << 21
"""Larger buffers are hashed by several threads, which changes nothing in the digest."""


def buffer_digest(buffer: Any) -> bytes:
    """Return the BLAKE3 digest of a buffer, 32 bytes."""
    view = memoryview(buffer)
    threads = blake3.AUTO if view.nbytes >= THREADED_BYTES else 1
    return blake3(view, max_threads=threads).digest()


# --- the standard library ----------------------------------------------------------------------


def _datetime(encoder: Encoder, value: Any) -> Any | None:
    import datetime as dt

    kind = type(value)
    if kind is dt.datetime:
        naive = value.replace(tzinfo=None, fold=0).isoformat()
        return tagged("datetime", naive, value.fold, encoder.step(".tzinfo", value.tzinfo))
    if kind is dt.time:
        naive = value.replace(tzinfo=None, fold=0).isoformat()
        return tagged("time", naive, value.fold, encoder.step(".tzinfo", value.tzinfo))
    if kind is dt.date:
        return tagged("date", value.isoformat())
    if kind is dt.timedelta:
        return tagged("timedelta", value.days, value.seconds, value.microseconds)
    if kind is dt.timezone:
        return tagged("timezone", encoder.plain(value.utcoffset(None)), value.tzname(None))
    return None


def _zoneinfo(_encoder: Encoder, value: Any) -> Any | None:
    key = getattr(value, "key", None)
    return None if key is None else tagged("zone", key)


def _numbers(_encoder: Encoder, value: Any) -> Any | None:
    name = type(value).__name__
    if name == "Decimal":
        sign, digits, exponent = value.as_tuple()
        return tagged("decimal", sign, tuple(digits), exponent)
    if name == "Fraction":
        return tagged("fraction", value.numerator, value.denominator)
    return None


def _path(_encoder: Encoder, value: Any) -> Any | None:
    if hasattr(value, "as_posix"):
        flavour = "windows" if "Windows" in type(value).__name__ else "posix"
        return tagged("path", flavour, value.as_posix())
    return None


def _uuid(_encoder: Encoder, value: Any) -> Any | None:
    return tagged("uuid", value.int) if type(value).__name__ == "UUID" else None


def _pattern(encoder: Encoder, value: Any) -> Any | None:
    if type(value).__name__ == "Pattern":
        return tagged("pattern", encoder.plain(value.pattern), value.flags)
    return None


def _enum(encoder: Encoder, value: Any) -> Any | None:
    import enum

    if isinstance(value, enum.Enum):
        return tagged("enum", encoder.kind(type(value)), encoder.plain(value.value))
    return None


# --- numpy -------------------------------------------------------------------------------------


def _numpy(encoder: Encoder, value: Any) -> Any | None:
    np = loaded("numpy")
    if isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value)
        return tagged(
            "masked",
            _array(encoder, value.filled()),
            _array(encoder, mask),
            encoder.plain(value.fill_value),
        )
    if isinstance(value, np.ndarray):
        if type(value) in (np.ndarray, np.memmap):
            return _array(encoder, value)
        state = encoder.plain(getattr(value, "__dict__", None))  # a unit, say
        return tagged("array", class_name(type(value)), state, _array(encoder, np.asarray(value)))
    if isinstance(value, np.generic):
        return tagged("scalar", _array(encoder, np.asarray(value)))
    if isinstance(value, np.dtype):
        return tagged("dtype", _dtype(value))
    if isinstance(value, np.random.Generator):
        return tagged("generator", encoder.plain(value.bit_generator.state))
    if isinstance(value, np.random.BitGenerator):
        return tagged("bit generator", encoder.plain(value.state))
    if isinstance(value, np.random.RandomState):
        return tagged("random state", encoder.plain(value.get_state(legacy=False)))
    if isinstance(value, np.ufunc):
        return tagged("ufunc", value.__name__)
    return None


def _dtype(dtype: Any) -> Any:
    """Return a dtype as plain values, the same under every version of numpy."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ("sub", _dtype(base), shape)
    if dtype.names is not None:
        fields = [
            (name, _dtype(dtype.fields[name][0]), dtype.fields[name][1]) for name in dtype.names
        ]
        return ("record", fields, dtype.itemsize)
    if dtype.kind == "T":
        return repr(dtype)  # tells what stands for a missing string
    if dtype.kind == "V" and dtype.type.__module__ != "numpy":
        return (dtype.str, class_name(dtype.type))  # bfloat16 and the like
    return dtype.newbyteorder("<").str  # a pickled array comes back in the machine's order


def _array(encoder: Encoder, array: Any) -> Any:
    """Return an array's structure: dtype, shape, order, and the digest of its elements."""
    np = loaded("numpy")
    dtype, shape = _dtype(array.dtype), array.shape
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    order = "F" if fortran else "C"
    if array.dtype.hasobject:
        items = array.ravel(order=order).tolist()
        return tagged("array", dtype, shape, order, encoder.plain(items))
    if array.dtype.kind == "T":  # variable-width strings live outside the buffer
        return tagged("array", dtype, shape, order, encoder.plain(array.tolist()))
    if array.size == 0:
        return tagged("array", dtype, shape, order, b"")
    if array.dtype.names is not None and _padded(array.dtype):
        fields = [_array(encoder, array[name]) for name in array.dtype.names]
        return tagged("array", dtype, shape, order, fields)
    if array.dtype.char in "gG":
        return tagged("array", dtype, shape, order, _long_doubles(encoder, array))
    if fortran:
        array = array.T
    little = array.dtype.newbyteorder("<")
    if array.flags.c_contiguous and array.dtype == little:
        return tagged("array", dtype, shape, order, buffer_digest(_raw(array)))
    hasher = blake3()
    rows = max(1, BLOCK_BYTES // max(1, array.nbytes // max(1, len(array)))) if array.ndim else 1
    array = np.atleast_1d(array)
    for start in range(0, len(array), rows):
        block = np.ascontiguousarray(array[start : start + rows], dtype=little)
        hasher.update(_raw(block))
    return tagged("array", dtype, shape, order, hasher.digest())


def _raw(array: Any) -> Any:
    """Return the bytes of a contiguous array, not copied."""
    return array.reshape(-1).view("u1")


def _padded(dtype: Any) -> bool:
    """Whether elements have bytes that belong to no field, and so may be anything."""
    if dtype.subdtype is not None:
        return _padded(dtype.subdtype[0])
    if dtype.names is None:
        return dtype.char in "gG"
    fields = [dtype.fields[name][0] for name in dtype.names]
    return sum(each.itemsize for each in fields) != dtype.itemsize or any(map(_padded, fields))


def _long_doubles(encoder: Encoder, array: Any) -> Any:
    """Return long doubles as mantissas in two parts and exponents: their bytes have holes."""
    np = loaded("numpy")
    if array.dtype.char == "G":
        return [_long_doubles(encoder, array.real), _long_doubles(encoder, array.imag)]
    mantissa, exponent = np.frexp(array)
    high = mantissa.astype("f8")
    low = np.where(np.isfinite(mantissa), mantissa - high, 0).astype("f8")
    return [_array(encoder, part) for part in (high, low, np.asarray(exponent).astype("i8"))]


# --- frames ------------------------------------------------------------------------------------


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
            return (str(dtype), _array(encoder, values))
        items = values.tolist()
        if _text_is_object(pd.__version__):
            missing = [type(item) is float and item != item for item in items]
            if {str} == kinds_of(list(compress(items, map(not_, missing)))):
                return ("text", *_text(items, missing))
        return ("object", encoder.plain(items))
    if isinstance(dtype, pd.CategoricalDtype):
        return (
            "category",
            _array(encoder, np.asarray(array.codes, dtype="i8")),
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
        return (str(dtype), _array(encoder, np.asarray(array.asi8)))
    mask = np.asarray(array.isna())
    plain = getattr(dtype, "numpy_dtype", None)
    if plain is not None and plain.kind in "iufb":  # Int64, boolean and the like
        values = array.to_numpy(dtype=plain, na_value=0)
        return (str(dtype), _array(encoder, values), _array(encoder, mask))
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
        return _array(encoder, series.to_numpy())
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


# --- models ------------------------------------------------------------------------------------


def _scipy(encoder: Encoder, value: Any) -> Any | None:
    sparse = loaded("scipy.sparse")
    if sparse is None or not sparse.issparse(value):
        return None
    if value.format in ("csr", "csc", "bsr"):
        parts = [value.data, value.indices, value.indptr]
    elif value.format == "coo":
        parts = (
            [value.data, *value.coords]
            if hasattr(value, "coords")
            else [
                value.data,
                value.row,
                value.col,
            ]
        )
    else:
        coordinates = value.tocoo()
        parts = [coordinates.data, coordinates.row, coordinates.col]
    np = loaded("numpy")
    arrays = [parts[0], *(np.asarray(part, dtype="i8") for part in parts[1:])]
    kind = type(value).__name__  # a matrix or an array, which multiply differently
    return tagged("sparse", kind, value.shape, [_array(encoder, a) for a in arrays])


def _sklearn(encoder: Encoder, value: Any) -> Any | None:
    if not hasattr(value, "get_params") or isinstance(value, type):
        return None
    state = {name: part for name, part in vars(value).items() if name != "_sklearn_version"}
    names = sorted(state)
    parts = [encoder.step(f".{name}", state[name]) for name in names]
    return tagged("estimator", encoder.kind(type(value)), names, parts)


def _torch(_encoder: Encoder, value: Any) -> Any | None:
    torch = loaded("torch")
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided:
            return None
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        kind = class_name(type(value))
        about = (kind, str(value.dtype), tuple(value.shape), value.requires_grad)
        return tagged("tensor", *about, buffer_digest(data))
    if isinstance(value, torch.dtype | torch.device):
        return tagged("torch", str(value))
    return None


def _io(_encoder: Encoder, value: Any) -> Any | None:
    if type(value).__name__ in ("BytesIO", "StringIO"):
        return None  # in memory: by content and position
    if hasattr(value, "fileno") or hasattr(value, "read"):
        raise unkeyable(f"an open file ({type(value).__qualname__}) has no value of its own")
    return None


FOREIGN.update(
    {
        "datetime": _datetime,
        "zoneinfo": _zoneinfo,
        "decimal": _numbers,
        "_decimal": _numbers,
        "fractions": _numbers,
        "pathlib": _path,
        "uuid": _uuid,
        "re": _pattern,
        "enum": _enum,
        "_io": _io,
        "io": _io,
        "numpy": _numpy,
        "pandas": _pandas,
        "polars": _polars,
        "pyarrow": _pyarrow,
        "scipy": _scipy,
        "sklearn": _sklearn,
        "torch": _torch,
    }
)
