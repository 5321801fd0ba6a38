"""The statements for the table of blobs, and what the values in its rows mean."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any, NamedTuple, cast

from holdall.blob import ABSENT, Attributes, Expect, Info, Piece
from holdall.errors import BlobExistsError, ConcurrencyError, IntegrityError, InvalidArgumentError
from holdall.keys import is_utf8
from holdall.ranges import span

INLINE = 1 << 20
"""The size of the largest blob that is kept in its row; a larger one is cut into chunks."""
ROWS = 200
"""The number of rows that one statement puts."""

_COLUMNS = "key, etag, modified, size, expires, content_type, stream, data"
ALIVE = "(expires IS NULL OR expires > ?)"
ROW = "etag, modified, coalesce(size, length(data)), expires, content_type"
_REPLACE = "ON CONFLICT (key) DO UPDATE SET " + ", ".join(
    f"{column} = excluded.{column}" for column in _COLUMNS.split(", ")[1:]
)

# An upsert, never INSERT OR REPLACE, which deletes the row and its index entry first: 2.7 times as slow.
PUT = """INSERT INTO holdall_v1_blobs (key, etag, modified, data) VALUES (?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET etag = excluded.etag, modified = excluded.modified, size = NULL,
    expires = NULL, content_type = NULL, stream = NULL, data = excluded.data"""
PUT_ROWS = PUT.replace("(?, ?, ?, ?)", ", ".join(["(?, ?, ?, ?)"] * ROWS))
PUT_ALL = f"INSERT INTO holdall_v1_blobs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) {_REPLACE}"
CREATE = f"{PUT_ALL} WHERE holdall_v1_blobs.expires <= ?"
SWAP = f"""UPDATE holdall_v1_blobs SET ({_COLUMNS}) = (?, ?, ?, ?, ?, ?, ?, ?)
    WHERE key = ? AND etag = ? AND {ALIVE}"""
COPY = f"""INSERT INTO holdall_v1_blobs ({_COLUMNS})
    SELECT ?, ?, ?, size, expires, content_type, stream, data FROM holdall_v1_blobs WHERE key = ?
    {_REPLACE}"""
TOUCH = f"""UPDATE holdall_v1_blobs SET modified = ?, expires = coalesce(?, expires)
    WHERE key = ? AND {ALIVE}"""
DELETE = f"DELETE FROM holdall_v1_blobs WHERE key = ? AND {ALIVE}"
DELETE_SWAP = f"DELETE FROM holdall_v1_blobs WHERE key = ? AND etag = ? AND {ALIVE}"

GET = "SELECT data, expires FROM holdall_v1_blobs WHERE key = ?"
EXISTS = "SELECT expires FROM holdall_v1_blobs WHERE key = ?"
INFO = f"SELECT {ROW} FROM holdall_v1_blobs WHERE key = ? AND {ALIVE}"
COPIED = f"SELECT {ROW}, typeof(data) FROM holdall_v1_blobs WHERE key = ? AND {ALIVE}"
READ = f"SELECT {ROW}, stream, data FROM holdall_v1_blobs WHERE key = ? AND {ALIVE}"
READ_PART = f"SELECT {ROW}, stream, substr(data, ?, ?) FROM holdall_v1_blobs WHERE key = ? AND {ALIVE}"
ETAG = f"SELECT etag FROM holdall_v1_blobs WHERE key = ? AND {ALIVE}"

# By the key's index and the partial one of `expires` alone; a count with a WHERE would read every row.
COUNT = """SELECT (SELECT count(*) FROM holdall_v1_blobs)
    - (SELECT count(*) FROM holdall_v1_blobs WHERE expires <= ?)"""
EXPIRED = "SELECT 1 FROM holdall_v1_blobs WHERE expires <= ? LIMIT 1"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WORD = Struct(">Q")
_random: Callable[[int], bytes] = getattr(os, "getrandom", os.urandom)


class Row(NamedTuple):
    """The columns of a blob, without its key."""

    etag: int
    modified: int
    size: int
    expires: int | None
    content_type: str | None
    stream: int | None
    data: Piece | None

    def stored(self) -> tuple[Any, ...]:
        """The values as they are stored: a blob in its row has its size by its length."""
        return self if self.stream is not None else (*self[:2], None, *self[3:])


def new_row(size: int, stream: int | None, data: Piece | None, attributes: Attributes) -> Row:
    """Return the row of a blob that is written now.

    Raises:
        InvalidArgumentError: The content type can't be encoded.
    """
    expires, content_type = attributes.expires, attributes.content_type
    if content_type is not None and not is_utf8(content_type):
        raise InvalidArgumentError("content_type must not contain lone surrogates")
    return Row(new_etag(), now(), size, until(expires), content_type, stream, data)


def until(expires: datetime | None) -> int | None:
    """Return when a blob expires, as it is stored."""
    return None if expires is None else (expires - _EPOCH) // _MICROSECOND


def now() -> int:
    """The time in microseconds since 1970, as it is stored."""
    return time.time_ns() // 1000


def new_etag() -> int:
    """Return 62 fresh bits from the system: numbers of a generator in the process would come again after a
    clone of the machine."""
    return int.from_bytes(_random(8), "big") >> 2


def new_etags(number: int) -> Iterator[int]:
    return (word >> 2 for (word,) in _WORD.iter_unpack(os.urandom(8 * number)))


def number_of(etag: Expect) -> int:
    """Return the integer that an ETag was made of, or -1 if this store never made it."""
    try:
        number = int(cast(str, etag), 16)
    except ValueError:
        return -1
    return number if 0 <= number < 1 << 63 and f"{number:x}" == etag else -1


def info_of(key: str, row: Sequence[Any]) -> Info:
    """Return the `Info` of a row that begins with the columns of `ROW`."""
    etag, modified, size = row[0], row[1], row[2]
    if type(etag) is type(modified) is type(size) is int and size >= 0:
        try:
            until = None if row[3] is None else _EPOCH + timedelta(microseconds=row[3])
            return Info(key, size, etag, modified / 1e6, row[4], until)
        except (TypeError, OverflowError):
            pass
    raise odd_row(key)


def odd_row(key: str) -> IntegrityError:
    return IntegrityError(
        "the row of this blob holds values that holdall never writes; put the blob again, or delete the row "
        "with SQL",
        key=key,
    )


def inline(key: str, row: Sequence[Any], start: int, stop: int | None) -> tuple[Info, Iterator[Piece]]:
    """Return the result of `_read` for a blob that is in its row: whole, or cut already."""
    # A cut from nothing is NULL.
    info, size, data = info_of(key, row), row[2], row[6] or b""
    if type(data) is not bytes:
        raise odd_row(key)
    low, high = span(start, stop, size)
    view: Piece = data
    if len(data) == size != high - low:
        view = memoryview(data)[low:high]
    elif len(data) != high - low:
        raise IntegrityError("the blob is shorter than it was written; restore a backup")
    return info, iter((view,) if len(view) else ())


def mismatch(key: str, expect: Expect, row: Sequence[Any] | None) -> ConcurrencyError:
    """Return the error for a blob that isn't the expected one; `row` begins with the ETag that is there."""
    actual = None if row is None else f"{row[0]:x}"
    if expect is ABSENT:
        return BlobExistsError(key=key, actual=actual)
    return ConcurrencyError(key=key, expected=str(expect), actual=actual)
