"""A proxy before an HTTP server that counts requests, delays them and makes them fail."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

__all__ = ["Fault", "Proxy", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it went through the proxy.

    Parameters
    ----------
    method : str
        ``"GET"``, ``"PUT"``, ...
    target : str
        Path and query.
    status : int
        What the client was answered; 0 where it was answered nothing.
    """

    method: str
    target: str
    status: int


@dataclass(slots=True)
class Fault:
    """Something that goes wrong.

    Parameters
    ----------
    kind : {"unavailable", "error", "expired", "lost answer", "torn answer", "lost request", \
"silence"}
        Status 503 without asking the server; status 500 likewise; status 403 likewise, as S3 says
        that credentials have expired; the server acts, but its answer never arrives; the connection
        breaks in the middle of the answer; it breaks before the server hears of the request;
        nothing ever comes back.
    method : str or None
        Only for requests with this method.
    containing : str
        Only for requests whose path and query contain this.
    times : int
        For how many requests.
    """

    kind: Literal[
        "unavailable", "error", "expired", "lost answer", "torn answer", "lost request", "silence"
    ]
    method: str | None = None
    containing: str = ""
    times: int = 1


_REFUSALS = {
    "unavailable": (503, "Service Unavailable", ""),
    "error": (500, "Internal Server Error", ""),
    "expired": (
        403,
        "Forbidden",
        "<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>",
    ),
}


@dataclass(slots=True)
class _Head:
    lines: list[bytes]
    headers: dict[bytes, bytes] = field(default_factory=dict)

    def without(self, *names: bytes) -> bytes:
        kept = [
            line for line in self.lines[1:] if line.partition(b":")[0].strip().lower() not in names
        ]
        method, target, version = self.lines[0].split(b" ", 2)
        path, _, query = target.partition(b"?")
        asked = [a for a in query.split(b"&") if a.partition(b"=")[0].lower() not in names]
        if len(asked) <= query.count(b"&"):
            target = path + b"?" + b"&".join(asked)
        return b"\r\n".join([b" ".join((method, target, version)), *kept, b"", b""])


