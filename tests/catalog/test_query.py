"""What queries mean: each operator by a table, bad input, and random ones against a plain reading."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall import BlobStore
from holdall.catalog.query import (
    FIELDS,
    OPERATORS,
    All,
    Compare,
    Either,
    Negation,
    Node,
    Order,
    arrange,
    compile_after,
    compile_node,
    equal,
    parse_field,
    parse_filter,
    parse_order,
    parse_where,
    rank,
    value_at,
)
from holdall.catalog.row import Row
from holdall.errors import InvalidArgumentError, InvalidTypeError

UTC = datetime.UTC


def new_row(metadata: dict[str, Any] | None = None, **fields: Any) -> Row:
    usual: dict[str, Any] = {
        "key": "a", "version": 1, "sequence": 1, "blob": 1, "digest": "d", "size": 10, "type": "int",
        "format": "json", "codec": "", "library": "", "created": 0, "updated": 0,
    }  # fmt: skip
    return Row(**{**usual, **fields}, metadata=metadata or {})


def matches(where: Any, metadata: dict[str, Any] | None = None, **fields: Any) -> bool:
    found = compile_node(parse_where(where))(new_row(metadata, **fields))
    assert type(found) is bool or where in ({}, None)
    return found


ABSENT = object()
VALUES: dict[str, Any] = {
    "absent": ABSENT, "null": None, "false": False, "true": True, "0": 0, "1": 1, "1.0": 1.0, "1.5": 1.5,
    "2": 2, "''": "", "'1'": "1", "'ab'": "ab", "'b'": "b", "[]": [], "[1]": [1], "['ab']": ["ab"], "{}": {},
    "{'a': 1}": {"a": 1},
}  # fmt: skip

ONE = "1, 1.0"
TABLE: list[tuple[str, Any, str]] = [
    ("==", 1, ONE),
    ("==", 1.0, ONE),
    ("==", True, "true"),
    ("==", False, "false"),
    ("==", 0, "0"),
    ("==", None, "null"),
    ("==", "1", "'1'"),
    ("==", "", "''"),
    ("==", [], "[]"),
    ("==", [1], "[1]"),
    ("==", (1,), "[1]"),
    ("==", [1.0], "[1]"),
    ("==", [True], ""),
    ("==", {}, "{}"),
    ("==", {"a": 1.0}, "{'a': 1}"),
    ("==", {"a": True}, ""),
    ("==", "zzz", ""),
    ("in", [], ""),
    ("in", [1, "b"], f"{ONE}, 'b'"),
    ("in", (None, True), "null, true"),
    ("in", {"ab"}, "'ab'"),
    ("in", [[1], {}], "[1], {}"),
    ("in", [[1, "b"]], ""),
    ("<", 1, "0"),
    ("<=", 1, f"0, {ONE}"),
    (">", 1, "1.5, 2"),
    (">=", 1.5, "1.5, 2"),
    (">", -1e300, f"0, {ONE}, 1.5, 2"),
    ("<", "b", "'', '1', 'ab'"),
    ("<=", "b", "'', '1', 'ab', 'b'"),
    (">", "1", "'ab', 'b'"),
    (">=", "", "'', '1', 'ab', 'b'"),
    ("<", "", ""),
    ("prefix", "", "'', '1', 'ab', 'b'"),
    ("prefix", "a", "'ab'"),
    ("prefix", "ab", "'ab'"),
    ("prefix", "A", ""),
    ("exists", False, "absent"),
]


def found_by(where: Any, *path: str) -> set[str]:
    test = compile_node(parse_where(where))
    found: set[str] = set()
    for name, value in VALUES.items():
        metadata: Any = {} if value is ABSENT else {path[-1]: value}
        for above in reversed(path[:-1]):
            metadata = {above: metadata}
        if test(new_row(metadata)):
            found.add(name)
    return found


@pytest.mark.parametrize("path", [("x",), ("y", "x"), ("v2.1",), ("", "in", "a b", "é")])
@pytest.mark.parametrize(("operator", "value", "listed"), TABLE)
def test_what_an_operator_means(operator: str, value: Any, listed: str, path: tuple[str, ...]) -> None:
    wanted = set(listed.split(", ")) - {""}
    field = ("metadata", *path)
    assert found_by({field: {operator: value}}, *path) == wanted
    # `not` is everything else, rows without the field among it.
    assert found_by({"not": {field: {operator: value}}}, *path) == set(VALUES) - wanted
    if operator == "==":
        assert found_by({field: {"!=": value}}, *path) == set(VALUES) - wanted
        assert found_by({field: {"in": [value]}}, *path) == wanted
        if not isinstance(value, dict):
            assert found_by({field: value}, *path) == wanted


def test_what_exists() -> None:
    assert found_by({"metadata.x": {"exists": True}}, "x") == set(VALUES) - {"absent"}
    assert matches({"metadata.a.b": {"exists": False}}, {"a": 1})
    assert matches({"metadata.a.b": {"exists": False}}, {"a": [{"b": 1}]})
    assert not matches({"metadata.a.0": 1}, {"a": [1]})
    assert matches({"metadata.a.0": 1}, {"a": {"0": 1}})


def test_and_or_not() -> None:
    row: dict[str, Any] = {"a": 1, "b": 2}
    yes, no = {"metadata.a": 1}, {"metadata.a": 2}
    for where, wanted in (
        ({}, True),
        (None, True),
        ({"and": []}, True),
        ({"or": []}, False),
        ({"not": {}}, False),
        ({"and": [yes, yes, yes]}, True),
        ({"and": [yes, no, yes]}, False),
        ({"and": (yes, no)}, False),
        ({"or": [no, yes]}, True),
        ({"or": [no, no, no]}, False),
        ({"or": [no, no, yes]}, True),
        ({"not": yes}, False),
        ({"not": {"not": yes}}, True),
        ({**yes, "metadata.b": 2}, True),
        ({**yes, "metadata.b": 3}, False),
        ({"not": {**yes, "metadata.b": 3}}, True),
        ({**yes, "or": [no, {"metadata.b": 2}]}, True),
        ({**yes, "not": no, "and": [yes], "or": [yes]}, True),
        ({"metadata.a": {">": 0, "<": 2}}, True),
        ({"metadata.a": {">": 0, "<": 1}}, False),
        ({"metadata.a": {">=": 1, "!=": 1}}, False),
    ):
        assert matches(where, row) is wanted, where


def test_built_in_fields() -> None:
    row: dict[str, Any] = {
        "key": "run/raw", "version": 3, "sequence": 9, "digest": "ab", "size": 1000, "type": "numpy.ndarray",
        "format": "b2nd", "codec": "lz4", "library": "blosc2 3.1",
    }  # fmt: skip
    for field, value in row.items():
        assert matches({field: value}, **row)
        assert matches({(field,): {"in": [value]}}, **row)
        assert matches({field: {"exists": True}}, **row)
        assert not matches({field: {"!=": value}}, **row)
        assert not matches({field: None}, **row)
    assert matches({"key": {"prefix": "run/"}, "file_size": {">": 999}, "size": {"<": 1001}}, **row)
    assert parse_order("-file_size") == Order(("size",), True)
    assert set(row) | {"created", "updated"} == set(FIELDS)


def test_times() -> None:
    when = datetime.datetime(2026, 11, 29, 12, 0, 0, 123456, UTC)
    row = {"created": 1_795_953_600_123_456}
    elsewhere = when.astimezone(datetime.timezone(datetime.timedelta(hours=-7)))
    for value in (
        when,
        elsewhere,
        when.isoformat(),
        "2026-11-29T12:00:00.123456Z",
        "2026-11-29T05:00:00.123456-07:00",
    ):
        assert matches({"created": value}, **row)
        assert matches({"created": {">=": value, "<=": value}}, **row)
        assert not matches({"created": {"<": value}}, **row)
        assert matches({"created": {"in": [value]}}, **row)
    assert matches({"created": {"<": when + datetime.timedelta(microseconds=1)}}, **row)
    assert matches({"updated": datetime.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)}, updated=-1_000_000)
    assert matches({"created": pandas.Timestamp(when)}, **row)
    for value, says in (
        (datetime.datetime(2026, 11, 29), "needs a time zone"),
        ("2026-11-29", "needs a time zone"),
        ("yesterday", "ISO 8601, not 'yesterday'"),
        (1.5e9, "compared with a datetime, not float"),
        (None, "not NoneType"),
        (when.date(), "not date"),
    ):
        with pytest.raises(InvalidArgumentError, match=says):
            parse_where({"created": value})
    with pytest.raises(InvalidArgumentError, match="compared with a datetime"):
        parse_where({"created": {"prefix": "2026-11"}})


def test_values_of_numpy_and_enums() -> None:
    class Level(enum.IntEnum):
        HIGH = 3

    class Name(enum.StrEnum):
        ALICE = "alice"

    for given_value, plain in (
        (np.int64(3), 3), (np.float32(0.5), 0.5), (np.float64(0.1), 0.1), (np.bool_(True), True),
        (np.str_("x"), "x"), (Level.HIGH, 3), (Name.ALICE, "alice"), ([np.int8(1)], [1]),
    ):  # fmt: skip
        node = parse_where({"metadata.x": {"==": given_value}})
        assert isinstance(node, Compare)
        assert (node.value, type(node.value)) == (plain, type(plain))
        assert compile_node(node)(new_row({"x": plain}))
        assert parse_filter({"x": given_value}) == node


def test_a_filter_of_metadata() -> None:
    def found(metadata_filter: Any, metadata: Any) -> bool:
        return compile_node(parse_filter(metadata_filter))(new_row(metadata))

    assert found({}, {})
    assert found({"a": 1, "b": None}, {"a": 1.0, "b": None, "c": 3})
    assert not found({"a": 1, "b": None}, {"a": 1})
    assert found({"a.b": 1}, {"a": {"b": 1, "c": 2}})
    assert found({"a.b": 1}, {"a.b": 1})
    assert found({"a.b": 1}, {"a": {"b": 2}, "a.b": 1})
    assert not found({("a.b",): 1}, {"a": {"b": 1}})
    assert found({("a.b",): 1}, {"a.b": 1})
    assert found({("a", "b.c"): 1}, {"a": {"b.c": 1}})
    assert found({"a": {"b": 1}}, {"a": {"b": 1}})
    assert not found({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}})
    assert found({"a": {}}, {"a": {}})
    assert found({"key": "x", "created": "y"}, {"key": "x", "created": "y"})
    with pytest.raises(
        InvalidArgumentError, match=r"for operators use find\(\{'metadata.loss': \{'<': 0.1\}\}\)"
    ):
        parse_filter({"loss": {"<": 0.1}})
    # An object that only looks a little like operators is an object.
    assert found({"a": {"<": 1, "x": 2}}, {"a": {"<": 1, "x": 2}})


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ([], "a condition is a dict, not list"),
        ("metadata.a", "a condition is a dict, not str"),
        ({1: 2}, "a field is a str such as 'metadata.loss'"),
        ({None: 2}, "a field is a str"),
        ({(): 2}, "isn't a field"),
        ({("metadata", 1): 2}, "a tuple of names"),
        ({"loss": 1}, "did you mean 'metadata.loss'"),
        ({"blob": 1}, "'blob' isn't a field"),
        ({"inputs": 1}, "'inputs' isn't a field"),
        ({"metadata": {}}, "a name of the metadata must follow"),
        ({"metadata." + ".".join("a" * 32): 1}, "at most 31"),
        ({"key.x": 1}, "'key.x' isn't a field"),
        ({"metadata.a": {"$lt": 1}}, "'[$]lt' isn't an operator; known are ==, !="),
        ({"metadata.a": {"=": 1}}, "'=' isn't an operator"),
        ({"metadata.a": {1: 1}}, "1 isn't an operator"),
        ({"metadata.a": {"b": 1}}, 'To compare with an object, write {"==": {...}}'),
        ({"metadata.a": {}}, "'metadata.a' has a condition without an operator"),
        ({"metadata.a": {"in": "abc"}}, "'in' of 'metadata.a' takes a list of values, not str"),
        ({"metadata.a": {"in": 3}}, "takes a list of values, not int"),
        ({"metadata.a": {"in": {"a": 1}}}, "takes a list of values, not dict"),
        ({"metadata.a": {"exists": 1}}, "takes True or False, not int"),
        ({"metadata.a": {"exists": None}}, "takes True or False"),
        ({"metadata.a": {"prefix": 1}}, "takes a str, not int"),
        ({"metadata.a": {"prefix": None}}, "takes a str, not NoneType"),
        ({"metadata.a": {"<": None}}, "takes a number or a str, not NoneType"),
        ({"metadata.a": {">": True}}, "takes a number or a str, not bool"),
        ({"metadata.a": {">=": [1]}}, "takes a number or a str, not list"),
        ({"metadata.a": math.nan}, "metadata has no nan"),
        ({"metadata.a": {"<": math.inf}}, "metadata has no inf"),
        ({"metadata.a": np.float32("nan")}, "metadata has no nan"),
        ({"metadata.a": {"in": [1, -math.inf]}}, "metadata has no -inf"),
        ({"metadata.a": {1, 2}}, "can't be compared with set"),
        ({"metadata.a": b"x"}, "can't be compared with bytes"),
        ({"metadata.a": 1j}, "can't be compared with complex"),
        ({"metadata.a": object()}, "can't be compared with object"),
        ({"metadata.a": np.zeros(2)}, "can't be compared with ndarray"),
        ({"metadata.a": {"==": {1: 2}}}, "can't be compared with dict"),
        ({"metadata.a": datetime.date(2026, 1, 1)}, r"give its isoformat\(\)"),
        ({"and": {}}, "'and' has a list of conditions, not dict"),
        ({"or": "x"}, "'or' has a list of conditions, not str"),
        ({"or": [1]}, "a condition is a dict, not int"),
        ({"not": [1]}, "a condition is a dict, not list"),
    ],
)  # fmt: skip
def test_bad_questions(where: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_where(where)
    assert says.replace("[$]", "$").replace("\\", "") in str(caught.value)
    if "dict, not" in says or "takes" in says:
        assert isinstance(caught.value, InvalidTypeError)


def test_questions_that_are_too_deep() -> None:
    deep: Any = {"metadata.a": 1}
    value: Any = 1
    for _ in range(32):
        deep, value = {"not": deep}, [value]
    assert matches(deep, {"a": 1})
    parse_where({"metadata.a": value})
    for _ in range(50_000):
        deep, value = {"and": [deep]}, {"a": value}
    with pytest.raises(InvalidArgumentError, match="at most 32 levels"):
        parse_where(deep)
    with pytest.raises(InvalidArgumentError, match="at most 32 levels"):
        parse_where({"metadata.a": {"==": value}})
    around: Any = {}
    around["not"] = around
    with pytest.raises(InvalidArgumentError, match="at most 32 levels"):
        parse_where(around)
    # Width is no depth.
    wide = {"or": [{"metadata.a": number} for number in range(20_000)]}
    assert matches(wide, {"a": 19_999})
    assert not matches(wide, {"a": -1})


@pytest.mark.parametrize("field", [None, 1, ["metadata", "a"], b"key", ""])
def test_bad_orders(field: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_order(field)


@pytest.mark.parametrize("field", ["-loss", "--key", "-", "+key", "key desc", "metadata"])
def test_orders_that_are_none(field: str) -> None:
    with pytest.raises(InvalidArgumentError, match="isn't a field"):
        parse_order(field)


def test_fields() -> None:
    for field in FIELDS:
        assert parse_field(field) == parse_field((field,)) == (field,)
    assert parse_field("metadata.a.b") == parse_field(("metadata", "a", "b")) == ("metadata", "a", "b")
    assert parse_field("metadata.") == ("metadata", "")
    assert parse_field(("metadata", "a.b")) == ("metadata", "a.b")
    assert parse_order("-metadata.-x") == Order(("metadata", "-x"), True)


SORTED: list[Any] = [
    -1e300,
    -1,
    0.5,
    1,
    2**53,
    2**53 + 1,
    1e300,
    10**400,
    "",
    "1",
    "A",
    "a",
    "é",
    "\U0001f600",
    False,
    True,
]
UNSORTED: list[Any] = [None, [1], {"a": 1}, ABSENT]


def rows_of(values: list[Any]) -> list[Row]:
    return [
        new_row({} if value is ABSENT else {"x": value}, key=f"{at:02}") for at, value in enumerate(values)
    ]


def test_the_order_of_values() -> None:
    rows = rows_of(SORTED + UNSORTED)
    order = Order(("metadata", "x"))
    assert arrange(rows[::-1], order) == rows
    last = len(SORTED)
    assert arrange(rows, Order(("metadata", "x"), True)) == rows[:last][::-1] + rows[last:]
    # Where the field is equal, the order is that of the keys in both directions.
    rows = rows_of([1, 1.0, 1, True, True])
    assert arrange(rows[::-1], order) == rows
    assert arrange(rows[::-1], Order(("metadata", "x"), True)) == rows[3:] + rows[:3]
    assert arrange(rows, Order(("key",), True)) == rows[::-1]


@pytest.mark.parametrize("path", ["metadata.x", "key", "size"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_join_without_a_gap(path: str, descending: bool) -> None:
    order = Order(parse_field(path), descending)
    rows = rows_of([*SORTED, *UNSORTED, *SORTED[::3], 1, 1.0, *UNSORTED])
    whole = arrange(rows, order)
    for at, row in enumerate(whole):
        value = value_at(row, order.path)
        given_value = None if rank(value) == rank(None) else value
        follows = compile_after(order, (given_value, row.key))
        assert arrange(filter(follows, rows), order) == whole[at + 1 :]


_scalars = st.sampled_from(
    [None, True, False, 0, 1, 1.0, -1, 2**53, float(2**53), 2**53 + 1, "", "a", "ab", "b"]
)
_values = st.recursive(
    _scalars,
    lambda e: st.lists(e, max_size=2) | st.dictionaries(st.sampled_from("ab"), e, max_size=2),
    max_leaves=4,
)
_metadata = st.dictionaries(st.sampled_from(["a", "b", "a.b"]), _values, max_size=3)
_fields = st.sampled_from(
    ["metadata.a", "metadata.b", "metadata.a.b", ("metadata", "a.b"), "metadata.a.b.a", "size"]
)


@st.composite
def _wheres(draw: st.DrawFn, depth: int = 0) -> Any:
    kind = draw(
        st.sampled_from([*OPERATORS, "plain"] if depth > 2 else [*OPERATORS, "plain", "and", "or", "not"])
    )
    if kind in ("and", "or"):
        return {kind: draw(st.lists(_wheres(depth + 1), max_size=3))}
    if kind == "not":
        return {kind: draw(_wheres(depth + 1))}
    field = draw(_fields)
    if kind == "plain":
        value = draw(_values)
        return {field: {"==": value} if isinstance(value, dict) else value}
    value: Any = {
        "in": st.lists(_values, max_size=3),
        "prefix": st.sampled_from(["", "a", "ab"]),
        "exists": st.booleans(),
        "==": _values,
        "!=": _values,
    }.get(kind, st.sampled_from([0, 1, 1.5, 2**53, float(2**53), "", "a", "b"]))
    return {field: {kind: draw(value)}}


def same(left: Any, right: Any) -> bool:
    """Equality of JSON, by the text of it."""

    def plain(value: Any) -> Any:
        if isinstance(value, bool) or value is None or isinstance(value, str):
            return repr(value)
        if isinstance(value, int | float):
            return value
        if isinstance(value, list):
            return [plain(each) for each in value]
        return {name: plain(each) for name, each in value.items()} if isinstance(value, dict) else value

    return plain(left) == plain(right)


def means(where: Any, row: Row) -> bool:
    """What a condition means, as plainly as can be."""
    for name, condition in where.items():
        if name in ("and", "or"):
            parts = [means(each, row) for each in condition]
            if not (all(parts) if name == "and" else any(parts)):
                return False
        elif name == "not":
            if means(condition, row):
                return False
        else:
            value: Any = row.size
            path = name.split(".") if isinstance(name, str) else list(name)
            if path[0] == "metadata":
                value = row.metadata
                for each in path[1:]:
                    value = value[each] if isinstance(value, dict) and each in value else ABSENT
            operators = condition if isinstance(condition, dict) else {"==": condition}
            if not all(holds(value, *each) for each in operators.items()):
                return False
    return True


def holds(value: Any, operator: str, wanted: Any) -> bool:
    if operator == "exists":
        return (value is not ABSENT) == wanted
    if operator == "==":
        return value is not ABSENT and same(value, wanted)
    if operator == "!=":
        return value is ABSENT or not same(value, wanted)
    if operator == "in":
        return value is not ABSENT and any(same(value, each) for each in wanted)
    if operator == "prefix":
        return isinstance(value, str) and value[: len(wanted)] == wanted
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    if isinstance(value, str) != isinstance(wanted, str):
        return False
    return {"<": value < wanted, "<=": value <= wanted, ">": value > wanted, ">=": value >= wanted}[operator]


@given(_wheres(), st.lists(_metadata, max_size=5))
def test_random_questions(where: Any, metadata: list[dict[str, Any]]) -> None:
    test = compile_node(parse_where(where))
    for each in metadata:
        row = new_row(each, size=len(each))
        assert bool(test(row)) == means(where, row)


@given(st.dictionaries(st.sampled_from(["a", "b", "a.b"]), _values, max_size=2), _metadata)
def test_random_filters(metadata_filter: dict[str, Any], metadata: dict[str, Any]) -> None:
    row = new_row(metadata)
    wanted = all(
        any(
            means({path: {"==": value}}, row) for path in (("metadata", *name.split(".")), ("metadata", name))
        )
        for name, value in metadata_filter.items()
    )
    assert bool(compile_node(parse_filter(metadata_filter))(row)) == wanted


@given(_values, _values, _values)
def test_equality_is_an_equivalence(one: Any, two: Any, three: Any) -> None:
    assert equal(one, one)
    assert equal(one, two) == equal(two, one) == same(one, two)
    if equal(one, two) and equal(two, three):
        assert equal(one, three)


_junk: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=2)
    | st.sampled_from([*OPERATORS, "and", "or", "not", "metadata.a", "key", "created", object(), 1j]),
    lambda e: st.lists(e, max_size=3) | st.tuples(e, e)
    | st.dictionaries(
        st.sampled_from(
            [*OPERATORS, "and", "or", "not", "metadata.a", "key", "created", 1, None, ("metadata", "b")]
        ),
        e, max_size=3,
    ),
    max_leaves=12,
)  # fmt: skip


@given(_junk)
def test_junk_is_a_question_or_a_typed_error(junk: Any) -> None:
    for parse in (parse_where, parse_filter, parse_field, parse_order):
        try:
            found = parse(junk)
        except InvalidArgumentError:
            continue
        if isinstance(found, Compare | All | Either | Negation):
            node: Node = found
            assert compile_node(node)(new_row({"a": {"b": [1, "x"]}})) in (True, False)


def test_an_entry_that_takes_its_attributes_from_a_row_is_an_entry_as_any(tmp_path: Path) -> None:
    with BlobStore(tmp_path, "sqlite") as store:
        store.put([1], "a", {"n": 1})
        store.put([2], "b", inputs=["a"])
        for found in store.find():
            fresh = store.entry(found.key)
            assert fresh is not None
            for made in (copy.copy(fresh), pickle.loads(pickle.dumps(fresh)), dataclasses.replace(fresh)):
                assert made == found
                assert made.to_dict() == store.get_metadata(found.key)
            assert dataclasses.asdict(fresh)["metadata"] == found.metadata
            assert hash(store.entry(found.key)) == hash(found)
            assert repr(store.entry(found.key)) == repr(found)
            with pytest.raises(dataclasses.FrozenInstanceError):
                found.key = "c"  # type: ignore[misc]
            with pytest.raises(AttributeError, match="colour"):
                found.colour  # type: ignore[attr-defined]  # noqa: B018
