"""Secrets are handed over everywhere, and everything that is written is searched for them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from spill import CANARIES


class Echo(BaseHTTPRequestHandler):
    """Refuses everything, and says back all that it was told, as servers do."""

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        told = " ".join(f"{name}: {value}" for name, value in self.headers.items())
        body = (
            "<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code>"
            f"<Message>no such key: {told}</Message></Error>"
        ).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


for _method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
    setattr(Echo, f"do_{_method}", Echo.answer)


@pytest.fixture
def echo():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def forms(secret):
    """Return how a secret might be written."""
    plain = secret.encode()
    return [
        plain,
        quote(secret, safe="").encode(),
        base64.b64encode(plain).rstrip(b"=")[:-1],
        plain.hex().encode(),
        repr(plain).encode(),
    ]


@pytest.mark.timeout(110)
def test_no_secret_is_written(moto_server, echo, tmp_path):
    moto_server.bucket_url("secrets")
    environment = {"AWS_EC2_METADATA_DISABLED": "true"}
    written = run("spill.py", [moto_server.endpoint, echo], tmp_path, environment)
    assert {"log.txt", "report.html", "key.pickle", "entry", "cache.html"} <= set(written)
    assert b"[1, 2, 3, 4, 5, 6]" in written["stdout"]
    assert not found_in(written, CANARIES)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_no_secret_of_a_cluster_is_written(engine, moto_server, tmp_path):
    """TLS keys, environments of workers, a cache's options: what a cluster is handed.

    Ray's own logs have the environments, as the documentation says, and nothing of a cache's.
    """
    pytest.importorskip(engine)
    moto_server.bucket_url("secrets")
    environment = {"AWS_EC2_METADATA_DISABLED": "true"}
    with tempfile.TemporaryDirectory(prefix="jsp-") as logs:  # Ray wants short names
        arguments = [moto_server.endpoint, engine]
        written = run("spill_clusters.py", arguments, tmp_path, {**environment, "RAY_TMPDIR": logs})
        assert not found_in(contents(Path(logs)), CANARIES)
    canaries = json.loads((tmp_path / "given" / "canaries.json").read_text())
    assert {"log.txt", f"{engine}.html", f"{engine}-processes-1"} <= set(written)
    assert not Path("/proc/self").exists() or b"spill_clusters" in written[f"{engine}-processes-1"]
    assert engine != "dask" or b"run_batch" in written["dask-report.html"]
    assert f"{engine} [1, 2, 3]".encode() in written["stdout"]
    for results in ([1, 2, 3], [2, 3, 4]):
        assert f"('{engine}', 'cached', {results})".encode() in written["stdout"]
    told = written["stdout"].partition(f"{engine} told ".encode())[2].splitlines()[0]
    assert b"True" in told  # the secrets have arrived
    assert not found_in(written, {**canaries, **CANARIES})


def run(program, arguments, folder, environment):
    """Run a program that spills; return all that it wrote, by name."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(program)), str(folder), *arguments],
        capture_output=True,
        timeout=160,
        check=False,
        env={**os.environ, "HOME": str(folder), **environment},
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    written = {"stdout": done.stdout, "stderr": done.stderr}
    return written | contents(folder)


def contents(folder):
    """Return the files of a folder, by name; not those in which a program was given its secrets."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and "given" not in path.parts
    }


def found_in(written, canaries):
    """Return where which canary was written, as lines; "" where none was."""
    found = [
        f"{where}: {name}: {content[max(0, place - 200) : place + 100]!r}"
        for where, content in written.items()
        for name, secret in canaries.items()
        for form in forms(secret)
        if (place := content.find(form)) >= 0
    ]
    return "\n".join(found)
