"""Codecs whose formats hold data only: reading them can run no code."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

from jobspan.codecs.arrow import ArrowCodec
from jobspan.codecs.values import Part
from jobspan.errors import CodecError

__all__ = ["JsonCodec", "NpyCodec", "choose_safe"]


class JsonCodec:
    """None, booleans, numbers, text, lists, and dictionaries with text for keys."""

    name = "json"
    safe = True

    def encode(self, value: Any) -> list[Part]:
        """Return the text, if reading it gives the same value."""
        if not _is_json(value):
            raise CodecError(f"{type(value).__qualname__} cannot be stored as JSON")
        return [json.dumps(value, separators=(",", ":")).encode()]

    def decode(self, parts: Sequence[Part]) -> Any:
        """Return the value."""
        return json.loads(bytes(parts[0]))


def _is_json(value: Any) -> bool:
    kind = type(value)
    if kind in (type(None), bool, int, float, str):
        return True
    if kind is list:
        return all(map(_is_json, value))
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(_is_json, value.values()))
    return False


class NpyCodec:
    """numpy arrays and numbers without objects, in numpy's own format."""

    name = "npy"
    safe = True

    def encode(self, value: Any) -> list[Part]:
        """Return the header of the file, the array's bytes, and a mark for a lone number."""
        import numpy as np

        is_number = isinstance(value, np.generic)
        if not (is_number or type(value) is np.ndarray) or value.dtype.hasobject:
            raise CodecError(f"{type(value).__qualname__} cannot be stored as npy")
        array = np.asarray(value)
        contiguous = array if array.flags.forc else np.ascontiguousarray(array)
        file = io.BytesIO()
        np.lib.format.write_array_header_2_0(
            file, np.lib.format.header_data_from_array_1_0(contiguous)
        )
        flat = contiguous.ravel(order="K").view(np.uint8).data if contiguous.nbytes else b""
        return [file.getvalue(), flat, *([b"number"] if is_number else [])]

    def decode(self, parts: Sequence[Part]) -> Any:
        """Return the array, on the bytes as they are, or the number."""
        import numpy as np

        file = io.BytesIO(bytes(parts[0]))
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        if dtype.hasobject or not dtype.itemsize:
            raise CodecError("an array of objects, or of nothing, cannot be read as npy")
        array = np.ndarray(shape, dtype, parts[1], order="F" if fortran else "C")
        return array[()] if len(parts) == 3 else array


def choose_safe(value: Any) -> JsonCodec | NpyCodec | ArrowCodec:
    """Return the codec without code that fits a value's type.

    Raises
    ------
    CodecError
        If none does.
    """
    module, name = type(value).__module__.partition(".")[0], type(value).__name__
    if module == "numpy" and hasattr(value, "dtype") and not value.dtype.hasobject:
        return NpyCodec()
    if (module, name) in _FRAMES:
        return ArrowCodec()
    if _is_json(value):
        return JsonCodec()
    raise CodecError(
        f"with safe=True only numbers, text, lists and dictionaries of them, numpy arrays and "
        f"frames can be stored, not {type(value).__qualname__}"
    )


_FRAMES = {("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table")}
