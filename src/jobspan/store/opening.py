"""From a location to a store: which class serves which URL."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jobspan.errors import StoreLocationError
from jobspan.registry import Registry
from jobspan.store.connecting import BUCKETS, Engine, connect
from jobspan.store.generic import GenericStore
from jobspan.store.local import LocalStore
from jobspan.store.locations import Location, parse_location
from jobspan.store.memory import MemoryStore
from jobspan.store.protocol import ObjectStore
from jobspan.store.remote import RemoteStore

__all__ = ["open_store", "register_store"]

StoreFactory = Callable[[Location, Mapping[str, Any]], ObjectStore]

_FACTORIES: Registry[StoreFactory] = Registry("store")


def register_store(scheme: str, factory: StoreFactory | str) -> None:
    """Let URLs of a scheme be served by a store of your own.

    Parameters
    ----------
    scheme : str
        The URL's scheme, such as ``"redis"``.
    factory : callable or str
        Takes a :class:`~jobspan.store.locations.Location` and the storage options, and returns an
        :class:`~jobspan.store.ObjectStore`; or where it is found, as ``"module:attribute"``.

    Examples
    --------
    >>> from jobspan.store.memory import MemoryStore
    >>> register_store("scratch", lambda location, options: MemoryStore(location.bucket))
    >>> open_store("scratch://here").url
    'memory://here'
    """
    _FACTORIES.register(scheme.lower(), factory)


def open_store(
    location: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    engine: Engine = "auto",
) -> ObjectStore:
    """Open the object store at a location.

    Parameters
    ----------
    location : str or path-like
        A folder, or a URL that fsspec knows: ``file://``, ``memory://``, ``s3://bucket/prefix``,
        ``gs://``, ``az://``, ...
    storage_options : mapping, optional
        What fsspec's file system for that URL takes: credentials, an endpoint. They are kept out
        of every message.
    engine : {"auto", "fsspec", "obstore"}, default "auto"
        Which library speaks to a bucket. ``"auto"`` takes obstore where it is installed and all
        storage options can be translated for it.

    Returns
    -------
    ObjectStore

    Raises
    ------
    StoreLocationError
        If the location is a file, or of an unknown scheme, or a bucket that does not exist, or the
        credentials are wrong.
    StoreUnavailableError
        If nobody answers there.
    MissingExtraError
        If the package for that URL is not installed.

    Examples
    --------
    >>> store = open_store("memory://quick-start")
    >>> token = store.put("greeting", b"hello")
    >>> store.get("greeting")[0]
    b'hello'
    """
    if engine not in {"auto", "fsspec", "obstore"}:
        raise ValueError(f"engine={engine!r} is unknown. Pass 'auto', 'fsspec' or 'obstore'")
    if not isinstance(storage_options, Mapping | None):
        raise TypeError(
            f"storage_options is a {type(storage_options).__name__}; pass a dict, such as "
            "{'key': ..., 'secret': ...}"
        )
    options = dict(storage_options or {})
    parsed = parse_location(location)
    if parsed.scheme == "file":
        _refuse_lost_slash(parsed.prefix)
    if parsed.scheme in _FACTORIES:
        return _FACTORIES.load(parsed.scheme)(parsed, options)
    if parsed.scheme == "file":
        return LocalStore(parsed.prefix)
    if parsed.scheme == "memory":
        return MemoryStore("/".join(part for part in (parsed.bucket, parsed.prefix) if part))
    store: RemoteStore | GenericStore
    if parsed.scheme in BUCKETS:
        if not parsed.bucket:
            raise StoreLocationError(
                f"{parsed.url!r} names no bucket. Pass '{parsed.scheme}://bucket/prefix'"
            )
        store = RemoteStore(parsed, options, partial(connect, engine=engine))
    else:
        store = GenericStore(parsed, options, os.fspath(location))
    store.check()
    return store


def _refuse_lost_slash(path: str) -> None:
    """Refuse what `pathlib.Path` makes of a bucket's URL."""
    scheme, separator, rest = path.partition(":/")
    if separator and scheme.lower() in BUCKETS:
        raise StoreLocationError(
            f"{path!r} would be a folder. Pass '{scheme}://{rest.lstrip('/')}' as a str: a "
            "pathlib.Path keeps one slash only"
        )
