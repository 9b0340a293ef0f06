"""Canonical structures for values of the standard library and of the scientific packages.

No package is imported here: a value of its types exists only where somebody has loaded it.
"""

from __future__ import annotations

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
        return tagged("enum", class_name(type(value)), encoder.plain(value.value))
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
        return tagged("array", class_name(type(value)), _array(encoder, np.asarray(value)))
    if isinstance(value, np.generic):
        if value.dtype.hasobject:
            return tagged("scalar", "object", encoder.plain(value.item()))
        return tagged("scalar", _dtype(value.dtype), value.tobytes())
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
    return dtype.newbyteorder("<").str if dtype.byteorder == "=" else dtype.str


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
    if fortran:
        array = array.T
    if array.flags.c_contiguous:
        data = array.reshape(-1).view(np.uint8)
        return tagged("array", dtype, shape, order, buffer_digest(data))
    hasher = blake3()
    rows = max(1, BLOCK_BYTES // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), rows):
        block = np.ascontiguousarray(array[start : start + rows])
        hasher.update(block.reshape(-1).view(np.uint8))
    return tagged("array", dtype, shape, order, hasher.digest())


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
        )
    if isinstance(value, pd.Series):
        return tagged(
            "series",
            encoder.plain(value.name),
            encoder.step(".index", value.index),
            _column(encoder, value.array),
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
        return tagged("timestamp", value.isoformat(), encoder.plain(value.tzinfo))
    if isinstance(value, pd.Timedelta):
        return tagged("timedelta64", value.isoformat())
    if isinstance(value, pd.Interval):
        return tagged("interval", encoder.items((value.left, value.right, value.closed)))
    if isinstance(value, pd.Period):
        return tagged("period", value.ordinal, value.freqstr)
    if isinstance(value, pd.api.extensions.ExtensionDtype):
        return tagged("extension dtype", str(value))
    return None


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
        kinds = kinds_of(items)
        if kinds <= {str, type(None), float} and str in kinds:
            others = [] if len(kinds) == 1 else [item for item in items if type(item) is not str]
            if all(item is None or item != item for item in others):
                return _text(items, [type(item) is not str for item in items] if others else [])
        return ("object", encoder.plain(items))
    if isinstance(dtype, pd.CategoricalDtype):
        return (
            "category",
            _array(encoder, np.asarray(array.codes, dtype="i8")),
            _column(encoder, array.categories.array),
            bool(array.ordered),
        )
    if isinstance(dtype, pd.StringDtype):
        arrow = array.__arrow_array__() if hasattr(array, "__arrow_array__") else None
        if arrow is not None and "string" in str(arrow.type):
            return _arrow_text(arrow)
        items = array.to_numpy(dtype=object, na_value=None).tolist()
        return _text(items, [item is None for item in items] if None in items else [])
    if hasattr(array, "asi8"):
        return (str(dtype), _array(encoder, np.asarray(array.asi8)))
    mask = array.isna()
    items = array.astype(object)
    return (
        str(dtype),
        [None if gone else encoder.plain(item) for item, gone in zip(items, mask, strict=True)],
    )


def _text(items: list[Any], missing: list[bool]) -> Any:
    """Return a text column's structure: lengths in characters, all text in UTF-8, what is missing.

    The same as `_arrow_text` gives for the same text.
    """
    if any(missing):
        items = ["" if gone else item for gone, item in zip(missing, items, strict=True)]
    lengths = packed_integers(map(len, items))
    data = "".join(items).encode("utf-8", "surrogatepass")
    gone = bytes(missing) if any(missing) else b""
    return ("text", len(items), buffer_digest(lengths), buffer_digest(data), buffer_digest(gone))


def _arrow_text(column: Any) -> Any:
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
    return ("text", len(column), *(hasher.digest() for hasher in hashers))


def _polars(encoder: Encoder, value: Any) -> Any | None:
    pl = loaded("polars")
    if isinstance(value, pl.DataFrame):
        return tagged("polars", [(s.name, _polars(encoder, s)) for s in value.get_columns()])
    if isinstance(value, pl.Series):
        return tagged("polars series", value.name, str(value.dtype), encoder.plain(value.to_list()))
    if isinstance(value, pl.LazyFrame):
        return tagged("polars lazy", value.serialize())
    return None


def _pyarrow(encoder: Encoder, value: Any) -> Any | None:
    pa = loaded("pyarrow")
    if isinstance(value, pa.Table | pa.RecordBatch):
        columns = [
            (name, _pyarrow(encoder, column))
            for name, column in zip(value.schema.names, value.columns, strict=True)
        ]
        return tagged("arrow table", columns)
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return tagged("arrow", str(value.type), encoder.plain(value.to_pylist()))
    if isinstance(value, pa.Scalar):
        return tagged("arrow scalar", str(value.type), encoder.plain(value.as_py()))
    if isinstance(value, pa.DataType | pa.Schema | pa.Field):
        return tagged("arrow type", str(value))
    if isinstance(value, pa.Buffer):
        return tagged("arrow buffer", buffer_digest(value))
    return None


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
    return tagged("sparse", value.format, value.shape, [_array(encoder, a) for a in arrays])


def _sklearn(encoder: Encoder, value: Any) -> Any | None:
    if not hasattr(value, "get_params") or isinstance(value, type):
        return None
    state = {name: part for name, part in vars(value).items() if name != "_sklearn_version"}
    names = sorted(state)
    parts = [encoder.step(f".{name}", state[name]) for name in names]
    return tagged("estimator", class_name(type(value)), names, parts)


def _torch(encoder: Encoder, value: Any) -> Any | None:
    torch = loaded("torch")
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().numpy()
        return tagged("tensor", str(value.dtype), value.requires_grad, _array(encoder, array))
    if isinstance(value, torch.dtype | torch.device):
        return tagged("torch", str(value))
    return None


def _io(_encoder: Encoder, value: Any) -> Any | None:
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
