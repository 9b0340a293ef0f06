"""Canonical structures for NumPy's values: an array is its dtype, shape, order and a digest.

NumPy is not imported here: a value of its types exists only where somebody has loaded it.
"""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from jobspan.keys.encoding import FOREIGN, Encoder, class_name, loaded, tagged

__all__ = ["buffer_digest", "encode_array"]

BLOCK_BYTES = 1 << 24
"""A non-contiguous array is hashed in blocks of about so many bytes, never copied whole."""

THREADED_BYTES = 1 << 21
"""Larger buffers are hashed by several threads, which changes nothing in the digest."""


def buffer_digest(buffer: Any) -> bytes:
    """Return the BLAKE3 digest of a buffer, 32 bytes."""
    view = memoryview(buffer)
    threads = blake3.AUTO if view.nbytes >= THREADED_BYTES else 1
    return blake3(view, max_threads=threads).digest()


def _numpy(encoder: Encoder, value: Any) -> Any | None:
    np = loaded("numpy")
    if isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value)
        return tagged(
            "masked",
            encode_array(encoder, value.filled()),
            encode_array(encoder, mask),
            encoder.plain(value.fill_value),
        )
    if isinstance(value, np.ndarray):
        if type(value) in (np.ndarray, np.memmap):
            return encode_array(encoder, value)
        state = encoder.plain(getattr(value, "__dict__", None))  # a unit, say
        return tagged(
            "array", class_name(type(value)), state, encode_array(encoder, np.asarray(value))
        )
    if isinstance(value, np.generic):
        return tagged("scalar", encode_array(encoder, np.asarray(value)))
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


def encode_array(encoder: Encoder, array: Any) -> Any:
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
        fields = [encode_array(encoder, array[name]) for name in array.dtype.names]
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
    return [encode_array(encoder, part) for part in (high, low, np.asarray(exponent).astype("i8"))]


FOREIGN["numpy"] = _numpy
