"""Addresses where no Ray is, or not yet, or not of this kind: an error in time, never a hang."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from jobspan import Parallel, delayed, parallel_config
from jobspan.errors import BackendUnreachableError

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.timeout(60)


def say_nothing(client: socket.socket) -> None:
    client.recv(1)
    threading.Event().wait(10)


def say_http(client: socket.socket) -> None:
    client.recv(100)
    client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    client.close()


@pytest.fixture
def listen() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Listen at a port and answer as told; return the address."""
    servers: list[socket.socket] = []

    def start(answer: Callable[[socket.socket], None]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(client,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def try_address(address: str, seconds: float) -> str:
    """Return the error, which must come in time."""
    begin = time.monotonic()
    with (
        parallel_config("ray", address=address, connect_timeout=seconds),
        pytest.raises(BackendUnreachableError, match="no Ray answers") as caught,
    ):
        Parallel()([delayed(abs)(-1)])
    assert time.monotonic() - begin < seconds + 5
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_somebody_else_listens(listen: Callable[..., str], scheme: str) -> None:
    assert "within 1 s" in try_address(scheme + listen(say_nothing), 1)
    assert "is no Ray" in try_address(scheme + listen(say_http), 20)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "refused" in try_address(f"127.0.0.1:{port}", 20)
    assert "refused" in try_address(f"ray://127.0.0.1:{port}", 20)


WRONG_DOOR = """
import time
from jobspan import Parallel, delayed
from jobspan.backends.ray import RayBackend
from jobspan.errors import BackendUnreachableError
begin = time.monotonic()
for address in {addresses!r}:
    try:
        Parallel(backend=RayBackend(address, connect_timeout=2))([delayed(abs)(-1)])
    except BackendUnreachableError as error:
        print(error)
print(time.monotonic() - begin < 20)
"""


@pytest.fixture
def closed_head() -> Iterator[str]:
    """A head with its directory, and nobody who lets drivers in: as one that is still starting."""
    options = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    cluster.head_node.kill_raylet(check_alive=False)
    yield cluster.address
    cluster.shutdown()


def test_head_that_lets_nobody_in(closed_head: str, run_driver: Callable[..., str]) -> None:
    """Nor is the door of drivers that of clients. Ray goes on trying; the process can end."""
    addresses = [closed_head, f"ray://{closed_head}", closed_head]
    out = run_driver(WRONG_DOOR.format(addresses=addresses))
    first, second, third, in_time = out.splitlines()
    assert "lets nobody in" in first
    assert "still tries" in second
    assert "still tries" in third
    assert in_time == "True"
