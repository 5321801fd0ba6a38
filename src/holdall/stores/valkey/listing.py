"""Listings in the order of keys: pages of the lists of keys, and the heads of their blobs."""

from __future__ import annotations

from collections.abc import Iterator

from holdall.stores.valkey import scripts
from holdall.stores.valkey.head import Head, parse
from holdall.stores.valkey.keylist import KeyList
from holdall.stores.valkey.link import Link, Retry, packed
from holdall.stores.valkey.names import Names

__all__ = ["Listing"]

_PAGE = 500
"""The number of keys of a server that are listed at once: the server does nothing else during that time."""


class Listing:
    """The listings of a store.

    Args:
        link: Leads to the servers.
        names: What the lists and the blobs are called.
        keys: Knows whether the lists are whole.
    """

    def __init__(self, link: Link, names: Names, keys: KeyList) -> None:
        self._link, self._names, self._keys = link, names, keys

    def pages(self, prefix: str, after: str) -> Iterator[list[str]]:
        """The keys in order, page by page; the server is never asked for more than a page at once."""
        low, start = prefix.encode("utf-8", "surrogatepass"), after.encode("utf-8", "surrogatepass")
        cursor = b"(" + start if start and start >= low else b"[" + low
        # No byte of UTF-8 is 255.
        end = b"(" + low + b"\xff" if low else b"+"
        shards = self._names.shards
        page, seals = 32, self._keys.requests()
        while True:
            limit = max(page // shards, 8)
            tail = cursor, end, b"LIMIT", b"0", b"%d" % limit
            asked = [
                (shard, packed(b"ZRANGEBYLEX", index, *tail))
                for shard, (index, _) in enumerate(self._names.indexes)
            ]
            answers = self._link.ask_many([*asked, *seals])
            replies: list[list[bytes]] = answers[:shards]
            if None in answers[:shards]:
                raise self._names.conflict(None)
            if seals:
                seals = []
                if self._keys.check(answers[shards:]):
                    continue
            # If a shard has more, entries past its last one can't be yielded yet.
            bound = min((members[-1] for members in replies if len(members) == limit), default=None)
            members = sorted(
                member for reply in replies for member in reply if bound is None or member <= bound
            )
            yield self._decode(self._keys.without_seals(members))
            if bound is None:
                return
            cursor = b"(" + bound
            page = min(page * 4, _PAGE * shards)

    def heads(self, prefix: str, after: str, length: int) -> Iterator[tuple[str, Head | str]]:
        """Yield each key with the head of its blob, or with what another program keeps in its place; expired
        keys leave the list.

        Args:
            prefix: What the keys begin with.
            after: The key before the first one.
            length: The number of bytes of each head that are read.
        """
        last = b"%d" % (length - 1)
        for page in self.pages(prefix, after):
            replies: dict[str, bytes] = {}
            for group, reply in self._names.run(
                self._link, scripts.HEADS, page, lambda group: (last, *group.members), Retry.ALWAYS
            ):
                replies.update(zip(group.keys, reply or (), strict=False))
            for key in page:
                reply = replies.get(key, b"")
                head = parse(reply)
                if head is not None:
                    yield key, head
                elif reply:
                    kind = reply[1:].decode() if reply.startswith(b"?") else "string"
                    yield key, f"another program's {kind}"

    def _decode(self, members: list[bytes]) -> list[str]:
        try:
            return [member.decode() for member in members]
        except UnicodeDecodeError:
            # Not one of our keys.
            raise self._names.conflict(None) from None