class Proxy:
    """A proxy on a loopback port, for the time of a ``with`` block.

    Parameters
    ----------
    target : str
        The server's address, ``"http://host:port"``.
    latency : float
        Seconds that each request is held back; can be set anew at any time.
    hidden : iterable of str
        Headers and parameters of queries that the server never gets to see, such as
        ``"If-None-Match"``: so is a server that does not know them.

    Attributes
    ----------
    requests : list of Request
        What went through, in the order of the answers.
    most_held : int
        How many requests were held back at once, at the most.

    Examples
    --------
    >>> from jobspan.testing.servers import Moto
    >>> with Moto() as server, Proxy(server.endpoint) as proxy:
    ...     _ = server.bucket_url("bucket")
    ...     options = {**server.storage_options, "endpoint_url": proxy.endpoint}
    >>> proxy.counts
    Counter()
    """

    def __init__(self, target: str, latency: float = 0.0, *, hidden: Iterable[str] = ()) -> None:
        address = urlsplit(target)
        self._host = address.hostname or "127.0.0.1"
        self._target_port = address.port or 80
        self.latency = latency
        self._hidden = (b"expect", *(name.lower().encode() for name in hidden))
        self.requests: list[Request] = []
        self.most_held = 0
        self._held = 0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def endpoint(self) -> str:
        """The proxy's own address as a URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def counts(self) -> Counter[str]:
        """How many requests of each method went through since the last `reset`."""
        return Counter(request.method for request in list(self.requests))

    def reset(self) -> None:
        """Forget the requests and faults so far."""
        with self._lock:
            self._faults.clear()
        self.requests.clear()
        self.most_held = 0

    def inject(self, *faults: Fault) -> None:
        """Let the next requests that fit go wrong."""
        with self._lock:
            self._faults.extend(faults)

    def start(self) -> Self:
        """Listen, in a thread of its own."""
        if self._thread is None:
            server = self._loop.run_until_complete(
                asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
            )
            self.port = server.sockets[0].getsockname()[1]
            self._thread = threading.Thread(target=self._run, args=(server,), daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Break all connections and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self, server: asyncio.Server) -> None:
        try:
            self._loop.run_forever()
            server.close()
            self._loop.run_until_complete(self._drop_connections())
        finally:
            self._loop.close()

    async def _drop_connections(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _fault_for(self, method: str, target: str) -> str | None:
        with self._lock:
            for fault in self._faults:
                fits = fault.method in {None, method} and fault.containing in target
                if fits and fault.times > 0:
                    fault.times -= 1
                    return fault.kind
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        broken = (OSError, asyncio.IncompleteReadError, asyncio.CancelledError)
        try:
            upstream = await asyncio.open_connection(self._host, self._target_port, limit=2**20)
            while await self._exchange(reader, writer, *upstream):
                pass
        except broken:
            return
        finally:
            for each in (writer, upstream[1] if upstream else None):
                if each is not None:
                    with contextlib.suppress(RuntimeError, OSError):
                        each.close()

    def _passed_on(self, head: _Head) -> bytes:
        """Return the head of a request as the server gets to see it."""
        return head.without(*self._hidden)

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream_writer: asyncio.StreamWriter,
    ) -> bool:
        """Pass one request on and its answer back; whether the connection can be used again."""
        head = await _read_head(reader)
        method, target = (part.decode() for part in head.lines[0].split(b" ")[:2])
        if head.headers.get(b"expect", b"").lower() == b"100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _read_body(reader, head)
        if self.latency:
            self._held += 1
            self.most_held = max(self.most_held, self._held)
            try:
                await asyncio.sleep(self.latency)
            finally:
                self._held -= 1
        fault = self._fault_for(method, target)
        if fault == "silence":
            self.requests.append(Request(method, target, 0))
            await asyncio.sleep(3600)
        if fault == "lost request":
            self.requests.append(Request(method, target, 0))
            return False
        if fault in _REFUSALS:
            status, reason, text = _REFUSALS[fault]
            self.requests.append(Request(method, target, status))
            text = "" if method == "HEAD" else text
            length = f"Content-Length: {len(text)}"
            writer.write(f"HTTP/1.1 {status} {reason}\r\n{length}\r\n\r\n{text}".encode())
            await writer.drain()
            return True
        upstream_writer.write(self._passed_on(head))
        for piece in body:
            upstream_writer.write(piece)
            await upstream_writer.drain()
        answer = await _read_head(upstream_reader)
        status = int(answer.lines[0].split(b" ")[1])
        has_body = method != "HEAD" and status not in {204, 304}
        content = await _read_body(upstream_reader, answer, until_end=True) if has_body else []
        if fault == "lost answer":
            self.requests.append(Request(method, target, 0))
            return False
        self.requests.append(Request(method, target, status))
        writer.write(answer.without())
        for piece in content:
            if fault == "torn answer":
                writer.write(piece[: len(piece) // 2])
                await writer.drain()
                return False
            writer.write(piece)
            await writer.drain()
        await writer.drain()
        closing = b"close" in (
            head.headers.get(b"connection", b"").lower(),
            answer.headers.get(b"connection", b"").lower(),
        )
        return not closing


async def _read_head(reader: asyncio.StreamReader) -> _Head:
    lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    head = _Head(lines)
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        head.headers[name.strip().lower()] = value.strip()
    return head


async def _read_body(
    reader: asyncio.StreamReader, head: _Head, *, until_end: bool = False
) -> list[bytes]:
    """Read a body as it is on the wire, the marks of its chunks included."""
    if b"chunked" in head.headers.get(b"transfer-encoding", b"").lower():
        pieces: list[bytes] = []
        while True:
            mark = await reader.readuntil(b"\r\n")
            size = int(mark.split(b";")[0], 16)
            pieces.append(mark)
            if size == 0:
                while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
                    pieces.append(line)
                pieces.append(b"\r\n")
                return pieces
            pieces.append(await reader.readexactly(size + 2))
    if b"content-length" in head.headers:
        missing = int(head.headers[b"content-length"])
        pieces = []
        while missing:
            piece = await reader.read(min(missing, 2**20))
            if not piece:
                raise ConnectionResetError("the connection ended within a body")
            pieces.append(piece)
            missing -= len(piece)
        return pieces
    return [await reader.read()] if until_end else []
