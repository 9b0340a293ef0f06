"""Several hosts on one machine: network namespaces on one bridge, each with its address and name.

Everything is inside namespaces that only this test knows: a switch with a bridge, and a host a
namespace, joined to it by veth. A wire can be pulled and plugged in again, and be made slow and
lossy: by the kernel where it has netem, or by a relay that holds the frames back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

__all__ = ["Host", "Network", "reason_why_not"]

PREFIX = "10.77.0"


def reason_why_not() -> str:
    """Say why there can be no namespaces here; empty where there can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "ip (iproute2) or unshare (util-linux) is not installed; make hosts installs them"
    try:
        with Network() as network:
            host = network.host("probe")
            host.run("true")
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or b""
        return f"namespaces are not allowed here: {said.decode(errors='replace').strip() or error}"
    return ""


class Host:
    """A host: a namespace with an address and a name, and folders of its own."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.network = network
        self.name = name
        self.number = number
        self.address = f"{PREFIX}.{number}"
        self.namespace = f"{network.name}-{name}"
        self.port = f"port{number}"
        self.folder = network.folder / name
        (self.folder / "own").mkdir(parents=True)
        _ip("netns", "add", self.namespace)
        wire = ("link", "add", self.port, "type", "veth", "peer", "name", "eth0")
        _ip("-n", network.switch, *wire, "netns", self.namespace)
        _ip("-n", network.switch, "link", "set", self.port, "master", "bridge0", "up")
        _ip("-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", self.namespace, "link", "set", device, "up")

    def command(self, *command: str) -> list[str]:
        """Return what runs a command there, with a /dev/shm and the folder `own` of the host's."""
        script = (
            f"hostname {self.name} && mount -t tmpfs -o size=256m tmpfs /dev/shm && "
            f"mount --bind {self.folder / 'own'} {self.network.shared} && "
            'exec "$0" "$@"'
        )
        inside = ["unshare", "-u", "-m", "sh", "-c", script, *command]
        return ["ip", "netns", "exec", self.namespace, *inside]

    def run(self, *command: str) -> None:
        """Run a command there to its end."""
        subprocess.run(self.command(*command), check=True, capture_output=True, timeout=60)

    def start(
        self, *command: str, environment: dict[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a command there; it ends with the network. Its output is in `log`."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if environment and "PIPED" in environment else log,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                cwd=cwd or self.folder,
                start_new_session=True,
            )
        self.network.processes.append(process)
        return process

    @property
    def log(self) -> Path:
        """What its processes wrote."""
        return self.folder / "log.txt"

    def unplug(self) -> None:
        """Pull the wire."""
        _ip("-n", self.network.switch, "link", "set", self.port, "down")

    def plug(self) -> None:
        """Plug it in again."""
        _ip("-n", self.network.switch, "link", "set", self.port, "up")

    @contextmanager
    def unplugged(self, seconds: float) -> Iterator[None]:
        """Pull the wire, and plug it in again after some seconds or at the end of the block."""
        self.unplug()
        try:
            yield
            time.sleep(seconds)
        finally:
            self.plug()

    @contextmanager
    def netem(self, milliseconds: int, loss_percent: int) -> Iterator[None]:
        """Have the kernel hold every frame back, and lose some; `pytest.skip` where it cannot."""
        discipline = ["tc", "-n", self.network.switch, "qdisc"]
        place = ["dev", self.port, "root"]
        how = ["netem", "delay", f"{milliseconds}ms", "loss", f"{loss_percent}%"]
        if not shutil.which("tc"):
            pytest.skip("there is no tc (iproute2) to ask the kernel for netem")
        done = subprocess.run(
            [*discipline, "add", *place, *how], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"this kernel has no netem: {done.stderr.strip()}")
        try:
            yield
        finally:
            subprocess.call([*discipline, "del", *place])

    @contextmanager
    def relay(self, milliseconds: int, loss_percent: int) -> Iterator[None]:
        """Have a program hold every frame back, and lose some, where the kernel has no netem."""
        switch = self.network.switch
        inner, outer = f"in{self.number}", f"out{self.number}"
        _ip("-n", switch, "link", "add", inner, "type", "veth", "peer", "name", outer)
        _ip("-n", switch, "link", "set", self.port, "nomaster", "promisc", "on")
        _ip("-n", switch, "link", "set", inner, "promisc", "on", "up")
        _ip("-n", switch, "link", "set", outer, "master", "bridge0", "up")
        script = str(Path(__file__).with_name("slow_wire.py"))
        numbers = (str(milliseconds / 1000), str(loss_percent / 100))
        relay = subprocess.Popen(
            ["ip", "netns", "exec", switch, sys.executable, script, self.port, inner, *numbers],
            stdin=subprocess.DEVNULL,
        )
        self.network.processes.append(relay)
        try:
            yield
        finally:
            relay.kill()
            relay.wait()
            self.network.processes.remove(relay)
            _ip("-n", switch, "link", "del", inner)
            _ip("-n", switch, "link", "set", self.port, "promisc", "off", "master", "bridge0")


class Network:
    """Hosts on one wire, gone with all that they run at the end of the ``with`` block."""

    def __init__(self) -> None:
        self.name = f"js{os.getpid() % 100000}x{os.urandom(2).hex()}"
        self.switch = f"{self.name}-switch"
        self.folder = Path(tempfile.mkdtemp(prefix="jobspan-hosts-"))
        # Ray's sockets lie there: names of sockets are short.
        self.shared = Path(tempfile.mkdtemp(prefix="jh"))
        self.hosts: list[Host] = []
        self.processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        try:
            _ip("netns", "add", self.switch)
            _ip("-n", self.switch, "link", "add", "bridge0", "type", "bridge")
            _ip("-n", self.switch, "link", "set", "bridge0", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def host(self, name: str) -> Host:
        """Return a new host."""
        host = Host(self, name, len(self.hosts) + 2)
        self.hosts.append(host)
        return host

    def close(self) -> None:
        """End what runs and remove the namespaces."""
        for namespace in (*(host.namespace for host in self.hosts), self.switch):
            self._end(namespace)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.stdout is not None:
                process.stdout.close()
        for namespace in (*(host.namespace for host in self.hosts), self.switch):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
        for folder in (self.folder, self.shared):
            shutil.rmtree(folder, ignore_errors=True)

    def _end(self, namespace: str) -> None:
        for _ in range(20):
            listed = subprocess.run(
                ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False
            )
            numbers = [int(number) for number in listed.stdout.split()]
            if not numbers:
                return
            for number in numbers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.1)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)
