"""Copying one replica of a key to another, and what they are compared by."""

from __future__ import annotations

from contextlib import suppress

from holdall.blob import attributes_of
from holdall.digests import read_digest
from holdall.errors import BlobNotFoundError, ConcurrencyError, StoreError
from holdall.layers.replicas.marks import SIZE, Mark, begins_mark, is_mark, new_mark
from holdall.store import ABSENT, ANY, PLAIN, Can, Expect, Info, Store

EXACT = Can.CREATE | Can.SWAP | Can.CONDITIONAL_DELETE
"""What a replica must be able to do to follow another one, whichever other handle writes."""

NO_DIGEST = ""
"""Of a mark."""


def state(store: Store, key: str) -> str | None:
    """Return the ETag of a blob, None where there is none, or a `Mark` where there is only a mark."""
    try:
        info = store._info(key)
        while info.size == SIZE and (marked := is_mark(store, info, key)) is not False:
            if marked:
                return Mark(info.etag)
            info = store._info(key)
    except BlobNotFoundError:
        return None
    return info.etag


def replace(key: str, source: Store, target: Store, found: str | None) -> tuple[str | None, str | None]:
    """Make one replica of a key like another, if it still is as it was found.

    Where the target had no blob, a mark is put there first (see `marks`), so that a delete in the meantime
    is noticed, whenever this process is killed. `found` is the ETag of what the target had, None if it had
    no blob. Return the ETag of the version that was copied and that of the copy, both None for no blob.

    Raises:
        ConcurrencyError: The target has changed since.
    """
    if found is not None or EXACT not in target.can:
        return _replace_blob(key, source, target, found)
    if state(source, key) is None:
        return None, None
    mark = target._write(key, (new_mark(),), ABSENT, PLAIN).etag
    try:
        return _replace_blob(key, source, target, mark)
    except ConcurrencyError:
        # Another writer has put something in its place.
        raise
    except BaseException:
        with suppress(StoreError):
            target._delete(key, mark)
        raise


def _replace_blob(key: str, source: Store, target: Store, found: str | None) -> tuple[str | None, str | None]:
    try:
        info, pieces = source._read(key, 0, None)
        if info.size == SIZE:
            pieces = (b"".join(pieces),)
            if begins_mark(*pieces):
                raise BlobNotFoundError(key=key)
    except BlobNotFoundError:
        if found is not None:
            target._delete(key, found if Can.CONDITIONAL_DELETE in target.can else ANY)
        return None, None
    attributes = attributes_of(info, target.can)
    expect: Expect = ANY
    if found is None and Can.CREATE in target.can:
        expect = ABSENT
    elif found is not None and Can.SWAP in target.can:
        expect = found
    return info.etag, target._write(key, pieces, expect, attributes).etag


def digest(key: str, store: Store) -> tuple[Info, str] | None:
    """Return a blob's SHA-256, `NO_DIGEST` of a mark; None where there is neither."""
    try:
        info, found = read_digest(store, key)
        while info.size == SIZE and (marked := is_mark(store, info, key)) is not False:
            if marked:
                return info, NO_DIGEST
            info, found = read_digest(store, key)
    except BlobNotFoundError:
        return None
    return info, found


def digested_blob(found: tuple[Info, str] | None) -> tuple[Info, str] | None:
    """Return what `digest` found if it is a blob, otherwise None."""
    return None if found is None or found[1] == NO_DIGEST else found
