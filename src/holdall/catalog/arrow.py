"""The entries of a catalogue as a table of Arrow, for pandas, Parquet and DuckDB."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, Final

from holdall.catalog.entry import Entry
from holdall.catalog.manifest import exported_to
from holdall.values.packages import needed

_FIELDS: Final = (
    "key", "version", "digest", "file_size", "type", "format", "codec", "library", "created", "updated",
)  # fmt: skip
_KINDS: Final = {bool: "bool_", int: "int64", float: "float64", str: "string"}


def table_of(entries: Iterable[Entry]) -> Any:
    """Return a `pyarrow.Table` with a row for each entry.

    Besides the built-in fields it has a column `metadata.NAME` for each name in the metadata of any entry,
    with nulls where an entry lacks it. A column whose values are of one type, or are numbers, has that type;
    of any other one the values are JSON text.
    """
    arrow = needed("pyarrow", "frames", "a table of entries")
    listed = list(entries)
    time = arrow.timestamp("us", tz="UTC")
    columns: dict[str, Any] = {}
    for name in _FIELDS:
        values = [getattr(each, name) for each in listed]
        kind = {"created": time, "updated": time, "version": arrow.int64(), "file_size": arrow.int64()}
        columns[name] = arrow.array(values, kind.get(name, arrow.string()))
    names = dict.fromkeys(name for each in listed for name in each.metadata)
    for name in names:
        columns[f"metadata.{name}"] = _column(arrow, [each.metadata.get(name) for each in listed])
    return arrow.table(columns)


def _column(arrow: Any, values: list[Any]) -> Any:
    kinds: set[type[Any]] = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        kinds = {float}
    kind = next(iter(kinds)) if len(kinds) == 1 else None
    if kind in _KINDS and not (kind is int and any(abs(value or 0) >= 1 << 63 for value in values)):
        return arrow.array(
            [value if value is None or kind is not float else float(value) for value in values],
            getattr(arrow, _KINDS[kind])(),
        )
    texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    return arrow.array(texts, arrow.string())


def write_parquet(entries: Iterable[Entry], path: str | os.PathLike[str]) -> int:
    """Write the table of entries as a Parquet file, whole or not at all; return its number of rows."""
    table = table_of(entries)
    parquet = needed("pyarrow.parquet", "frames", "Parquet")
    with exported_to(path) as file:
        parquet.write_table(table, file, compression="zstd")
    return int(table.num_rows)
