"""Whether the list of a store's keys in the server is whole, and how a lost one is made anew."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence

from holdall.errors import InvalidKeyError, ReadOnlyError, StoreUnavailableError
from holdall.keys import check_key
from holdall.stores.valkey import scripts
from holdall.stores.valkey.errors import DeniedError
from holdall.stores.valkey.link import Link, Packed, Retry, packed
from holdall.stores.valkey.names import Names

__all__ = ["KeyList"]

# Each list has a member that can't be a key, the seal: it says that the list was whole when the seal was put
# there, and hasn't been lost since, because the seal would have been lost too. A listing asks for it in its
# first round trip. Where it is missing, the server is searched for blobs, once, and the list is sealed. A
# search begins with its own member: if that is gone at its end, the list was lost again.
_SEAL = b"\xff"
_BEGUN = b"\xfe"
_TOKEN = 8
_BATCH = 500
_TRIES = 5
_special = re.compile(rb"[\\*?\[\]^]")

_log = logging.getLogger("holdall.stores.valkey")


class KeyList:
    """The lists of keys of a store, one for each shard.

    Args:
        link: Leads to the servers.
        names: What the lists and the blobs are called.
    """

    def __init__(self, link: Link, names: Names) -> None:
        self._link, self._names = link, names
        self._base, self._indexes, self._blobs = names.base, names.indexes, names.blobs
        self._denied = False

    def requests(self) -> list[tuple[int, Packed]]:
        """What to ask for the seals; none where this user may not search."""
        if self._denied:
            return []
        tail = b"[" + _SEAL, b"[" + _SEAL
        return [
            (shard, packed(b"ZRANGEBYLEX", index, *tail)) for shard, (index, _) in enumerate(self._indexes)
        ]

    def without_seals(self, members: list[bytes]) -> list[bytes]:
        """Return the listed keys, which are in order, without our own member."""
        while members and (members[-1] == _SEAL or _is_begun(members[-1])):
            del members[-1]
        return members

    def check(self, replies: Sequence[object]) -> bool:
        """Restore the lists if a seal is missing from the replies; whether that was done."""
        if all(replies):
            return False
        try:
            found = self.restore()
        except (DeniedError, ReadOnlyError) as error:
            # A user who may only read, or a replica: once is enough.
            self._denied = True
            _log.warning("it can't be checked whether the list of keys is whole: %s", error)
            return False
        if found:
            _log.warning("the list of keys of %r lacked %d blobs, and was made anew", self._base, found)
        return True

    def restore(self) -> int:
        """Search the servers for blobs, and add them to the lists; how many were missing.

        Raises:
            StoreUnavailableError: The server can't be reached, or keeps losing the lists.
            ReadOnlyError: The server is a replica.
        """
        found = 0
        for _ in range(_TRIES):
            begun = _BEGUN + os.urandom(_TOKEN)
            for shard, (index, _) in enumerate(self._indexes):
                self._link.ask(shard, packed(b"ZADD", index, b"0", begun))
            for keys in self._searched():
                for _, added in self._names.run(
                    self._link, scripts.REINDEX, keys, lambda group: group.members, Retry.ALWAYS
                ):
                    found += added or 0
            sealed = [
                self._link.run(shard, scripts.SEAL, (index,), (begun, _SEAL))
                for shard, (index, _) in enumerate(self._indexes)
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
        for shard, (index, _) in enumerate(self._indexes):
            self._link.run(shard, scripts.UNSEAL, (index,), (_SEAL,))

    def _searched(self) -> Iterator[list[str]]:
        """The keys of what may be blobs, in batches."""
        many = self._names.shards > 1
        pattern = _special.sub(rb"\\\g<0>", self._base) + (b"{*}b:*" if many else b"b:*")
        waiting: list[str] = []
        for names in self._link.search(pattern):
            for name in names:
                # In a cluster the tag of the shard comes first.
                key = _key(name[len(self._base) :].partition(b"b:")[2])
                if key is not None and self._names.place(key)[2] == name:
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
