"""From what the user typed to a Ray: running, by address, or one's own on this machine."""

from __future__ import annotations

import os
import socket
from typing import Any

from jobspan.cores import cpu_count
from jobspan.errors import BackendUnreachableError, MissingExtraError

__all__ = ["connect", "inside_worker", "ray_package"]

STORE_BYTES = 1 << 30
"""Object store of a Ray that is started here, unless the options say otherwise."""


def ray_package() -> Any:
    """Return the package ``ray``.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("backend 'ray'", "ray") from error
    return ray


def connect(address: str | None, options: dict[str, Any], timeout: float) -> bool:
    """Connect to a Ray, or start one; whether it is now ours to shut down.

    Raises
    ------
    BackendUnreachableError
        If nobody answers at the address within `timeout` seconds.
    """
    ray = ray_package()
    if ray.is_initialized():
        return False
    target = None if address in (None, "ray://", "ray://local") else address
    if target == "ray://auto" or (target is None and "RAY_ADDRESS" in os.environ):
        target = os.environ.get("RAY_ADDRESS", "auto")
    settings: dict[str, Any] = {"logging_level": "error", **options}
    if target is None:
        settings = {
            "num_cpus": cpu_count(),
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "address": "local",
            **settings,
        }
    else:
        if "://" in target:
            _probe(target, timeout)
        settings = {"address": target, **settings}
    try:
        ray.init(**settings)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        raise BackendUnreachableError(_advice(target, timeout, error)) from error
    return True


def _probe(address: str, timeout: float) -> None:
    """Refuse an address at which nobody listens, which Ray itself would try for half a minute."""
    host, _, port = address.partition("://")[2].partition("/")[0].rpartition(":")
    try:
        socket.create_connection((host or "127.0.0.1", int(port)), timeout=timeout).close()
    except (OSError, ValueError) as error:
        raise BackendUnreachableError(_advice(address, timeout, error)) from error


def _advice(address: str | None, timeout: float, error: Exception) -> str:
    return (
        f"no Ray answers at {address!r} within {timeout:g} s ({error}). Check the address "
        "('ray://host:10001'), start one with 'ray start --head', or pass backend='ray' for one on "
        "this machine"
    )


def inside_worker() -> bool:
    """Whether this process is a worker of Ray."""
    ray = ray_package()
    if not ray.is_initialized():
        return False
    return bool(ray.get_runtime_context().worker.mode == ray.WORKER_MODE)
