"""The servers of a cluster: which of them has a slot, also while slots move and servers die."""

from __future__ import annotations

import binascii
import time
from collections.abc import Iterable, Sequence
from typing import Any

from holdall.errors import StoreClosedError, StoreError, StoreUnavailableError
from holdall.stores.valkey.connecting import Servers
from holdall.stores.valkey.errors import LostError, kind_of, translate
from holdall.stores.valkey.link import Link, Packed, Retry, Server, answer, packed


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


class Cluster(Link):
    """The servers of a cluster, found by asking any of them, with the slot of each shard. A request waits
    `timeout` seconds for a cluster that is being rearranged."""

    # The client's own map of slots (its NodesManager) isn't used: it connects when it is made, it takes 30
    # times as long to make, for each slot that moves, and in valkey-py it waits for a dead server each time.

    def __init__(self, servers: Servers, slots: Sequence[int], timeout: float) -> None:
        self._given, self._slots, self._timeout = servers, slots, timeout
        self._servers: dict[tuple[str, int], Server] = {}
        self._map: list[Server] = []
        self._closed = False

    def close(self) -> None:
        self._closed = True
        for server in list(self._servers.values()):
            server.close()

    def all_servers(self) -> Iterable[Server]:
        return dict.fromkeys(self._find())

    def _server(self, host: str, port: int) -> Server:
        server = self._servers.get((host, port))
        if server is None:
            made = Server(lambda: self._given.connect(host, port), f"{host}:{port}", self._given.drivers)
            if self._closed:
                made.close()
            server = self._servers.setdefault((host, port), made)
        return server

    def _at(self, host: str, port: int, reporter: Server) -> Server:
        """Return the server at an address that another server reported."""
        if host in ("", "?"):
            # Its own host, as it is reached from here.
            host = reporter.name.rpartition(":")[0]
        elif self._given.remap is not None:
            host, port = self._given.remap(host, port)
        return self._server(host, port)

    def _find(self, silent: Server | None = None) -> list[Server]:
        """Ask who serves which slots; the one that just failed is asked last."""
        failed: StoreError | None = None
        known = [self._server(*address) for address in dict.fromkeys([*self._servers, *self._given.seeds])]
        for server in sorted(known, key=lambda server: server is silent):
            try:
                reply = server.exchange((packed(b"CLUSTER", b"SLOTS"),), True)[0]
                if isinstance(reply, Exception):
                    raise translate(reply, server.name) from reply
            except StoreClosedError:
                raise
            except StoreError as error:
                failed = error
                continue
            shards: list[Server | None] = [None] * len(self._slots)
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

    def ask(
        self, shard: int, request: Packed, retry: Retry = Retry.ALWAYS, silent: Server | None = None
    ) -> Any:
        """Ask as `Link.ask` says; `silent` is the server that didn't answer the same request."""
        deadline, pause = time.monotonic() + self._timeout, 0.02
        # Where a server said that the slot is, and whether it is on its way there still.
        moved: Server | None = None
        asking = False
        hops = 0
        while True:
            server = moved or (self._map or self._find(silent))[shard]
            requests = (packed(b"ASKING"), request) if asking else (request,)
            moved, asking = None, False
            try:
                reply = server.exchange(requests, retry is Retry.NEVER)[-1]
            except LostError as lost:
                server.drop()
                self._map = []
                if silent is not None or not retry.is_due(lost):
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
            kind = kind_of(reply) if isinstance(reply, Exception) else ""
            if kind in ("MovedError", "AskError"):
                # "slot host:port", with or without the code before it.
                host, _, port = str(reply).rpartition(" ")[2].rpartition(":")
                moved, asking = self._at(host, int(port), server), kind == "AskError"
                if kind == "MovedError":
                    self._map = []
            elif kind not in ("TryAgainError", "ClusterDownError"):
                return answer(reply, server.name)
            if time.monotonic() > deadline:
                kind = kind if kind == "ClusterDownError" else "TryAgainError"
                raise translate(reply, server.name, kind) from reply
            hops += 1
            if moved is None or hops > 2:
                time.sleep(pause)
                pause = min(2 * pause, 0.1)

    def ask_many(self, requests: Sequence[tuple[int, Packed]], retry: Retry = Retry.ALWAYS) -> list[Any]:
        found = self._map or self._find()
        groups: dict[Server, list[int]] = {}
        for index, (shard, _) in enumerate(requests):
            groups.setdefault(found[shard], []).append(index)
        replies: list[Any] = [None] * len(requests)
        for server, indexes in groups.items():
            silent: Server | None = None
            got: list[Any] = []
            try:
                got = server.exchange([requests[index][1] for index in indexes], retry is Retry.NEVER)
            except StoreClosedError:
                raise
            except StoreUnavailableError as error:
                server.drop()
                self._map = []
                if isinstance(error, LostError) and not retry.is_due(error):
                    raise
                silent = server
            for number, index in enumerate(indexes):
                is_answer = silent is None and not isinstance(got[number], Exception)
                replies[index] = got[number] if is_answer else self.ask(*requests[index], retry, silent)
        return replies
