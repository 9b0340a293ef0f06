"""Secrets are handed over everywhere, and everything that is written is searched for them."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
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
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    str(Path(__file__).with_name("spill.py"))
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("spill.py")),
            str(tmp_path),
            moto_server.endpoint,
            echo,
        ],
        capture_output=True,
        timeout=100,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    written = {"stdout": done.stdout, "stderr": done.stderr}
    for path in tmp_path.rglob("*"):
        if path.is_file() and "given" not in path.parts:
            written[str(path.relative_to(tmp_path))] = path.read_bytes()
    assert {"log.txt", "report.html", "key.pickle", "entry", "cache.html"} <= set(written)
    assert b"[1, 2, 3, 4, 5, 6]" in done.stdout
    found = [
        (where, name, content[max(0, place - 200) : place + 100])
        for where, content in written.items()
        for name, secret in CANARIES.items()
        for form in forms(secret)
        if (place := content.find(form)) >= 0
    ]
    assert not found, "\n".join(f"{where}: {name}: {text!r}" for where, name, text in found)
