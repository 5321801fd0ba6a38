"""Changes of what is in a catalogue already: metadata, deletion, versions, aliases, leases."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Any, Final, cast

from holdall.blob import ABSENT, ANY, Expect
from holdall.catalog.backend import MetadataBackend, Transaction
from holdall.catalog.entry import Entry, check_row, entry_of
from holdall.catalog.names import Lease, check_unprotected, not_found
from holdall.catalog.row import Alias, Row
from holdall.catalog.row import Lease as LeaseRow
from holdall.catalog.writing import Writer, micros, release
from holdall.errors import InvalidArgumentError, ProtectedError

_GROUP: Final = 500
"""The keys that `clear` deletes in one transaction."""


def update(backend: MetadataBackend, key: str, metadata: dict[str, Any], expect: Expect) -> bool:
    """Merge metadata into that of an object."""
    if expect is ABSENT:
        raise InvalidArgumentError(
            "expect=ABSENT can't hold for an object whose metadata is updated", key=key
        )

    def act(tx: Transaction) -> bool:
        row = tx.row(key)
        check_row(row, expect, key)
        if row is None:
            return False
        merged = {**row.metadata, **metadata}
        if merged != row.metadata or _types(merged) != _types(row.metadata):
            tx.put_row(replace(row, metadata=merged, sequence=tx.next_number(), updated=micros()))
        return True

    return backend.transact(act)


def _types(value: Any) -> Any:
    """Return the types within JSON, since `1`, `1.0` and True are equal in Python."""
    if isinstance(value, dict):
        return {name: _types(each) for name, each in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_types(each) for each in cast(list[Any], value)]
    return type(value).__name__


def delete(backend: MetadataBackend, key: str, version: int | None, expect: Expect) -> bool:
    """Delete an object, or one version of it."""

    def act(tx: Transaction) -> bool:
        row = tx.row(key, version)
        check_row(row, expect, key)
        if row is None:
            return False
        check_unprotected(tx, key, version)
        if version is None:
            _delete_all(tx, row)
        else:
            _delete_one(tx, row)
        return True

    if version is None and expect is ANY and backend.remove(key):
        return True
    return backend.transact(act)


def _delete_all(tx: Transaction, newest: Row) -> None:
    earlier = tx.earlier(newest.key)
    tx.drop_row(newest.key)
    for row in earlier:
        tx.drop_earlier(row.key, row.version)
    now = micros()
    for blob in dict.fromkeys([newest.blob, *(row.blob for row in earlier)]):
        release(tx, blob, now)


def _delete_one(tx: Transaction, row: Row) -> None:
    newest = tx.row(row.key)
    if newest is not None and newest.version == row.version:
        earlier = tx.earlier(row.key)
        tx.drop_row(row.key)
        if earlier:
            tx.drop_earlier(row.key, earlier[0].version)
            # With a number of its own, so that its ETag says that the key holds something else now.
            tx.put_row(replace(earlier[0], sequence=tx.next_number()))
    else:
        tx.drop_earlier(row.key, row.version)
    release(tx, row.blob, micros())


def clear(backend: MetadataBackend) -> int:
    """Delete all objects, some at a time; return how many there were."""

    def check(tx: Transaction) -> None:
        found = tx.aliases()
        if found:
            names = ", ".join(repr(each.name) for each in found[:5])
            raise ProtectedError(
                f"nothing was deleted, since aliases point at objects: {names}; delete the aliases first",
                aliases=tuple(each.name for each in found),
            )

    def delete_some(keys: Iterable[str]) -> int:
        def act(tx: Transaction) -> int:
            check(tx)
            count = 0
            for key in keys:
                row = tx.row(key)
                if row is not None:
                    _delete_all(tx, row)
                    count += 1
            return count

        return backend.transact(act)

    backend.transact(check)
    total = 0
    while keys := [*islice(backend.keys(), _GROUP)]:
        total += delete_some(keys)
    return total


def history(backend: MetadataBackend, key: str) -> list[Entry]:
    """Return all versions of an object, the newest first."""

    def act(tx: Transaction) -> list[Row]:
        newest = tx.row(key)
        return [] if newest is None else [newest, *tx.earlier(key)]

    return [entry_of(row) for row in backend.transact(act)]


def restore(writer: Writer, backend: MetadataBackend, key: str, version: int, expect: Expect) -> Row:
    """Make an earlier version the newest one."""

    def act(tx: Transaction) -> Row:
        newest = tx.row(key)
        row = tx.row(key, version)
        check_row(newest, expect, key)
        if row is None or newest is None:
            raise not_found(key, version)
        if row.version == newest.version:
            return row
        now = micros()
        made = replace(row, version=newest.version + 1, sequence=tx.next_number(), updated=now)
        writer.replace(tx, newest, made, now)
        return made

    return backend.transact(act)


def set_alias(backend: MetadataBackend, name: str, key: str, version: int | None, expect: Expect) -> Row:
    """Make an alias point at a version."""

    def act(tx: Transaction) -> Row:
        if expect is not ANY:
            old = tx.alias(name)
            check_row(None if old is None else tx.row(old.key, old.version), expect, name)
        row = tx.row(key, version)
        if row is None:
            raise not_found(key, version)
        tx.put_alias(Alias(name, row.key, row.version, tx.next_number()))
        return row

    return backend.transact(act)


def resolve(backend: MetadataBackend, name: str) -> Entry | None:
    """Return the entry that an alias points at."""

    def act(tx: Transaction) -> Row | None:
        found = tx.alias(name)
        return None if found is None else tx.row(found.key, found.version)

    row = backend.transact(act)
    return None if row is None else entry_of(row)


def all_aliases(backend: MetadataBackend, key: str | None) -> dict[str, Entry]:
    """Return aliases with the entries that they point at."""

    def act(tx: Transaction) -> list[tuple[str, Row | None]]:
        return [(each.name, tx.row(each.key, each.version)) for each in tx.aliases(key)]

    return {name: entry_of(row) for name, row in backend.transact(act) if row is not None}


def delete_alias(backend: MetadataBackend, name: str) -> bool:
    """Delete an alias."""

    def act(tx: Transaction) -> bool:
        found = tx.alias(name) is not None
        if found:
            tx.drop_alias(name)
        return found

    return backend.transact(act)


def make_lease(backend: MetadataBackend, key: str, version: int | None, seconds: float) -> Lease:
    """Hold the bytes of a version."""
    name = secrets.token_hex(16)

    def extend() -> int:
        return micros() + int(seconds * 1_000_000)

    def act(tx: Transaction) -> Row:
        row = tx.row(key, version)
        if row is None:
            raise not_found(key, version)
        tx.put_lease(LeaseRow(name, row.blob, extend()))
        return row

    row = backend.transact(act)
    return Lease(backend, key, row.version, name, row.blob, extend)
