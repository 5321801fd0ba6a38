"""The names of a store's values in the server, and how its keys are spread over the shards of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from holdall.errors import KeyConflictError
from holdall.stores.valkey.link import Link, Retry
from holdall.stores.valkey.scripts import Script

__all__ = ["Group", "Names", "Place"]

Place = tuple[int, bytes, bytes]
"""The shard of a key, its name in the list of keys, and the name of its blob."""


class Group(NamedTuple):
    """Some keys of one shard."""

    shard: int
    keys: list[str]
    members: list[bytes]
    blobs: list[bytes]


class Names:
    """What a store calls its values in the server.

    Args:
        prefix: What all names begin with.
        shards: In how many parts the keys are kept, each of which is in one server.
    """

    def __init__(self, prefix: str, shards: int) -> None:
        self.prefix, self.base, self.shards = prefix, prefix.encode(), shards
        tags = [b"{%d}" % shard for shard in range(shards)] if shards > 1 else [b""]
        self.blobs = [self.base + tag + b"b:" for tag in tags]
        """For each shard what the names of blobs begin with."""
        self.chunks = [self.base + tag + b"c:" for tag in tags]
        """What the names of chunks begin with; the ETag follows."""
        self.indexes = [(self.base + tag + b"keys", self.base + tag + b"expiring") for tag in tags]
        """The names of the list of keys and of the list of those that expire."""

    def place(self, key: str) -> Place:
        member = key.encode()
        shard = crc32(member) % self.shards if self.shards > 1 else 0
        return shard, member, self.blobs[shard] + member

    def group(self, keys: Iterable[str]) -> list[Group]:
        """Group keys by their shards."""
        if self.shards == 1:
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
        link: Link,
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
        return list(zip(groups, link.run_many(script, calls, retry), strict=True)) if calls else []

    def conflict(self, key: str | None) -> KeyConflictError:
        """Return the error for another program's value in the place of a blob or of the list of keys."""
        return KeyConflictError(
            "another program keeps a value in the server under the name of this blob, or of the list of "
            f"keys; choose another prefix than {self.prefix!r}",
            key=key,
        )
