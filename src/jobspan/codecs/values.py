"""Values as a payload with buffers out of band, and back."""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jobspan.errors import CodecError
from jobspan.registry import Registry

__all__ = ["CODECS", "Codec", "Part", "PickleCodec", "register_codec"]

LONGEST_NAME = 32
"""Bytes that an entry's header has for a codec's name."""

_METHODS = ("encode", "decode", "name", "safe")

Part = bytes | bytearray | memoryview
"""The payload of an entry, or one of its buffers."""


class Codec(Protocol):
    """Writes values of some types as bytes, and reads them again."""

    @property
    def name(self) -> str:
        """What entries name it by."""
        ...

    @property
    def safe(self) -> bool:
        """Whether reading can run no code."""
        ...

    def encode(self, value: Any) -> list[Part]:
        """Return the payload and its buffers.

        Raises
        ------
        CodecError
            If the codec cannot write the value.
        """
        ...

    def decode(self, parts: Sequence[Part]) -> Any:
        """Return the value; buffers may be used as they are, without a copy."""
        ...


class PickleCodec:
    """Any value that cloudpickle takes, large buffers out of band."""

    name = "pickle"
    safe = False

    def encode(self, value: Any) -> list[Part]:
        """Return the pickle of protocol 5 and its buffers."""
        buffers: list[pickle.PickleBuffer] = []
        try:
            try:
                payload = _dumps(value, buffers)
            except (pickle.PicklingError, AttributeError, TypeError):
                import cloudpickle

                buffers.clear()
                payload = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        except Exception as error:
            raise CodecError(f"{type(value).__qualname__} cannot be stored: {error}") from error
        return [payload, *(buffer.raw() for buffer in buffers)]

    def decode(self, parts: Sequence[Part]) -> Any:
        """Return the value."""
        return pickle.loads(parts[0], buffers=parts[1:])


def _dumps(value: Any, buffers: list[pickle.PickleBuffer]) -> bytes:
    if "polars" not in sys.modules:
        return pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=5, buffer_callback=buffers.append)
    pickler.dispatch_table = _with_polars(sys.modules["polars"])
    pickler.dump(value)
    return file.getvalue()


def _with_polars(polars: Any) -> Mapping[type, Any]:
    """Return how polars' frames are pickled: as Arrow data, whose buffers can be mapped.

    polars itself pickles them as one block of bytes, which is copied when it is read.
    """
    table: dict[type, Any] = {polars.DataFrame: _reduce_polars, polars.Series: _reduce_polars}
    return ChainMap(table, copyreg.dispatch_table)


def _reduce_polars(value: Any) -> Any:
    try:
        newest = sys.modules["polars"].CompatLevel.newest()  # older layouts of text mean a copy
        return _from_arrow, (value.to_arrow(compat_level=newest), getattr(value, "name", None))
    except Exception:  # noqa: BLE001 - pyarrow is missing, or has no such type
        return value.__reduce_ex__(5)


def _from_arrow(data: Any, name: str | None) -> Any:
    import polars as pl

    found: Any = pl.from_arrow(data)
    return found if name is None else found.rename(name)


CODECS: Registry[type[Codec]] = Registry("codec")
CODECS.register("pickle", PickleCodec)
CODECS.register("json", "jobspan.codecs.plain:JsonCodec")
CODECS.register("npy", "jobspan.codecs.plain:NpyCodec")
CODECS.register("arrow", "jobspan.codecs.arrow:ArrowCodec")


def register_codec(name: str, codec: type[Codec] | str) -> None:
    """Register a codec under the name that entries have in their headers.

    Parameters
    ----------
    name : str
        The name, which must stay the same for as long as entries are kept.
    codec : class or str
        A class with the methods of `Codec`, or ``"module:class"``.

    Raises
    ------
    ValueError, TypeError
        If that cannot be a codec, or its name.

    Examples
    --------
    >>> from jobspan import Memory, register_codec
    >>> class Utf8:
    ...     name, safe = "utf8", True
    ...     def encode(self, value):
    ...         return [value.encode()]
    ...     def decode(self, parts):
    ...         return bytes(parts[0]).decode()
    >>> register_codec("utf8", Utf8)
    >>> shout = Memory("memory://codecs", codec="utf8", verbose=0).cache(str.upper)
    >>> shout("hey"), shout("hey")
    ('HEY', 'HEY')
    """
    if not 0 < len(name.encode()) <= LONGEST_NAME:
        raise ValueError(
            f"register_codec({name!r}, …): pass a name of 1 to {LONGEST_NAME} bytes, which entries "
            "have in their headers"
        )
    if not isinstance(codec, str) and not all(hasattr(codec, each) for each in _METHODS):
        raise TypeError(
            f"register_codec({name!r}, {codec!r}): pass a class with {', '.join(_METHODS)}, or "
            "where it is found, as 'module:class'"
        )
    CODECS.register(name, codec)
