"""Rows of a SQLite catalogue that carry the bytes of their small object, and the transactions that know them.

A small object that no other entry shares lies in the row of its entry, so that a put writes one row and a get
reads one. The row's `id` is then the number of its blob. As soon as another row names the blob, or the row
lets it go, the blob gets a row of its own in the table of blobs: it is *detached*. Nothing is carried again.
"""

from __future__ import annotations

from typing import Any, Final

from holdall.catalog.row import Blob, Row, Small
from holdall.catalog.sql_transaction import COLUMNS, SqlTransaction, encode, make_blob, row_of

_ENTRIES, _BLOBS = "holdall_catalog_v1_entries", "holdall_catalog_v1_blobs"
_OF_BLOB: Final = "number, digest, size, crc, extension, type, format, codec, library, until, data"
_CARRIED: Final = "id, digest, size, crc, extension, type, format, codec, library, 0, data"

SCHEMA: Final = (
    f"""CREATE UNIQUE INDEX IF NOT EXISTS holdall_catalog_v1_carried ON {_ENTRIES} (digest)
        WHERE data IS NOT NULL""",
)

LARGEST: Final = f"""SELECT max((SELECT counter FROM holdall_catalog_v1_state),
    ifnull((SELECT max(number) FROM {_BLOBS}), 0), ifnull((SELECT max(id) FROM {_ENTRIES}), 0))"""
"""The largest number that was given: of a blob, of a row, or the one that is noted."""
_OF_ANY = "number, digest, size, crc, extension, type, format, codec, library"
_FROM_BLOBS = f"SELECT {_OF_ANY}, data IS NOT NULL, until FROM {_BLOBS} WHERE"
_FROM_ENTRIES = f"SELECT {_OF_ANY.replace('number', 'id')}, 1, 0 FROM {_ENTRIES} WHERE data IS NOT NULL AND"
_BY_NUMBER = f"{_FROM_BLOBS} number = ?1 UNION ALL {_FROM_ENTRIES} id = ?1"
_BY_DIGEST = (
    f"{_FROM_BLOBS} digest = ?1 AND until = 0 UNION ALL {_FROM_ENTRIES} digest = ?1 ORDER BY 1 LIMIT 1"
)
LIST_BLOBS: Final = (
    f"SELECT * FROM ({_FROM_BLOBS} number > ?1 ORDER BY number LIMIT ?2) "
    f"UNION ALL SELECT * FROM ({_FROM_ENTRIES} id > ?1 ORDER BY id LIMIT ?2) ORDER BY 1 LIMIT ?2"
)
"""The blobs that follow a number, so that each page reads no more than two pages of rows."""

_NAMES = (
    "id", "key", "version", "digest", "size", "type", "format", "codec", "library", "created", "metadata",
    "crc", "extension", "data",
)  # fmt: skip
_VALUES = tuple(f"?{at}" for at in range(1, len(_NAMES) + 1))
_TO_ADD = (*zip(_NAMES, _VALUES, strict=True), ("sequence", "?1"), ("blob", "?1"), ("updated", "?10"))
_NEW_BYTES = f"NOT EXISTS (SELECT 1 FROM {_BLOBS} WHERE digest = ?4 AND until = 0)"
_LARGER = f"?1 > ({LARGEST})"


def _add_if(condition: str) -> str:
    """Return a statement that adds a row that carries its bytes, or nothing: a key or a digest that is there
    already has a unique index, and without the condition a column that must not be NULL is NULL."""
    # As a condition of a SELECT it would have SQLite keep the row in a table of its own first.
    values = dict(_TO_ADD)
    values["version"] = f"CASE WHEN {condition} THEN ?3 END"
    return f"INSERT OR IGNORE INTO {_ENTRIES} ({', '.join(values)}) VALUES ({', '.join(values.values())})"


ADD_IN_TURN: Final = _add_if(_NEW_BYTES)
"""Add a row within a transaction that has looked for the largest number."""
ADD: Final = _add_if(f"{_NEW_BYTES} AND {_LARGER}")
"""Add one without a transaction, under a number that may turn out to be given already."""
_ALONE = """data IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM holdall_catalog_v1_aliases a WHERE a.key = holdall_catalog_v1_entries.key)
    AND NOT EXISTS (SELECT 1 FROM holdall_catalog_v1_versions v WHERE v.key = holdall_catalog_v1_entries.key)
    """
