"""How many bytes the entries of a catalogue take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from holdall.catalog.backend import MetadataBackend
from holdall.catalog.query import Query
from holdall.catalog.row import Row
from holdall.catalog.writing import micros

_DAY = 24 * 3_600 * 1_000_000
_AGES = ((_DAY, "today"), (7 * _DAY, "this week"), (30 * _DAY, "this month"), (365 * _DAY, "this year"))


@dataclass(slots=True)
class Share:
    """The space that some entries take.

    Attributes:
        entries: The number of entries and of earlier versions.
        own: The bytes of blobs that only these name: what their deletion would free.
        shared: The bytes of blobs that others name too.
    """

    entries: int = 0
    own: int = 0
    shared: int = 0


@dataclass(slots=True)
class Usage:
    """The space that a catalogue takes.

    Attributes:
        total: All of it; `own` is what is stored.
        by_prefix: By the first segments of the keys.
        by_type: By the type of the objects.
        by_age: By the time since the bytes were put.
    """

    total: Share = field(default_factory=Share)
    by_prefix: dict[str, Share] = field(default_factory=dict[str, Share])
    by_type: dict[str, Share] = field(default_factory=dict[str, Share])
    by_age: dict[str, Share] = field(default_factory=dict[str, Share])


def usage(backend: MetadataBackend, depth: int) -> Usage:
    """Count the bytes of all versions, by prefix, type and age. A blob is shared in a group where entries of
    another group name it too."""
    made = Usage()
    now = micros()
    tables = (made.by_prefix, made.by_type, made.by_age)
    sizes: dict[int, int] = {}
    groups: tuple[dict[int, set[str]], ...] = ({}, {}, {})
    for row in all_rows(backend):
        made.total.entries += 1
        sizes[row.blob] = row.size
        for table, named, group in zip(tables, groups, _groups(row, depth, now), strict=True):
            table.setdefault(group, Share()).entries += 1
            named.setdefault(row.blob, set()).add(group)
    made.total.own = sum(sizes.values())
    for table, named in zip(tables, groups, strict=True):
        for blob, names in named.items():
            for group in names:
                if len(names) == 1:
                    table[group].own += sizes[blob]
                else:
                    table[group].shared += sizes[blob]
    return made


def _groups(row: Row, depth: int, now: int) -> tuple[str, str, str]:
    parts = row.key.split("/")
    prefix = "/".join(parts[:depth]) + ("/" if len(parts) > depth else "")
    age = next((word for limit, word in _AGES if now - row.created < limit), "older")
    return prefix, row.type, age


def all_rows(backend: MetadataBackend) -> Iterator[Row]:
    """Yield the rows of all versions, the newest of each key first."""
    yield from backend.find(Query())
    yield from backend.earlier()
