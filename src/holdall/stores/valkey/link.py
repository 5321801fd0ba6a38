"""Connections to a server: requests, replies, and what may be sent again when a connection is lost."""

from __future__ import annotations

import enum
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from holdall.errors import StoreClosedError, StoreError
from holdall.stores.valkey.errors import Drivers, LateError, LostError, is_reply, translate, unreachable
from holdall.stores.valkey.scripts import Script

Part: TypeAlias = "bytes | list[bytes | memoryview]"
"""One argument of a request, whole or in pieces."""
Packed: TypeAlias = "list[bytes | memoryview]"
"""A request as it goes to the socket: small parts joined, large ones as they are."""

NO_SCRIPT: Final = object()
"""The reply of a server that doesn't know a script yet."""

_LARGE = 16_384
_CHECKED = 1.0
"""Seconds after which an idle connection is checked before it is used."""
_STALE = 60.0
"""Seconds after which it isn't used any more: a firewall may have dropped it without a notice."""


class Retry(enum.Enum):
    """Whether a request may be sent again when no answer came."""

    ALWAYS = enum.auto()
    """It does no harm whenever it is carried out, as a read."""
    LOST = enum.auto()
    """When the connection was lost, since the same put twice is one. Not when the answer is late: the first
    request may wait somewhere, and be carried out after, and over, another client's put."""
    NEVER = enum.auto()

    def is_due(self, lost: LostError) -> bool:
        return self is Retry.ALWAYS or (self is Retry.LOST and not isinstance(lost, LateError))


def packed(*parts: Part) -> Packed:
    """A request, as the protocol has it (RESP); a part that is a list of pieces is sent as one.

    >>> packed(b"GET", b"key")
    [b'*2\\r\\n$3\\r\\nGET\\r\\n$3\\r\\nkey\\r\\n']
    """
    out: Packed = []
    small: list[bytes | memoryview] = [b"*%d\r\n" % len(parts)]
    for part in parts:
        if isinstance(part, bytes):
            size = len(part)
            if size < _LARGE:
                small += (b"$%d\r\n" % size, part, b"\r\n")
                continue
            pieces: Packed = [part]
        else:
            pieces = part
            size = sum(len(piece) for piece in pieces)
        small.append(b"$%d\r\n" % size)
        for piece in pieces:
            if len(piece) < _LARGE:
                small.append(piece)
            else:
                out.append(b"".join(small))
                out.append(piece)
                small = []
        small.append(b"\r\n")
    out.append(b"".join(small))
    return out


class Server:
    """One server, with this process's idle connections to it; `connect` makes one that isn't open yet."""

    def __init__(self, connect: Callable[[], Any], name: str, drivers: Drivers) -> None:
        self.name = name
        self._connect, self._drivers = connect, drivers
        self._lost = (drivers.ConnectionError, OSError)
        self._replied = drivers.ResponseError
        self._idle: deque[tuple[Any, float]] = deque()
        self._process = os.getpid()
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self.drop()

    def drop(self) -> None:
        """Forget the idle connections."""
        while True:
            try:
                connection = self._idle.pop()[0]
            except IndexError:
                return
            self._end(connection)

    def _end(self, connection: Any) -> None:
        try:
            connection.disconnect()
        except self._lost:
            # It is broken already.
            pass

    def _take(self, look: bool) -> Any:
        if self._closed:
            raise StoreClosedError("this ValkeyStore is closed; open the store again")
        if self._process != os.getpid():
            # The parent's connections stay the parent's: only this process's copies of them are closed.
            self._idle, old = deque(), self._idle
            self._process = os.getpid()
            for connection, _ in old:
                self._end(connection)
        while True:
            try:
                connection, used = self._idle.pop()
            except IndexError:
                return self._new()
            idle = time.monotonic() - used
            if not look and idle < _CHECKED:
                return connection
            try:
                # Nothing was asked, so that there is nothing to read but the end.
                if idle < _STALE and not connection.can_read(0):
                    return connection
            except (*self._lost, self._drivers.TimeoutError):
                pass
            self._end(connection)

    def _new(self) -> Any:
        connection: Any = None
        try:
            connection = self._connect()
            connection.connect()
        except BaseException as error:
            if connection is not None:
                self._end(connection)
            # Where files run out, a module or a codec that is first needed here can't be loaded either. A
            # host that can't be spelled (IDNA) is found out here too.
            others = ImportError, LookupError, UnicodeError
            if isinstance(error, (self._drivers.TimeoutError, self._replied, *others, *self._lost)) and (
                not isinstance(error, StoreError)
            ):
                raise unreachable(error, self.name, self._drivers) from error
            raise
        return connection

    def exchange(self, requests: Sequence[Packed], look: bool) -> list[Any]:
        """Send requests together; return the reply to each, errors of the server included. `look` says
        whether to check first that the connection is still open.

        Raises:
            LostError: The connection was lost.
            StoreUnavailableError: There is no connection.
        """
        connection = self._take(look)
        replies: list[Any] = []
        try:
            for request in requests:
                connection.send_packed_command(request, check_health=False)
            for _ in requests:
                try:
                    replies.append(connection.read_response(disable_decoding=True))
                except self._replied as error:
                    # With its frames it would hold the requests, and itself, until they are collected.
                    replies.append(error.with_traceback(None))
        except BaseException as error:
            self._end(connection)
            if is_reply(error):
                raise translate(error, self.name) from error
            if isinstance(error, self._drivers.TimeoutError):
                raise LateError(f"the server at {self.name} didn't answer in time (timeout=)") from error
            if isinstance(error, self._lost):
                raise LostError(f"the connection to {self.name} was lost in mid-call") from error
            raise
        if self._closed:
            self._end(connection)
        else:
            self._idle.append((connection, time.monotonic()))
        return replies