REPLACEABLE: Final = f"SELECT id, version FROM {_ENTRIES} WHERE key = ? AND data IS NOT NULL"
OVERWRITE: Final = (
    f"UPDATE OR IGNORE {_ENTRIES} "
    f"SET inputs = NULL, {', '.join(f'{name} = {value}' for name, value in _TO_ADD)} "
    f"WHERE key = ?2 AND id = ?{len(_NAMES) + 1} AND version = ?3 - 1 AND digest <> ?4 AND {_ALONE} "
    f"AND NOT EXISTS (SELECT 1 FROM holdall_catalog_v1_leases WHERE blob = ?{len(_NAMES) + 1}) "
    f"AND {_NEW_BYTES} AND {_LARGER}"
)
"""Put other bytes, with a number of their own, into a row that nothing protects."""
REMOVE: Final = f"""DELETE FROM {_ENTRIES} WHERE key = ?1 AND {_ALONE}
    AND (id <= (SELECT counter FROM holdall_catalog_v1_state) OR id < (SELECT max(id) FROM {_ENTRIES})
        OR id < (SELECT max(number) FROM {_BLOBS}))"""
"""Delete a row that nothing protects. One with the largest number that was given stays, since that number
has to be noted."""

LOAD: Final = f"SELECT data, size, crc, format, codec, library FROM {_ENTRIES} WHERE key = ?"
# Without a row of the same number nothing is searched, since the number is NULL.
FETCH: Final = (
    f"SELECT {COLUMNS.replace(', ', ', e.').replace('key', 'e.key', 1)}, e.crc, e.extension, e.data, "
    "b.number, b.digest, b.size, b.crc, b.extension, b.type, b.format, b.codec, b.library, b.data, b.until "
    f"FROM {_ENTRIES} e LEFT JOIN {_BLOBS} b ON b.number = CASE WHEN e.data IS NULL THEN e.blob END "
    "WHERE e.key = ?"
)

_DETACH = f"INSERT INTO {_BLOBS} ({_OF_BLOB}) SELECT {_CARRIED} FROM {_ENTRIES} WHERE data IS NOT NULL AND "
_DETACHED = f"UPDATE {_ENTRIES} SET crc = NULL, extension = NULL, data = NULL WHERE data IS NOT NULL AND "
_OTHER = (
    "key = ? AND (id, digest, size, type, format, codec, library) <> (?, ?, ?, ?, ?, ?, ?) "
    "OR data IS NOT NULL AND id = ? AND key <> ?"
)


def values_to_add(small: Small, number: int, version: int = 1) -> tuple[Any, ...]:
    """Return the values of `ADD`, and the first ones of `OVERWRITE`."""
    return (
        number, small.key, version, small.digest, small.size, small.type, small.format, small.codec,
        small.library, small.now, encode(small.metadata), small.crc, small.extension, small.data,
    )  # fmt: skip


def found_of(found: tuple[Any, ...]) -> tuple[Row, Blob] | None:
    """Return the row and the blob of `FETCH`; None where the row names a blob that isn't there."""
    row = row_of(found)
    data = found[16]  # fmt: skip
    if data is not None:
        blob = make_blob(
            row.blob, row.digest, row.size, found[14], found[15], row.type, row.format, row.codec,
            row.library, True, data,
        )  # fmt: skip
        return row, blob
    if found[17] is None:
        return None
    data = found[26]
    return row, make_blob(*found[17:26], data is not None, data, found[27])


class SqliteTransaction(SqlTransaction):
    """A transaction in SQLite, where rows may carry the bytes of their objects."""

    __slots__ = ()
    counter, by_number, by_digest = f"({LARGEST})", _BY_NUMBER, _BY_DIGEST

    def _detach(self, where: str, *values: object) -> None:
        if self._run(_DETACH + where, values).rowcount > 0:
            self._run(_DETACHED + where, values)

    def put_row(self, row: Row) -> None:
        # With the blob that it carries the row stays as it is; others that name it share it from now on.
        self._detach(
            _OTHER, row.key, row.blob, row.digest, row.size, row.type, row.format, row.codec, row.library,
            row.blob, row.key,
        )  # fmt: skip
        super().put_row(row)

    def put_earlier(self, row: Row) -> None:
        self._detach("id = ?", row.blob)
        super().put_earlier(row)

    def drop_row(self, key: str) -> None:
        self._detach("key = ?", key)
        super().drop_row(key)

    def put_blob(self, blob: Blob) -> None:
        self._detach("id = ?", blob.number)
        super().put_blob(blob)

    def drop_blob(self, number: int) -> None:
        self._detach("id = ?", number)
        super().drop_blob(number)

    def is_named(self, blob: int) -> bool:
        found = self._run(
            f"SELECT 1 FROM {_ENTRIES} WHERE id = ? AND data IS NOT NULL "
            f"UNION ALL SELECT 1 FROM {_ENTRIES} WHERE blob = ? AND data IS NULL "
            "UNION ALL SELECT 1 FROM holdall_catalog_v1_versions WHERE blob = ? LIMIT 1",
            (blob, blob, blob),
        )
        return found.fetchone() is not None
