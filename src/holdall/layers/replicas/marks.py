"""A mark where a blob is about to be copied into a replica, so that a delete in the meantime is noticed."""

from __future__ import annotations

from os import urandom

from holdall.errors import BlobNotFoundError
from holdall.store import Info, Store

# A copy into a replica that lacks the blob can't be a compare-and-swap: "absent" has no ETag. Without a mark:
#
#   mender:   reads `old` from the arbiter, and sees that replica b lacks it
#   deleter:  deletes it from b (nothing there) and from the arbiter, looks again at all: acknowledged
#   mender:   writes `old` to b, which is still absent; killed here, it brings a deleted blob back
#
# So the mender first creates a mark in b, then reads the arbiter, then replaces the mark by its ETag:
#
#   - The deleter looked at b after the mark was created: it removes the mark (or the copy), and the mender's
#     swap fails.
#   - The deleter looked at b before: then its delete of the arbiter was done before the mark was created, the
#     mender finds the arbiter empty, and takes the mark back. Killed here, it leaves a mark, which everybody
#     takes for no blob, and the next `repair` or write replaces.
#
# The same holds with the roles of arbiter and replica exchanged. A record of intent under another name can't
# do this: no store changes two names in one step.

_BEGIN = b"holdall: a blob is being copied here (3f9d0c6be7a1)\n"
_NONCE = 16
SIZE = len(_BEGIN) + _NONCE
"""The size of a mark in bytes."""


class Mark(str):
    """The ETag of a mark, which isn't the ETag of a blob."""

    __slots__ = ()


def new_mark() -> bytes:
    """Return the bytes of a mark; no two are equal, so that no ETag is the same either."""
    return _BEGIN + urandom(_NONCE)


def is_mark(store: Store, info: Info, key: str) -> bool | None:
    """Return whether what a replica was seen to hold is a mark; asked only if it has the size of one.

    None if it has changed since, as when a mark was replaced by its blob: then what was seen may have been
    either, and must be looked at again."""
    try:
        now, pieces = store._read(key, 0, None)
    except BlobNotFoundError:
        return None
    return begins_mark(b"".join(pieces)) if now.etag == info.etag else None


def begins_mark(data: bytes) -> bool:
    """Return whether bytes of the size of a mark are one."""
    return data.startswith(_BEGIN)


def is_none(found: object) -> bool:
    """Return whether an ETag, as `copying.state` returns it, doesn't stand for a blob."""
    return found is None or isinstance(found, Mark)
