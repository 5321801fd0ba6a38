"""A transaction over rows in memory: what it writes lies over them until it is committed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from holdall.catalog.backend import Transaction
from holdall.catalog.jsonfile.changes import change, row_of
from holdall.catalog.jsonfile.state import Tables, bare, own
from holdall.catalog.row import Alias, Blob, Lease, Row

K = TypeVar("K")
V = TypeVar("V")


class _Over(dict[K, V | None]):
    """What was changed in a table, which lies over it; None deletes."""

    def __init__(self, table: Mapping[K, V]) -> None:
        self._table = table

    def find(self, key: K) -> V | None:
        return self[key] if key in self else self._table.get(key)

    def all(self) -> Iterator[V]:
        for key, value in self._table.items():
            if key not in self:
                yield value
        for value in self.values():
            if value is not None:
                yield value


class JsonTransaction(Transaction):
    """Reads look at what was changed, then at the rows below, which nobody changes meanwhile.

    Attributes:
        changes: The JSON of each change.
        calls: The same, as calls of `Tables`.
        number: The last number that was given.
    """

    def __init__(self, tables: Tables, number: int) -> None:
        self.changes: list[str] = []
        self.calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.number = number
        self._tables = tables
        self._rows = _Over(tables.rows)
        self._earlier: dict[tuple[str, int], Row | None] = {}
        self._blobs = _Over(tables.blobs)
        self._suspects = _Over(tables.suspects)
        self._aliases = _Over(tables.aliases)
        self._leases = _Over(tables.leases)
        self._named: dict[int, int] = {}
        """How many more rows have a blob than below."""

    def _record(self, name: str, *arguments: Any) -> None:
        self.changes.append(change(name, *arguments))
        self.calls.append((getattr(self._tables, name), arguments))

    def _older(self, key: str, version: int) -> Row | None:
        if (key, version) in self._earlier:
            return self._earlier[key, version]
        return self._tables.earlier.get(key, {}).get(version)

    def row(self, key: str, version: int | None = None) -> Row | None:
        row = self._rows.find(key)
        if version is not None and (row is None or row.version != version):
            row = self._older(key, version)
        return None if row is None else own(row)

    def earlier(self, key: str) -> list[Row]:
        found = _Over(self._tables.earlier.get(key, {}))
        found.update((version, row) for (name, version), row in self._earlier.items() if name == key)
        return list(map(own, sorted(found.all(), key=lambda row: row.version, reverse=True)))

    def put_row(self, row: Row) -> None:
        self.number = max(self.number, row.sequence)
        kept = self._record_row("put_row", row)
        self._count(kept.blob, self._rows.find(kept.key))
        self._rows[kept.key] = kept

    def put_earlier(self, row: Row) -> None:
        kept = self._record_row("put_earlier", row)
        self._count(kept.blob, self._older(kept.key, kept.version))
        self._earlier[kept.key, kept.version] = kept

    def _record_row(self, name: str, row: Row) -> Row:
        """Record a row, and return it as it is read from the journal, which its caller can't change."""
        text = change(name, row)
        kept = row_of(json.loads(text)[1:])
        self.changes.append(text)
        self.calls.append((getattr(self._tables, name), (kept,)))
        return kept

    def drop_row(self, key: str) -> None:
        old = self._rows.find(key)
        if old is not None:
            self._count(None, old)
            self._rows[key] = None
            self._record("drop_row", key)

    def drop_earlier(self, key: str, version: int) -> None:
        old = self._older(key, version)
        if old is not None:
            self._count(None, old)
            self._earlier[key, version] = None
            self._record("drop_earlier", key, version)

    def _count(self, new: int | None, old: Row | None) -> None:
        if new is not None:
            self._named[new] = self._named.get(new, 0) + 1
        if old is not None:
            self._named[old.blob] = self._named.get(old.blob, 0) - 1

    def next_number(self, above: int = 0) -> int:
        self.number = max(self.number, above) + 1
        return self.number

    def blob(self, number: int) -> Blob | None:
        return self._blobs.find(number)

    def blob_of(self, digest: str) -> Blob | None:
        for number in self._tables.written(digest):
            if number not in self._blobs:
                return self._tables.blobs[number]
        for blob in self._blobs.values():
            if blob is not None and blob.digest == digest and blob.until == 0:
                return blob
        return None

    def put_blob(self, blob: Blob) -> None:
        self.number = max(self.number, blob.number)
        self._record("put_blob", blob)
        self._blobs[blob.number] = bare(blob)

    def drop_blob(self, number: int) -> None:
        if self.blob(number) is not None or self.suspected(number) is not None:
            self._blobs[number] = None
            self._suspects[number] = None
            self._record("drop_blob", number)

    def is_named(self, blob: int) -> bool:
        return self._tables.named(blob) + self._named.get(blob, 0) > 0

    def suspect(self, blob: int, since: int) -> None:
        if self.suspected(blob) != since:
            self._suspects[blob] = since
            self._record("suspect", blob, since)

    def suspected(self, blob: int) -> int | None:
        return self._suspects.find(blob)

    def acquit(self, blob: int) -> None:
        if self.suspected(blob) is not None:
            self._suspects[blob] = None
            self._record("acquit", blob)

    def alias(self, name: str) -> Alias | None:
        return self._aliases.find(name)

    def aliases(self, key: str | None = None) -> list[Alias]:
        if key is None:
            return sorted(self._aliases.all(), key=lambda each: each.name)
        found = map(self.alias, sorted({*self._tables.aliased(key), *self._aliases}))
        return [each for each in found if each is not None and each.key == key]

    def put_alias(self, alias: Alias) -> None:
        self._aliases[alias.name] = alias
        self._record("put_alias", alias)

    def drop_alias(self, name: str) -> None:
        if self.alias(name) is not None:
            self._aliases[name] = None
            self._record("drop_alias", name)

    def leases(self, blob: int | None = None) -> list[Lease]:
        if blob is None:
            return [*self._leases.all()]
        found = map(self._leases.find, {*self._tables.leased(blob), *self._leases})
        return [each for each in found if each is not None and each.blob == blob]

    def put_lease(self, lease: Lease) -> None:
        self._leases[lease.name] = lease
        self._record("put_lease", lease)

    def drop_lease(self, name: str) -> None:
        if self._leases.find(name) is not None:
            self._leases[name] = None
            self._record("drop_lease", name)
