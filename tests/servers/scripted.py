"""What no server does on demand: a proxy of HTTP before a real one, which does as a test says."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """What happens to one request."""

    status: int = 0
    """What is answered, instead of the answer of the server; 0 for that one."""
    body: bytes = b""
    """The body of this answer, such as an error in XML."""
    headers: tuple[tuple[str, str], ...] = ()
    after: bool = False
    """The server does what it is asked before the client gets this answer, or none."""
    reset: bool = False
    """The connection is reset instead of an answer."""
    silent: bool = False
    """No answer comes until the proxy ends."""
    keep: int | None = None
    """How many bytes of the body arrive before the connection ends."""
    delay: float = 0.0
    """Seconds until the answer."""


class Scripted(ThreadingHTTPServer):
    """A proxy before the server at a port of loopback.

    Attributes:
        script: Told of the method, the path and the headers of every request; returns what happens to it, or
            None for nothing.
        requests: The method and the path of every request.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = port
        self.script: Callable[[str, str, dict[str, str]], Fault | None] = lambda method, path, headers: None
        self.requests: list[tuple[str, str]] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *args: Any) -> None:
        """A client that has gone is no fault."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Scripted

    def do_GET(self) -> None:
        headers = dict(self.headers.items())
        self.server.requests.append((self.command, self.path))
        fault = self.server.script(self.command, self.path, headers) or Fault()
        body = self._body()
        answer: tuple[int, list[tuple[str, str]], bytes] | None = None
        own = bool(fault.status or fault.reset or fault.silent)
        if fault.after or not own:
            answer = self._forward(headers, body)
        if fault.delay:
            time.sleep(fault.delay)
        if fault.silent:
            self.server.ended.wait()
            self.close_connection = True
        elif fault.reset:
            self._reset()
        else:
            if answer is None or fault.status:
                answer = fault.status, list(fault.headers), fault.body
            self._answer(*answer, fault.keep)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *args: object) -> None:
        """Nobody reads it."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _forward(self, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        # The name of the host stays: the signature of the request covers it.
        connection = HTTPConnection("127.0.0.1", self.server.target, timeout=60)
        try:
            sent = {k: v for k, v in headers.items() if k.lower() not in ("transfer-encoding", "connection")}
            if body or self.command in ("PUT", "POST"):
                sent["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body or None, sent)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, keep: int | None) -> None:
        self.send_response_only(status)
        own = ("transfer-encoding", "connection", "content-length")
        for name, value in headers:
            if name.lower() not in own or (name.lower() == "content-length" and self.command == "HEAD"):
                self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if keep is None else body[:keep])
        if keep is not None:
            self.wfile.flush()
            self._reset()

    def _reset(self) -> None:
        self.close_connection = True
        # Closed without a wait for the other side, a socket resets its connection.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def finish(self) -> None:
        if self.connection.fileno() >= 0:
            super().finish()


@contextmanager
def scripted(port: int) -> Iterator[Scripted]:
    """A proxy before the server at a port."""
    with Scripted(port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            proxy.shutdown()
            thread.join()
