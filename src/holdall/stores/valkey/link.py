"""Connections to a server or a cluster: requests, replies, and lost connections."""

from __future__ import annotations

import binascii
import enum
import errno
import os
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeAlias

from holdall.errors import (
    MissingDependencyError,
    ReadOnlyError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from holdall.stores.valkey.scripts import Script

__all__ = [
    "Again",
    "Cluster",
    "DeniedError",
    "Drivers",
    "LateError",
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
"""Seconds after which an idle connection is checked before it is used."""
_STALE = 60.0
"""Seconds after which it isn't used any more: a firewall may have dropped it without a notice."""


class LostError(StoreUnavailableError):
    """The connection was lost after the request was sent: it is unknown whether it was carried out."""


class LateError(LostError):
    """No answer came in time: the request may still be carried out, even after later ones."""


class DeniedError(StoreUnavailableError):
    """The server doesn't let this user do it."""


class Again(enum.Enum):
    """Whether a request may be sent again when no answer came."""

    ALWAYS = enum.auto()
    """It does no harm whenever it is carried out, as a read."""
    LOST = enum.auto()
    """When the connection was lost, since the same put twice is one. Not when the answer is late: the first
    request may wait somewhere, and be carried out after, and over, another client's put."""
    NEVER = enum.auto()

    def after(self, lost: LostError) -> bool:
        return self is Again.ALWAYS or (self is Again.LOST and not isinstance(lost, LateError))


class Drivers(Protocol):
    """The module of a client's exceptions: those of redis-py and valkey-py have the same names."""

    ConnectionError: type[Exception]
    TimeoutError: type[Exception]
    ResponseError: type[Exception]
    AuthenticationError: type[Exception]


def driver(package: str | None = None) -> Any:
    """Import the client library: the one named, otherwise redis-py, otherwise valkey-py.

    Raises:
        MissingDependencyError: Neither is installed.
    """
    for name in (package,) if package else ("redis", "valkey"):
        try:
            return import_module(name)
        except ImportError:
            continue
        except OSError as error:
            raise StoreUnavailableError(
                f"the client library {name} is installed, and can't be loaded: {error}"
            ) from error
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
    """One server, with this process's idle connections to it."""

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
            except (*self._lost, self._late):
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
            # Where files run out, a module or a codec that is first needed here can't be loaded either.
            if isinstance(error, (self._late, self._replied, ImportError, LookupError, *self._lost)) and (
                not isinstance(error, StoreError)
            ):
                raise self._unreachable(error) from error
            raise
        return connection

    def _unreachable(self, error: BaseException) -> StoreError:
        if isinstance(error, (self._refused, self._replied)) or _kind(error) in _REPLIES:
            return told(error, self.name)
        # The client library raises its own error from that of the socket.
        cause = error.__context__ or error
        if _are_files_short(error):
            return StoreUnavailableError(
                f"too many files are open to connect to the server at {self.name}; close some, or raise the "
                "limit (ulimit -n)"
            )
        if isinstance(cause, ssl.SSLCertVerificationError):
            return StoreUnavailableError(
                f"the certificate of the server at {self.name} can't be trusted ({cause.verify_message}); "
                "tls_ca= names the authority that signed it"
            )
        if isinstance(cause, ssl.SSLError):
            return StoreUnavailableError(
                f"TLS with the server at {self.name} fails ({cause.reason}); does it speak TLS at this port, "
                "and does it ask for a certificate (tls_certificate=)?"
            )
        if isinstance(error, self._late):
            return StoreUnavailableError(
                f"the server at {self.name} doesn't answer; is it up, is the network, and do both ends agree "
                "on TLS (rediss://)? timeout= says how long to wait"
            )
        return StoreUnavailableError(
            f"no server can be reached at {self.name}; is it up, are host and port right, "
            "and does it ask for TLS (rediss://)?"
        )

    def exchange(self, requests: Iterable[Packed], count: int, look: bool) -> list[Any]:
        """Send requests together; return the reply to each, errors of the server included.

        Raises:
            LostError: The connection was lost.
            StoreUnavailableError: There is no connection.
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
            if isinstance(error, self._refused) or _kind(error) in _REPLIES:
                raise told(error, self.name) from error
            if isinstance(error, self._late):
                raise LateError(f"the server at {self.name} didn't answer in time (timeout=)") from error
            if isinstance(error, self._lost):
                raise LostError(f"the connection to {self.name} was lost in mid-call") from error
            raise
        if self._closed:
            self._end(connection)
        else:
            self._idle.append((connection, time.monotonic()))
        return replies


def _are_files_short(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        error = error.__cause__ or error.__context__
    return False


_REPLIES: dict[str, str] = {
    "BusyLoadingError": "is still loading its data; try again soon",
    "BusyError": "waits for another program's script to end; try again soon (SCRIPT KILL ends it)",
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
    "MisconfError": "can't write to its disk, and takes no writes until it can; see its log, and its disk",
    "NoReplicasError": "has too few replicas to take a write; see min-replicas-to-write in its configuration",
}


# What the client libraries have no class of error for: all but the newest redis-py know those of a cluster in
# a connection of a cluster's client only.
_CODES: dict[str, str] = {
    "MOVED": "MovedError",
    "ASK": "AskError",
    "TRYAGAIN": "TryAgainError",
    "CLUSTERDOWN": "ClusterDownError",
    "CROSSSLOT": "ClusterCrossSlotError",
    "MASTERDOWN": "MasterDownError",
    "MISCONF": "MisconfError",
    "READONLY": "ReadOnlyError",
    "NOREPLICAS": "NoReplicasError",
    "NOPERM": "NoPermissionError",
    "LOADING": "BusyLoadingError",
    "OOM": "OutOfMemoryError",
    "NOAUTH": "AuthenticationError",
    "WRONGPASS": "AuthenticationError",
}
_WORDS: dict[str, str] = {
    "max number of clients": "MaxClientsError",
    "unauthenticated": "AuthenticationError",
    "can't run this command": "NoPermissionError",
    "can't access at least one of the keys": "NoPermissionError",
    "access a non local key": "TryAgainError",
    "is busy running a": "BusyError",
}


def _kind(error: BaseException) -> str:
    text, kind = str(error), type(error).__name__
    if kind != "ResponseError" and kind in _REPLIES:
        return kind
    code = _CODES.get(text.partition(" ")[0])
    return code or next((kind for words, kind in _WORDS.items() if words in text), kind)


def told(error: BaseException, name: str) -> StoreError:
    """Return the StoreError for an error reply."""
    kind, text = _kind(error), str(error)
    if kind == "ReadOnlyError":
        return ReadOnlyError(
            f"the server at {name} is a replica, which takes no writes; connect to its primary"
        )
    if kind == "NoPermissionError":
        return DeniedError(f"the server at {name} {_REPLIES[kind]}")
    if "cluster support disabled" in text:
        return StoreUnavailableError(f"the server at {name} doesn't belong to a cluster; leave cluster= out")
    return StoreUnavailableError(f"the server at {name} {_REPLIES.get(kind, f'replied: {text}')}")


class Link:
    """The requests of a store, wherever its shards are."""

    def ask(self, shard: int, request: Packed, again: Again = Again.ALWAYS) -> Any:
        """The reply to one request.

        Args:
            shard: Whose keys it is about.
            request: What `packed` made.
            again: Whether it may be sent again when the connection is lost.

        Raises:
            LostError: The connection was lost, and it may not, or it was lost again.
        """
        raise NotImplementedError

    def ask_many(self, requests: Sequence[tuple[int, Packed]], again: Again = Again.ALWAYS) -> list[Any]:
        """Return the reply to each of several requests, none of which waits for another."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def search(self, pattern: bytes) -> Iterator[list[bytes]]:
        """The names in the servers that match a pattern, some of them perhaps twice."""
        for server in self._all_servers():
            cursor = b"0"
            while True:
                request = packed(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"1000")
                reply = server.exchange((request,), 1, True)[0]
                if isinstance(reply, Exception):
                    raise told(reply, server.name) from reply
                cursor, names = reply
                yield names
                if cursor == b"0":
                    break

    def _all_servers(self) -> Iterable[_Server]:
        raise NotImplementedError

    def run(
        self,
        shard: int,
        script: Script,
        keys: Sequence[bytes],
        arguments: Sequence[Part],
        again: Again = Again.ALWAYS,
    ) -> Any:
        """Return the result of a script."""
        count = b"%d" % len(keys)
        try:
            return self.ask(shard, packed(b"EVALSHA", script.digest, count, *keys, *arguments), again)
        except NoScriptError:
            return self.ask(shard, packed(b"EVAL", script.source, count, *keys, *arguments), again)

    def run_many(
        self,
        script: Script,
        calls: Sequence[tuple[int, Sequence[bytes], Sequence[Part]]],
        again: Again = Again.ALWAYS,
    ) -> list[Any]:
        """Return the results of a script for each of several shards."""
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

    def _all_servers(self) -> Iterable[_Server]:
        return (self._server,)

    def close(self) -> None:
        self._server.close()

    def ask(self, shard: int, request: Packed, again: Again = Again.ALWAYS) -> Any:
        reply = self._exchange((request,), again)[0]
        return self._checked(reply) if isinstance(reply, Exception) else reply

    def ask_many(self, requests: Sequence[tuple[int, Packed]], again: Again = Again.ALWAYS) -> list[Any]:
        replies = self._exchange([request for _, request in requests], again)
        return [self._listed(reply) if isinstance(reply, Exception) else reply for reply in replies]

    def _exchange(self, requests: Sequence[Packed], again: Again) -> list[Any]:
        server = self._server
        try:
            return server.exchange(requests, len(requests), again is Again.NEVER)
        except LostError as lost:
            server.drop()
            if not again.after(lost):
                raise
        return server.exchange(requests, len(requests), False)

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
        timeout: Seconds to wait for a cluster that is being rearranged.
        remap: Maps the address that a server reports to the one that reaches it from here.
    """

    def __init__(
        self,
        connect: Callable[[str, int], Any],
        seeds: Sequence[tuple[str, int]],
        drivers: Drivers,
        slots: Sequence[int],
        timeout: float,
        remap: Callable[[str, int], tuple[str, int]] | None = None,
    ) -> None:
        self._remap = remap
        self._connect, self._seeds, self._drivers = connect, list(seeds), drivers
        self._slots, self._timeout = slots, timeout
        self._servers: dict[tuple[str, int], _Server] = {}
        self._map: list[_Server] = []
        self._closed = False

    def close(self) -> None:
        self._closed = True
        for server in list(self._servers.values()):
            server.close()

    def _all_servers(self) -> Iterable[_Server]:
        return dict.fromkeys(self._find())

    def _server(self, host: str, port: int) -> _Server:
        server = self._servers.get((host, port))
        if server is None:
            made = _Server(lambda: self._connect(host, port), f"{host}:{port}", self._drivers)
            if self._closed:
                made.close()
            server = self._servers.setdefault((host, port), made)
        return server

    def _at(self, host: str, port: int, teller: _Server) -> _Server:
        """Return the server at an address that another server reported."""
        if host in ("", "?"):
            # Its own host, as it is reached from here.
            host = teller.name.rpartition(":")[0]
        elif self._remap is not None:
            host, port = self._remap(host, port)
        return self._server(host, port)

    def _find(self, silent: _Server | None = None) -> list[_Server]:
        """Ask who serves which slots; the one that just failed is asked last."""
        failed: StoreError | None = None
        known = [self._server(*address) for address in dict.fromkeys([*self._servers, *self._seeds])]
        for server in sorted(known, key=lambda server: server is silent):
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
                there = self._at((primary[0] or b"").decode(), primary[1], server)
                for shard, slot in enumerate(self._slots):
                    if low <= slot <= high:
                        shards[shard] = there
            found = [server for server in shards if server is not None]
            if len(found) == len(self._slots):
                self._map = found
                return found
            failed = StoreUnavailableError(f"the cluster of {server.name} is down: some slots aren't served")
        assert failed is not None
        raise failed

    def ask(self, shard: int, request: Packed, again: Again = Again.ALWAYS) -> Any:
        return self._ask(shard, request, again, None)

    def _ask(self, shard: int, request: Packed, again: Again, silent: _Server | None) -> Any:
        """Ask as `ask` does; `silent` is the server that didn't answer the same request."""
        deadline, pause = time.monotonic() + self._timeout, 0.02
        # Where a server said that the slot is, and whether it is on its way there still.
        moved: _Server | None = None
        asking = False
        hops = 0
        while True:
            server = moved or (self._map or self._find(silent))[shard]
            requests = (packed(b"ASKING"), request) if asking else (request,)
            moved, asking = None, False
            try:
                reply = server.exchange(requests, len(requests), again is Again.NEVER)[-1]
            except LostError as lost:
                server.drop()
                self._map = []
                if silent is not None or not again.after(lost):
                    raise
                silent = server
                continue
            except StoreClosedError:
                raise
            except StoreUnavailableError:
                # Nothing was sent: a replica may have taken its place.
                self._map = []
                if time.monotonic() > deadline or (silent is not None and pause > 0.1):
                    raise
                silent = server
                time.sleep(pause)
                pause *= 2
                continue
            if not isinstance(reply, Exception):
                return reply
            kind = _kind(reply)
            if kind in ("MovedError", "AskError"):
                # "slot host:port", with or without the code before it.
                host, _, port = str(reply).rpartition(" ")[2].rpartition(":")
                moved, asking = self._at(host, int(port), server), kind == "AskError"
                if kind == "MovedError":
                    self._map = []
            elif kind not in ("TryAgainError", "ClusterDownError"):
                return self._checked(reply, server)
            if time.monotonic() > deadline:
                state = _REPLIES["ClusterDownError" if kind == "ClusterDownError" else "TryAgainError"]
                raise StoreUnavailableError(f"the server at {server.name} {state}") from reply
            hops += 1
            if moved is None or hops > 2:
                time.sleep(pause)
                pause = min(2 * pause, 0.1)

    def _checked(self, reply: Exception, server: _Server) -> Any:
        if type(reply).__name__ == "NoScriptError":
            raise NoScriptError
        if "WRONGTYPE" in str(reply):
            return None
        raise told(reply, server.name) from reply

    def ask_many(self, requests: Sequence[tuple[int, Packed]], again: Again = Again.ALWAYS) -> list[Any]:
        found = self._map or self._find()
        groups: dict[_Server, list[int]] = {}
        for index, (shard, _) in enumerate(requests):
            groups.setdefault(found[shard], []).append(index)
        replies: list[Any] = [None] * len(requests)
        for server, indexes in groups.items():
            each = [requests[index][1] for index in indexes]
            try:
                told_all = server.exchange(each, len(each), again is Again.NEVER)
            except StoreClosedError:
                raise
            except StoreUnavailableError as error:
                server.drop()
                self._map = []
                if isinstance(error, LostError) and not again.after(error):
                    raise
                told_all = [self._one(*requests[index], again, server) for index in indexes]
            for index, reply in zip(indexes, told_all, strict=True):
                if isinstance(reply, Exception) and not isinstance(reply, NoScriptError):
                    reply = self._one(*requests[index], again, None)
                replies[index] = reply
        return replies

    def _one(self, shard: int, request: Packed, again: Again, silent: _Server | None) -> Any:
        try:
            return self._ask(shard, request, again, silent)
        except NoScriptError as error:
            return error
