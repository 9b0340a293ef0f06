"""Servers for tests are always ended, however their owner ends."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from jobspan.testing.proxy import Fault, Proxy
from jobspan.testing.servers import Moto, Server, ServerStartError, ServerUnavailableError

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def ends(port: int) -> bool:
    deadline = time.monotonic() + 15
    while answers(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not answers(port)


class EchoServer(Server):
    """Python's own little file server, which starts at once."""

    def command(self, folder, ports):
        return [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(ports[0])]


def test_a_server_ends_with_its_block():
    with EchoServer() as server:
        port = server.port
        assert answers(port)
    assert not answers(port)
    server.stop()  # again: no error


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_server_ends_with_its_owner(number):
    code = (
        "import time\n"
        "from jobspan.testing.servers import Server\n"
        "import sys\n"
        "class Echo(Server):\n"
        "    def command(self, folder, ports):\n"
        "        return [sys.executable, '-m', 'http.server', '--bind', '127.0.0.1',"
        " str(ports[0])]\n"
        "server = Echo().start()\n"
        "print(server.port, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        port = int(owner.stdout.readline())
        assert answers(port)
        os.kill(owner.pid, number)
        owner.wait(20)
        assert ends(port)
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()


def test_a_server_that_ends_at_once_says_why():
    class Broken(Server):
        def command(self, folder, ports):
            return [sys.executable, "-c", "raise SystemExit('no licence')"]

    with pytest.raises(ServerStartError, match="no licence"):
        Broken().start()


def test_a_server_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServerUnavailableError, match=r"pip install 'moto\[server\]'"):
        Moto().start()


def get(port: int, path: str = "/") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_proxy_counts_delays_and_disturbs():
    with EchoServer() as server, Proxy(server.endpoint) as proxy:
        assert get(proxy.port) == 200
        assert get(proxy.port, "/absent") == 404
        assert [(r.method, r.target, r.status) for r in proxy.requests] == [
            ("GET", "/", 200),
            ("GET", "/absent", 404),
        ]
        proxy.inject(Fault("unavailable", containing="x", times=2))
        assert [get(proxy.port, path) for path in ("/x", "/", "/x", "/x")] == [503, 200, 503, 404]
        for kind in ("lost answer", "lost request"):
            proxy.inject(Fault(kind))
            with pytest.raises((http.client.HTTPException, OSError)):
                get(proxy.port)
        proxy.latency = 0.2
        start = time.perf_counter()
        get(proxy.port)
        assert time.perf_counter() - start > 0.2
        assert proxy.counts["GET"] == 9
        proxy.reset()
        assert not proxy.counts
    assert not answers(proxy.port)
