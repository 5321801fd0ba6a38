"""A transaction over rows in memory: what it writes lies over them until it is committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from holdall.catalog.backend import Transaction
from holdall.catalog.jsonfile.changes import alias_change, blob_change, change, lease_change, row_change
from holdall.catalog.jsonfile.state import Tables, bare, own
from holdall.catalog.row import Alias, Blob, Lease, Row

__all__ = ["JsonTransaction"]

K = TypeVar("K")
V = TypeVar("V")


def _over(changed: dict[K, V | None], table: Mapping[K, V]) -> Iterator[V]:
    """Yield the values of a table with changes over it, where None deletes."""
    for key, value in table.items():
        if key not in changed:
            yield value
    for value in changed.values():
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
        self._rows: dict[str, Row | None] = {}
        self._earlier: dict[tuple[str, int], Row | None] = {}
        self._blobs: dict[int, Blob | None] = {}
        self._suspects: dict[int, int | None] = {}
        self._aliases: dict[str, Alias | None] = {}
        self._leases: dict[str, Lease | None] = {}
        self._named: dict[int, int] = {}
        """How many more rows have a blob than below."""

    def _record(self, text: str, call: Callable[..., None], *arguments: Any) -> None:
        self.changes.append(text)
        self.calls.append((call, arguments))

    # --- entries ---

    def _newest(self, key: str) -> Row | None:
        return self._rows[key] if key in self._rows else self._tables.rows.get(key)

    def _older(self, key: str, version: int) -> Row | None:
        if (key, version) in self._earlier:
            return self._earlier[key, version]
        return self._tables.earlier.get(key, {}).get(version)

    def row(self, key: str, version: int | None = None) -> Row | None:
        row = self._newest(key)
        if version is not None and (row is None or row.version != version):
            row = self._older(key, version)
        return None if row is None else own(row)

    def earlier(self, key: str) -> list[Row]:
        rows = self._tables.earlier.get(key, {})
        changed = {version: row for (name, version), row in self._earlier.items() if name == key}
        found = sorted(_over(changed, rows), key=lambda row: row.version, reverse=True)
        return list(map(own, found))

    def put_row(self, row: Row) -> None:
        self.number = max(self.number, row.sequence)
        text, kept = row_change("put_row", row)
        self._count(kept.blob, self._newest(kept.key))
        self._rows[kept.key] = kept
        self._record(text, self._tables.put_row, kept)

    def put_earlier(self, row: Row) -> None:
        text, kept = row_change("put_earlier", row)
        self._count(kept.blob, self._older(kept.key, kept.version))
        self._earlier[kept.key, kept.version] = kept
        self._record(text, self._tables.put_earlier, kept)

    def drop_row(self, key: str) -> None:
        old = self._newest(key)
        if old is not None:
            self._count(None, old)
            self._rows[key] = None
            self._record(change("drop_row", key), self._tables.drop_row, key)

    def drop_earlier(self, key: str, version: int) -> None:
        old = self._older(key, version)
        if old is not None:
            self._count(None, old)
            self._earlier[key, version] = None
            self._record(change("drop_earlier", key, version), self._tables.drop_earlier, key, version)

    def _count(self, new: int | None, old: Row | None) -> None:
        if new is not None:
            self._named[new] = self._named.get(new, 0) + 1
        if old is not None:
            self._named[old.blob] = self._named.get(old.blob, 0) - 1

    # --- blobs ---

    def next_number(self, above: int = 0) -> int:
        self.number = max(self.number, above) + 1
        return self.number

    def blob(self, number: int) -> Blob | None:
        return self._blobs[number] if number in self._blobs else self._tables.blobs.get(number)

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
        text = blob_change(blob)
        self._blobs[blob.number] = bare(blob)
        self._record(text, self._tables.put_blob, blob)

    def drop_blob(self, number: int) -> None:
        if self.blob(number) is not None or self.suspected(number) is not None:
            self._blobs[number] = None
            self._suspects[number] = None
            self._record(change("drop_blob", number), self._tables.drop_blob, number)

    def is_named(self, blob: int) -> bool:
        return self._tables.named(blob) + self._named.get(blob, 0) > 0

    # --- suspects ---

    def suspect(self, blob: int, since: int) -> None:
        if self.suspected(blob) != since:
            self._suspects[blob] = since
            self._record(change("suspect", blob, since), self._tables.suspect, blob, since)

    def suspected(self, blob: int) -> int | None:
        return self._suspects[blob] if blob in self._suspects else self._tables.suspects.get(blob)

    def acquit(self, blob: int) -> None:
        if self.suspected(blob) is not None:
            self._suspects[blob] = None
            self._record(change("acquit", blob), self._tables.acquit, blob)

    # --- what protects ---

    def alias(self, name: str) -> Alias | None:
        return self._aliases[name] if name in self._aliases else self._tables.aliases.get(name)

    def aliases(self, key: str | None = None) -> list[Alias]:
        if key is None:
            return sorted(_over(self._aliases, self._tables.aliases), key=lambda each: each.name)
        found = map(self.alias, sorted({*self._tables.aliased(key), *self._aliases}))
        return [each for each in found if each is not None and each.key == key]

    def put_alias(self, alias: Alias) -> None:
        self._aliases[alias.name] = alias
        self._record(alias_change(alias), self._tables.put_alias, alias)

    def drop_alias(self, name: str) -> None:
        if self.alias(name) is not None:
            self._aliases[name] = None
            self._record(change("drop_alias", name), self._tables.drop_alias, name)

    def leases(self, blob: int | None = None) -> list[Lease]:
        if blob is None:
            return [*_over(self._leases, self._tables.leases)]
        found = map(self._lease, {*self._tables.leased(blob), *self._leases})
        return [each for each in found if each is not None and each.blob == blob]

    def _lease(self, name: str) -> Lease | None:
        return self._leases[name] if name in self._leases else self._tables.leases.get(name)

    def put_lease(self, lease: Lease) -> None:
        self._leases[lease.name] = lease
        self._record(lease_change(lease), self._tables.put_lease, lease)

    def drop_lease(self, name: str) -> None:
        if self._lease(name) is not None:
            self._leases[name] = None
            self._record(change("drop_lease", name), self._tables.drop_lease, name)
