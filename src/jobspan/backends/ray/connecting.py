"""From what the user typed to a Ray: running, by address, or one's own on this machine."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

from jobspan.backends.addresses import shown_address, without_credentials
from jobspan.cores import cpu_count
from jobspan.errors import BackendUnreachableError, MissingExtraError, VersionMismatchError

__all__ = ["Connection", "inside_worker", "ray_package"]

_OWN = {"include_dashboard": False, "object_store_memory": 1 << 30, "address": "local"}
"""A Ray that is started here, unless the options say otherwise."""

_SETTINGS = b"\x04"
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0" * 5
"""How a connection of HTTP/2 begins, which all doors of Ray speak; a frame of this kind answers."""

_NOBODY_LET_IN = (
    "something answers there, but lets nobody in: a head that is still starting, or a port for "
    "another kind of address"
)


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
                if _state.end is not None:  # somebody else has closed it
                    _state.end.set()
                _state.end = _initialize(address, options, timeout)
            self._session = session()
            self.on_this_machine = _state.end is not None and _state.started
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
        self.started = False
        """Whether the Ray that was connected to last was started here, not found."""
        self.end: threading.Event | None = None
        """Set where the connection was made here: lets the thread that made it end."""
        self.attempt: _Attempt | None = None
        """The last one to connect, which may have been given up while Ray goes on trying."""


_lock = threading.RLock()


def session() -> str:
    """Return what names the present connection; empty where there is none."""
    ray = ray_package()
    if not ray.is_initialized():
        return ""
    return str(ray.get_runtime_context().get_job_id())


class _Attempt:
    """`ray.init` in a thread of its own, which lives as long as the connection.

    The processes of a Ray that is started here end with the thread that started them. And where
    nobody lets it in, Ray itself goes on trying for minutes: whoever waits can give up.

    Parameters
    ----------
    settings : dict
        Arguments for `ray.init`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.end = threading.Event()
        self._settled = threading.Event()
        self._settings = settings
        self._problem: BaseException | None = None
        self._wanted = True
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="jobspan-ray-session", daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None) -> None:
        """Wait until the connection stands, and raise what `ray.init` raised.

        Raises
        ------
        TimeoutError
            If it took too long; should it stand later, it is closed at once.
        """
        try:
            self._settled.wait(seconds)
        finally:
            with self._lock:
                self._wanted = self._settled.is_set()
        if not self._wanted:
            raise TimeoutError
        if self._problem is not None:
            raise self._problem

    def over(self, seconds: float) -> bool:
        """Whether nothing is left of it, or nothing is after so many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            ray_package().init(**self._settings)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._problem = error
        with self._lock:
            wanted = self._wanted
            self._settled.set()
        if self._problem is not None:
            return
        if wanted:
            self.end.wait()
        else:
            ray_package().shutdown()


_state = _State()


def _initialize(address: str | None, options: dict[str, Any], timeout: float) -> threading.Event:
    """Connect to a Ray, or start one; return what lets the thread end that keeps it.

    Raises
    ------
    BackendUnreachableError
        If nobody answers at the address within `timeout` seconds, or lets this process in.
    VersionMismatchError
        If the Ray or the Python there is another than here.
    """
    target = None if address in (None, "ray://", "ray://local", "local") else address
    if target == "ray://auto" or (address in (None, "ray://") and "RAY_ADDRESS" in os.environ):
        target = os.environ.get("RAY_ADDRESS", "auto")
    settings: dict[str, Any] = {"logging_level": "error", **options}
    _state.started = target is None
    try:
        if _state.attempt is not None and not _state.attempt.over(timeout):
            raise TimeoutError("Ray still tries an address that was given up")
        if target is None:
            return _start({**_OWN, "num_cpus": cpu_count(), **settings})
        return _connect({"address": target, **settings}, timeout)
    except (OSError, ValueError, RuntimeError, ray_package().exceptions.RayError) as error:
        text = str(error)
        if "ersion" in text and ("ismatch" in text or "differ" in text):
            raise VersionMismatchError(
                f"the Ray at {shown_address(target)!r} and this process cannot understand each "
                f"other: {without_credentials(text)}"
            ) from error
        raise BackendUnreachableError(_advice(target, timeout, error)) from None


def _start(settings: dict[str, Any]) -> threading.Event:
    """Start a Ray; Ray itself sees to it that this ends."""
    if threading.current_thread() is threading.main_thread():
        ray_package().init(**settings)
        return threading.Event()
    attempt = _Attempt(settings)
    attempt.wait(None)
    return attempt.end


def _connect(settings: dict[str, Any], timeout: float) -> threading.Event:
    """Connect to a Ray that runs."""
    deadline = time.monotonic() + timeout
    _probe(settings["address"], timeout, secret="_credentials" in settings)
    attempt = _state.attempt = _Attempt(settings)
    try:
        attempt.wait(max(0.0, deadline - time.monotonic()))
    except TimeoutError as error:
        raise TimeoutError(str(error) or _NOBODY_LET_IN) from error
    return attempt.end


def _probe(address: str, timeout: float, *, secret: bool) -> None:
    """Refuse an address where no Ray can be, which Ray itself would try for minutes."""
    scheme, _, place = address.rpartition("://")
    if scheme not in ("", "ray") or ":" not in place:
        return
    host, _, port = place.partition("/")[0].partition("?")[0].rpartition(":")
    where = (host.strip("[]") or "127.0.0.1", int(port))
    with socket.create_connection(where, timeout=timeout) as probe:
        if secret or os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        probe.settimeout(timeout)
        probe.sendall(_GREETING)
        answer = probe.recv(len(_GREETING))
    if answer[3:4] != _SETTINGS:
        raise ConnectionError("what answers there is no Ray")


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
