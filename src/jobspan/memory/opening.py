"""From what users pass to ``Memory`` to a cache: read, checked, refused with what to type next."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from numbers import Integral, Real
from typing import Any, cast

from jobspan.codecs.arrow import ArrowCodec
from jobspan.codecs.compression import read_compress
from jobspan.codecs.signing import read_sign_key
from jobspan.codecs.values import CODECS, Codec
from jobspan.errors import CodecError, StoreLocationError
from jobspan.memory.format import EntryFormat
from jobspan.memory.joblib_store import JoblibStyleStore, open_registered
from jobspan.memory.recall import Cache
from jobspan.memory.single_flight import Flight
from jobspan.store import ObjectStore, open_store
from jobspan.store.local import LocalStore

__all__ = [
    "open_cache",
    "read_bytes",
    "read_depends",
    "read_expires",
    "read_flight",
    "read_ignore",
    "read_items",
    "read_validation",
    "read_verbose",
    "read_version",
]

_MMAP_MODES = (None, "r", "r+", "w+", "c")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def open_cache(
    location: Any,
    *,
    backend: str = "local",
    mmap_mode: str | None = None,
    compress: Any = False,
    options: Mapping[str, Any] | None = None,
    local_tier: str | os.PathLike[str] | None = None,
    mode: str = "rw",
    sign_key: Any = None,
    safe: bool = False,
    codec: str | Codec | None = None,
) -> Cache | None:
    """Return the cache that a memory's arguments describe; None where nothing is stored.

    Parameters
    ----------
    location, backend, mmap_mode, compress, local_tier, mode, sign_key, safe, codec
        As for :class:`jobspan.Memory`.
    options : mapping or None
        Options of the store.
    """
    read_mmap_mode(mmap_mode)
    _read_switch("safe", safe)
    if mode not in ("rw", "ro"):
        raise ValueError(f"mode={mode!r}: pass 'rw' to read and store, or 'ro' to read only")
    compression = read_compress(compress)
    if compression[0] and mmap_mode is not None:
        warnings.warn("Compressed results cannot be memmapped", stacklevel=4)
    by_type = codec == "auto"
    chosen = None if by_type else read_codec(codec, safe=safe)
    signer = read_sign_key(sign_key)
    entry_format = EntryFormat(chosen, compression, signer, safe, by_type)
    if location is None:
        return None
    store = _open_location(location, backend, options or {})
    # Who can only verify would write what others refuse, over what they accept.
    writable = mode == "rw" and (signer is None or signer.can_sign)
    if writable and isinstance(store, LocalStore):
        store.keep_out_of_git()
    tier = None if local_tier is None else _open_tier(local_tier)
    return Cache(store, tier, entry_format, writable, mmap_mode, deletes=mode == "rw")


def _open_location(location: Any, backend: str, options: Mapping[str, Any]) -> ObjectStore:
    # Not asked with isinstance, which looks at properties before Python 3.12: one asks the bucket.
    if all(hasattr(type(location), name) for name in ("get", "put", "create", "swap", "delete")):
        store: ObjectStore = location
        return store
    if hasattr(location, "_open_item") and hasattr(location, "_item_exists"):
        return JoblibStyleStore(location, os.fspath(location.location))
    if not isinstance(location, str | os.PathLike):
        raise TypeError(
            f"location={location!r}: pass a folder, a URL such as 's3://bucket/prefix', an object "
            "store, or None to store nothing"
        )
    if backend != "local":
        return open_registered(backend, location, options)
    return open_store(location, storage_options=options)


def _open_tier(local_tier: str | os.PathLike[str]) -> ObjectStore:
    if not isinstance(local_tier, str | os.PathLike):
        raise TypeError(
            f"local_tier={local_tier!r}: pass the path of a folder, such as '~/.cache/jobspan'"
        )
    path = os.path.expanduser(os.fspath(local_tier))  # noqa: PTH111 - text
    if "://" in path and not path.startswith("file://"):
        raise StoreLocationError(
            f"local_tier={local_tier!r} is no folder of this machine; pass a path, such as "
            "'~/.cache/jobspan'"
        )
    return open_store(path)


def read_mmap_mode(mmap_mode: Any) -> str | None:
    """Return how arrays are mapped, if it is a way that there is."""
    if mmap_mode not in _MMAP_MODES:
        raise ValueError(f"mmap_mode={mmap_mode!r}: pass one of {_MMAP_MODES}")
    chosen: str | None = mmap_mode
    return chosen


def read_codec(codec: str | Codec | None, *, safe: bool) -> Codec | None:
    """Return the codec of that name, if its packages are installed and `safe` allows it."""
    if codec is None:
        return None
    if isinstance(codec, str):
        if codec not in CODECS:
            known = ["auto", *CODECS]
            raise CodecError(f"codec={codec!r} is not known; pass one of {known}")
        codec = CODECS.load(codec)()
        if isinstance(codec, ArrowCodec):
            codec.check()
    for method in ("encode", "decode", "name", "safe"):
        if not hasattr(codec, method):
            raise CodecError(
                f"codec={codec!r} has no {method!r}; pass one of {sorted(CODECS)}, or an object "
                "as described for register_codec"
            )
    if safe and not codec.safe:
        raise CodecError(f"codec={codec.name!r} can run code when it reads; leave safe=True out")
    return codec


def read_flight(single: Any, lease_seconds: Any, patience_seconds: Any) -> Flight:
    """Return the settings of single flight."""
    _read_switch("single_flight", single)
    for name, value, low in (
        ("lease_seconds", lease_seconds, 1.0),
        ("patience_seconds", patience_seconds, 0.0),
    ):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= low:
            raise ValueError(f"{name}={value!r}: pass seconds, a number not below {low:g}")
    return Flight(single, float(lease_seconds), float(patience_seconds))


def _read_switch(name: str, value: Any) -> None:
    # "no" would be taken for yes.
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r}: pass True or False")


def read_verbose(value: Any) -> int:
    """Return how much is printed."""
    if not isinstance(value, Real):
        raise ValueError(
            f"verbose={value!r}: pass a number: 0 for no lines, 1 for what is computed"
        )
    return cast("int", value)


def read_ignore(value: Any) -> list[str]:
    """Return the names of arguments to leave out of keys."""
    if isinstance(value, Iterable | None) and not isinstance(value, str):
        names = list(value or ())
        if all(isinstance(name, str) for name in names):
            return names
    raise ValueError(f"ignore={value!r}: pass the names of arguments in a list, such as ['x']")


def read_depends(value: Any) -> tuple[Any, ...]:
    """Return what results depend on besides."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"depends={value!r}: pass what results depend on in a list: [{value!r}]")
    return tuple(value)


