"""From what the user typed to a Ray: running, by address, or one's own on this machine."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

from jobspan.backends.addresses import shown_address, without_credentials
from jobspan.cores import cpu_count
from jobspan.errors import BackendUnreachableError, MissingExtraError, VersionMismatchError

__all__ = ["Connection", "inside_worker", "ray_package"]

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


class Connection:
    """The part that one backend has in this process's connection to Ray.

    Ray knows one connection a process. One that was made here ends with the last backend that uses
    it, one that was there before stays.

    Parameters
    ----------
    address : str or None
        What the user typed; None: the Ray of ``RAY_ADDRESS``, or one of one's own.
    options : dict
        Further arguments for `ray.init`.
    timeout : float
        How long Ray may take to answer.
    """

    def __init__(self, address: str | None, options: dict[str, Any], timeout: float) -> None:
        with _lock:
            if not ray_package().is_initialized():
                _state.users = 0
                _state.end = _initialize(address, options, timeout)
            self._session = session()
            _state.users += 1

    @property
    def alive(self) -> bool:
        """Whether this process is still connected to the same Ray."""
        return session() == self._session

    def close(self) -> None:
        """Let go of it; what was connected or started here ends with its last user."""
        with _lock:
            if not self.alive:
                return
            _state.users -= 1
            if _state.users <= 0 and _state.end is not None:
                ray_package().shutdown()
                _state.end.set()
                _state.end = None


class _State:
    """What this process has to do with the connection."""

    def __init__(self) -> None:
        self.users = 0
        self.end: threading.Event | None = None
        """Set where the connection was made here: lets the thread that made it end."""


_state = _State()
_lock = threading.RLock()


def session() -> str:
    """Return what names the present connection; empty where there is none."""
    ray = ray_package()
    if not ray.is_initialized():
        return ""
    return str(ray.get_runtime_context().get_job_id())


def _initialize(address: str | None, options: dict[str, Any], timeout: float) -> threading.Event:
    """Connect to a Ray, or start one, in a thread that lives as long as the connection.

    The processes of a Ray that is started here end with the thread that started them.
    """
    begun, end = threading.Event(), threading.Event()
    problems: list[BaseException] = []

    def hold() -> None:
        try:
            _connect(address, options, timeout)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asked
            problems.append(error)
            return
        finally:
            begun.set()
        end.wait()

    if threading.current_thread() is threading.main_thread():
        _connect(address, options, timeout)
        return end
    threading.Thread(target=hold, name="jobspan-ray-session", daemon=True).start()
    begun.wait()
    if problems:
        raise problems[0]
    return end


def _connect(address: str | None, options: dict[str, Any], timeout: float) -> None:
    """Connect to a Ray, or start one.

    Raises
    ------
    BackendUnreachableError
        If nobody answers at the address within `timeout` seconds.
    VersionMismatchError
        If the Ray or the Python there is another than here.
    """
    target = None if address in (None, "ray://", "ray://local", "local") else address
    if target == "ray://auto" or (address in (None, "ray://") and "RAY_ADDRESS" in os.environ):
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
        if ":" in target:
            _probe(target, timeout)
        settings = {"address": target, **settings}
    try:
        ray_package().init(**settings)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        text = str(error)
        if "ersion" in text and ("ismatch" in text or "differ" in text):
            raise VersionMismatchError(
                f"the Ray at {target!r} and this process cannot understand each other: {text}"
            ) from error
        raise BackendUnreachableError(_advice(target, timeout, error)) from None


def _probe(address: str, timeout: float) -> None:
    """Refuse an address at which nobody listens, which Ray itself would try for half a minute."""
    place = address.rpartition("://")[2].partition("/")[0].partition("?")[0]
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host or "127.0.0.1", int(port)), timeout=timeout).close()
    except (OSError, ValueError) as error:
        raise BackendUnreachableError(_advice(address, timeout, error)) from None


def _advice(address: str | None, timeout: float, error: Exception) -> str:
    return (
        f"no Ray answers at {shown_address(address)!r} within {timeout:g} s "
        f"({without_credentials(error)}). Check the address ('ray://host:10001'), start one with "
        "'ray start --head', or pass backend='ray' for one on this machine"
    )


def inside_worker() -> bool:
    """Whether this process is a worker of Ray."""
    ray = ray_package()
    if not ray.is_initialized() or ray.util.client.ray.is_connected():
        return False
    return bool(ray.get_runtime_context().worker.mode == ray.WORKER_MODE)
