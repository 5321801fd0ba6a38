"""Many blobs in a few round trips."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from holdall.errors import naming
from holdall.ranges import CHUNK
from holdall.store import ANY, Attributes, Body, Info, Put
from holdall.stores.valkey import scripts
from holdall.stores.valkey.chunks import WHOLE
from holdall.stores.valkey.errors import LostError
from holdall.stores.valkey.head import (
    FIXED,
    check_kind,
    extra_of,
    fixed,
    is_plain,
    milliseconds,
    new_etag,
    parse,
)
from holdall.stores.valkey.link import Retry, packed
from holdall.stores.valkey.outcomes import ensure, outcome_unknown, refuse
from holdall.stores.valkey.shards import Group, Shards

_BATCH = 1000
"""The number of keys that a script is given at once."""


class Batches:
    """Reads, puts and deletes of many blobs of a store."""

    def __init__(self, shards: Shards) -> None:
        self._shards, self._link = shards, shards.link

    def get(self, keys: Iterable[str], get: Callable[[str], bytes | None]) -> Iterator[tuple[str, bytes]]:
        """Yield the bytes of those of the keys that have a blob; `get` reads one that is in chunks."""
        distinct = iter(dict.fromkeys(keys))
        # Start with few keys: their sizes aren't known yet.
        size = _BATCH // 4
        while batch := list(islice(distinct, size)):
            total = 0
            for key, value in self._values(batch):
                if value is None:
                    continue
                if is_plain(value):
                    data = value[FIXED:]
                else:
                    head = parse(value)
                    data = None if head is None else get(key) if head.chunk else value[head.end :]
                    if data is None:
                        continue
                total += len(data)
                yield key, data
            # Large blobs come in replies of some MiB, not in one of gigabytes.
            size = max(1, min(_BATCH, len(batch) * WHOLE // max(total, 1)))

    def _values(self, keys: list[str]) -> Iterable[tuple[str, bytes | None]]:
        groups = self._shards.group(keys)
        replies = self._link.ask_many([(group.shard, packed(b"MGET", *group.blobs)) for group in groups])
        if len(groups) == 1:
            return zip(keys, replies[0], strict=True)
        found: dict[str, bytes | None] = {}
        for group, reply in zip(groups, replies, strict=True):
            found.update(zip(group.keys, reply, strict=True))
        return ((key, found[key]) for key in keys)

    def put(
        self,
        items: Iterable[Put],
        write: Callable[[str, Body, Attributes], Info],
    ) -> Iterator[Info]:
        """Put blobs, and yield the infos of those that are stored; `write` puts one that may be large."""
        last, expires, kind, extra, until = None, 0, None, b"", None
        modified = time.time_ns() // 1000
        batch: dict[str, tuple[Info, bytes]] = {}
        ends: set[int] = set()
        size = 0
        for key, body, attributes in items:
            if attributes is not last:
                check_kind(attributes)
                last, expires, kind = attributes, milliseconds(attributes.expires), attributes.content_type
                extra, until = extra_of(kind), expires / 1000 if expires else None
                ends.add(expires)
            if isinstance(body, tuple) and len(body) == 1 and len(body[0]) < CHUNK:
                data = body[0]
                etag, length = new_etag(), len(data)
                value = b"".join((fixed(etag, modified, length, expires, extra), data))
                batch[key] = Info(key, length, etag, modified / 1_000_000, kind, until), value
                size += length
                if len(batch) < _BATCH and size < 4 * CHUNK:
                    continue
                yield from self._put_batch(batch, ends)
                batch, ends, size, modified = {}, {expires}, 0, time.time_ns() // 1000
            else:
                # It may be long, and its body may use this store: the earlier ones come first.
                yield from self._put_batch(batch, ends)
                batch, ends, size = {}, {expires}, 0
                with naming(key):
                    info = write(key, body, attributes)
                yield info
        yield from self._put_batch(batch, ends)

    def _put_batch(self, batch: dict[str, tuple[Info, bytes]], ends: set[int]) -> Iterator[Info]:
        expires = b"%d" % min(ends) if len(ends) == 1 else b""

        def arguments(group: Group) -> Sequence[bytes]:
            listed = [expires, self._shards.chunks[group.shard]]
            for key, member in zip(group.keys, group.members, strict=True):
                listed += (member, batch[key][1])
            return listed

        try:
            replies = self._shards.run(scripts.PUT_MANY, batch, arguments, Retry.LOST)
        except LostError as lost:
            raise outcome_unknown(lost) from lost
        for group, reply in replies:
            if reply != 1:
                refuse(reply, ANY, self._shards.prefix, group.keys[0])
        for info, _ in batch.values():
            yield info

    def delete(self, keys: Iterable[str]) -> int:
        """Delete blobs, and return how many there were."""
        total = 0
        rest = iter(keys)
        while batch := list(islice(rest, _BATCH)):
            for group in self._shards.group(batch):
                arguments = b"", self._shards.chunks[group.shard], *group.members
                named = *self._shards.indexes[group.shard], *group.blobs
                call = partial(self._link.run, group.shard, scripts.DELETE, named, arguments, Retry.NEVER)
                count = len(group.keys)
                total += ensure(call, lambda reply, count=count: reply == count)
        return total
