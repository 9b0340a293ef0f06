"""From what the user typed to a backend: names, URLs, classes, instances, joblib's own kind."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import Any

from jobspan.backends.addresses import without_credentials
from jobspan.errors import BackendError, UnknownBackendError
from jobspan.executors import Backend
from jobspan.registry import Registry

__all__ = ["BACKENDS", "make_backend", "register_parallel_backend", "shared_backend"]

BackendFactory = Callable[..., Any]

BACKENDS: Registry[BackendFactory] = Registry("backend")
"""Every backend by name. A factory takes the options that the user gave, and ``address=`` where
the user typed a URL."""

for _name, _target in {
    "sequential": "jobspan.backends.sequential:SequentialBackend",
    "threads": "jobspan.backends.threads:ThreadBackend",
    "threading": "jobspan.backends.threads:ThreadBackend",
    "processes": "jobspan.backends.processes:ProcessBackend",
    "loky": "jobspan.backends.processes:LokyBackend",
    "multiprocessing": "jobspan.backends.processes:ProcessBackend",
    "dask": "jobspan.backends.dask:DaskBackend",
    "ray": "jobspan.backends.ray:RayBackend",
}.items():
    BACKENDS.register(_name, _target)

ENTRY_POINTS = "jobspan.backends"
"""The group of entry points under which a package announces its backends."""

_SCHEMES = {"dask": "dask", "tcp": "dask", "tls": "dask", "ws": "dask", "wss": "dask", "ray": "ray"}
"""The backend for each scheme of an address."""


def register_parallel_backend(
    name: str, factory: BackendFactory, make_default: bool = False
) -> None:
    """Register a backend under a name, as joblib's function of that name does.

    Parameters
    ----------
    name : str
        What users type as ``backend=``.
    factory : callable
        Returns a :class:`~jobspan.executors.Backend`, or an object written for joblib as a
        subclass of ``ParallelBackendBase``; called with the options that the user gave.
    make_default : bool
        Whether calls run there where nothing else is said.

    Examples
    --------
    >>> from jobspan.backends.threads import ThreadBackend
    >>> register_parallel_backend("my-threads", ThreadBackend)
    """
    BACKENDS.register(name, factory)
    if make_default:
        _default.name = name


class _Default:
    """The name of the backend that holds where nothing is said."""

    def __init__(self) -> None:
        self.name = "processes"


_default = _Default()


def default_backend_name() -> str:
    """Return the backend for calls about which nothing is said: ``JOBSPAN_BACKEND``, or processes.

    Examples
    --------
    >>> default_backend_name() in ("processes", os.environ.get("JOBSPAN_BACKEND"))
    True
    """
    return os.environ.get("JOBSPAN_BACKEND", "").strip() or _default.name


def make_backend(spec: Any, options: dict[str, Any] | None = None) -> Backend:
    """Return a backend for what the user gave as ``backend=``.

    Parameters
    ----------
    spec : str, Backend, class, or an object written for joblib
        A name such as ``"threads"``, an address such as ``"dask://host:8786"``, an instance or a
        class of a backend.
    options : dict or None
        Further arguments for the factory; only with a name, an address or a class.

    Raises
    ------
    UnknownBackendError
        If no backend has that name or scheme.
    MissingExtraError
        If the backend's engine is not installed.
    """
    options = dict(options or {})
    if isinstance(spec, str):
        factory, address = _factory_for(spec)
        if address is not None:
            options["address"] = address
        made = _call_factory(factory, spec, options)
    elif isinstance(spec, type):
        made = _call_factory(spec, spec.__name__, options)
    elif hasattr(spec, "Pool") and hasattr(spec, "Lock"):
        # A multiprocessing context, which joblib accepts; our workers start in one way only.
        made = _call_factory(BACKENDS.load("processes"), "processes", options)
    else:
        if options:
            raise ValueError(
                "Constructor parameters backend_params are only supported when backend is a "
                f"string or a class; got backend={spec!r} with {sorted(options)}"
            )
        made = spec
    return _as_backend(made, spec)


def _as_backend(made: Any, spec: Any) -> Backend:
    if isinstance(made, Backend):
        return made
    if callable(getattr(made, "effective_n_jobs", None)) and (
        hasattr(made, "submit") or hasattr(made, "apply_async")
    ):
        from jobspan.backends.joblib_style import JoblibStyleBackend

        return JoblibStyleBackend(made)
    raise UnknownBackendError(
        f"backend={spec!r} is no backend; pass a name ({', '.join(BACKENDS)}), an address such as "
        "'dask://host:8786' or 'ray://host:10001', or an object with the methods of "
        "jobspan.executors.Backend"
    )


def _call_factory(factory: BackendFactory, name: str, options: dict[str, Any]) -> Any:
    try:
        return factory(**options)
    except TypeError as error:
        text = str(error)
        if options and ("unexpected keyword argument" in text or "takes no arguments" in text):
            raise TypeError(f"backend {name!r} does not take these options: {error}") from error
        raise


def _factory_for(spec: str) -> tuple[BackendFactory, str | None]:
    """Return the factory for a name or an address, and the address."""
    scheme, separator, rest = spec.partition("://")
    name = _SCHEMES.get(scheme, scheme) if separator else spec
    if name not in BACKENDS:
        _register_installed(name)
    if name in BACKENDS:
        if not separator:
            return BACKENDS.load(name), None
        if not rest and scheme != "ray":
            raise UnknownBackendError(
                f"backend={spec!r} names no host; type {scheme}://host:port, or {name!r} for one "
                "on this machine"
            )
        return BACKENDS.load(name), spec
    import difflib

    close = difflib.get_close_matches(name, BACKENDS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    kind = "URL scheme" if separator else "backend"
    shown = without_credentials(spec)
    raise UnknownBackendError(
        f"Invalid backend: {shown!r}: no {kind} {name!r}, expected one of {sorted(BACKENDS)}, "
        f"or an address such as 'dask://host:8786' or 'ray://host:10001'.{hint}"
    )


def _register_installed(name: str) -> None:
    """Register the backend that an installed package announces under `name`, if one does."""
    from importlib.metadata import entry_points

    for entry_point in entry_points(group=ENTRY_POINTS, name=name):
        BACKENDS.register(name, entry_point.load())


_shared: dict[str, Backend] = {}
_shared_lock = threading.Lock()


def shared_backend(spec: str) -> Backend:
    """Return the process-wide backend for a name or address, made when first asked for.

    For calls outside of any ``with`` block that would own a backend: ``backend="ray"`` as an
    argument, or ``JOBSPAN_BACKEND``. What such a backend starts serves all later calls and is
    stopped when the interpreter ends.
    """
    key = f"{os.getpid()}:{spec}"
    with _shared_lock:
        backend = _shared.get(key)
    if backend is not None:
        return backend
    made = make_backend(spec)
    if hasattr(made, "keeps_shared_data"):
        made.keeps_shared_data = False  # no block ends it
    with _shared_lock:
        return _shared.setdefault(key, made)


def close_shared_backends() -> None:
    """Close every process-wide backend; the next call makes them anew."""
    own = f"{os.getpid()}:"
    with _shared_lock:
        backends = [_shared.pop(key) for key in list(_shared) if key.startswith(own)]
        _shared.clear()
    errors: list[BackendError] = []
    for backend in backends:
        try:
            backend.close()
        except BackendError as error:
            errors.append(error)
    if errors:
        raise errors[0]


atexit.register(close_shared_backends)
