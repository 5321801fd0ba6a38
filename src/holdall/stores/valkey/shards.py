"""The shards of a store: what its values are called, where they are, and requests that go to several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from holdall.stores.valkey.cluster import Cluster, slot_of
from holdall.stores.valkey.connecting import Servers
from holdall.stores.valkey.link import Link, Retry, Server, Single
from holdall.stores.valkey.scripts import Script

_COUNT = 64
"""The number of shards of a store in a cluster; each is on one server."""

Place = tuple[int, bytes, bytes]
"""The shard of a key, its name in the list of keys, and the name of its blob."""


class Group(NamedTuple):
    """Some keys of one shard."""

    shard: int
    keys: list[str]
    members: list[bytes]
    blobs: list[bytes]


class Shards:
    """The parts of a store, each of which is in one server; one, unless it is in a cluster."""

    def __init__(self, prefix: str, servers: Servers, timeout: float) -> None:
        self.prefix, self.base = prefix, prefix.encode()
        tags = [b"{%d}" % number for number in range(_COUNT)] if servers.is_cluster else [b""]
        names = [self.base + tag for tag in tags]
        self.count = len(names)
        self.blobs = [name + b"b:" for name in names]
        """For each shard what the names of blobs begin with."""
        self.chunks = [name + b"c:" for name in names]
        """What the names of chunks begin with; the ETag follows."""
        self.indexes = [(name + b"keys", name + b"expiring") for name in names]
        """The names of the list of keys and of the list of those that expire."""
        if servers.is_cluster:
            self.link: Link = Cluster(servers, [slot_of(name) for name in names], timeout)
        else:
            host, port = servers.seeds[0]
            name = f"{host}:{port}" if port else host
            self.link = Single(Server(lambda: servers.connect(host, port), name, servers.drivers))

    def place(self, key: str) -> Place:
        member = key.encode()
        shard = crc32(member) % self.count if self.count > 1 else 0
        return shard, member, self.blobs[shard] + member

    def group(self, keys: Iterable[str]) -> list[Group]:
        """Group keys by their shards."""
        if self.count == 1:
            own, blobs = list(keys), self.blobs[0]
            members = [key.encode() for key in own]
            return [Group(0, own, members, [blobs + member for member in members])] if own else []
        groups: dict[int, Group] = {}
        for key in keys:
            shard, member, name = self.place(key)
            group = groups.get(shard) or groups.setdefault(shard, Group(shard, [], [], []))
            group.keys.append(key)
            group.members.append(member)
            group.blobs.append(name)
        return list(groups.values())

    def run(
        self,
        script: Script,
        keys: Iterable[str],
        arguments: Callable[[Group], Sequence[bytes]],
        retry: Retry,
    ) -> list[tuple[Group, Any]]:
        """Run a script for many keys, once for each shard, and return what it returned."""
        groups = self.group(keys)
        calls = [
            (group.shard, (*self.indexes[group.shard], *group.blobs), arguments(group)) for group in groups
        ]
        return list(zip(groups, self.link.run_many(script, calls, retry), strict=True)) if calls else []