def answer(reply: Any, name: str) -> Any:
    """Return what a server's reply means: None for a value of another type, `NO_SCRIPT`, or the reply itself.

    Raises:
        StoreError: It is an error reply of the server of this name.
    """
    if not isinstance(reply, Exception):
        return reply
    if type(reply).__name__ == "NoScriptError":
        return NO_SCRIPT
    if "WRONGTYPE" in str(reply):
        return None
    raise translate(reply, name) from reply


class Link:
    """The requests of a store, wherever its shards are."""

    def ask(self, shard: int, request: Packed, retry: Retry = Retry.ALWAYS) -> Any:
        """Return what `answer` makes of the reply to one request about a shard.

        Raises:
            LostError: The connection was lost, and the request may not be sent again, or it was lost again.
        """
        raise NotImplementedError

    def ask_many(self, requests: Sequence[tuple[int, Packed]], retry: Retry = Retry.ALWAYS) -> list[Any]:
        """Do the same for several requests, none of which waits for another."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def all_servers(self) -> Iterable[Server]:
        raise NotImplementedError

    def search(self, pattern: bytes) -> Iterator[list[bytes]]:
        """The names in the servers that match a pattern, some of them perhaps twice."""
        for server in self.all_servers():
            cursor = b"0"
            while True:
                request = packed(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"1000")
                cursor, names = answer(server.exchange((request,), True)[0], server.name)
                yield names
                if cursor == b"0":
                    break

    def run(
        self,
        shard: int,
        script: Script,
        keys: Sequence[bytes],
        arguments: Sequence[Part],
        retry: Retry = Retry.ALWAYS,
    ) -> Any:
        """Return the result of a script."""
        tail = b"%d" % len(keys), *keys, *arguments
        reply = self.ask(shard, packed(b"EVALSHA", script.digest, *tail), retry)
        if reply is NO_SCRIPT:
            reply = self.ask(shard, packed(b"EVAL", script.source, *tail), retry)
        return reply

    def run_many(
        self,
        script: Script,
        calls: Sequence[tuple[int, Sequence[bytes], Sequence[Part]]],
        retry: Retry = Retry.ALWAYS,
    ) -> list[Any]:
        """Return the results of a script for each of several shards."""
        if len(calls) == 1:
            return [self.run(calls[0][0], script, *calls[0][1:], retry)]
        requests = [
            (shard, packed(b"EVALSHA", script.digest, b"%d" % len(keys), *keys, *arguments))
            for shard, keys, arguments in calls
        ]
        replies = self.ask_many(requests, retry)
        for index, (shard, keys, arguments) in enumerate(calls):
            if replies[index] is NO_SCRIPT:
                replies[index] = self.run(shard, script, keys, arguments, retry)
        return replies


class Single(Link):
    """One server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def all_servers(self) -> Iterable[Server]:
        return (self._server,)

    def close(self) -> None:
        self._server.close()

    def ask(self, shard: int, request: Packed, retry: Retry = Retry.ALWAYS) -> Any:
        reply = self._exchange((request,), retry)[0]
        return answer(reply, self._server.name) if isinstance(reply, Exception) else reply

    def ask_many(self, requests: Sequence[tuple[int, Packed]], retry: Retry = Retry.ALWAYS) -> list[Any]:
        replies = self._exchange([request for _, request in requests], retry)
        return [answer(reply, self._server.name) for reply in replies]

    def _exchange(self, requests: Sequence[Packed], retry: Retry) -> list[Any]:
        server = self._server
        try:
            return server.exchange(requests, retry is Retry.NEVER)
        except LostError as lost:
            server.drop()
            if not retry.is_due(lost):
                raise
        return server.exchange(requests, False)
