"""Questions to a catalogue: how they are written, what they mean, and whether a row matches."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, Final, TypeAlias, cast

from holdall.catalog.row import Row
from holdall.errors import InvalidArgumentError, InvalidTypeError

Path: TypeAlias = tuple[str, ...]
"""A field: the name of one of `FIELDS` alone, or `metadata` and the names that lead into it."""

FIELDS: Final = (
    "key", "version", "sequence", "digest", "size", "type", "format", "codec", "library", "created",
    "updated",
)  # fmt: skip
"""The fields that every entry has, besides its metadata."""

OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=", "in", "prefix", "exists")
_TIMES: Final = ("created", "updated")
_DEEPEST: Final = 32
"""The levels of `and`, `or` and `not`, and of metadata, that a query may have."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison of a field with a value, which is JSON; times are microseconds since the epoch.

    `==` is equality of JSON: `1` equals `1.0`, and True equals neither. An absent field equals nothing, not
    even None. `!=` matches wherever `==` doesn't, also where the field is absent. The orders compare numbers
    with numbers, and strings with strings by code points; everything else never matches, nor does an absent
    field. `in` is `==` with any value of a list. `prefix` matches strings. `exists` takes True or False.
    """

    path: Path
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class All:
    """Each of these; without any, everything."""

    nodes: tuple[Node, ...]


EVERYTHING: Final = All(())


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of these; without any, nothing."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """Not this."""

    node: Node


Node: TypeAlias = Compare | All | Either | Negation


@dataclass(frozen=True, slots=True)
class Order:
    """By a field: numbers first, then strings, then False and True, or all of it reversed. Rows without the
    field, or with another value, are last in both directions. Where the field is equal, the order is that of
    the keys, from the first to the last in both directions."""

    path: Path = ("key",)
    descending: bool = False


# It isn't frozen, which takes longer than all else of making one. Nobody changes it.
@dataclass(slots=True)
class Query:
    """What `MetadataBackend.find` is asked.

    Attributes:
        where: The condition.
        order: The order.
        after: The value of the order's field and the key of the row after which to begin; the value is None
            where it is absent.
        limit: How many rows are wanted, or None.
    """

    where: Node = All(())
    order: Order = Order()
    after: tuple[Any, str] | None = None
    limit: int | None = None


def parse_field(field: object) -> Path:
    """Return the path of a field: `key`, `metadata.loss`, or a tuple of names, where a name may have dots.
    `file_size`, as it is in an entry, is `size` too.

    Raises:
        InvalidArgumentError: It isn't a field.

    >>> parse_field("metadata.model.loss"), parse_field(("metadata", "v2.1"))
    (('metadata', 'model', 'loss'), ('metadata', 'v2.1'))
    """
    path: Any = tuple(field.split(".")) if isinstance(field, str) else field
    if not isinstance(path, tuple) or not all(isinstance(name, str) for name in cast(tuple[Any, ...], path)):
        raise InvalidTypeError(
            f"a field is a str such as 'metadata.loss', or a tuple of names, not {type(field).__name__}"
        )
    names = cast(Path, path)
    if names == ("file_size",):
        return ("size",)
    if names[:1] == ("metadata",):
        if len(names) == 1 or len(names) > _DEEPEST:
            raise InvalidArgumentError(
                f"{field!r} isn't a field: a name of the metadata must follow, and at most {_DEEPEST - 1}"
            )
        return names
    if len(names) != 1 or names[0] not in FIELDS:
        from difflib import get_close_matches

        mistyped = len(names) > 1 and get_close_matches(names[0], ("metadata",))
        meant = ".".join(("metadata", *(names[1:] if mistyped else names)))
        raise InvalidArgumentError(
            f"{field!r} isn't a field; known are metadata.NAME, {', '.join(FIELDS)}"
            + (f"; did you mean {meant!r}?" if isinstance(field, str) and field else "")
        )
    return names


def parse_order(order_by: object) -> Order:
    """Return an order: a field, after `-` if it descends.

    >>> parse_order("-metadata.accuracy")
    Order(path=('metadata', 'accuracy'), descending=True)
    """
    return _order_of(str(order_by)) if isinstance(order_by, str) else Order(parse_field(order_by))


@lru_cache(256)
def _order_of(order_by: str) -> Order:
    if order_by.startswith("-"):
        return Order(parse_field(order_by[1:]), True)
    return Order(parse_field(order_by))


def parse_where(where: object) -> Node:
    """Return a condition, as `BlobStore.find` takes it.

    It is a mapping whose items must all match. A key is a field, and its value what the field equals, or a
    mapping of operators to values: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `prefix`, `exists`. The keys `and`
    and `or` have a list of conditions, `not` has one.

    Raises:
        InvalidArgumentError: An operator, a field or a value isn't valid.

    >>> parse_where({"metadata.loss": {"<": 0.1}})
    Compare(path=('metadata', 'loss'), operator='<', value=0.1)
    """
    return _parse(where, 0)


def parse_filter(metadata_filter: object) -> Node:
    """Return a condition on metadata alone: names, with dots between those of nested objects, and the values
    that they equal.

    Raises:
        InvalidArgumentError: A name or a value isn't valid, or is an operator of `parse_where`, which would
            find nothing here.

    >>> parse_filter({"deployed": True})
    Compare(path=('metadata', 'deployed'), operator='==', value=True)
    """
    if not isinstance(metadata_filter, Mapping):
        raise InvalidTypeError(
            f"metadata_filter is a dict of names and values, not {type(metadata_filter).__name__}"
        )
    nodes: list[Node] = []
    for name, value in cast(Mapping[str, Any], metadata_filter).items():
        names: Any = tuple(name.split(".")) if isinstance(name, str) else name
        if isinstance(value, Mapping) and value and all(each in OPERATORS for each in cast(Any, value)):
            raise InvalidArgumentError(
                f"metadata_filter compares {name!r} with equal values only; for operators use "
                f"find({{'metadata.{name}': {value!r:.80}}})"
            )
        path = parse_field(("metadata", *cast(Path, names)) if isinstance(names, tuple) else names)
        found: Node = Compare(path, "==", _json(value))
        # A name with a dot is found too, if it isn't that of a nested object.
        if isinstance(name, str) and len(path) > 2:
            found = Either((found, Compare(("metadata", str(name)), "==", _json(value))))
        nodes.append(found)
    return _all_of(nodes)


_field_of = lru_cache(256)(parse_field)


def _all_of(nodes: list[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else All(tuple(nodes))


def _parse(where: object, depth: int) -> Node:
    if where is None:
        return EVERYTHING
    if not isinstance(where, Mapping):
        raise InvalidTypeError(f"a condition is a dict, not {type(where).__name__}")
    if depth > _DEEPEST:
        raise InvalidArgumentError(f"a condition has at most {_DEEPEST} levels")
    nodes: list[Node] = []
    for name, value in cast(Mapping[Any, Any], where).items():
        if name in ("and", "or"):
            if not isinstance(value, list | tuple):
                raise InvalidTypeError(f"{name!r} has a list of conditions, not {type(value).__name__}")
            parts = tuple(_parse(each, depth + 1) for each in cast(list[Any], value))
            nodes.append(All(parts) if name == "and" else Either(parts))
        elif name == "not":
            nodes.append(Negation(_parse(value, depth + 1)))
        else:
            path = _field_of(name) if type(name) is str else parse_field(name)
            nodes.extend(_comparisons(path, value))
    return _all_of(nodes)


def _comparisons(path: Path, condition: object) -> Iterable[Compare]:
    if not isinstance(condition, Mapping):
        yield _compare(path, "==", condition)
        return
    operators = cast(Mapping[Any, Any], condition)
    if not operators:
        raise InvalidArgumentError(f"{'.'.join(path)!r} has a condition without an operator")
    for operator, value in operators.items():
        if operator not in OPERATORS:
            raise InvalidArgumentError(
                f"{operator!r} isn't an operator; known are {', '.join(OPERATORS)}. To compare with an "
                'object, write {"==": {...}}'
            )
        yield _compare(path, operator, value)


def _compare(path: Path, operator: str, value: Any) -> Compare:
    name = ".".join(path)
    if operator == "exists":
        if not isinstance(value, bool):
            raise InvalidTypeError(f"'exists' of {name!r} takes True or False, not {type(value).__name__}")
        return Compare(path, operator, value)
    if operator == "in":
        if not isinstance(value, list | tuple | set | frozenset):
            raise InvalidTypeError(f"'in' of {name!r} takes a list of values, not {type(value).__name__}")
        return Compare(path, operator, [_operand(path, each) for each in cast(list[Any], value)])
    value = _operand(path, value)
    if operator == "prefix" and not isinstance(value, str):
        raise InvalidTypeError(f"'prefix' of {name!r} takes a str, not {type(value).__name__}")
    if operator[0] in "<>" and (isinstance(value, bool) or not isinstance(value, int | float | str)):
        raise InvalidTypeError(
            f"{operator!r} of {name!r} takes a number or a str, not {type(value).__name__}"
        )
    return Compare(path, operator, value)


def _operand(path: Path, value: Any) -> Any:
    """Return a value to compare with: JSON, and for a time its microseconds."""
    if path[0] in _TIMES:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise InvalidArgumentError(
                    f"{path[0]!r} is compared with a datetime, or one in ISO 8601, not {value!r}"
                ) from None
        if not isinstance(value, datetime):
            raise InvalidTypeError(f"{path[0]!r} is compared with a datetime, not {type(value).__name__}")
        if value.tzinfo is None:
            raise InvalidArgumentError(f"a datetime needs a time zone to be compared with {path[0]!r}")
        return (value - _EPOCH) // timedelta(microseconds=1)
    return _json(value)


def _json(value: Any, depth: int = 0) -> Any:
    """Return a value if it is JSON, with tuples as lists."""
    if depth > _DEEPEST:
        raise InvalidArgumentError(f"a value to compare with has at most {_DEEPEST} levels")
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        raise InvalidArgumentError(f"metadata has no {value}, so nothing equals it")
    if isinstance(value, list | tuple):
        return [_json(each, depth + 1) for each in cast(list[Any], value)]
    if isinstance(value, Mapping):
        given = cast(Mapping[Any, Any], value)
        if all(isinstance(name, str) for name in given):
            return {str(name): _json(each, depth + 1) for name, each in given.items()}
    raise _not_json(value)


def _not_json(value: Any) -> InvalidTypeError:
    hint = "; give its isoformat(), if that is what the metadata have" if hasattr(value, "isoformat") else ""
    return InvalidTypeError(f"metadata is JSON, so it can't be compared with {type(value).__name__}{hint}")


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT_FIELD: Final = _Absent()


def value_at(row: Row, path: Path) -> Any:
    """Return the value of a field, or `ABSENT_FIELD`."""
    if path[0] != "metadata":
        return getattr(row, path[0])
    found: Any = row.metadata
    for name in path[1:]:
        if not isinstance(found, dict) or name not in found:
            return ABSENT_FIELD
        found = cast(dict[str, Any], found)[name]
    return found


def equal(left: Any, right: Any) -> bool:
    """Return whether two values are equal as JSON.

    >>> equal(1, 1.0), equal(1, True), equal([1], [True])
    (True, False, False)
    """
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        one, other = cast(list[Any], left), cast(list[Any], right)
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(left, dict) and isinstance(right, dict):
        first, second = cast(dict[str, Any], left), cast(dict[str, Any], right)
        return first.keys() == second.keys() and all(equal(first[name], second[name]) for name in first)
    return left == right


def rank(value: Any) -> tuple[int, Any]:
    """Return what orders the values of a field, from the first to the last; see `Order`."""
    if isinstance(value, bool):
        return 2, value
    if isinstance(value, int | float):
        return 0, value
    if isinstance(value, str):
        return 1, value
    return _LAST, 0


_LAST: Final = 3
"""The rank of what has no order of its own."""


def arrange(rows: Iterable[Row], order: Order) -> list[Row]:
    """Return rows in an order."""
    path = order.path
    ranked = [(rank(value_at(row, path)), row) for row in sorted(rows, key=attrgetter("key"))]
    ranked.sort(key=itemgetter(0), reverse=order.descending)
    if order.descending:
        ranked.sort(key=lambda each: each[0][0] == _LAST)
    return [row for _, row in ranked]


def compile_after(order: Order, after: tuple[Any, str] | None) -> Callable[[Row], bool]:
    """Return a function that says whether a row comes after a position in an order; see `Query.after`."""
    if after is None:
        return lambda row: True
    path, descending = order.path, order.descending
    wanted, key = rank(after[0]), after[1]

    def follows(row: Row) -> bool:
        found = rank(value_at(row, path))
        if found == wanted:
            return row.key > key
        if descending and _LAST not in (found[0], wanted[0]):
            return found < wanted
        return found > wanted

    return follows


def compile_node(node: Node) -> Callable[[Row], bool]:
    """Return a function that says whether a row matches. This is what a query means; a backend may only be
    faster."""
    if isinstance(node, Compare):
        return _compile_comparison(node)
    if isinstance(node, Negation):
        inner = compile_node(node.node)
        return lambda row: not inner(row)
    tests = tuple(map(compile_node, node.nodes))
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        if isinstance(node, All):
            return lambda row: first(row) and second(row)
        return lambda row: first(row) or second(row)
    if isinstance(node, All):
        return lambda row: all(test(row) for test in tests)
    return lambda row: any(test(row) for test in tests)


def _compile_comparison(node: Compare) -> Callable[[Row], bool]:
    test = _test_of(node.operator, node.value)
    path = node.path
    if len(path) == 2 and path[0] == "metadata":
        # The most common one, in as few steps as possible.
        name, wanted = path[1], node.value
        if node.operator == "==" and isinstance(wanted, str):
            return lambda row: row.metadata.get(name) == wanted
        if node.operator == "==" and isinstance(wanted, int | float) and not isinstance(wanted, bool):
            return lambda row: (
                (value := row.metadata.get(name)) == wanted and value is not True and value is not False
            )
        return lambda row: test(row.metadata.get(name, ABSENT_FIELD))
    return lambda row: test(value_at(row, path))


def _test_of(operator: str, wanted: Any) -> Callable[[Any], bool]:
    if operator == "exists":
        return (lambda value: value is not ABSENT_FIELD) if wanted else (lambda value: value is ABSENT_FIELD)
    if operator == "==":
        if wanted is None or isinstance(wanted, bool):
            return lambda value: value is wanted
        if isinstance(wanted, str):
            return lambda value: value == wanted
        return lambda value: equal(value, wanted)
    if operator == "!=":
        return lambda value: not equal(value, wanted)
    if operator == "in":
        return lambda value: any(equal(value, each) for each in wanted)
    if operator == "prefix":
        return lambda value: isinstance(value, str) and value.startswith(wanted)
    compare = _ORDERS[operator]
    if isinstance(wanted, str):
        return lambda value: isinstance(value, str) and compare(value, wanted)
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and compare(value, wanted)
    )


_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