def read_version(value: Any) -> str | int | None:
    """Return what stands for a function's code, if it is the same in every process."""
    if value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"version={value!r}: pass text or a number, such as '2024-06'")
    return cast("str | int | None", value)


def read_validation(value: Any) -> Callable[[Mapping[str, Any]], bool] | None:
    """Return what says of an entry whether it is still good."""
    if value is not None and not callable(value):
        raise ValueError(f"cache_validation_callback needs to be callable. Got {value}.")
    return cast("Callable[[Mapping[str, Any]], bool] | None", value)


def read_expires(expires: Any) -> float | None:
    """Return for how many seconds results are good, or None for ever."""
    if expires is None:
        return None
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise ValueError(
            f"expires={expires!r}: pass a number of seconds above 0, or a datetime.timedelta"
        )
    return float(seconds)


def read_bytes(value: Any) -> int | None:
    """Return a number of bytes, given as such or as text such as ``"10G"``.

    Examples
    --------
    >>> read_bytes("1.5K")
    1536
    """
    if value is None:
        return None
    size = -1.0
    if isinstance(value, str):
        with suppress(KeyError, ValueError):
            size = float(value[:-1]) * _UNITS[value[-1:].upper()]
    elif not isinstance(value, bool) and isinstance(value, Real):
        size = float(value)
    if not 0 <= size < float("inf"):
        raise ValueError(f"bytes_limit={value!r} is no size; pass bytes, or text such as '10G'")
    return int(size)


def read_items(value: Any) -> int | None:
    """Return a number of results."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 0:
        raise ValueError(f"items_limit={value!r}: pass how many results may stay, 0 or more")
    return int(value)
