"""The list of a store's keys in the server: listings in order, and what is done if it was lost."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator

from holdall.errors import InvalidKeyError, ReadOnlyError, StoreUnavailableError
from holdall.keys import check_key
from holdall.store import ANY
from holdall.stores.valkey import scripts
from holdall.stores.valkey.errors import DeniedError
from holdall.stores.valkey.head import BlobHead, parse
from holdall.stores.valkey.link import Retry, packed
from holdall.stores.valkey.outcomes import refuse
from holdall.stores.valkey.scripts import FOREIGN
from holdall.stores.valkey.shards import Shards

# Each list has a member that can't be a key, the seal: it says that the list was whole when the seal was put
# there, and hasn't been lost since, because the seal would have been lost too. A listing asks for it in its
# first round trip. Where it is missing, the server is searched for blobs, once, and the list is sealed. A
# search begins with its own member: if that is gone at its end, the list was lost again.
_SEAL = b"\xff"
_BEGUN = b"\xfe"
_TOKEN = 8
_PAGE = 500
"""The number of keys of a server that are listed at once: the server does nothing else during that time."""
_BATCH = 500
_TRIES = 5
_special = re.compile(rb"[\\*?\[\]^]")

_log = logging.getLogger("holdall.stores.valkey")


class KeyList:
    """The lists of keys of a store, one for each shard."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._denied = False

    def pages(self, prefix: str, after: str) -> Iterator[list[str]]:
        """The keys in order, page by page; the server is never asked for more than a page at once."""
        low, start = prefix.encode("utf-8", "surrogatepass"), after.encode("utf-8", "surrogatepass")
        cursor = b"(" + start if start and start >= low else b"[" + low
        # No byte of UTF-8 is 255.
        end = b"(" + low + b"\xff" if low else b"+"
        shards, indexes = self._shards.count, self._shards.indexes
        page, seals = 32, not self._denied
        while True:
            limit = max(page // shards, 8)
            tail = cursor, end, b"LIMIT", b"0", b"%d" % limit
            asked = [
                (shard, packed(b"ZRANGEBYLEX", index, *tail)) for shard, (index, _) in enumerate(indexes)
            ]
            if seals:
                asked += [
                    (shard, packed(b"ZRANGEBYLEX", index, b"[" + _SEAL, b"[" + _SEAL))
                    for shard, (index, _) in enumerate(indexes)
                ]
            answers = self._shards.link.ask_many(asked)
            replies: list[list[bytes]] = answers[:shards]
            if None in answers[:shards]:
                refuse(FOREIGN, ANY, self._shards.prefix, None)
            if seals:
                seals = False
                if not all(answers[shards:]) and self._try_to_restore():
                    continue
            # If a shard has more, entries past its last one can't be yielded yet.
            bound = min((members[-1] for members in replies if len(members) == limit), default=None)
            members = sorted(
                member for reply in replies for member in reply if bound is None or member <= bound
            )
            while members and (members[-1] == _SEAL or _is_begun(members[-1])):
                del members[-1]
            yield self._decode(members)
            if bound is None:
                return
            cursor = b"(" + bound
            page = min(page * 4, _PAGE * shards)

    def heads(self, prefix: str, after: str, length: int) -> Iterator[tuple[str, BlobHead | str]]:
        """Yield each key with the head of its blob, or with what another program keeps in its place; expired
        keys leave the list. Of each head `length` bytes are read."""
        last = b"%d" % (length - 1)
        for page in self.pages(prefix, after):
            replies: dict[str, bytes] = {}
            for group, reply in self._shards.run(
                scripts.HEADS, page, lambda group: (last, *group.members), Retry.ALWAYS
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
            refuse(FOREIGN, ANY, self._shards.prefix, None)

    def restore(self) -> int:
        """Search the servers for blobs, and add them to the lists; how many were missing.

        Raises:
            StoreUnavailableError: The server can't be reached, or keeps losing the lists.
            ReadOnlyError: The server is a replica.
        """
        found = 0
        for _ in range(_TRIES):
            begun = _BEGUN + os.urandom(_TOKEN)
            for shard, (index, _) in enumerate(self._shards.indexes):
                self._shards.link.ask(shard, packed(b"ZADD", index, b"0", begun))
            for keys in self._search_keys():
                for _, added in self._shards.run(
                    scripts.REINDEX, keys, lambda group: group.members, Retry.ALWAYS
                ):
                    found += added or 0
            sealed = [
                self._shards.link.run(shard, scripts.SEAL, (index,), (begun, _SEAL))
                for shard, (index, _) in enumerate(self._shards.indexes)
            ]
            # None stands for another program's value, which the listing reports.
            if all(reply != 0 for reply in sealed):
                return found
        raise StoreUnavailableError(
            "the server keeps losing the list of keys while it is made; check whether it evicts keys (its "
            "maxmemory-policy)"
        )

    def unseal(self) -> None:
        """Remove the lists that hold no keys."""
        for shard, (index, _) in enumerate(self._shards.indexes):
            self._shards.link.run(shard, scripts.UNSEAL, (index,), (_SEAL,))

    def _try_to_restore(self) -> bool:
        """Restore the lists if this user may; whether that was done."""
        try:
            found = self.restore()
        except (DeniedError, ReadOnlyError) as error:
            # A user who may only read, or a replica: once is enough.
            self._denied = True
            _log.warning("it can't be checked whether the list of keys is whole: %s", error)
            return False
        if found:
            _log.warning(
                "the list of keys of %r lacked %d blobs, and was made anew", self._shards.base, found
            )
        return True

    def _search_keys(self) -> Iterator[list[str]]:
        """The keys of what may be blobs, in batches."""
        many = self._shards.count > 1
        pattern = _special.sub(rb"\\\g<0>", self._shards.base) + (b"{*}b:*" if many else b"b:*")
        waiting: list[str] = []
        for names in self._shards.link.search(pattern):
            for name in names:
                # In a cluster the tag of the shard comes first.
                key = _key(name[len(self._shards.base) :].partition(b"b:")[2])
                if key is not None and self._shards.place(key)[2] == name:
                    waiting.append(key)
            if len(waiting) >= _BATCH:
                yield waiting
                waiting = []
        yield waiting


def _is_begun(member: bytes) -> bool:
    return member.startswith(_BEGUN) and len(member) == len(_BEGUN) + _TOKEN


def _key(member: bytes) -> str | None:
    try:
        return check_key(member.decode())
    except (UnicodeDecodeError, InvalidKeyError):
        return None
