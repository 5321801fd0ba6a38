"""Queries in SQL: which rows a database may leave out, and what of it is the same in every database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

from holdall.catalog.query import FIELDS, All, Compare, Negation, Node, Path, Query
from holdall.keys import is_utf8
from holdall.spans import past_start

_MOST: Final = 400
"""The values of one condition. SQLite before 3.32 takes at most 999, and no expression deeper than 1,000."""
TEXTS: Final = frozenset({"key", "digest", "type", "format", "codec", "library"})
"""The fields of every entry that are strings; the others are integers."""
_LARGEST: Final = 2**63 - 1
PAGE: Final = 1000
LONGEST: Final = 16_000
"""Rows of a page that costs as much whatever its length."""
Ask = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]
"""Runs a statement, and returns its rows."""


class Part(NamedTuple):
    """A condition in SQL that is true for at least the rows that match.

    Attributes:
        sql: The condition, which is never NULL.
        values: Of its parameters.
        exact: Whether it is true for no other rows, so that it may be negated.
    """

    sql: str
    values: tuple[Any, ...] = ()
    exact: bool = True


NEVER, ALWAYS = Part("1 = 0"), Part("1 = 1")


def is_number(value: object) -> bool:
    return type(value) is float or (isinstance(value, int | float) and not isinstance(value, bool))


def is_text(value: object) -> bool:
    """Return whether a value is a str that a database can hold."""
    return isinstance(value, str) and "\0" not in value and is_utf8(value)


def negated(part: Part | None) -> Part | None:
    """Return the opposite of a condition, or None if it may be true for other rows, too."""
    return None if part is None or not part.exact else Part(f"NOT ({part.sql})", part.values)


def first_page(query: Query) -> int:
    """Return how many rows the first page has; later ones have more, for where some don't match."""
    limit = query.limit
    return 64 if limit is None else limit if 0 < limit < LONGEST else max(1, min(limit, LONGEST))


class Narrowing(ABC):
    """Conditions in the SQL of one database.

    Args:
        mark: A parameter.
    """

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def narrow(self, node: Node) -> Part:
        """Return a condition that is true for at least the rows that match."""
        found = self._part(node)
        return ALWAYS if found is None or len(found.values) > _MOST else found

    def split(self, node: Node) -> tuple[Part, Part]:
        """Return `narrow` in two conditions: one on the key, and one on all else."""
        if isinstance(node, Compare):
            found = self.narrow(node)
            return (found, ALWAYS) if node.path == ("key",) else (ALWAYS, found)
        nodes = node.nodes if isinstance(node, All) else (node,)
        of_keys = [each for each in nodes if isinstance(each, Compare) and each.path == ("key",)]
        others = [each for each in nodes if not any(each is one for one in of_keys)]
        return self.narrow(All(tuple(of_keys))), self.narrow(All(tuple(others)))

    def _part(self, node: Node) -> Part | None:
        """Return a condition, or None if SQL can't say it."""
        if isinstance(node, Compare):
            if node.path[0] != "metadata":
                return self._column(node)
            return self.metadata(node)
        if isinstance(node, Negation):
            return negated(self._part(node.node))
        parts = [self._part(each) for each in node.nodes]
        if isinstance(node, All):
            return self._all([part for part in parts if part is not None], None not in parts)
        return None if None in parts else self.any(cast(list[Part], parts))

    def _all(self, parts: Sequence[Part], whole: bool) -> Part | None:
        used: list[Part] = []
        room = _MOST
        for part in parts:
            # What has too many values is left to the catalogue.
            if len(part.values) + 1 <= room:
                room -= len(part.values) + 1
                used.append(part)
        whole = whole and len(used) == len(parts)
        if not used:
            return ALWAYS if whole else None
        values = tuple(value for part in used for value in part.values)
        sql = " AND ".join(f"({part.sql})" for part in used)
        return Part(sql, values, whole and all(part.exact for part in used))

    def any(self, parts: Sequence[Part]) -> Part | None:
        """Return a condition that is true where one of these is."""
        if not parts:
            return NEVER
        values = tuple(value for part in parts for value in part.values)
        if len(values) + len(parts) > _MOST:
            return None
        sql = " OR ".join(f"({part.sql})" for part in parts)
        return Part(sql, values, all(part.exact for part in parts))

    @abstractmethod
    def metadata(self, node: Compare) -> Part | None:
        """Return a condition for a comparison with metadata, or None if SQL can't say it."""

    def _column(self, node: Compare) -> Part | None:
        assert node.path[0] in FIELDS
        operator, value = node.operator, node.value
        if operator == "exists":
            return ALWAYS if value else NEVER
        if operator == "in":
            parts = [self._compare_column(node.path, "==", each) for each in value]
            return None if None in parts else self.any(cast(list[Part], parts))
        return self._compare_column(node.path, operator, value)

    def _compare_column(self, path: Path, operator: str, value: Any) -> Part | None:
        column, mark = path[0], self.mark
        text = path[0] in TEXTS
        never = ALWAYS if operator == "!=" else NEVER
        if operator == "prefix":
            return self.prefixed(column, value) if text else NEVER
        if text:
            if not isinstance(value, str):
                return never
            if not is_text(value):
                return never if operator in ("==", "!=") else None
        elif not is_number(value):
            return never
        elif not -_LARGEST < value < _LARGEST:
            return (
                never
                if operator in ("==", "!=")
                else ALWAYS
                if (operator[0] == "<") == (value > 0)
                else NEVER
            )
        elif isinstance(value, float):
            # Left to the catalogue, which knows how an integer and a float compare.
            return None if not value.is_integer() else self._compare_column(path, operator, int(value))
        return Part(f"{column} {'<>' if operator == '!=' else operator.replace('==', '=')} {mark}", (value,))

    def prefixed(self, text: str, prefix: str) -> Part | None:
        """Return a condition for strings with a prefix, in the order of code points, or None."""
        if not is_text(prefix):
            return NEVER
        end = past_start(prefix)
        if end is None:
            return Part(f"{text} >= {self.mark}", (prefix,))
        return Part(f"{text} >= {self.mark} AND {text} < {self.mark}", (prefix, end))
