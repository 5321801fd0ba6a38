"""Connections to a server or a cluster: requests out, replies in, and what becomes of lost ones."""

from __future__ import annotations

import binascii
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeAlias, cast

from holdall.errors import (
    MissingDependencyError,
    ReadOnlyError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from holdall.stores.valkey.scripts import Script

__all__ = [
    "Cluster",
    "Drivers",
    "Link",
    "LostError",
    "NoScriptError",
    "Packed",
    "Part",
    "Single",
    "driver",
    "packed",
    "slot_of",
]

Part: TypeAlias = "bytes | list[bytes | memoryview]"
"""One argument of a request, whole or in pieces."""
Packed: TypeAlias = "list[bytes | memoryview]"
"""A request as it goes to the socket: small parts joined, large ones as they are."""

_LARGE = 16_384
_CHECKED = 1.0
"""Seconds after which a connection that lay idle is looked at before it is used."""


class LostError(StoreUnavailableError):
    """The connection was lost after the request was sent: nobody can tell whether it was carried out."""


class Drivers(Protocol):
    """The module of a client's exceptions: those of redis-py and valkey-py have the same names."""

    ConnectionError: type[Exception]
    TimeoutError: type[Exception]
    ResponseError: type[Exception]
    AuthenticationError: type[Exception]


def driver(package: str | None = None) -> Any:
    """The client library: the one named, else redis-py, else valkey-py.

    Raises:
        MissingDependencyError: There is neither.
    """
    for name in (package,) if package else ("redis", "valkey"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise MissingDependencyError("ValkeyStore needs a client library: pip install 'holdall[valkey]'")


def slot_of(name: bytes) -> int:
    """The slot of a cluster that a name belongs to (Redis cluster specification, key distribution model).

    >>> slot_of(b"123456789"), slot_of(b"a{123456789}b")
    (12739, 12739)
    """
    begin = name.find(b"{")
    if begin >= 0:
        end = name.find(b"}", begin + 1)
        if end > begin + 1:
            name = name[begin + 1 : end]
    return binascii.crc_hqx(name, 0) & 16383


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


class _Server:
    """One server: the connections of this process to it that nobody uses just now."""

    def __init__(self, connect: Callable[[], Any], name: str, drivers: Drivers) -> None:
        self.name = name
        self._connect = connect
        self._lost = (drivers.ConnectionError, OSError)
        self._late = drivers.TimeoutError
        self._replied = drivers.ResponseError
        self._refused = drivers.AuthenticationError
        self._idle: deque[tuple[Any, float]] = deque()
        self._process = os.getpid()
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self.drop()

    def drop(self) -> None:
        """Leave the connections that nobody uses."""
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
            if not look and time.monotonic() - used < _CHECKED:
                return connection
            try:
                # Nothing was asked, so that there is nothing to read but the end.
                if not connection.can_read(0):
                    return connection
            except (*self._lost, self._late):
                pass
            self._end(connection)

    def _new(self) -> Any:
        connection = self._connect()
        try:
            connection.connect()
        except BaseException as error:
            self._end(connection)
            if isinstance(error, (self._late, self._replied, *self._lost)):
                raise self._unreachable(error) from error
            raise
        return connection

    def _unreachable(self, error: BaseException) -> StoreUnavailableError:
        if isinstance(error, self._refused | self._replied):
            return cast(StoreUnavailableError, told(error, self.name))
        if isinstance(error, self._late):
            return StoreUnavailableError(
                f"the server at {self.name} doesn't answer; is it up, and is the network? "
                "timeout= says how long to wait"
            )
        return StoreUnavailableError(
            f"no server can be reached at {self.name}; is it up, are host and port right, "
            "and does it ask for TLS (rediss://)?"
        )

    def exchange(self, requests: Iterable[Packed], count: int, look: bool) -> list[Any]:
        """Send requests at once, and give the reply to each; an error that the server replied is among them.

        Raises:
            LostError: The connection was lost.
            StoreUnavailableError: There is none.
        """
        connection = self._take(look)
        replies: list[Any] = []
        try:
            for request in requests:
                connection.send_packed_command(request, check_health=False)
            for _ in range(count):
                try:
                    replies.append(connection.read_response(disable_decoding=True))
                except self._replied as error:
                    # With its frames it would hold the requests, and itself, until they are collected.
                    replies.append(error.with_traceback(None))
        except BaseException as error:
            self._end(connection)
            if isinstance(error, self._refused) or type(error).__name__ in _REPLIES:
                raise told(error, self.name) from error
            if isinstance(error, self._late):
                raise LostError(f"the server at {self.name} didn't answer in time (timeout=)") from error
            if isinstance(error, self._lost):
                raise LostError(f"the connection to {self.name} was lost in mid-call") from error
            raise
        if self._closed:
            self._end(connection)
        else:
            self._idle.append((connection, time.monotonic()))
        return replies


_REPLIES: dict[str, str] = {
    "BusyLoadingError": "is still loading its data; try again soon",
    "AuthenticationError": "asks for another password or user; give it as user:password@ or password=",
    "AuthenticationWrongNumberOfArgsError": "takes no user names; give a password only",
    "NoPermissionError": "doesn't let this user do it; see its ACL",
    "OutOfMemoryError": "is full; see maxmemory in its configuration",
    "MaxClientsError": "has too many clients; see maxclients in its configuration",
    "ClusterDownError": "belongs to a cluster that is down",
    "MasterDownError": "belongs to a cluster that is down",
    "TryAgainError": "belongs to a cluster that is being rearranged; try again soon",
    "MovedError": "belongs to a cluster; pass cluster=True (?cluster=1)",
    "AskError": "belongs to a cluster; pass cluster=True (?cluster=1)",
    "ClusterCrossSlotError": "belongs to a cluster; pass cluster=True (?cluster=1)",
}


def told(error: BaseException, name: str) -> StoreError:
    """What a reply that is an error means."""
    kind = type(error).__name__
    if kind == "ReadOnlyError":
        return ReadOnlyError(f"the server at {name} is a replica, which takes no writes")
    text = str(error)
    if kind == "ConnectionError" and "max number of clients" in text:
        kind = "MaxClientsError"
    if "CROSSSLOT" in text:
        kind = "ClusterCrossSlotError"
    if "unauthenticated" in text:
        kind = "AuthenticationError"
    if "cluster support disabled" in text:
        return StoreUnavailableError(f"the server at {name} is in no cluster; leave cluster= out")
    return StoreUnavailableError(f"the server at {name} {_REPLIES.get(kind, f'replied: {text}')}")


class Link:
    """What a store asks, wherever its shards are."""

    def ask(self, shard: int, request: Packed, again: bool = True) -> Any:
        """The reply to one request.

        Args:
            shard: Whose keys it is about.
            request: What `packed` made.
            again: Whether it may be sent again when the connection is lost.

        Raises:
            LostError: The connection was lost, and it may not, or it was lost again.
        """
        raise NotImplementedError

    def ask_many(self, requests: Sequence[tuple[int, Packed]], again: bool = True) -> list[Any]:
        """The reply to each of several requests, of which none waits for another."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def run(
        self, shard: int, script: Script, keys: Sequence[bytes], arguments: Sequence[Part], again: bool = True
    ) -> Any:
        """What a script returns."""
        count = b"%d" % len(keys)
        try:
            return self.ask(shard, packed(b"EVALSHA", script.digest, count, *keys, *arguments), again)
        except NoScriptError:
            return self.ask(shard, packed(b"EVAL", script.source, count, *keys, *arguments), again)

    def run_many(
        self, script: Script, calls: Sequence[tuple[int, Sequence[bytes], Sequence[Part]]], again: bool = True
    ) -> list[Any]:
        """What a script returns for each of several shards."""
        if len(calls) == 1:
            return [self.run(calls[0][0], script, calls[0][1], calls[0][2], again)]
        requests = [
            (shard, packed(b"EVALSHA", script.digest, b"%d" % len(keys), *keys, *arguments))
            for shard, keys, arguments in calls
        ]
        replies = self.ask_many(requests, again)
        for index, (shard, keys, arguments) in enumerate(calls):
            if isinstance(replies[index], NoScriptError):
                replies[index] = self.run(shard, script, keys, arguments, again)
        return replies


class NoScriptError(Exception):
    """The server doesn't know the script yet."""


class Single(Link):
    """One server."""

    def __init__(self, connect: Callable[[], Any], name: str, drivers: Drivers) -> None:
        self._server = _Server(connect, name, drivers)

    def close(self) -> None:
        self._server.close()

    def ask(self, shard: int, request: Packed, again: bool = True) -> Any:
        server = self._server
        try:
            reply = server.exchange((request,), 1, not again)[0]
        except LostError:
            server.drop()
            if not again:
                raise
            reply = server.exchange((request,), 1, False)[0]
        return self._checked(reply) if isinstance(reply, Exception) else reply

    def ask_many(self, requests: Sequence[tuple[int, Packed]], again: bool = True) -> list[Any]:
        server, each = self._server, [request for _, request in requests]
        try:
            replies = server.exchange(each, len(each), not again)
        except LostError:
            server.drop()
            if not again:
                raise
            replies = server.exchange(each, len(each), False)
        return [self._listed(reply) if isinstance(reply, Exception) else reply for reply in replies]

    def _listed(self, reply: Exception) -> Any:
        if type(reply).__name__ == "NoScriptError":
            return NoScriptError()
        return self._checked(reply)

    def _checked(self, reply: Exception) -> Any:
        if type(reply).__name__ == "NoScriptError":
            raise NoScriptError
        if "WRONGTYPE" in str(reply):
            return None
        raise told(reply, self._server.name) from reply


class Cluster(Link):
    """The servers of a cluster, found by asking any of them.

    Args:
        connect: Makes a connection to a host and port.
        seeds: Where to ask first.
        drivers: The exceptions of the client library.
        slots: The slot of each shard.
        timeout: How many seconds a cluster that is being rearranged is waited for.
    """

    def __init__(
        self,
        connect: Callable[[str, int], Any],
        seeds: Sequence[tuple[str, int]],
        drivers: Drivers,
        slots: Sequence[int],
        timeout: float,
    ) -> None:
        self._connect, self._seeds, self._drivers = connect, list(seeds), drivers
        self._slots, self._timeout = slots, timeout
        self._servers: dict[tuple[str, int], _Server] = {}
        self._map: list[_Server] = []
        self._closed = False

    def close(self) -> None:
        self._closed = True
        for server in list(self._servers.values()):
            server.close()

    def _server(self, host: str, port: int) -> _Server:
        server = self._servers.get((host, port))
        if server is None:
            made = _Server(lambda: self._connect(host, port), f"{host}:{port}", self._drivers)
            if self._closed:
                made.close()
            server = self._servers.setdefault((host, port), made)
        return server

    def _find(self) -> list[_Server]:
        """Ask who serves which slots."""
        failed: StoreError | None = None
        for host, port in dict.fromkeys([*self._servers, *self._seeds]):
            server = self._server(host, port)
            try:
                reply = server.exchange((packed(b"CLUSTER", b"SLOTS"),), 1, True)[0]
                if isinstance(reply, Exception):
                    raise told(reply, server.name) from reply
            except StoreClosedError:
                raise
            except StoreError as error:
                failed = error
                continue
            shards: list[_Server | None] = [None] * len(self._slots)
            for low, high, primary, *_ in reply:
                address = (primary[0] or b"").decode()
                for shard, slot in enumerate(self._slots):
                    if low <= slot <= high:
                        shards[shard] = self._server(host if address in ("", "?") else address, primary[1])
            found = [server for server in shards if server is not None]
            if len(found) == len(self._slots):
                self._map = found
                return found
            failed = StoreUnavailableError(f"the cluster of {server.name} is down: nobody serves some slots")
        assert failed is not None
        raise failed

    def ask(self, shard: int, request: Packed, again: bool = True) -> Any:
        deadline, pause = time.monotonic() + self._timeout, 0.02
        asked: _Server | None = None
        looked = False
        while True:
            server = asked or (self._map or self._find())[shard]
            try:
                if asked is None:
                    reply = server.exchange((request,), 1, not again)[0]
                else:
                    reply = server.exchange((packed(b"ASKING"), request), 2, not again)[1]
            except LostError:
                server.drop()
                self._map = []
                if not again or looked:
                    raise
                looked, asked = True, None
                continue
            except StoreClosedError:
                raise
            except StoreUnavailableError:
                # Nothing was sent: a replica may have taken its place.
                self._map = []
                if time.monotonic() > deadline or (looked and pause > 0.1):
                    raise
                looked, asked = True, None
                time.sleep(pause)
                pause *= 2
                continue
            if not isinstance(reply, Exception):
                return reply
            kind, asked = type(reply).__name__, None
            if kind == "MovedError":
                self._map = []
            elif kind == "AskError":
                at = cast(Any, reply)
                asked = self._server(at.host, at.port)
                continue
            elif kind not in ("TryAgainError", "ClusterDownError"):
                return self._checked(reply, server)
            if time.monotonic() > deadline:
                raise told(reply, server.name) from reply
            time.sleep(pause)
            pause = min(2 * pause, 0.5)

    def _checked(self, reply: Exception, server: _Server) -> Any:
        if type(reply).__name__ == "NoScriptError":
            raise NoScriptError
        if "WRONGTYPE" in str(reply):
            return None
        raise told(reply, server.name) from reply

    def ask_many(self, requests: Sequence[tuple[int, Packed]], again: bool = True) -> list[Any]:
        if not again:
            return [self._one(shard, request, again) for shard, request in requests]
        found = self._map or self._find()
        groups: dict[_Server, list[int]] = {}
        for index, (shard, _) in enumerate(requests):
            groups.setdefault(found[shard], []).append(index)
        replies: list[Any] = [None] * len(requests)
        for server, indexes in groups.items():
            try:
                told_all = server.exchange([requests[index][1] for index in indexes], len(indexes), False)
            except StoreClosedError:
                raise
            except StoreUnavailableError:
                server.drop()
                self._map = []
                told_all = [self._one(*requests[index], True) for index in indexes]
            for index, reply in zip(indexes, told_all, strict=True):
                if isinstance(reply, Exception) and not isinstance(reply, NoScriptError):
                    reply = self._one(*requests[index], True)
                replies[index] = reply
        return replies

    def _one(self, shard: int, request: Packed, again: bool) -> Any:
        try:
            return self.ask(shard, request, again)
        except NoScriptError as error:
            return error
