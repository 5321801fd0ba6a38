"""The rows of a catalogue in memory."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

from holdall.catalog.jsonfile.order import KeyOrder
from holdall.catalog.row import Alias, Blob, Lease, Row

K = TypeVar("K")

_NONE: Final[frozenset[str]] = frozenset()
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def own(row: Row) -> Row:
    """Return a row whose metadata its receiver may change."""
    return Row(
        row.key, row.version, row.sequence, row.blob, row.digest, row.size, row.type, row.format, row.codec,
        row.library, row.created, row.updated, _copy(row.metadata), row.inputs,
    )  # fmt: skip


def _copy(value: Any) -> Any:
    """Copy JSON."""
    if type(value) is dict:
        names = cast(dict[str, Any], value)
        return {name: each if type(each) in _PLAIN else _copy(each) for name, each in names.items()}
    if type(value) is list:
        items = cast(list[Any], value)
        return [each if type(each) in _PLAIN else _copy(each) for each in items]
    return value


def bare(blob: Blob) -> Blob:
    """Return a blob without its data."""
    return blob if blob.data is None else replace(blob, data=None)


def _discard(sets: dict[K, set[str]], key: K, name: str) -> None:
    names = sets[key]
    names.discard(name)
    if not names:
        del sets[key]


class Tables:
    """The rows of a catalogue, and what is found in them without a search.

    Attributes:
        rows: The newest row of each key.
        earlier: The earlier versions of a key by their numbers.
        blobs: By their numbers. Their data are in `data`, where the catalogue keeps any.
        suspects: Since when a blob is suspected.
        number: The largest number that was given.
    """

    __slots__ = (
        "_aliased", "_digests", "_leased", "_named", "_order", "_twins", "aliases", "blobs", "data",
        "earlier", "leases", "number", "rows", "suspects",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.earlier: dict[str, dict[int, Row]] = {}
        self.blobs: dict[int, Blob] = {}
        self.data: dict[int, bytes] = {}
        self.suspects: dict[int, int] = {}
        self.aliases: dict[str, Alias] = {}
        self.leases: dict[str, Lease] = {}
        self.number = 0
        self._named: dict[int, int] = {}
        """How many rows have a blob."""
        self._digests: dict[str, int] = {}
        """A blob that is written for each digest."""
        self._twins: dict[str, set[int]] = {}
        """Further ones, where writers of equal bytes met."""
        self._aliased: dict[str, set[str]] = {}
        """The names of the aliases of a key."""
        self._leased: dict[int, set[str]] = {}
        """The names of the leases of a blob."""
        self._order = KeyOrder()

    def row(self, key: str, version: int | None) -> Row | None:
        row = self.rows.get(key)
        if version is None or (row is not None and row.version == version):
            return row
        versions = self.earlier.get(key)
        return None if versions is None else versions.get(version)

    def written(self, digest: str) -> Iterator[int]:
        """Yield the blobs with a digest that are written."""
        found = self._digests.get(digest)
        if found is not None:
            yield found
            yield from self._twins.get(digest, ())

    def whole_blob(self, number: int) -> Blob | None:
        """Return a blob with its data."""
        blob = self.blobs.get(number)
        return blob if blob is None or not blob.inline else replace(blob, data=self.data.get(number))

    def named(self, blob: int) -> int:
        """Return how many rows have a blob."""
        return self._named.get(blob, 0)

    def aliased(self, key: str) -> Set[str]:
        """Return the names of the aliases of a key."""
        return self._aliased.get(key, _NONE)

    def leased(self, blob: int) -> Set[str]:
        """Return the names of the leases of a blob."""
        return self._leased.get(blob, _NONE)

    def keys(self) -> list[str]:
        """Return the keys in order, and some that are gone, in a list that never changes."""
        return self._order.sorted()

    def put_row(self, row: Row) -> None:
        old = self.rows.get(row.key)
        if old is None:
            self._order.add(row.key)
        else:
            self._unname(old.blob)
        self.rows[row.key] = row
        self._named[row.blob] = self._named.get(row.blob, 0) + 1

    def drop_row(self, key: str) -> None:
        old = self.rows.pop(key, None)
        if old is not None:
            self._order.discard(key)
            self._unname(old.blob)

    def put_earlier(self, row: Row) -> None:
        self.drop_earlier(row.key, row.version)
        self.earlier.setdefault(row.key, {})[row.version] = row
        self._named[row.blob] = self._named.get(row.blob, 0) + 1

    def drop_earlier(self, key: str, version: int) -> None:
        versions = self.earlier.get(key)
        old = None if versions is None else versions.pop(version, None)
        if old is not None:
            self._unname(old.blob)
            if not versions:
                del self.earlier[key]

    def put_blob(self, blob: Blob) -> None:
        number = blob.number
        if number in self.blobs:
            self._forget(self.blobs[number])
        self.blobs[number] = bare(blob)
        if not blob.inline:
            self.data.pop(number, None)
        elif blob.data is not None:
            self.data[number] = blob.data
        if blob.until == 0 and self._digests.setdefault(blob.digest, number) != number:
            self._twins.setdefault(blob.digest, set()).add(number)

    def drop_blob(self, number: int) -> None:
        old = self.blobs.pop(number, None)
        if old is not None:
            self._forget(old)
        self.data.pop(number, None)
        self.suspects.pop(number, None)

    def suspect(self, blob: int, since: int) -> None:
        self.suspects[blob] = since

    def acquit(self, blob: int) -> None:
        self.suspects.pop(blob, None)

    def put_alias(self, alias: Alias) -> None:
        self.drop_alias(alias.name)
        self.aliases[alias.name] = alias
        self._aliased.setdefault(alias.key, set()).add(alias.name)

    def drop_alias(self, name: str) -> None:
        old = self.aliases.pop(name, None)
        if old is not None:
            _discard(self._aliased, old.key, name)

    def put_lease(self, lease: Lease) -> None:
        self.drop_lease(lease.name)
        self.leases[lease.name] = lease
        self._leased.setdefault(lease.blob, set()).add(lease.name)

    def drop_lease(self, name: str) -> None:
        old = self.leases.pop(name, None)
        if old is not None:
            _discard(self._leased, old.blob, name)

    def _unname(self, blob: int) -> None:
        left = self._named[blob] - 1
        if left:
            self._named[blob] = left
        else:
            del self._named[blob]

    def _forget(self, blob: Blob) -> None:
        """Take a blob out of those that are written."""
        twins = self._twins.get(blob.digest)
        if twins is not None:
            twins.discard(blob.number)
        if self._digests.get(blob.digest) == blob.number:
            if twins:
                self._digests[blob.digest] = twins.pop()
            else:
                del self._digests[blob.digest]
        if twins is not None and not twins:
            del self._twins[blob.digest]
