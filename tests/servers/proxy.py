"""A wire that fails."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any


class Proxy:
    """A wire between a store and its server that can be cut and slowed.

    Args:
        port: Where the server listens.

    Attributes:
        port: Where this does.
        cut: Told of every run of bytes, and which way it goes; True cuts the connection instead.
        delay: Seconds that each answer waits.
        hold: Told of every run of bytes to the server; they wait for the event that it gives, if it does,
            and reach the server even if the client has gone by then.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut: Callable[[str, bytes], bool] = lambda way, data: False
        self.delay = 0.0
        self.hold: Callable[[bytes], threading.Event | None] = lambda data: None
        self.connections = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, task: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=task, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self.connections += 1
            self._pairs.append((client, server))
            self._start(self._pass, client, server, "request")
            self._start(self._pass, server, client, "reply")

    def _pass(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if way == "reply" and self.delay:
                    time.sleep(self.delay)
                event = self.hold(data) if way == "request" else None
                if event is not None:
                    event.wait(60)
                if self.cut(way, data):
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        # A client that has filled the window sends nothing more, and sees the cut only once this end reads.
        with contextlib.suppress(OSError):
            while source.recv(65_536):
                pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for pair in self._pairs:
            for end in pair:
                end.close()
