"""A store in an LMDB database."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import groupby
from secrets import token_hex
from typing import Any

from holdall import (
    ABSENT,
    ANY,
    Attributes,
    BlobExistsError,
    BlobNotFoundError,
    Can,
    ConcurrencyError,
    Info,
    InvalidArgumentError,
    Store,
    StoreUnavailableError,
)
from holdall.arguments import check_type
from holdall.paths import checked_path
from holdall.pieces import regroup
from holdall.ranges import CHUNK, span
from holdall.store import Body, Expect, Piece
from holdall_lmdb.database import Database, translated

__all__ = ["LmdbStore"]

_LONGEST = 511  # bytes: what LMDB takes as a key
_HEAD = _LONGEST - sha256().digest_size
_PAGE = 500


class LmdbStore(Store):
    """Blobs in an LMDB database, which many processes of one host share.

    Readers never wait for writers: each sees the database as it was when it began. Writers take turns.

    Args:
        path: The folder of the database; the first put makes it.
        map_size: The most bytes that the database may have. It takes that much address space, but not that
            much of the disk. In a process the first handle on a folder decides.
    """

    can = (
        Can.WRITE
        | Can.DELETE
        | Can.LIST
        | Can.RANGE
        | Can.CREATE
        | Can.SWAP
        | Can.CONDITIONAL_DELETE
        | Can.ATTRIBUTES
    )
    schemes = ("lmdb",)

    def __init__(self, path: str | os.PathLike[str], *, map_size: int = 1 << 36) -> None:
        check_type(map_size, int, "map_size must be a number of bytes")
        if not 0 < map_size <= sys.maxsize:
            raise InvalidArgumentError(
                f"map_size is a number of bytes, from 1 to {sys.maxsize:,}, not {map_size!r}"
            )
        self._path: str = os.path.abspath(checked_path(path))
        self._map_size = map_size
        self._opened: Database | None = None
        self._process = 0

    def _settings(self) -> dict[str, object]:
        return {"path": self._path, "map_size": self._map_size}

    def _close(self) -> None:
        if self._opened is not None and self._process == os.getpid():
            self._opened.release(self)

    def _read(self, key: str, start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
        # The transaction ends with the generator, at the latest when that is dropped.
        read = _opened_blob(self._there(), key, start, stop)
        return next(read), read

    def _write(self, key: str, body: Body, expect: Expect, attributes: Attributes) -> Info:
        etag, number, size = token_hex(8), 0, 0
        parts = regroup(body, CHUNK)
        # The body is read outside of transactions, since it may be slow and may use the store itself.
        chunk = next(parts, b"")
        database = self._database()
        draft = etag.encode()
        try:
            for following in parts:
                # A blob of several chunks is a draft, which nobody sees until its last chunk is there.
                database.write(partial(_add, database, draft, number, chunk))
                number, size, chunk = number + 1, size + len(chunk), following
            info = Info(key, size + len(chunk), etag, datetime.now(UTC), attributes.content_type)
            database.write(partial(_publish, database, expect, info, number, chunk))
        except BaseException:
            # After an interrupt it may be published already; then it isn't a draft any more.
            if number:
                with database.begin(write=True) as txn:
                    database.drop_draft(txn, draft)
            raise
        return info

    def _delete(self, key: str, expect: Expect) -> bool:
        try:
            database = self._there()
        except BlobNotFoundError:
            if isinstance(expect, str):
                raise ConcurrencyError(expected=expect) from None
            return False

        def delete(txn: Any) -> bool:
            _check(database, txn, key, expect)
            return _forget(database, txn, _name(key))

        return database.write(delete)

    def _info(self, key: str) -> Info:
        database = self._there()
        with database.begin() as txn:
            return _found(database, txn, key)

    def _scan(self, prefix: str, after: str) -> Iterator[Info]:
        # In pages, since a transaction that stays open keeps pages from being used again.
        while page := self._page(prefix, after):
            yield from page
            after = page[-1].key

    def _page(self, prefix: str, after: str) -> list[Info]:
        try:
            database = self._there()
        except BlobNotFoundError:
            return []
        head, infos = _encoded(prefix)[:_HEAD], list[Info]()
        with database.begin() as txn, txn.cursor(database.infos) as cursor:
            cursor.set_range(max(head, _encoded(after)[:_HEAD], b"\0"))
            # LMDB sorts as the keys are sorted, but for the ends of long keys, which are digests.
            for begin, group in groupby(cursor, key=lambda item: item[0][:_HEAD]):
                if len(infos) >= _PAGE or not begin.startswith(head):
                    break
                found = sorted((_read_info(value) for _, value in group), key=lambda info: info.key)
                infos += [info for info in found if info.key.startswith(prefix) and info.key > after]
        return infos

    def _database(self) -> Database:
        """Return the open database, which is made if it is missing."""
        if self._opened is None or self._process != os.getpid():
            self._opened, self._process = Database.open(self._path, self._map_size, self), os.getpid()
        return self._opened

    def _there(self) -> Database:
        """Return the open database. A read makes none."""
        if self._opened is None:
            with translated():
                try:
                    os.stat(os.path.join(self._path, "data.mdb"))
                except FileNotFoundError:
                    raise BlobNotFoundError from None
        return self._database()


def _name(key: str) -> bytes:
    """Return what LMDB has as the key: the key itself, or, if it is too long, its begin and its digest."""
    data = key.encode()
    return data if len(data) <= _LONGEST else data[:_HEAD] + sha256(data).digest()


def _encoded(text: str) -> bytes:
    """Return the bytes of a prefix, which may be a text that no key is."""
    return text.encode("utf-8", "surrogatepass")


def _chunk(etag: bytes, number: int) -> bytes:
    return etag + number.to_bytes(4, "big")


def _described(info: Info) -> bytes:
    return json.dumps([info.key, info.size, info.etag, info.modified.isoformat(), info.content_type]).encode()


def _read_info(value: bytes) -> Info:
    key, size, etag, modified, content_type = json.loads(value)
    return Info(key, size, etag, datetime.fromisoformat(modified), content_type)


def _found(database: Database, txn: Any, key: str) -> Info:
    value = txn.get(_name(key), db=database.infos)
    if value is None:
        raise BlobNotFoundError
    return _read_info(value)


def _check(database: Database, txn: Any, key: str, expect: Expect) -> None:
    """Compare what is there with what was expected. No other writer comes before the transaction ends."""
    if expect is ANY:
        return
    try:
        etag = _found(database, txn, key).etag
    except BlobNotFoundError:
        etag = None
    if expect is ABSENT:
        if etag is not None:
            raise BlobExistsError(actual=etag)
    elif expect != etag:
        raise ConcurrencyError(expected=str(expect), actual=etag)


def _add(database: Database, draft: bytes, number: int, chunk: Piece, txn: Any) -> None:
    """Add a chunk to the draft of a blob, which the first one begins."""
    if number == 0:
        txn.put(draft, str(time.time()).encode(), db=database.drafts)
    txn.put(_chunk(draft, number), chunk, db=database.chunks)


def _publish(database: Database, expect: Expect, info: Info, number: int, chunk: Piece, txn: Any) -> None:
    """Put the last chunk of a blob, and the blob in the place of what is there."""
    _check(database, txn, info.key, expect)
    name, draft = _name(info.key), info.etag.encode()
    if number and not txn.delete(draft, db=database.drafts):
        raise StoreUnavailableError("the body took over an hour, and its draft was swept")
    _forget(database, txn, name)
    txn.put(_chunk(draft, number), chunk, db=database.chunks)
    txn.put(name, _described(info), db=database.infos)


def _forget(database: Database, txn: Any, name: bytes) -> bool:
    """Delete a blob, and return whether it was there."""
    value = txn.pop(name, db=database.infos)
    if value is None:
        return False
    database.drop_chunks(txn, _read_info(value).etag.encode())
    return True


def _opened_blob(database: Database, key: str, start: int, stop: int | None) -> Generator[Any]:
    """Yield the `Info` of a blob, and then its bytes, all of one transaction."""
    with database.begin() as txn:
        info = _found(database, txn, key)
        yield info
        low, high = span(start, stop, info.size)
        while low < high:
            number, offset = divmod(low, CHUNK)
            database.check_process()
            chunk = txn.get(_chunk(info.etag.encode(), number), db=database.chunks)
            piece = chunk[offset : offset + high - low]
            low += len(piece)
            yield piece
